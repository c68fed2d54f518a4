"""Conversations with several participants."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from buttdial_sync.models.converter import Identifier
from buttdial_sync.models.result import ServerResult, named
from buttdial_sync.models.tool_result import ToolResult


@attrs.frozen(kw_only=True)
class CreatedSession(ServerResult):
    """
    A conversation that was opened.

    Attributes:
        session_id: Its id.
        participants: Who takes part.
    """

    session_id: Identifier | None = named("sessionId", "session_id", "id", "session.id")
    participants: list[ToolResult] = attrs.field(
        factory=list, metadata={"names": ("participants", "session.participants")}
    )


@attrs.frozen(kw_only=True)
class SessionList(ServerResult):
    """
    An agent's conversations. It has a length and can be iterated over; false when empty.

    Attributes:
        sessions: What the server says about each.
    """

    sessions: list[ToolResult] = attrs.field(factory=list)

    def __len__(self) -> int:
        return len(self.sessions)

    def __iter__(self) -> Iterator[ToolResult]:
        return iter(self.sessions)
