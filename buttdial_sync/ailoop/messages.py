"""The messages of ailoop: what agents ask and say, and what people answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, cast, get_args

import attrs

from buttdial_sync.errors import ProtocolError
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.models.converter import structure
from buttdial_sync.models.result import ReceivedObject

SenderType = Literal["AGENT", "HUMAN"]
ResponseType = Literal[
    "text", "authorization_approved", "authorization_denied", "timeout", "cancelled"
]
Priority = Literal["low", "normal", "high", "urgent"]
RESPONSE_TYPES: tuple[str, ...] = get_args(ResponseType)
PRIORITIES: tuple[str, ...] = get_args(Priority)

# Makes a connection hear every channel, with a replay; it can no longer send then.
VIEWER_HELLO: Mapping[str, Any] = {"subscribe": []}


@attrs.frozen(kw_only=True)
class Option:
    """
    One choice of a decision.

    Attributes:
        id: Names it in the answer. Unique within the decision.
        label: What the person reads.
        detail_markdown: More about it, or None.
    """

    id: str
    label: str
    detail_markdown: str | None = None


@attrs.frozen(kw_only=True)
class Recommendation:
    """
    What the agent would choose.

    Attributes:
        option_id: The option.
        rationale_markdown: Why, or None.
    """

    option_id: str
    rationale_markdown: str | None = None


@attrs.frozen(kw_only=True)
class DecisionContent(ReceivedObject):
    """Ask to choose one of several options. Servers from 1.0.4."""

    summary: str
    timeout_seconds: int
    decision_id: str = ""
    options: list[Option] = attrs.field(factory=list)
    context_markdown: str | None = None
    recommendation: Recommendation | None = None


@attrs.frozen(kw_only=True)
class QuestionContent(ReceivedObject):
    """Ask for a choice or for free text. Servers up to 1.0.0."""

    text: str
    timeout_seconds: int
    choices: list[str] | None = None


@attrs.frozen(kw_only=True)
class AuthorizationContent(ReceivedObject):
    """Ask for an approval."""

    action: str
    timeout_seconds: int
    context: Any = None


@attrs.frozen(kw_only=True)
class NotificationContent(ReceivedObject):
    """Tell something. Nobody answers."""

    text: str
    priority: str = "low"


@attrs.frozen(kw_only=True)
class NavigateContent(ReceivedObject):
    """Ask to open an address."""

    url: str


@attrs.frozen(kw_only=True)
class ResponseContent(ReceivedObject):
    """
    An answer, or why there is none.

    Attributes:
        answer: What was typed, or the id of the option; None for an approval, a denial, a timeout.
        response_type: ``"text"``, ``"authorization_approved"``, ``"authorization_denied"``,
            ``"timeout"`` or ``"cancelled"``. Servers may send others.
    """

    response_type: str
    answer: str | None = None


@attrs.frozen(kw_only=True)
class OtherContent(ReceivedObject):
    """A content of a type that this library does not know, or that lacks something."""

    type: str


MessageContent = (
    DecisionContent
    | QuestionContent
    | AuthorizationContent
    | NotificationContent
    | NavigateContent
    | ResponseContent
    | OtherContent
)
_CONTENTS: dict[str, type[Any]] = {
    "decision": DecisionContent,
    "question": QuestionContent,
    "authorization": AuthorizationContent,
    "notification": NotificationContent,
    "navigate": NavigateContent,
    "response": ResponseContent,
}


@attrs.frozen(kw_only=True)
class Message(ReceivedObject):
    """
    A message of a channel.

    Attributes:
        id: Its id, a UUID that the sender has made.
        channel: The channel.
        sender_type: ``"AGENT"`` or ``"HUMAN"``. Whoever sends it says so; nobody checks.
        content: What it says; its class tells the kind.
        timestamp: When it was sent (aware, UTC).
        correlation_id: The prompt that a response belongs to, or None.
        metadata: What the sender has added.
        raw: The message as it came.
    """

    id: str
    channel: str
    sender_type: str
    content: MessageContent
    timestamp: datetime
    correlation_id: str | None = None
    metadata: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class _Envelope:
    id: str
    channel: str
    sender_type: str
    content: dict[str, Any]
    timestamp: datetime
    correlation_id: str | None = None
    metadata: dict[str, Any] | None = None


def message_of(data: Any) -> Message:
    """
    Read a message.

    Args:
        data: The decoded JSON.

    Raises:
        ProtocolError: It is not a message. A content that is not known is kept as it came.
    """
    envelope = structure(data, _Envelope, source="the server", strict=True)
    return Message(
        id=envelope.id,
        channel=envelope.channel,
        sender_type=envelope.sender_type,
        content=_content_of(envelope.content),
        timestamp=envelope.timestamp,
        correlation_id=envelope.correlation_id,
        metadata=envelope.metadata or {},
        raw=data,
    )


def _content_of(data: dict[str, Any]) -> MessageContent:
    name = str(data.get("type"))
    kind = _CONTENTS.get(name)
    if kind is not None:
        try:
            content = structure(data, kind, source="the server", strict=True)
            return cast("MessageContent", content)
        except ProtocolError:  # a newer server's, or a broken peer's
            pass
    return OtherContent(type=name, raw=data)


def new_message(message_id: str, channel: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an agent's message as it goes over the wire."""
    return {
        "id": message_id,
        "channel": channel,
        "sender_type": "AGENT",
        "content": dict(content),
        "timestamp": utc_now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }


_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RESERVED = frozenset({"system", "admin", "internal", "reserved", "ailoop"})


def is_channel_name(name: object) -> bool:
    """Whether the server accepts a channel of this name. Over WebSocket it would not tell."""
    return (
        isinstance(name, str)
        and _CHANNEL.fullmatch(name) is not None
        and name.lower() not in _RESERVED
    )
