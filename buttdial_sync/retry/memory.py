"""Messages in memory: for tests, and for hosts that can afford to lose them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from buttdial_sync.errors import ArgumentValueError
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.models.failed import FailedStatus
from buttdial_sync.retry.rows import LEASE, Row
from buttdial_sync.retry.table import DEFAULT_LEASE, Condition, TableRepository, id_taken
from buttdial_sync.transport.fork import reset_after_fork


class MemoryRepository(TableRepository):
    """
    A repository of one process. Safe to share between threads; all is lost when the process ends.

    Args:
        lease: As in :class:`~buttdial_sync.retry.table.TableRepository`.
        keep_tokens: As there.
        clock: As there.
    """

    def __init__(
        self,
        *,
        lease: float = DEFAULT_LEASE,
        keep_tokens: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(lease=lease, keep_tokens=keep_tokens, clock=clock)
        self._rows: dict[str, Row] = {}
        self._pending: dict[str, Row] = {}
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a new lock."""
        self._lock = threading.Lock()

    def _insert(self, row: Row) -> None:
        with self._lock:
            if row["id"] in self._rows:
                raise ArgumentValueError(id_taken(row["id"]))
            self._keep(row)

    def _claim(self, now: datetime, leased_until: datetime, limit: int) -> list[Row]:
        with self._lock:
            due = [
                row
                for row in self._pending.values()
                if row["next_retry_at"] <= now and _is_free(row, now)
            ]
            due.sort(key=lambda row: (row["next_retry_at"], row["created_at"]))
            for row in due[:limit]:
                row[LEASE] = leased_until
            return [dict(row) for row in due[:limit]]

    def _update(self, msg_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        with self._lock:
            row = self._rows.get(msg_id)
            if row is None or not _meets(row, condition):
                return False
            self._keep({**row, **changes})
            return True

    def _find(self, msg_id: str) -> Row | None:
        with self._lock:
            row = self._rows.get(msg_id)
            return None if row is None else dict(row)

    def _newest(self, status: FailedStatus | None, limit: int) -> list[Row]:
        with self._lock:
            rows = [dict(row) for row in self._rows.values() if status in {None, row["status"]}]
        rows.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
        return rows[:limit]

    def _leased(self, now: datetime) -> list[Row]:
        with self._lock:
            return [dict(row) for row in self._pending.values() if not _is_free(row, now)]

    def _counts(self) -> Mapping[str, int]:
        with self._lock:
            return Counter(row["status"] for row in self._rows.values())

    def _keep(self, row: Row) -> None:
        self._rows[row["id"]] = row
        if row["status"] == "pending":
            self._pending[row["id"]] = row
        else:
            self._pending.pop(row["id"], None)


def _is_free(row: Row, now: datetime) -> bool:
    return row[LEASE] is None or row[LEASE] <= now


def _meets(row: Row, condition: Condition) -> bool:
    return (
        row["status"] in condition.statuses
        and condition.retry_count in {None, row["retry_count"]}
        and (condition.no_lease_at is None or _is_free(row, condition.no_lease_at))
    )
