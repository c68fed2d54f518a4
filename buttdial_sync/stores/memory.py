"""Rows in memory: for tests, and for hosts that can afford to lose them."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from buttdial_sync.errors import ArgumentValueError
from buttdial_sync.stores.figures import Figures, measure_rows
from buttdial_sync.stores.schema import (
    LEASE,
    PENDING,
    Claim,
    Condition,
    Row,
    RowKey,
    Schema,
    Selection,
    Turn,
    id_taken,
)
from buttdial_sync.stores.store import Store
from buttdial_sync.stores.times import Clock
from buttdial_sync.stores.turns import as_turns, take_turns
from buttdial_sync.transport.fork import reset_after_fork


class MemoryStore(Store):
    """The rows of one process; all are lost when it ends. A forked child has a copy."""

    def __init__(self, schema: Schema, clock: Clock | None = None) -> None:
        super().__init__(schema, clock)
        self._rows: dict[str, Row] = {}
        self._pending: dict[str, Row] = {}
        self._by_unique: dict[str, dict[str, str]] = {
            index.keys[0]: {} for index in schema.indexes.values() if index.unique
        }
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a new lock."""
        self._lock = threading.Lock()

    def insert(self, row: Row) -> None:
        """Write a new row; see :meth:`Store.insert`."""
        with self._lock:
            if row["id"] in self._rows or self._is_taken(row):
                raise ArgumentValueError(id_taken(row["id"]))
            self._keep(dict(row))

    def insert_new(self, rows: Sequence[Row]) -> int:
        """Write those that are new; see :meth:`Store.insert_new`."""
        with self._lock:
            before = len(self._rows)
            for row in rows:
                if row["id"] not in self._rows and not self._is_taken(row):
                    self._keep(dict(row))
            return len(self._rows) - before

    def claim(self, claim: Claim) -> list[Row]:
        """Lease rows; see :meth:`Store.claim`."""
        with self._lock:
            if self.schema.takes_turns:
                claimed = [self._rows[row_id] for row_id in self._take_turns(claim)]
            else:
                claimed = self._due(claim.now, self._heads(claim.now))[: claim.limit]
            for row in claimed:
                row[LEASE] = claim.leased_until
                if claim.begins_attempt:
                    row["retry_count"] += 1
                    row["attempt_number"] += 1
            return [dict(row) for row in claimed]

    def turns(self, now: datetime) -> list[Turn]:
        """Return the agents with rows to claim; see :meth:`Store.turns`."""
        with self._lock:
            due = self._due(now, self._pending.values())
        return as_turns({(row["agent_id"] or "", row["priority"] or 0) for row in due})

    def release(
        self, ids: Sequence[str], leased_until: datetime, changes: Mapping[str, Any]
    ) -> int:
        """End leases; see :meth:`Store.release`."""
        with self._lock:
            rows = [self._pending[row_id] for row_id in ids if row_id in self._pending]
            leased = [row for row in rows if row[LEASE] == leased_until]
            for row in leased:
                row.update({**changes, LEASE: None})
            return len(leased)

    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        """Change a row; see :meth:`Store.update`."""
        with self._lock:
            row = self._rows.get(row_id)
            if row is None or not _meets(row, condition):
                return False
            self._keep({**row, **changes})
            return True

    def find(self, row_id: str) -> Row | None:
        """Return one row; see :meth:`Store.find`."""
        with self._lock:
            row = self._rows.get(row_id)
            return None if row is None else dict(row)

    def find_many(self, ids: Sequence[str]) -> list[Row]:
        """Return some rows; see :meth:`Store.find_many`."""
        with self._lock:
            return [dict(self._rows[row_id]) for row_id in ids if row_id in self._rows]

    def ids_between(self, bounds: Sequence[tuple[str, str]]) -> list[str]:
        """Return ids; see :meth:`Store.ids_between`."""
        with self._lock:
            ids = sorted(self._rows)
        return [
            row_id
            for low, high in bounds
            for row_id in ids[bisect_left(ids, low) : bisect_right(ids, high)]
        ]

    def newest_by(self, column: str, value: str, limit: int) -> list[Row]:
        """Return the newest of some rows; see :meth:`Store.newest_by`."""
        with self._lock:
            found = [dict(row) for row in self._rows.values() if row[column] == value]
        return sorted(found, key=itemgetter("created_at"), reverse=True)[:limit]

    def first_in_order(self, agent_id: str, ordering_key: str) -> Row | None:
        """Return the oldest row; see :meth:`Store.first_in_order`."""
        queue = (agent_id, ordering_key)
        with self._lock:
            rows = [row for row in self._pending.values() if _place(row)[0] == queue]
            first = min(rows, key=lambda row: _place(row)[1], default=None)
            return None if first is None else dict(first)

    def newest(self, status: str | None, limit: int) -> list[Row]:
        """Return rows; see :meth:`Store.newest`."""
        with self._lock:
            rows = [dict(row) for row in self._rows.values() if status in {None, row["status"]}]
        rows.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
        return rows[:limit]

    def leased(self, now: datetime) -> list[Row]:
        """Return the leased ones; see :meth:`Store.leased`."""
        with self._lock:
            return [dict(row) for row in self._pending.values() if not _is_free(row, now)]

    def counts(self) -> Mapping[str, int]:
        """Count all; see :meth:`Store.counts`."""
        with self._lock:
            return Counter(row["status"] for row in self._rows.values())

    def count(self, status: str) -> int:
        """Count those of a status; see :meth:`Store.count`."""
        return self.counts().get(status, 0)

    def keys(self, status: str, after: RowKey | None, limit: int) -> list[RowKey]:
        """Return keys; see :meth:`Store.keys`."""
        with self._lock:
            found = sorted(
                (row["created_at"], row["id"])
                for row in self._rows.values()
                if row["status"] == status
            )
        start = 0 if after is None else bisect_right(found, after)
        return found[start : start + limit]

    def count_selected(self, ids: Sequence[str], selection: Selection) -> int:
        """Count rows; see :meth:`Store.count_selected`."""
        with self._lock:
            return len(self._selected(ids, selection))

    def update_selected(
        self,
        ids: Sequence[str],
        selection: Selection,
        changes: Mapping[str, Any],
        *,
        one_more_attempt: bool,
    ) -> int:
        """Change rows; see :meth:`Store.update_selected`."""
        with self._lock:
            chosen = self._selected(ids, selection)
            for row in chosen:
                more = {}
                if one_more_attempt:
                    more["max_retries"] = max(row["max_retries"], row["retry_count"] + 1)
                self._keep({**row, **changes, **more})
            return len(chosen)

    def _selected(self, ids: Sequence[str], selection: Selection) -> list[Row]:
        known = (self._rows[row_id] for row_id in ids if row_id in self._rows)
        return [row for row in known if _is_selected(row, selection)]

    def figures(self, statuses: Sequence[str], now: datetime) -> Figures:
        """Measure the rows; see :meth:`Store.figures`."""
        with self._lock:
            return measure_rows(self._rows.values(), statuses, now)

    def delete(self, statuses: Sequence[str], before: datetime, limit: int) -> int:
        """Delete rows; see :meth:`Store.delete`."""
        with self._lock:
            old = [
                row["id"]
                for row in self._rows.values()
                if row["status"] in statuses
                and row["resolved_at"] is not None
                and row["resolved_at"] < before
            ][:limit]
            for row_id in old:
                row = self._rows.pop(row_id)
                for name, values in self._by_unique.items():
                    values.pop(row[name], None)
            return len(old)

    def _due(self, now: datetime, rows: Iterable[Row]) -> list[Row]:
        due = [row for row in rows if row["next_retry_at"] <= now and _is_free(row, now)]
        return sorted(due, key=itemgetter("next_retry_at", "created_at"))

    def _take_turns(self, claim: Claim) -> list[str]:
        oldest: dict[tuple[str, str], tuple[datetime, str]] = {}
        in_flight: set[tuple[str, str]] = set()
        for row in self._pending.values():
            if row["ordering_key"] is not None:
                queue, place = _place(row)
                oldest[queue] = min(oldest.get(queue, place), place)
                if not _is_free(row, claim.now):
                    in_flight.add(queue)
        waiting: dict[tuple[str, int], list[str]] = {}
        for row in self._due(claim.now, self._pending.values()):
            if row["ordering_key"] is not None:
                queue, place = _place(row)
                if oldest[queue] != place or queue in in_flight:
                    continue
            lane = (row["agent_id"] or "", row["priority"] or 0)
            waiting.setdefault(lane, []).append(row["id"])

        def find_next(agent: str, priority: int, limit: int) -> list[str]:
            return waiting.get((agent, priority), [])[:limit]

        return take_turns(claim, find_next)

    def _heads(self, now: datetime) -> list[Row]:
        """Return the rows that may be claimed as far as their groups go."""
        group = self.schema.group
        if group is None:
            return list(self._pending.values())
        heads: dict[Any, Row] = {}
        for row in self._pending.values():
            head = heads.setdefault(row[group], row)
            if row["created_at"] < head["created_at"]:
                heads[row[group]] = row
        leased = {row[group] for row in self._pending.values() if not _is_free(row, now)}
        return [row for name, row in heads.items() if name not in leased]

    def _is_taken(self, row: Row) -> bool:
        return any(row[name] in self._by_unique[name] for name in self._by_unique)

    def _keep(self, row: Row) -> None:
        self._rows[row["id"]] = row
        for name, values in self._by_unique.items():
            if row[name] is not None:
                values[row[name]] = row["id"]
        if row["status"] == PENDING:
            self._pending[row["id"]] = row
        else:
            self._pending.pop(row["id"], None)


