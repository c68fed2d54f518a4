"""Agents whose messages wait because a person wants it."""

from __future__ import annotations

from datetime import datetime

import attrs

from buttdial_sync.errors import ArgumentTypeError
from buttdial_sync.errors.scrubbing import storable
from buttdial_sync.stores.schema import LIST_INDEXES, ROW_COLUMNS, Column, Condition, Schema
from buttdial_sync.stores.store import Store
from buttdial_sync.stores.table import as_key, cut

_PAUSED = "paused"
_RESUMED = "resumed"
_ALL = "all"
_AGENT = "agent:"
_MOST = 10_000


def pauses_schema(outbox_table: str) -> Schema:
    """Describe the table of the agents of an outbox that are paused, or were."""
    return Schema(
        table=f"{outbox_table}_pauses",
        columns=(*ROW_COLUMNS, Column("reason")),
        indexes={"listed": LIST_INDEXES["listed"]},
    )


@attrs.frozen(kw_only=True)
class Pause:
    """
    Messages wait because a person wants it.

    Attributes:
        agent_id: Those of this agent; ``""`` for those that name no agent, None for all.
        since: Since when (aware).
        reason: Why, in the person's words.
    """

    agent_id: str | None
    since: datetime
    reason: str = ""


class Pauses:
    """
    The pauses of an outbox, which all its processes see. Safe to share between threads.

    Args:
        store: Has the rows, of the schema :func:`pauses_schema`.

    Attributes:
        store: Has the rows.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def begin(self, agent_id: str | None, reason: str) -> bool:
        """Begin a pause; False when there is one."""
        key, now = _key(agent_id), self.store.now()
        reason = cut(storable(reason))
        values = {"status": _PAUSED, "created_at": now, "resolved_at": None, "reason": reason}
        if self.store.insert_new([{"id": key, **values}]):
            return True
        return self._change(key, _RESUMED, values)

    def end(self, agent_id: str | None) -> bool:
        """End a pause; False when there is none."""
        values = {"status": _RESUMED, "resolved_at": self.store.now()}
        return self._change(_key(agent_id), _PAUSED, values)

    def all(self) -> tuple[Pause, ...]:
        """Return the pauses, newest first."""
        return tuple(
            Pause(
                agent_id=None if row["id"] == _ALL else row["id"].removeprefix(_AGENT),
                since=row["created_at"],
                reason=row["reason"] or "",
            )
            for row in self.store.newest(_PAUSED, _MOST)
        )

    def _change(self, key: str, status: str, values: dict[str, object]) -> bool:
        row = self.store.find(key)
        if row is None:
            return False
        condition = Condition(statuses=(status,), values={"reason": row["reason"]})
        return self.store.update(key, values, condition)


def is_paused(repository: object, agent_id: str | None) -> bool:
    """Whether a person wants an agent's messages to wait. A host's own repository has no pauses."""
    paused = getattr(repository, "paused", None)
    return paused is not None and any(
        pause.agent_id in {None, agent_id or ""} for pause in paused()
    )


def _key(agent_id: str | None) -> str:
    if not isinstance(agent_id, str | None):
        raise ArgumentTypeError("agent_id must be a text, or None for all agents")
    return _ALL if agent_id is None else as_key(_AGENT + agent_id)
