"""The results of a turn, and the answers to permission requests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from buttdial_sync.happy.errors import HappyError
from buttdial_sync.happy.models import PermissionMode, PermissionRequest
from buttdial_sync.happy.updates import AgentText, Update

TaskStatus = Literal[
    "completed",
    "failed",
    "cancelled",
    "archived",
    "waiting_for_permission",
    "timed_out",
    "undetermined",
]
_OPENING, _CLOSING = "<task-notification>", "</task-notification>"
_NOTIFICATION_TAG = re.compile(f"{_OPENING}|{_CLOSING}")


@attrs.frozen(kw_only=True)
class TaskResult:
    """
    What became of a turn.

    Attributes:
        session_id: The session.
        status: ``"completed"``, ``"failed"`` or ``"cancelled"`` as the agent says;
            ``"archived"`` if the session ended meanwhile; ``"waiting_for_permission"`` if the time
            passed while nobody answered a request; ``"timed_out"`` if it passed otherwise;
            ``"undetermined"`` if the agent is idle and never said how the turn ended.
        updates: What happened in the turn, in order.
        requests: The permissions that the agent still waits for.
        stop_error: Why the session could not be stopped afterwards, or None.
    """

    session_id: str
    status: TaskStatus
    updates: Sequence[Update] = attrs.field(default=(), repr=False)
    requests: Sequence[PermissionRequest] = ()
    stop_error: HappyError | None = attrs.field(default=None, eq=False)

    @property
    def ok(self) -> bool:
        """Whether the agent says that it completed the turn."""
        return self.status == "completed"

    @property
    def text(self) -> str:
        """What the agent wrote, without its thoughts, and without what its sub-agents wrote."""
        texts = (
            without_notifications(update.text)
            for update in self.updates
            if isinstance(update, AgentText) and not update.is_thinking and update.subagent is None
        )
        return "\n\n".join(filter(None, texts))

    @property
    def usage(self) -> Mapping[str, int]:
        """
        The tokens of the turn, added up by their names, as far as the agent reports them.

        Several updates may repeat the report of one answer of the model; it counts once.
        """
        reports: dict[str, Mapping[str, Any]] = {}
        for number, update in enumerate(self.updates):
            if update.usage is not None:
                envelope = update.raw.get("content") or {}
                # The id of the model's answer, where the producer names it.
                reports[str(envelope.get("claudeUuid") or number)] = update.usage
        total: dict[str, int] = {}
        for report in reports.values():
            for name, count in report.items():
                if name.endswith("_tokens") and isinstance(count, int):
                    total[name] = total.get(name, 0) + count
        return total


@attrs.frozen(kw_only=True)
class Approval:
    """
    Yes to a permission request.

    Attributes:
        mode: Claude: the permission mode of the session from now on.
        allow_tools: Claude: not to be asked for any more in this session, such as
            ``"Bash(git status)"`` or ``"Bash(npm:*)"``.
        updated_input: Claude: other arguments for the tool; for ``AskUserQuestion`` the answers.
        for_session: Codex and Gemini: not only this once.
    """

    mode: PermissionMode | None = None
    allow_tools: Sequence[str] | None = None
    updated_input: Mapping[str, Any] | None = None
    for_session: bool = False


@attrs.frozen(kw_only=True)
class Denial:
    """
    No to a permission request.

    Attributes:
        reason: Why, for the agent (Claude).
        mode: Claude: the permission mode of the session from now on.
        abort: Codex and Gemini: end the turn too.
    """

    reason: str | None = None
    mode: PermissionMode | None = None
    abort: bool = False


def without_notifications(text: str) -> str:
    """Remove the blocks about background tasks that a text may begin with; they may be nested."""
    rest = text.lstrip()
    while rest.startswith(_OPENING):
        depth = 0
        for tag in _NOTIFICATION_TAG.finditer(rest):
            depth += 1 if tag[0] == _OPENING else -1
            if not depth:
                rest = rest[tag.end() :].lstrip()
                break
        else:
            return text
    return rest if rest != text.lstrip() else text
