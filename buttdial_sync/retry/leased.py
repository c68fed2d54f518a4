"""Leases for a repository with the four published methods, which has none of its own."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from buttdial_sync.errors import ArgumentTypeError, ConfigError
from buttdial_sync.errors.moments import as_utc
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry.rows import FIELDS
from buttdial_sync.stores.memory import MemoryStore
from buttdial_sync.stores.schema import (
    LEASE,
    LIST_INDEXES,
    PENDING,
    ROW_COLUMNS,
    Column,
    Condition,
    Row,
    Schema,
    TableIndex,
)
from buttdial_sync.stores.sqlite import SQLiteStore
from buttdial_sync.stores.store import Store
from buttdial_sync.stores.table import DEFAULT_LEASE, WorkTable, as_key, begin_attempt, cut
from buttdial_sync.stores.times import Clock
from buttdial_sync.transport.deadline import check_seconds

if TYPE_CHECKING:
    from sqlalchemy import Engine

logger = logging.getLogger("buttdial_sync.retry")

TABLE_NAME = "buttdial_leases"
_OPEN = (PENDING, "dead")
_STATUSES = (PENDING, "delivered", "dead")
_METHODS = ("fetch_due", "mark_delivered", "increment_retry", "mark_dead")
# The leases know these better than the host's rows.
_OURS = frozenset({"status", "attempt_number", "attempt_started_at", LEASE})
_TIMES = ("created_at", "next_retry_at", "resolved_at", "expires_at")
_STALE_FOR = timedelta(seconds=1)


class FourMethodRepository(Protocol):
    """
    What users of the published SDK have implemented, with ``async`` deleted.

    Messages are objects with the published attributes. Threads of a loop call at once, so each call
    should be a transaction of its own.
    """

    def fetch_due(self, limit: int) -> Sequence[Any]:
        """Return at most ``limit`` pending messages that are due, oldest due first."""
        ...

    def mark_delivered(self, msg_id: str, message_sid: str, retry_count: int) -> object:
        """Record that the server took a message. Called again if its end is not certain."""
        ...

    def increment_retry(
        self, msg_id: str, retry_count: int, error: str, next_retry_at: datetime
    ) -> object:
        """Keep a message for another attempt."""
        ...

    def mark_dead(self, msg_id: str, retry_count: int, error: str) -> object:
        """Give a message up."""
        ...


class LeasedRepository:
    """
    Makes a repository with the four published methods safe for a :class:`~buttdial_sync.RetryLoop`.

    The host's table says what is due and what became of it. A small table of ours beside it says
    who has a message now, which attempt it is, and whether an attempt began that has no recorded
    end. So a crash between sending and recording is noticed: the message is sent again under the
    same key where the server honours keys, and given up elsewhere. Safe to share between threads.

    Without ``path`` and ``engine`` the leases are in memory: then one process only may work on the
    host's table, and after a crash nobody knows which messages were on their way.

    Args:
        repository: The host's. It may not be called by the published worker at the same time.
        path: A SQLite file for the leases, made when it is missing; for processes on one machine.
        engine: A SQLAlchemy engine of the host's, on PostgreSQL or SQLite; for any processes that
            share the database. See :meth:`create_table`.
        lease: How long a fetched message is kept from the others, in seconds; longer than the
            client's ``timeout``.
        table_name: The name of the table of leases.
        clock: Tells the time, aware.

    Raises:
        ArgumentTypeError: Both ``path`` and ``engine`` are given.
        ConfigError: The repository lacks a method, or one is asynchronous; or the file cannot be
            opened.
    """

    def __init__(
        self,
        repository: FourMethodRepository,
        *,
        path: str | os.PathLike[str] | None = None,
        engine: Engine | None = None,
        lease: float = DEFAULT_LEASE,
        table_name: str = TABLE_NAME,
        clock: Clock | None = None,
    ) -> None:
        _check_methods(repository)
        lease = check_seconds(lease, "lease")  # before the file is opened
        self._repository = repository
        self._store = _store(_schema(table_name), path, engine, clock)
        self._rows = WorkTable(self._store, _STATUSES, lease)

    @property
    def lease(self) -> float:
        """How long a message is kept from the others, in seconds."""
        return self._rows.lease

    def create_table(self) -> None:
        """
        Make the table of leases where it is missing. Safe to repeat.

        Needed with ``engine`` only.

        Raises:
            ConfigError: There is another table of that name.
        """
        create = getattr(self._store, "create_table", None)
        if create is not None:
            create()

    def fetch_due(self, limit: int) -> Sequence[FailedMessage]:
        """Lease and return at most ``limit`` messages that the host's repository says are due."""
        asked_at = self._store.now()
        # Those that are leased are due in the host's table too, and come first.
        found = self._repository.fetch_due(limit + len(self._store.leased(asked_at)))
        messages: list[FailedMessage] = []
        for each in found:
            if len(messages) == limit:
                break
            message = self._readable(each)
            is_message = message.unreadable is None
            taken = self._take(message, asked_at) if is_message else message
            if taken is not None:
                messages.append(taken)
        return messages

    def begin_attempt(
        self,
        msg_id: str,
        retry_count: int,
        started_at: datetime,
        *,
        attempt_number: int | None = None,
    ) -> bool:
        """Record that an attempt begins; False when another has begun one meanwhile."""
        return begin_attempt(
            self._store,
            msg_id,
            retry_count,
            started_at,
            attempt_number=attempt_number,
            leased_until=self._lease_end(),
        )

    def mark_delivered(
        self,
        msg_id: str,
        message_sid: str | None,
        retry_count: int,
        *,
        attempt_number: int | None = None,
    ) -> bool:
        """Record that the server took the message; False when it was recorded before."""
        changes = {
            "status": "delivered",
            "resolved_at": self._store.now(),
            "attempt_started_at": None,
            "message_sid": message_sid and as_key(message_sid),
            LEASE: None,
        }
        # Also if it is delivered already: then the host's repository failed, and is called again.
        condition = Condition(
            statuses=_STATUSES, retry_count=retry_count, attempt_number=attempt_number
        )
        # Or others have tried it again or given it up, because this attempt outlived its lease.
        has_number = attempt_number is not None
        if not self._store.update(msg_id, changes, condition) and not (
            has_number and self._store.update(msg_id, changes, Condition(statuses=_OPEN))
        ):
            return False
        self._repository.mark_delivered(msg_id, message_sid or "", retry_count)
        return True

    def increment_retry(
        self,
        msg_id: str,
        retry_count: int,
        error: str,
        next_retry_at: datetime,
        unknown: bool = False,
        *,
        attempt_number: int | None = None,
    ) -> bool:
        """Keep the message for another attempt; False when another took it over."""
        changes: Row = {} if unknown else {"attempt_started_at": None}
        fence = _fence(retry_count, attempt_number)
        tell = partial(
            self._repository.increment_retry, msg_id, retry_count, cut(error), next_retry_at
        )
        return self._settle(msg_id, changes, fence, tell)

    def mark_dead(
        self,
        msg_id: str,
        retry_count: int,
        error: str,
        unknown: bool = False,
        *,
        attempt_number: int | None = None,
    ) -> bool:
        """Give the message up; False when another took it over."""
        changes: Row = {} if unknown else {"attempt_started_at": None}
        fence = _fence(retry_count, attempt_number, is_in_doubt=unknown)
        tell = partial(self._repository.mark_dead, msg_id, retry_count, cut(error))
        end = {"status": "dead", "resolved_at": self._store.now()}
        return self._settle(msg_id, changes, fence, tell, end)

    def postpone(
        self,
        message: FailedMessage,
        retry_count: int,
        error: str | None,
        next_retry_at: datetime,
        *,
        attempt_number: int | None = None,
    ) -> bool:
        """Put a message back as it was fetched, due later; False when another took it over."""
        changes: Row = {
            "retry_count": message.retry_count,
            "attempt_started_at": message.attempt_started_at,
        }
        is_in_doubt = message.attempt_started_at is not None
        fence = _fence(retry_count, attempt_number, is_in_doubt=is_in_doubt)
        if error is None and next_retry_at <= self._store.now():
            # Put back unchanged: the host's row is due as it is.
            return self._settle(message.id, changes, fence, tell=None)
        reason = cut(error or message.last_error or "")
        tell = partial(
            self._repository.increment_retry, message.id, message.retry_count, reason, next_retry_at
        )
        return self._settle(message.id, changes, fence, tell)

    def purge(self, older_than: timedelta | float) -> int:
        """
        Forget messages that were delivered or given up long ago. Safe to repeat.

        Only leases are deleted, never a row of the host's.

        Args:
            older_than: How long ago at least: a ``timedelta`` or seconds.

        Returns:
            How many were deleted.

        Raises:
            ArgumentTypeError: ``older_than`` is not a time.
            ArgumentValueError: It is not positive.
        """
        return self._rows.purge(older_than, ["delivered", "dead"])

    def close(self, timeout: float = 10.0) -> None:
        """Close the file of the leases, if there is one. ``timeout`` is in seconds."""
        self._store.close(timeout)

    def __enter__(self) -> LeasedRepository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LeasedRepository({self._repository!r})"

    def _readable(self, found: Any) -> FailedMessage:
        """Return a message of the host's; give up one that cannot be read, so others are sent."""
        try:
            return _as_message(found)
        except (AttributeError, OverflowError, TypeError) as error:
            msg_id = getattr(found, "id", None)
            if msg_id is None:
                raise ConfigError(
                    f"fetch_due returned a {type(found).__name__} without an id",
                    remediation="Return objects with the attributes of FailedMessage.",
                ) from None
            reason = f"the message cannot be read: {error}"
            logger.error("message %s: %s", msg_id, reason)  # noqa: TRY400 - nothing failed here
            self._repository.mark_dead(str(msg_id), getattr(found, "retry_count", 0), cut(reason))
            return FailedMessage(
                id=str(msg_id),
                recipient="",
                body="",
                status="dead",
                last_error=reason,
                unreadable=reason,
            )

    def _take(self, message: FailedMessage, asked_at: datetime) -> FailedMessage | None:
        """Lease a message; None if it is another's, or was settled since the host was asked."""
        leased_until = self._lease_end()
        row = self._store.find(message.id)
        if row is None:
            row = _new_row(message, self._store.now(), leased_until)
            return _merged(message, row) if self._store.insert_new([row]) else None
        if row["status"] == "delivered":
            # Its end is in one of the two tables only: what was sent is not sent again.
            self._tell_delivered_again(row)
            return None
        # An attempt whose process died was counted in our row only.
        count = max(message.retry_count, row["retry_count"])
        if row["status"] == "dead":
            # Somebody has made it due in the host's table, with one attempt at least.
            count = message.retry_count
            message = attrs.evolve(message, max_retries=max(message.max_retries, count + 1))
        changes: Row = {
            "status": PENDING,
            "resolved_at": None,
            "retry_count": count,
            LEASE: leased_until,
        }
        # Whoever changed the row since it was read has a lease, or has ended one just now.
        condition = Condition(statuses=(row["status"],), no_lease_at=asked_at)
        if not self._store.update(message.id, changes, condition):
            return None
        return _merged(message, {**row, **changes})

    def _tell_delivered_again(self, row: Row) -> None:
        logger.info("message %s was delivered before; recording it again", row["id"])
        sid, count = row["message_sid"] or "", row["retry_count"]
        try:
            self._repository.mark_delivered(row["id"], sid, count)
        except Exception:  # the other messages need not wait for this one
            logger.exception("message %s was delivered, and cannot be recorded", row["id"])

    def _settle(
        self,
        msg_id: str,
        changes: Mapping[str, Any],
        fence: Condition,
        tell: Callable[[], object] | None,
        end: Mapping[str, Any] | None = None,
    ) -> bool:
        """Change the lease, tell the host's repository, and end the lease; False if taken over."""
        if not self._store.update(msg_id, {**changes, LEASE: self._lease_end()}, fence):
            return False
        if tell is not None:
            tell()
        # Not yet free for who asked the host's repository before it was told: to them the message
        # still seems to be due. The second covers what clocks differ.
        ended = {**(end or {}), LEASE: self._store.now() + _STALE_FOR}
        self._store.update(msg_id, ended, Condition(attempt_number=fence.attempt_number))
        return True

    def _lease_end(self) -> datetime:
        return self._store.now() + timedelta(seconds=self.lease)


