"""Between messages, the rows of a table, and what ``send_message`` takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from buttdial_sync.calls import sending
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.message import CONTENT, Message

Row = dict[str, Any]

TABLE_NAME = "buttdial_outbox"
JSON_FIELDS = ("template_vars", "fallback_channels")
TIME_FIELDS = (
    "created_at",
    "next_retry_at",
    "resolved_at",
    "attempt_started_at",
    "leased_until",
)
NUMBER_FIELDS = ("retry_count", "max_retries")
LEASE = "leased_until"
FIELDS = tuple(field.name for field in attrs.fields(FailedMessage))
COLUMNS = (*FIELDS, LEASE)
"""The columns of a table: the fields of a message, and until when it is leased."""


def as_row(message: FailedMessage) -> Row:
    """Return a message's columns; ``leased_until`` is None."""
    row: Row = {name: getattr(message, name) for name in FIELDS}
    for name in JSON_FIELDS:
        row[name] = None if row[name] is None else json.dumps(_plain(row[name]))
    row[LEASE] = None
    return row


def as_message(row: Mapping[str, Any]) -> FailedMessage:
    """
    Return the message of a row, whose times are aware.

    Raises:
        TypeError, ValueError: Somebody wrote what cannot be read.
    """
    values = {name: row[name] for name in FIELDS}
    for name in TIME_FIELDS:
        if not isinstance(row[name], datetime | None):
            raise TypeError(f"{name} is not a time")
    variables, channels = (
        json.loads(values[name]) if values[name] else None for name in JSON_FIELDS
    )
    values["template_vars"] = variables
    values["fallback_channels"] = None if channels is None else tuple(channels)
    return FailedMessage(**values)


def arguments_of(message: FailedMessage) -> dict[str, Any]:
    """Return a message as the keyword arguments of ``send_message``."""
    arguments = {name: getattr(message, name) for name in CONTENT}
    arguments["body"] = message.body or None
    arguments["to"] = message.recipient
    # The same key at every attempt, also for a row that was written without one.
    arguments["idempotency_key"] = message.idempotency_key or f"buttdial-sync-{message.id}"
    return arguments


def check_message(message: FailedMessage) -> None:
    """
    Check a message as ``send_message`` would, before it is written.

    Raises:
        ArgumentTypeError: A field has the wrong type.
        ArgumentValueError: It has a value that it cannot have, or there is nothing to send.
    """
    sending.check_message(Message(**arguments_of(message)))


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)
