"""What came in, written down before anybody handles it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Literal, get_args
from uuid import uuid4

import attrs

from buttdial_sync.errors import ButtDialError
from buttdial_sync.inbound.dispatch import identity_of, order_of
from buttdial_sync.inbound.serialized import as_arguments, as_event
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.stores.memory import MemoryStore
from buttdial_sync.stores.schema import (
    LEASE,
    WORK_COLUMNS,
    WORK_INDEXES,
    Claim,
    Column,
    Condition,
    Row,
    Schema,
    TableIndex,
)
from buttdial_sync.stores.sqlite import SQLiteStore
from buttdial_sync.stores.store import Store
from buttdial_sync.stores.table import DEFAULT_LEASE, WorkTable, cut
from buttdial_sync.stores.times import Clock
from buttdial_sync.transport.deadline import check_seconds
from buttdial_sync.transport.fork import reset_after_fork

logger = logging.getLogger("buttdial_sync.inbound")

InboxStatus = Literal["pending", "handled", "dead", "dismissed"]
INBOX_STATUSES: tuple[InboxStatus, ...] = get_args(InboxStatus)
TABLE_NAME = "buttdial_inbox"
ORDER = "order_key"
WEEK = timedelta(days=7)
_MICROSECOND = timedelta(microseconds=1)
_INBOX_COLUMNS = (
    *WORK_COLUMNS,
    Column("kind", "key", required=True),
    Column("payload", required=True),
    Column(ORDER, "key", required=True),
    Column("channel"),
    Column("sender"),
    Column("agent_id"),
    Column("first_failed_at", "time"),
)
_TIMES = ("created_at", "next_retry_at", "resolved_at", "first_failed_at")


def inbox_schema(table: str = TABLE_NAME) -> Schema:
    """Describe the table of an inbox."""
    return Schema(
        table=table,
        columns=_INBOX_COLUMNS,
        indexes={**WORK_INDEXES, "order": TableIndex((ORDER, "status", "created_at"))},
        group=ORDER,
    )


@attrs.frozen(kw_only=True)
class StoredEvent:
    """
    An event in an inbox.

    Attributes:
        id: The row's id: what the event is known by, so that it is stored once.
        event: The event; None if its row cannot be read.
        kind: The name of its class.
        channel, sender, agent_id: As in the event, where it has them.
        status: ``"pending"``, ``"handled"``, ``"dead"`` or ``"dismissed"``.
        retry_count: How many attempts to hand it over were begun, since it was written or since
            somebody asked for another one.
        attempt_number: How many in all. It never falls.
        last_error: Why the last one failed.
        created_at, next_retry_at, resolved_at: Aware times.
        first_failed_at: When the first of these attempts failed, or None.
        unreadable: Why the row cannot be read, as after an edit by hand; None for all others.
    """

    id: str
    event: InboundEvent | None = None
    kind: str = ""
    channel: str | None = None
    sender: str | None = None
    agent_id: str | None = None
    status: InboxStatus = "pending"
    retry_count: int = 0
    attempt_number: int = 0
    last_error: str | None = None
    created_at: datetime | None = None
    next_retry_at: datetime | None = None
    resolved_at: datetime | None = None
    first_failed_at: datetime | None = None
    unreadable: str | None = None


_FIELDS = {each.name for each in attrs.fields(StoredEvent)} & {each.name for each in _INBOX_COLUMNS}


class Inbox(WorkTable):
    """
    Events that came in, in the rows of a store, until a handler has had them.

    An event that a webhook, a push or the waiting queue brings is written once. Those of one sender
    are handed out one after the other, oldest first. Safe to share between threads, and between
    processes if the store is. Make a :class:`SQLiteInbox` or a :class:`MemoryInbox`, or the one of
    your framework.

    Args:
        store: Has the rows, of the schema ``inbox_schema()``.
        lease: How long an event is kept from other processes while it is handled, in seconds; it
            starts again while the handler runs. It must not be shorter than the ``lease`` of the
            :class:`~buttdial_sync.InboundHandler`.
        keep_for: How long events are kept after they were handled or dismissed: they are known
            again for that time. Dead letters stay.
        around: Makes a context manager that threads of the library enter while they use the store,
            for example to close database connections.

    Attributes:
        store: Has the rows.
        keep_for: As given.
        around: As given.
    """

    def __init__(
        self,
        store: Store,
        *,
        lease: float = DEFAULT_LEASE,
        keep_for: timedelta = WEEK,
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        super().__init__(store, INBOX_STATUSES, lease)
        self.keep_for = keep_for
        self.around = around
        self._last_written: datetime | None = None
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a new lock."""
        self._lock = threading.Lock()

    def write(self, events: Sequence[InboundEvent], delivery_keys: Sequence[str] = ()) -> int:
        """
        Write events that are not there yet, in one transaction. Calling it twice is safe.

        Args:
            events: In the order in which they came.
            delivery_keys: The delivery that brought them. They stand for an event that has no id of
                its own.

        Returns:
            How many were new.

        Raises:
            ArgumentTypeError: One of them is a verified account, which holds a token.
            Exception: The store's. Nothing was written.
        """
        now, first = self.store.now(), self._moments(len(events))
        rows = [
            {
                **_as_row(event, [f"{key}:{number}" for key in delivery_keys]),
                "created_at": first + number * _MICROSECOND,
                "next_retry_at": now,
            }
            for number, event in enumerate(events)
        ]
        return self.store.insert_new(rows)

    def take(self) -> StoredEvent | None:
        """Lease the next event that is due, and count an attempt; None when there is none."""
        now = self.store.now()
        claim = Claim(now=now, leased_until=self._lease_end(), limit=1, begins_attempt=True)
        for row in self.store.claim(claim):
            stored = _read(row)
            if stored.unreadable is None:
                return stored
            logger.error("the stored event %s cannot be read: %s", stored.id, stored.unreadable)
            self._give_up_unreadable(stored.id, stored.unreadable)
            return attrs.evolve(stored, status="dead")
        return None

    def mark_handled(self, stored: StoredEvent) -> bool:
        """Record that all handlers had it; False when another process took it over."""
        return self._settle(stored, **self._resolved("handled"), last_error=None)

    def mark_dead(self, stored: StoredEvent, error: str) -> bool:
        """Give it up; False when another process took it over."""
        return self._settle(stored, **self._resolved("dead"), last_error=cut(error))

    def keep(
        self, stored: StoredEvent, error: str, next_retry_at: datetime, first_failed_at: datetime
    ) -> bool:
        """Keep it for another attempt; False when another process took it over."""
        return self._settle(
            stored,
            last_error=cut(error),
            next_retry_at=next_retry_at,
            first_failed_at=first_failed_at,
        )

    def postpone(self, stored: StoredEvent, reason: str, next_retry_at: datetime) -> bool:
        """Keep it for later: the attempt does not count; False as in :meth:`keep`."""
        count, error = stored.retry_count - 1, cut(reason)
        return self._settle(
            stored, retry_count=count, last_error=error, next_retry_at=next_retry_at
        )

    def put_back(self, stored: StoredEvent) -> bool:
        """Put it back as it was taken: the attempt does not count."""
        return self._settle(stored, retry_count=stored.retry_count - 1)

    def get(self, event_id: str) -> StoredEvent | None:
        """Return an event, or None when there is none with this id."""
        row = self.store.find(event_id)
        return None if row is None else _read(row)

    def list(self, status: InboxStatus | None = None, limit: int = 50) -> Sequence[StoredEvent]:
        """Return at most ``limit`` events, newest first; see ``unreadable`` of each."""
        return [_read(row) for row in self.store.newest(status, limit)]

    def force_retry(self, event_id: str) -> bool:
        """
        Make a pending or dead event due now, as if nothing had failed.

        Handlers that have had it are not called again.

        Returns:
            False when there is no such event, or while it is being handled.
        """
        stored = self.get(event_id)
        if stored is None:
            return False
        changes = {"retry_count": 0, "first_failed_at": None}
        return self._force_retry(event_id, stored.attempt_number, changes)

    def _moments(self, count: int) -> datetime:
        """Return the first of so many moments, a microsecond apart, that no event has yet."""
        with self._lock:
            first = self.store.now()
            if self._last_written is not None:
                first = max(first, self._last_written + _MICROSECOND)
            self._last_written = first + count * _MICROSECOND
        return first

    def _settle(self, stored: StoredEvent, **changes: object) -> bool:
        """End the lease and change the row, unless another process took it over."""
        fence = Condition(attempt_number=stored.attempt_number)
        return self.store.update(stored.id, {LEASE: None, **changes}, fence)


