"""The MCP sessions of one server: one open stream each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from buttdial_sync.testing.stream import EventFormat, EventStream


@attrs.define(eq=False)
class Session:
    """
    One MCP session.

    Attributes:
        id: Its id in the endpoint's query.
        stream: Its stream.
        token: The token that opened it.
        greeted: Whether ``initialize`` was answered.
        ready: Whether ``notifications/initialized`` came after it.
    """

    id: str
    stream: EventStream
    token: str | None = attrs.field(default=None, repr=False)
    greeted: bool = False
    ready: bool = False


class Sessions:
    """All sessions that are known."""

    def __init__(self, events: EventFormat, on_change: Callable[[], object]) -> None:
        self._events = events
        self._on_change = on_change
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._forgotten: list[EventStream] = []

    def open(self, session_id: str, token: str | None) -> Session:
        """Open a session; it is known until its stream ends."""
        session = Session(session_id, EventStream(lambda: self._close(session_id)), token)
        with self._lock:
            self._sessions[session_id] = session
        return session

    def find(self, session_id: str | None) -> Session | None:
        """Find a session that is known."""
        return self._sessions.get(session_id or "")

    def open_streams(self) -> list[EventStream]:
        """All streams that are open, those of forgotten sessions included."""
        with self._lock:
            streams = [session.stream for session in self._sessions.values()]
            return [each for each in streams + self._forgotten if not each.ended]

    def send(self, message: Mapping[str, Any], token: str | None = None) -> int:
        """Send a message to the open sessions, or to those of one token; return how many."""
        return self.send_bytes(self._events.message(message), token)

    def send_bytes(self, data: bytes, token: str | None = None) -> int:
        """Put bytes on the streams of the open sessions; return on how many."""
        with self._lock:
            sessions = [s for s in self._sessions.values() if token in {None, s.token}]
        # Without the lock: a client that reads nothing may hold up a write for long.
        return sum(session.stream.send(data) for session in sessions)

    def forget(self) -> None:
        """Forget all sessions; their streams stay open."""
        with self._lock:
            self._forgotten = [each for each in self._forgotten if not each.ended]
            self._forgotten += [session.stream for session in self._sessions.values()]
            self._sessions.clear()

    def cut(self, *, clean: bool = False) -> int:
        """End all open streams; return how many."""
        streams = self.open_streams()
        for stream in streams:
            stream.end(clean=clean)
        return len(streams)

    def _close(self, session_id: str) -> None:
        with self._lock:
            self._sessions.pop(session_id, None)
        self._on_change()
