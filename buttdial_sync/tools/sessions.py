"""Conversations with several participants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.models.sessions import CreatedSession, SessionList
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.family import Family

SessionStatus = Literal["active", "paused", "closed"]

_CREATE_SESSION = ToolOperation("comms_create_session", CreatedSession)
_LIST_SESSIONS = ToolOperation(
    "comms_list_sessions", SessionList, reads_only=True, defaults={"status": "active", "limit": 50}
)
_GET_SESSION = ToolOperation(
    "comms_get_session", ToolResult, reads_only=True, defaults={"historyLimit": 20}
)
_CLOSE_SESSION = ToolOperation("comms_close_session", ToolResult)


class Sessions(Family):
    """
    Conversations of one agent with several participants, as ``client.sessions``.

    Not the sessions of the connection. Only the hosted server has them. Safe to share between
    threads.

    Scope: agent.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        NotSupportedError: This server does not support the call or an argument. Nothing was done.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.
    """

    @checked
    def create(
        self,
        participants: Sequence[Mapping[str, Any]],
        *,
        channel: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> CreatedSession:
        """
        Open a conversation.

        Calling it twice opens two.

        Args:
            participants: Who takes part, as in ``{"contact": "+14155550123"}``.
            channel: On which channel.
            context: What the agent has to know about it.

        Returns:
            The conversation, with its id.
        """
        return self._call(
            _CREATE_SESSION, participants=participants, channel=channel, context=context
        )

    @checked
    def list(self, *, status: SessionStatus = "active", limit: int = 50) -> SessionList:
        """
        Return conversations.

        Args:
            status: ``"active"``, ``"paused"`` or ``"closed"``.
            limit: At most this many.
        """
        return self._call(_LIST_SESSIONS, status=status, limit=limit)

    @checked
    def get(self, session_id: str, *, history_limit: int = 20) -> ToolResult:
        """
        Return a conversation and its latest messages.

        Args:
            session_id: The conversation's id.
            history_limit: At most this many messages.
        """
        return self._call(_GET_SESSION, session_id=session_id, history_limit=history_limit)

    @checked
    def close(self, session_id: str, *, confirm: bool) -> ToolResult:
        """
        Close a conversation.

        Calling it twice is safe: it stays closed, though the server may object.

        Args:
            session_id: The conversation's id.
            confirm: True carries it out. False asks what would happen: ``previewed`` is true.
        """
        return self._call(_CLOSE_SESSION, session_id=session_id, confirm=confirm)