def _schema(table: str) -> Schema:
    return Schema(
        table=table,
        columns=(
            *ROW_COLUMNS,
            Column("retry_count", "number", required=True),
            Column("attempt_number", "number", required=True),
            Column("attempt_started_at", "time"),
            Column("message_sid", "key"),
            Column(LEASE, "time"),
        ),
        indexes={
            "leased": TableIndex(("status", LEASE)),
            "resolved": LIST_INDEXES["resolved"],
        },
    )


def _store(
    schema: Schema,
    path: str | os.PathLike[str] | None,
    engine: Engine | None,
    clock: Clock | None,
) -> Store:
    if path is not None and engine is not None:
        raise ArgumentTypeError("give path or engine, not both")
    if path is not None:
        return SQLiteStore(path, schema, clock=clock)
    if engine is not None:
        from buttdial_sync.stores.sqlalchemy import SQLAlchemyStore

        return SQLAlchemyStore(engine, schema, clock=clock)
    return MemoryStore(schema, clock)


def _fence(retry_count: int, attempt_number: int | None, *, is_in_doubt: bool = False) -> Condition:
    """Return the condition for the end of an attempt, which may be written more than once."""
    return Condition(
        retry_count=retry_count if attempt_number is None else None,
        attempt_number=attempt_number,
        # Whoever found a row without an end must not go by it once another has said the end.
        present=("attempt_started_at",) if is_in_doubt else (),
    )