class MemoryInbox(Inbox):
    """
    An inbox of one process; all is lost when it ends.

    Args:
        lease: As in :class:`Inbox`.
        clock: Tells the time, aware.
    """

    def __init__(self, *, lease: float = DEFAULT_LEASE, clock: Clock | None = None) -> None:
        super().__init__(MemoryStore(inbox_schema(), clock), lease=lease)


class SQLiteInbox(Inbox):
    """
    An inbox in one file, made when it is missing. Use it as a context manager or :meth:`close` it.

    Several processes may use the file at once, on a local disk. Safe to share between threads and
    across forks.

    Args:
        path: The file; it may be that of an outbox.
        lease: As in :class:`Inbox`.
        keep_for: As there.
        busy_timeout: How long to wait for another process that writes, in seconds.
        clock: Tells the time, aware.

    Raises:
        ConfigError: The file cannot be opened, or an argument is wrong.
    """

    store: SQLiteStore

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        lease: float = DEFAULT_LEASE,
        keep_for: timedelta = WEEK,
        busy_timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        lease = check_seconds(lease, "lease")  # before the file is opened
        store = SQLiteStore(path, inbox_schema(), busy_timeout=busy_timeout, clock=clock)
        super().__init__(store, lease=lease, keep_for=keep_for)

    def close(self, timeout: float = 10.0) -> None:
        """
        Close the file. Idempotent, from any thread; later calls of other methods raise.

        Args:
            timeout: How long to wait for a call of another thread to end, in seconds.
        """
        self.store.close(timeout)

    def __enter__(self) -> SQLiteInbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SQLiteInbox({self.store.path!r})"


