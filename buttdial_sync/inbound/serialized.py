"""Inbound events as plain JSON, for tasks and rows: never with a token."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs

from buttdial_sync.errors import ArgumentTypeError
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.models.converter import structure
from buttdial_sync.models.inbound import (
    DeliveryReceipt,
    InboundEvent,
    InboundMessage,
    StatusUpdate,
    UnreadableEvent,
)

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (InboundMessage, DeliveryReceipt, StatusUpdate, UnreadableEvent)
}


def as_arguments(event: InboundEvent) -> tuple[str, dict[str, Any]]:
    """
    Return an event's kind and fields.

    Raises:
        ArgumentTypeError: It must not leave the process: a verified account has a token.
    """
    kind = type(event).__name__
    if kind not in _KINDS:
        raise ArgumentTypeError(f"{kind} holds a token: handle it in the process that received it")
    return kind, attrs.asdict(event, value_serializer=_plain)


def as_event(kind: str, fields: dict[str, Any]) -> InboundEvent:
    """
    Return the event of a kind and its fields.

    Raises:
        ArgumentTypeError: The kind does not exist.
        ProtocolError: The fields are not those of one.
    """
    if kind not in _KINDS:
        raise ArgumentTypeError(f"no inbound event is called {kind!r}")
    event: InboundEvent = structure(fields, _KINDS[kind], source="a stored event", strict=True)
    return attrs.evolve(event, raw=fields.get("raw"))


def _plain(_: Any, __: Any, value: Any) -> Any:
    if isinstance(value, Secret):
        return "***"
    return value.isoformat() if isinstance(value, datetime) else value
