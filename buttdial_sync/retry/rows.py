"""Between messages and the rows of a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import attrs

from buttdial_sync.models.failed import FailedMessage

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


def utc_now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(timezone.utc)


def as_row(message: FailedMessage) -> Row:
    """Return a message's columns; ``leased_until`` is None."""
    row: Row = {name: getattr(message, name) for name in FIELDS}
    for name in JSON_FIELDS:
        row[name] = None if row[name] is None else json.dumps(_plain(row[name]))
    row[LEASE] = None
    return row


def as_message(row: Mapping[str, Any]) -> FailedMessage:
    """Return the message of a row, whose times are aware."""
    values = {name: row[name] for name in FIELDS}
    variables, channels = (
        json.loads(values[name]) if values[name] else None for name in JSON_FIELDS
    )
    values["template_vars"] = variables
    values["fallback_channels"] = None if channels is None else tuple(channels)
    return FailedMessage(**values)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)
