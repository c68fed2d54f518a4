"""What the fake server has seen, for a test to look at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from buttdial_sync.testing.exchange import Request


@attrs.frozen
class ToolCall:
    """
    One ``tools/call``; the properties are the arguments of a message, by the client's names.

    What the call does not say is None or empty.

    Attributes:
        tool: The tool's wire name.
        args: The arguments with their wire names, as they came.
        token: The token that the call was posted with.
    """

    tool: str
    args: Mapping[str, Any]
    token: str | None = attrs.field(default=None, repr=False)

    @property
    def to(self) -> str | None:
        """The recipient."""
        return self._text("to")

    @property
    def body(self) -> str | None:
        """The text."""
        return self._text("body")

    @property
    def channel(self) -> str | None:
        """The channel, or None when the server's default was asked for."""
        return self._text("channel")

    @property
    def media(self) -> tuple[str, ...]:
        """The URLs of the media."""
        return self._texts("media")

    @property
    def media_url(self) -> str | None:
        """The URL of the first of the media."""
        return next(iter(self.media), None)

    @property
    def sender_sid(self) -> str | None:
        """Which of the agent's senders was to be used."""
        return self._text("senderSid")

    @property
    def sender_name(self) -> str | None:
        """The name to be shown to the recipient."""
        return self._text("senderName")

    @property
    def language(self) -> str | None:
        """The language of the text."""
        return self._text("language")

    @property
    def fallback_channels(self) -> tuple[str, ...]:
        """The channels to be tried when the first one fails, in this order."""
        return self._texts("fallbackChannels")

    @property
    def scheduled_at(self) -> str | None:
        """When it was to be sent, ISO 8601."""
        return self._text("scheduledAt")

    @property
    def thread_id(self) -> str | None:
        """The host's id of the conversation."""
        return self._text("threadId")

    @property
    def entity_id(self) -> str | None:
        """The host's id of what it is about."""
        return self._text("entityId")

    @property
    def reply_msg_id(self) -> str | None:
        """The message that this one answers."""
        return self._text("replyMsgId")

    @property
    def idempotency_key(self) -> str | None:
        """The key under which the message may be sent once only."""
        return self._text("idempotencyKey")

    @property
    def subject(self) -> str | None:
        """The subject of an email."""
        return self._text("subject")

    @property
    def html(self) -> str | None:
        """The HTML body of an email."""
        return self._text("html")

    @property
    def template_id(self) -> str | None:
        """The WhatsApp template."""
        return self._text("templateId")

    @property
    def template_vars(self) -> Mapping[str, str]:
        """The template's variables."""
        return dict(self.args.get("templateVars") or {})

    @property
    def target_gender(self) -> str | None:
        """How the recipient was to be addressed."""
        return self._text("targetGender")

    def _text(self, key: str) -> str | None:
        value = self.args.get(key)
        return None if value is None else str(value)

    def _texts(self, key: str) -> tuple[str, ...]:
        return tuple(map(str, self.args.get(key) or ()))


class Journal:
    """Lists and counters, all growing while the server works."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.connections = 0
        self._empty()

    def _empty(self) -> None:
        self.requests: list[Request] = []
        self.calls: list[ToolCall] = []
        self.sent_messages: list[ToolCall] = []
        self.delivered: list[ToolCall] = []
        self.client_answers: list[dict[str, Any]] = []
        self.client_notifications: list[dict[str, Any]] = []
        self.streams_opened = 0
        self.posts = 0
        self.lost_waiting = 0

    def clear(self) -> None:
        """Forget everything but the number of connections."""
        with self._changed:
            self._empty()

    def note(self, change: Callable[[Journal], object]) -> None:
        """Write something down, and wake those who wait for it."""
        with self._changed:
            change(self)
            self._changed.notify_all()

    def wait_for(self, predicate: Callable[[], object], timeout: float) -> bool:
        """Wait until ``predicate`` holds; it is asked again at each change."""
        with self._changed:
            return bool(self._changed.wait_for(predicate, timeout))
