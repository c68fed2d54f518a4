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
    One ``tools/call``.

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
        return tuple(self.args.get("media") or ())

    @property
    def idempotency_key(self) -> str | None:
        """The key under which the message may be sent once only."""
        return self._text("idempotencyKey")

    def _text(self, key: str) -> str | None:
        value = self.args.get(key)
        return None if value is None else str(value)


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