def _new_row(message: FailedMessage, now: datetime, leased_until: datetime) -> Row:
    return {
        "id": message.id,
        "status": PENDING,
        "retry_count": message.retry_count,
        "attempt_number": 0,
        "created_at": now,
        "resolved_at": None,
        "attempt_started_at": None,
        "message_sid": None,
        LEASE: leased_until,
    }


def _merged(message: FailedMessage, row: Row) -> FailedMessage:
    """Return a message with what its lease says about its attempts."""
    return attrs.evolve(
        message,
        retry_count=row["retry_count"],
        attempt_number=row["attempt_number"],
        attempt_started_at=row["attempt_started_at"],
        leased_until=row[LEASE],
    )


def _as_message(found: Any) -> FailedMessage:
    """
    Return a message of the host's, which may be of its own class, as one of ours.

    Raises:
        AttributeError, OverflowError, TypeError: It is not one.
    """
    given = {
        name: value
        for name in FIELDS
        if name not in _OURS and (value := getattr(found, name, None)) is not None
    }
    for name in _TIMES:
        if name in given:
            given[name] = as_utc(given[name])
    # The published worker sends the agent's name as that of the sender.
    given.setdefault("sender_name", given.get("agent_name") or None)
    return FailedMessage(**{**given, "id": str(found.id)})


def _check_methods(repository: object) -> None:
    for name in _METHODS:
        method = getattr(repository, name, None)
        if not callable(method):
            raise ConfigError(
                f"the repository has no method {name}",
                remediation=f"Give an object with the methods {', '.join(_METHODS)}.",
            )
        if inspect.iscoroutinefunction(method):
            raise ConfigError(
                f"{name} of the repository is asynchronous",
                remediation="Delete async and await in it: the loop calls it in a thread.",
            )
