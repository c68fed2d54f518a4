"""Between messages, the rows of a table, and what ``send_message`` takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from buttdial_sync.calls import sending
from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.message import CONTENT, Message
from buttdial_sync.stores.schema import (
    KEY_LENGTH,
    LEASE,
    LIST_INDEXES,
    WORK_COLUMNS,
    Column,
    Row,
    Schema,
    TableIndex,
)
from buttdial_sync.stores.turns import TURN_INDEXES

TABLE_NAME = "buttdial_outbox"
_LARGEST_PRIORITY = 1_000_000
KEY_OF_ROW = "buttdial-sync-"
JSON_FIELDS = ("template_vars", "fallback_channels")
_NOT_STORED = frozenset({"unreadable"})
_REQUIRED = frozenset({"recipient", "body", "channel"})
FIELDS = tuple(field.name for field in attrs.fields(FailedMessage) if field.name not in _NOT_STORED)
UNIQUE_KEY = "unique_key"
COLUMNS = (*FIELDS, UNIQUE_KEY)
"""The columns of a table: the fields of a message, and what there is once."""
_TIME = (datetime, type(None))
_TIME_FIELDS = (
    *("created_at", "next_retry_at", "resolved_at", "attempt_started_at", "receipt_at"),
    *("expires_at", LEASE),
)
_NUMBER_FIELDS = ("retry_count", "max_retries")
# None in rows that an earlier release wrote.
_LATER_NUMBERS = ("attempt_number", "priority", "seconds_waited")
_KEY_FIELDS = ("ordering_key", UNIQUE_KEY)
_WORK = {column.name: column for column in WORK_COLUMNS}


def outbox_schema(table: str = TABLE_NAME) -> Schema:
    """Describe the table of outgoing messages."""
    return Schema(
        table=table,
        columns=tuple(map(_column, COLUMNS)),
        indexes={
            **LIST_INDEXES,
            **TURN_INDEXES,
            "sid": TableIndex(("message_sid",)),
            "key": TableIndex(("idempotency_key",)),
            "once": TableIndex((UNIQUE_KEY,), unique=True),
        },
        takes_turns=True,
    )


def unique_key(message: FailedMessage) -> str | None:
    """Return what only one row of a table may have: an agent and its key, however long."""
    if message.idempotency_key is None:
        return None
    agent_and_key = json.dumps([message.agent_id or "", message.idempotency_key])
    return hashlib.sha256(agent_and_key.encode()).hexdigest()


def _column(name: str) -> Column:
    if name in _WORK:
        return _WORK[name]
    if name in _KEY_FIELDS:
        return Column(name, "key")
    if name in (*_NUMBER_FIELDS, *_LATER_NUMBERS):
        return Column(name, "number", required=name in _NUMBER_FIELDS)
    return Column(name, "time" if name in _TIME_FIELDS else "text", required=name in _REQUIRED)


def as_row(message: FailedMessage) -> Row:
    """Return a message's columns; it is not leased."""
    row: Row = {name: getattr(message, name) for name in FIELDS}
    for name in JSON_FIELDS:
        row[name] = None if row[name] is None else json.dumps(_plain(row[name]))
    row[LEASE] = None
    row[UNIQUE_KEY] = unique_key(message)
    return row


def as_message(row: Mapping[str, Any]) -> FailedMessage:
    """
    Return the message of a row, whose times are aware.

    Raises:
        TypeError, ValueError: Somebody wrote what cannot be read.
    """
    values = {name: row[name] for name in FIELDS}
    for name in _TIME_FIELDS:
        if not isinstance(values[name], _TIME):
            raise TypeError(f"{name} is not a time")
    for name in _LATER_NUMBERS:
        values[name] = values[name] or 0
    for name in (*_NUMBER_FIELDS, *_LATER_NUMBERS):
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
        names = (*_NUMBER_FIELDS, *_LATER_NUMBERS)
        numbers = {name: 0 for name in names if not isinstance(row[name], int)}
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


def check_message(message: FailedMessage) -> FailedMessage:
    """
    Check a message as ``send_message`` would, before it is written.

    Returns:
        The message, with texts in place of what frameworks and datetimes stand for.

    Raises:
        ArgumentTypeError: A field has the wrong type.
        ArgumentValueError: It has a value that it cannot have, or there is nothing to send.
    """
    _check_types(message)
    # Receipts are looked up by it, and PostgreSQL's indexes hold no long texts.
    for name in ("idempotency_key", "ordering_key"):
        if len(getattr(message, name) or "") > KEY_LENGTH:
            raise ArgumentValueError(f"{name} has more than {KEY_LENGTH} characters")
    given = arguments_of(message)
    plain = sending.check_message(Message(**given))
    changed = {
        name: value for name in CONTENT if (value := getattr(plain, name)) is not given[name]
    }
    return attrs.evolve(message, recipient=plain.to, **changed)


def _check_types(message: FailedMessage) -> None:
    if isinstance(message.priority, bool) or not isinstance(message.priority, int):
        raise ArgumentTypeError("priority must be a whole number")
    if abs(message.priority) > _LARGEST_PRIORITY:
        raise ArgumentValueError(f"priority must be at most {_LARGEST_PRIORITY}, above or below 0")
    if not isinstance(message.ordering_key, str | None):
        raise ArgumentTypeError("ordering_key must be a text")
    if not isinstance(message.expires_at, datetime | None):
        raise ArgumentTypeError("expires_at must be a datetime")
    if message.expires_at is not None and message.expires_at.tzinfo is None:
        raise ArgumentValueError("expires_at must be aware: give it a time zone")


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)
