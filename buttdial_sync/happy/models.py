"""What the Happy server keeps: machines, sessions and messages, decrypted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Literal

import attrs

Agent = Literal["claude", "codex", "gemini", "openclaw", "agy"]
PermissionMode = Literal[
    "default", "acceptEdits", "bypassPermissions", "plan", "read-only", "safe-yolo", "yolo"
]
RequestStatus = Literal["pending", "approved", "denied", "canceled"]

_QUESTION, _PLAN = "AskUserQuestion", "ExitPlanMode"


@attrs.frozen(kw_only=True)
class Machine:
    """
    A machine on which the Happy daemon runs.

    Attributes:
        id: Its id.
        active: Whether the server counts it as connected.
        active_at: When it was last heard of (aware, UTC), or None.
        metadata: What it says about itself: ``host``, ``platform``, ``homeDir``, …; empty where it
            cannot be decrypted.
        metadata_version: The version of the metadata.
        daemon_state: The daemon's state, or None.
        unreadable: Why the record cannot be decrypted, or None.
    """

    id: str
    active: bool = False
    active_at: datetime | None = None
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    metadata_version: int = 0
    daemon_state: Mapping[str, Any] | None = None
    unreadable: str | None = None

    @property
    def host(self) -> str | None:
        """Its name."""
        return text_of(self.metadata.get("host"))


@attrs.frozen(kw_only=True)
class PermissionRequest:
    """
    Something that the agent wants to do, and waits for a yes or no.

    Attributes:
        id: The request's id.
        session_id: The session.
        tool: The tool, such as ``"Bash"``.
        arguments: What the tool would be called with.
        created_at: Since when the agent waits (aware, UTC), or None.
        tool_use_id: The id of the tool call, or None.
        status: ``"pending"``, ``"approved"``, ``"denied"`` or ``"canceled"``.
        reason: Why it was denied, where that was said.
    """

    id: str
    session_id: str
    tool: str
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    created_at: datetime | None = None
    tool_use_id: str | None = None
    status: RequestStatus = "pending"
    reason: str | None = None

    @property
    def is_question(self) -> bool:
        """The agent asks a person something. It does so in every permission mode."""
        return self.tool == _QUESTION

    @property
    def is_plan(self) -> bool:
        """The agent wants its plan approved. It does so in every permission mode."""
        return self.tool == _PLAN


@attrs.frozen(kw_only=True)
class Session:
    """
    A session of an agent.

    Attributes:
        id: Its id.
        seq: The highest number of its messages.
        active: Whether the server counts it as connected.
        active_at: When it was last heard of (aware, UTC), or None.
        created_at: When it was made (aware, UTC), or None.
        updated_at: When it was last changed (aware, UTC), or None.
        metadata: What the session's process and the apps keep in it; empty where it cannot be
            decrypted.
        metadata_version: The version that a change has to name.
        agent_state: The agent's state with its permission requests, or None.
        agent_state_version: The version of the agent's state.
        unreadable: Why the record cannot be decrypted, or None.
    """

    id: str
    seq: int = 0
    active: bool = False
    active_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    metadata_version: int = 0
    agent_state: Mapping[str, Any] | None = None
    agent_state_version: int = 0
    unreadable: str | None = None

    @property
    def name(self) -> str | None:
        """The title that the apps show."""
        summary = self.metadata.get("summary")
        shown = summary.get("text") if isinstance(summary, Mapping) else None
        return text_of(shown) or text_of(self.metadata.get("name"))

    @property
    def machine_id(self) -> str | None:
        """The machine that it runs on."""
        return text_of(self.metadata.get("machineId"))

    @property
    def directory(self) -> str | None:
        """The directory that it was started in."""
        return text_of(self.metadata.get("path"))

    @property
    def claude_session_id(self) -> str | None:
        """Claude Code's own id of the session."""
        return text_of(self.metadata.get("claudeSessionId"))

    @property
    def agent(self) -> str | None:
        """Which agent it is, such as ``"claude"`` or ``"codex"``."""
        return text_of(self.metadata.get("flavor"))

    @property
    def is_archived(self) -> bool:
        """Whether the session has ended for good."""
        return self.metadata.get("lifecycleState") == "archived"

    @property
    def agent_state_data(self) -> Mapping[str, Any] | None:
        """The same as :attr:`agent_state`, under the published SDK's name."""
        return self.agent_state

    @property
    def pending_requests(self) -> list[PermissionRequest]:
        """The permissions that the agent waits for, the oldest first."""
        return requests_of(self.id, self.agent_state, "requests")

    @property
    def answered_requests(self) -> list[PermissionRequest]:
        """The permissions that were answered or withdrawn, as far as the agent remembers."""
        return requests_of(self.id, self.agent_state, "completedRequests")


@attrs.frozen(kw_only=True)
class Message:
    """
    A message of a session.

    Attributes:
        id: Its id.
        session_id: The session.
        seq: Its number within the session. Numbers rise; some are missing.
        content: What it says, decrypted; None where it cannot be.
        local_id: The id that its sender gave it, or None.
        created_at: When it was stored (aware, UTC), or None.
        unreadable: Why it cannot be decrypted, or None.
    """

    id: str
    session_id: str
    seq: int
    content: Any = None
    local_id: str | None = None
    created_at: datetime | None = None
    unreadable: str | None = None

    @property
    def role(self) -> str | None:
        """``"user"``, ``"agent"`` (older producers), ``"session"``, or something newer."""
        return text_of(self.content.get("role")) if isinstance(self.content, Mapping) else None


@attrs.frozen(kw_only=True)
class SentMessage:
    """
    A message that the server has stored.

    Attributes:
        id: Its id.
        session_id: The session.
        seq: Its number within the session.
        local_id: The id by which the server knows a repetition.
    """

    id: str
    session_id: str
    seq: int
    local_id: str


def requests_of(
    session_id: str, state: Mapping[str, Any] | None, part: str
) -> list[PermissionRequest]:
    """Read the permission requests of an agent's state; what is malformed is left out."""
    found = (state or {}).get(part)
    if not isinstance(found, Mapping):
        return []
    requests = [
        PermissionRequest(
            id=str(key),
            session_id=session_id,
            tool=str(each.get("tool") or ""),
            arguments=_mapping(each.get("arguments")),
            created_at=moment_of(each.get("createdAt")),
            tool_use_id=text_of(each.get("toolUseId")),
            status=each.get("status") or ("pending" if part == "requests" else "canceled"),
            reason=text_of(each.get("reason")),
        )
        for key, each in found.items()
        if isinstance(each, Mapping)
    ]
    return sorted(requests, key=lambda request: (request.created_at or _EPOCH, request.id))


def moment_of(milliseconds: Any) -> datetime | None:
    """Return the moment of a time in milliseconds since 1970, None if it is not a moment."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None


_EPOCH = datetime.fromtimestamp(0, timezone.utc)


def text_of(value: Any) -> str | None:
    """Return a text of a record; None for a blank one and for anything else."""
    return value if isinstance(value, str) and value.strip() else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
