"""Between messages, the rows of a table, and what ``send_message`` takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from buttdial_sync.calls import sending
from buttdial_sync.errors import ArgumentValueError
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.message import CONTENT, Message
from buttdial_sync.stores.schema import (
    KEY_LENGTH,
    LEASE,
    WORK_COLUMNS,
    WORK_INDEXES,
    Column,
    ColumnKind,
    Row,
    Schema,
)

TABLE_NAME = "buttdial_outbox"
KEY_OF_ROW = "buttdial-sync-"
JSON_FIELDS = ("template_vars", "fallback_channels")
_NOT_STORED = frozenset({"unreadable"})
_REQUIRED = frozenset({"recipient", "body", "channel"})
FIELDS = tuple(field.name for field in attrs.fields(FailedMessage) if field.name not in _NOT_STORED)
COLUMNS = (*FIELDS, LEASE)
"""The columns of a table: the fields of a message, and until when it is leased."""
_TIME_FIELDS = ("created_at", "next_retry_at", "resolved_at", "attempt_started_at", "receipt_at")
_NUMBER_FIELDS = ("retry_count", "max_retries", "attempt_number")
_WORK = {column.name: column for column in WORK_COLUMNS}


def outbox_schema(table: str = TABLE_NAME) -> Schema:
    """Describe the table of outgoing messages."""
    indexes = {**WORK_INDEXES, "sid": ("message_sid",), "key": ("idempotency_key",)}
    return Schema(table=table, columns=tuple(map(_column, COLUMNS)), indexes=indexes)


def _column(name: str) -> Column:
    if name in _WORK:
        return _WORK[name]
    number, time = name in _NUMBER_FIELDS, name in _TIME_FIELDS
    kind: ColumnKind = "number" if number else "time" if time else "text"
    return Column(name, kind, required=number or name in _REQUIRED)


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
    for name in _TIME_FIELDS:
        if not isinstance(values[name], datetime | None):
            raise TypeError(f"{name} is not a time")
    values["attempt_number"] = values["attempt_number"] or 0  # none in rows of an earlier release
    for name in _NUMBER_FIELDS:
        if not isinstance(values[name], int):
            raise TypeError(f"{name} is not a number")
    variables, channels = (
        json.loads(values[name]) if values[name] else None for name in JSON_FIELDS
    )
    values["template_vars"] = variables
    values["fallback_channels"] = None if channels is None else tuple(channels)
    return FailedMessage(**values)


def read_message(row: Mapping[str, Any]) -> FailedMessage:
    """Return the message of a row; of one that somebody broke, what can be read, marked so."""
    try:
        return as_message(row)
    except (TypeError, ValueError) as error:
        times = {name: None for name in _TIME_FIELDS if not isinstance(row[name], datetime)}
        numbers = {name: 0 for name in _NUMBER_FIELDS if not isinstance(row[name], int)}
        readable = as_message({**row, **times, **numbers, **dict.fromkeys(JSON_FIELDS)})
        return attrs.evolve(readable, unreadable=f"{type(error).__name__}: {error}")


def arguments_of(message: FailedMessage) -> dict[str, Any]:
    """Return a message as the keyword arguments of ``send_message``."""
    arguments = {name: getattr(message, name) for name in CONTENT}
    arguments["body"] = message.body or None
    arguments["to"] = message.recipient
    # The same key at every attempt, also for a row that was written without one.
    arguments["idempotency_key"] = message.idempotency_key or KEY_OF_ROW + message.id
    return arguments


def check_message(message: FailedMessage) -> None:
    """
    Check a message as ``send_message`` would, before it is written.

    Raises:
        ArgumentTypeError: A field has the wrong type.
        ArgumentValueError: It has a value that it cannot have, or there is nothing to send.
    """
    # Receipts are looked up by it, and PostgreSQL's indexes hold no long texts.
    if message.idempotency_key and len(message.idempotency_key) > KEY_LENGTH:
        raise ArgumentValueError(f"idempotency_key has more than {KEY_LENGTH} characters")
    sending.check_message(Message(**arguments_of(message)))


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)
