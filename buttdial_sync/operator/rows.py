"""Objects as the operator's pages know them: the published names, JSON types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from buttdial_sync.inbound.inbox import StoredEvent
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry.pauses import Pause
from buttdial_sync.stores.figures import Figures

_FAILED_MESSAGE_FIELDS = (
    "id",
    "recipient",
    "body",
    "channel",
    "agent_name",
    "thread_id",
    "entity_id",
    "reply_msg_id",
    "retry_count",
    "max_retries",
    "last_error",
    "status",
    "created_at",
    "next_retry_at",
    "resolved_at",
)


def failed_message_row(message: FailedMessage) -> dict[str, Any]:
    """Return a message as JSON. Its ``agent_token`` is there, as pages expect, but empty."""
    row = {name: _plain(getattr(message, name)) for name in _FAILED_MESSAGE_FIELDS}
    return {**row, "agent_token": ""}


def stored_event_row(stored: StoredEvent) -> dict[str, Any]:
    """Return an event of the inbox as JSON, with its text."""
    row = json_fields(stored)
    del row["event"]
    return {**row, "text": getattr(stored.event, "text", None)}


def figures_row(figures: Figures, pauses: Sequence[Pause]) -> dict[str, Any]:
    """Return the figures of an outbox as JSON; ``more_than`` names the counts with more to come."""
    counted = {**figures.counts, "in_doubt": figures.in_doubt}
    return {
        **{name: count.value for name, count in counted.items()},
        "more_than": [name for name, count in counted.items() if count.has_more],
        "flow": figures.flow,
        "oldest_due_seconds": figures.oldest_due_seconds,
        "sent_last_minute": figures.sent_last_minute.value,
        "sent_last_hour": figures.sent_last_hour.value,
        "sent_per_minute": figures.sent_per_minute,
        "paused": [json_fields(pause) for pause in pauses],
        "agents": [
            {
                **json_fields(agent),
                "pending": agent.pending.value,
                "has_more": agent.pending.has_more,
            }
            for agent in figures.agents
        ],
    }


def json_fields(thing: attrs.AttrsInstance) -> dict[str, Any]:
    """Return an object's fields as JSON."""
    return {field.name: _plain(getattr(thing, field.name)) for field in attrs.fields(type(thing))}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value