def _place(row: Row) -> tuple[tuple[str, str], tuple[datetime, str]]:
    """Return the queue that a row stands in because of its ``ordering_key``, and its place."""
    return (row["agent_id"] or "", row["ordering_key"]), (row["created_at"], row["id"])


def _is_free(row: Row, now: datetime) -> bool:
    return row[LEASE] is None or row[LEASE] <= now


def _is_selected(row: Row, selection: Selection) -> bool:
    like = (selection.error_like or "").lower()
    in_doubt = row.get("attempt_started_at") is not None
    return (
        row["status"] in selection.statuses
        and _is_free(row, selection.now)
        and selection.in_doubt in {None, in_doubt}
        and selection.agent_id in {None, row.get("agent_id") or ""}
        and like in (row["last_error"] or "").lower()
        and (
            selection.since is None or (row["resolved_at"] or row["created_at"]) >= selection.since
        )
    )


def _meets(row: Row, condition: Condition) -> bool:
    return (
        row["status"] in condition.statuses
        and condition.retry_count in {None, row.get("retry_count")}
        and condition.attempt_number in {None, row.get("attempt_number") or 0}
        and (condition.no_lease_at is None or _is_free(row, condition.no_lease_at))
        and all(row[name] == value for name, value in condition.values.items())
        and all(row[name] is not None for name in condition.present)
    )
