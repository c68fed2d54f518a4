"""The requests and calls that the fake server got, for tests."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

import attrs

from buttdial_sync.errors.scrubbing import masked_items
from buttdial_sync.testing.http_messages import Request

Counted = Literal["connections", "streams"]


class TextArgument:
    """An argument of a message as an attribute of its call: the text, or None if it is absent."""

    def __init__(self, key: str, doc: str) -> None:
        self._key = key
        self.__doc__ = doc

    @overload
    def __get__(self, call: None, owner: type[ToolCall]) -> TextArgument: ...
    @overload
    def __get__(self, call: ToolCall, owner: type[ToolCall]) -> str | None: ...
    def __get__(self, call: ToolCall | None, owner: type[ToolCall]) -> TextArgument | str | None:
        if call is None:
            return self
        value = call.args.get(self._key)
        return None if value is None else str(value)


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
    args: Mapping[str, Any] = attrs.field(repr=lambda args: repr(masked_items(args)))
    token: str | None = attrs.field(default=None, repr=False)

    to = TextArgument("to", "The recipient.")
    body = TextArgument("body", "The text.")
    channel = TextArgument("channel", "The channel, or None for the server's default.")
    sender_sid = TextArgument("senderSid", "Which of the agent's senders was to be used.")
    sender_name = TextArgument("senderName", "The name to be shown to the recipient.")
    language = TextArgument("language", "The language of the text.")
    scheduled_at = TextArgument("scheduledAt", "When it was to be sent, ISO 8601.")
    thread_id = TextArgument("threadId", "The host's id of the conversation.")
    entity_id = TextArgument("entityId", "The host's id of the subject.")
    reply_msg_id = TextArgument("replyMsgId", "The message that this one answers.")
    idempotency_key = TextArgument(
        "idempotencyKey", "The key under which the message may be sent once only."
    )
    subject = TextArgument("subject", "The subject of an email.")
    html = TextArgument("html", "The HTML body of an email.")
    template_id = TextArgument("templateId", "The WhatsApp template.")
    target_gender = TextArgument("targetGender", "How the recipient was to be addressed.")

    @property
    def media(self) -> tuple[str, ...]:
        """The URLs of the media."""
        return self._texts("media")

    @property
    def media_url(self) -> str | None:
        """The URL of the first of the media."""
        return next(iter(self.media), None)

    @property
    def fallback_channels(self) -> tuple[str, ...]:
        """The channels to be tried when the first one fails, in this order."""
        return self._texts("fallbackChannels")

    @property
    def template_vars(self) -> Mapping[str, str]:
        """The template's variables."""
        return dict(self.args.get("templateVars") or {})

    def _texts(self, key: str) -> tuple[str, ...]:
        return tuple(map(str, self.args.get(key) or ()))


class RequestLog:
    """
    Lists and counters, all growing while the server works.

    Attributes:
        requests: All requests, in the order in which they came.
        calls: Every ``tools/call``.
        delivered: The messages that were sent.
        counts: How many connections and event streams there were.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.requests: list[Request] = []
        self.calls: list[ToolCall] = []
        self.delivered: list[ToolCall] = []
        self.counts: Counter[Counted] = Counter()

    def clear(self) -> None:
        """Forget everything but the number of connections."""
        for records in (self.requests, self.calls, self.delivered):
            records.clear()
        del self.counts["streams"]

    def add_request(self, request: Request, call: ToolCall | None) -> None:
        """Add a request and the call in it, and wake those who wait: who sees one sees both."""
        with self._changed:
            if call is not None:
                self.calls.append(call)
            self.requests.append(request)
            self._changed.notify_all()

    def add_delivered(self, call: ToolCall) -> None:
        """Add a message that was sent, and wake those who wait for it."""
        with self._changed:
            self.delivered.append(call)
            self._changed.notify_all()

    def count(self, what: Counted) -> None:
        """Count a connection or a stream, and wake those who wait for it."""
        with self._changed:
            self.counts[what] += 1
            self._changed.notify_all()

    def notify(self) -> None:
        """Wake those who wait: something has happened that is not recorded here."""
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, predicate: Callable[[], object], timeout: float) -> bool:
        """Wait until ``predicate`` holds; it is asked again at each change."""
        with self._changed:
            return bool(self._changed.wait_for(predicate, timeout))