def _as_row(event: InboundEvent, delivery_keys: Sequence[str]) -> Row:
    kind, fields = as_arguments(event)
    return {
        "id": _row_id(identity_of(event, delivery_keys)),
        "kind": kind,
        # In ASCII: a database takes neither half a character nor a NUL, which strangers may send.
        "payload": json.dumps(fields),
        ORDER: order_of(event),
        "channel": _text(event, "channel"),
        "sender": _text(event, "sender"),
        "agent_id": _text(event, "agent_id"),
        "status": "pending",
        "retry_count": 0,
        "attempt_number": 0,
        "last_error": None,
        "resolved_at": None,
        "first_failed_at": None,
        LEASE: None,
    }


def _row_id(identity: str | None) -> str:
    """Return an id that fits into addresses and command lines, whatever a stranger calls things."""
    return uuid4().hex if identity is None else hashlib.sha256(identity.encode()).hexdigest()[:40]


def _text(event: InboundEvent, name: str) -> str | None:
    """Return a field of an event that not every kind has."""
    value = getattr(event, name, None)
    return value if isinstance(value, str) else None


def _read(row: Row) -> StoredEvent:
    """Return a row; of one that somebody broke, what can be read, marked so."""
    try:
        return _whole(row)
    except (AttributeError, TypeError, ValueError, ButtDialError) as error:
        number = row["attempt_number"]
        return StoredEvent(
            id=row["id"],
            kind=row["kind"],
            status=row["status"],
            attempt_number=number if isinstance(number, int) else 0,
            last_error=row["last_error"],
            unreadable=f"{type(error).__name__}: {error}",
        )


def _whole(row: Row) -> StoredEvent:
    for name in _TIMES:
        if not isinstance(row[name], datetime | None):
            raise TypeError(f"{name} is not a time")
    for name in ("retry_count", "attempt_number"):
        if not isinstance(row[name], int):
            raise TypeError(f"{name} is not a number")
    event = as_event(row["kind"], json.loads(row["payload"]))
    return StoredEvent(**{name: row[name] for name in _FIELDS}, event=event)
