"""The MCP sessions of one server: one open stream each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from buttdial_sync.testing.stream import ServerStream, encode_message


@attrs.define(eq=False)
class ServerSession:
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
    stream: ServerStream
    token: str | None = attrs.field(default=None, repr=False)
    greeted: bool = False
    ready: bool = False


class ServerSessions:
    """
    The sessions whose stream is open.

    Attributes:
        by_id: The sessions by their ids. Changed and copied by single operations only, which are
            atomic, so it needs no lock.
    """

    def __init__(self, on_end: Callable[[], object]) -> None:
        self._on_end = on_end
        self.by_id: dict[str, ServerSession] = {}

    def open(self, session_id: str, token: str | None) -> ServerSession:
        """Open a session; it is known until its stream ends."""
        stream = ServerStream(functools.partial(self._forget, session_id))
        session = self.by_id[session_id] = ServerSession(session_id, stream, token)
        return session

    def send(self, message: Mapping[str, Any], token: str | None = None) -> int:
        """Send a message to the open sessions, or to those of one token; return how many."""
        event = encode_message(message)
        sessions = [each for each in list(self.by_id.values()) if token in {None, each.token}]
        return sum(session.stream.send(event) for session in sessions)

    def _forget(self, session_id: str) -> None:
        self.by_id.pop(session_id, None)
        self._on_end()
