"""What happens in a session, as typed updates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import attrs

from buttdial_sync.happy.models import Message, PermissionRequest, Session, text_of

TurnEnd = Literal["completed", "failed", "cancelled"]
_ENDS: tuple[TurnEnd, ...] = ("completed", "failed", "cancelled")


@attrs.frozen(kw_only=True)
class Update:
    """
    One thing that happened in a session.

    Attributes:
        session_id: The session.
        seq: The number of the message that says it; None for a change of the session's state.
        created_at: When the message was stored (aware, UTC), or None.
        turn: The id of the turn that it belongs to, where the producer names it.
        subagent: The sub-agent that it is of, or None.
        usage: The tokens that the producer reports with it, or None.
        raw: What it was made of.
    """

    session_id: str
    seq: int | None = None
    created_at: datetime | None = None
    turn: str | None = None
    subagent: str | None = None
    usage: Mapping[str, Any] | None = attrs.field(default=None, repr=False)
    raw: Any = attrs.field(default=None, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class UserText(Update):
    """A person or a program wrote to the agent."""

    text: str


@attrs.frozen(kw_only=True)
class AgentText(Update):
    """The agent wrote something; ``is_thinking`` if only to itself."""

    text: str
    is_thinking: bool = False


@attrs.frozen(kw_only=True)
class ServiceText(Update):
    """The program around the agent wrote something."""

    text: str


@attrs.frozen(kw_only=True)
class ToolCallStarted(Update):
    """
    The agent calls a tool.

    Attributes:
        call: The call's id, which its end has too.
        name: The tool.
        title: What the apps show.
        arguments: What it is called with.
    """

    call: str
    name: str
    title: str | None = None
    arguments: Any = None


@attrs.frozen(kw_only=True)
class ToolCallEnded(Update):
    """A tool call ended."""

    call: str


@attrs.frozen(kw_only=True)
class TurnStarted(Update):
    """The agent begins to work on what it was sent."""


@attrs.frozen(kw_only=True)
class TurnEnded(Update):
    """
    The agent is done with a turn.

    Attributes:
        status: ``"completed"``, ``"failed"`` or ``"cancelled"``.
    """

    status: TurnEnd


@attrs.frozen(kw_only=True)
class AgentReady(Update):
    """The agent waits for the next message: how older producers end a turn."""


@attrs.frozen(kw_only=True)
class PermissionRequested(Update):
    """The agent waits for a permission."""

    request: PermissionRequest


@attrs.frozen(kw_only=True)
class StateChanged(Update):
    """The session's metadata or the agent's state changed."""

    session: Session


@attrs.frozen(kw_only=True)
class SessionEnded(Update):
    """
    The session was archived or deleted: nothing more will come.

    Attributes:
        how: ``"archived"`` or ``"deleted"``.
    """

    how: Literal["archived", "deleted"]


@attrs.frozen(kw_only=True)
class RawUpdate(Update):
    """
    A message of a shape that this library does not know, or cannot decrypt.

    Attributes:
        unreadable: Why it cannot be decrypted, or None.
        is_output: Whether an agent wrote it.
    """

    unreadable: str | None = None
    is_output: bool = False


def update_of(message: Message) -> Update:
    """Read a message. Every shape gives an update: an unknown one is a :class:`RawUpdate`."""
    base = {
        "session_id": message.session_id,
        "seq": message.seq,
        "created_at": message.created_at,
        "raw": message.content,
    }
    content = message.content.get("content") if isinstance(message.content, Mapping) else None
    if not isinstance(content, Mapping):
        return RawUpdate(**base, unreadable=message.unreadable)
    if message.role == "user" and isinstance(content.get("text"), str):
        return UserText(**base, text=content["text"])
    if message.role == "agent" and _is_ready(content):
        return AgentReady(**base)
    event = content.get("ev")
    if message.role == "session" and isinstance(event, Mapping):
        usage = content.get("usage")
        base.update(
            turn=text_of(content.get("turn")),
            subagent=text_of(content.get("subagent")),
            usage=usage if isinstance(usage, Mapping) else None,
        )
        return _of_event(event, base, is_user=content.get("role") == "user")
    return RawUpdate(**base, is_output=message.role == "agent")


def _of_event(event: Mapping[str, Any], base: dict[str, Any], *, is_user: bool) -> Update:
    kind, text, call = event.get("t"), event.get("text"), event.get("call")
    if kind == "turn-start":
        return TurnStarted(**base)
    if kind == "turn-end":
        status = event.get("status")
        return TurnEnded(**base, status=status if status in _ENDS else "completed")
    if kind == "text" and isinstance(text, str):
        if is_user:
            return UserText(**base, text=text)
        return AgentText(**base, text=text, is_thinking=event.get("thinking") is True)
    if kind == "service" and isinstance(text, str):
        return ServiceText(**base, text=text)
    if kind == "tool-call-start" and isinstance(call, str):
        return ToolCallStarted(
            **base,
            call=call,
            name=str(event.get("name") or ""),
            title=text_of(event.get("title")),
            arguments=event.get("args"),
        )
    if kind == "tool-call-end" and isinstance(call, str):
        return ToolCallEnded(**base, call=call)
    return RawUpdate(**base, is_output=kind == "file" and not is_user)


def _is_ready(content: Mapping[str, Any]) -> bool:
    data = content.get("data")
    return (
        content.get("type") == "event" and isinstance(data, Mapping) and data.get("type") == "ready"
    )
