"""The memory of events that were handed over already, in a file that processes share."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from uuid import uuid4

from buttdial_sync.inbound.deliveries import DeliveryInProgressError
from buttdial_sync.stores.schema import (
    LEASE,
    PENDING,
    WORK_COLUMNS,
    Column,
    Condition,
    Row,
    Schema,
    TableIndex,
)
from buttdial_sync.stores.sqlite import SQLiteStore
from buttdial_sync.stores.times import Clock

TABLE_NAME = "buttdial_deliveries"
_DONE = "done"
_TOKEN = "token"
_STATUSES = (PENDING, _DONE)
_PURGE_EVERY = timedelta(hours=1)
_PURGED_AT_ONCE = 1000
_SCHEMA = Schema(
    table=TABLE_NAME,
    columns=(*WORK_COLUMNS, Column(_TOKEN)),
    indexes={"resolved": TableIndex(("status", "resolved_at"))},
)


class SQLiteDeliveryLog:
    """
    A :class:`DeliveryLog` in one file, made when it is missing, for several processes.

    Use it as a context manager or :meth:`close` it. On a local disk. Safe to share between threads
    and across forks.

    Args:
        path: The file; it may be that of an inbox or an outbox.
        keep_for: How long a delivery is remembered.
        busy_timeout: How long to wait for another process that writes, in seconds.
        clock: Tells the time, aware.

    Raises:
        ConfigError: The file cannot be opened, or an argument is wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep_for: timedelta = timedelta(days=7),
        busy_timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        self._store = SQLiteStore(path, _SCHEMA, busy_timeout=busy_timeout, clock=clock)
        self._keep_for = keep_for
        # Changed by single atomic operations only: purging twice does no harm.
        self._purge_at = self._store.now()

    def claim(self, delivery_id: str, lease: float) -> str | None:
        """Claim a delivery; see :meth:`DeliveryLog.claim`."""
        now, token = self._store.now(), uuid4().hex
        self._purge_sometimes(now)
        claim = {LEASE: now + timedelta(seconds=lease), _TOKEN: token, "resolved_at": now}
        if self._store.insert_new([{**_new_row(delivery_id, now), **claim}]):
            return token
        if self._store.update(delivery_id, claim, Condition(no_lease_at=now)):
            return token
        found = self._store.find(delivery_id)
        if found is not None and found["status"] == _DONE:
            return None
        raise DeliveryInProgressError(delivery_id)

    def done(self, delivery_id: str, token: str) -> None:
        """Note that it was handed over; see :meth:`DeliveryLog.done`."""
        now = self._store.now()
        # Whoever has the claim now: this handler has succeeded.
        changes = {"status": _DONE, "resolved_at": now, LEASE: None, _TOKEN: token}
        if not self._store.update(delivery_id, changes, Condition(statuses=_STATUSES)):
            self._store.insert_new([{**_new_row(delivery_id, now), **changes}])

    def release(self, delivery_id: str, token: str) -> None:
        """Give a claim back; see :meth:`DeliveryLog.release`."""
        # The fence: a handler that outlived its lease must not free another worker's claim.
        self._store.update(delivery_id, {LEASE: None}, Condition(values={_TOKEN: token}))

    def close(self, timeout: float = 10.0) -> None:
        """
        Close the file. Idempotent, from any thread; later calls of other methods raise.

        Args:
            timeout: How long to wait for a call of another thread to end, in seconds.
        """
        self._store.close(timeout)

    def __enter__(self) -> SQLiteDeliveryLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SQLiteDeliveryLog({self._store.path!r})"

    def _purge_sometimes(self, now: datetime) -> None:
        """Forget what is old, claims of processes that died too."""
        if now < self._purge_at:
            return
        self._purge_at = now + _PURGE_EVERY
        before = now - self._keep_for
        while self._store.delete(_STATUSES, before, _PURGED_AT_ONCE) == _PURGED_AT_ONCE:
            pass


def _new_row(delivery_id: str, now: datetime) -> Row:
    return {
        "id": delivery_id,
        "status": PENDING,
        "retry_count": 0,
        "attempt_number": None,
        "last_error": None,
        "created_at": now,
        "next_retry_at": now,
    }
