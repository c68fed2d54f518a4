"""Messages in a SQLite file, with the standard library alone."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from typing import Any

from buttdial_sync.errors import ArgumentValueError, ClientClosedError, ConfigError
from buttdial_sync.errors.moments import as_utc, utc_now
from buttdial_sync.models.failed import FailedMessage, FailedStatus
from buttdial_sync.retry.rows import COLUMNS, NUMBER_FIELDS, TABLE_NAME, TIME_FIELDS, Row
from buttdial_sync.retry.table import (
    DEFAULT_LEASE,
    Condition,
    Enqueuer,
    TableRepository,
    id_taken,
)
from buttdial_sync.transport.deadline import check_seconds
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork, reset_if_forked

_TIME_FORMAT = "%Y-%m-%d %H:%M:%S.%f"
_COLUMNS = ", ".join(COLUMNS)
_PLACES = ", ".join(f":{name}" for name in COLUMNS)
_REQUIRED = {"id", "recipient", "body", "channel", "status", "created_at", "next_retry_at"}


class SQLiteRepository(TableRepository):
    """
    A repository in one file, made when it is missing.

    Several processes may use the file at once (write-ahead logging), on a local disk. Safe to share
    between threads and across forks. Use it as a context manager or :meth:`close` it.

    Args:
        path: The file, or ``":memory:"`` for a database that ends with the repository.
        lease: How long a fetched message is kept from the others, in seconds; longer than the
            client's ``timeout``.
        keep_tokens: Whether the tokens of agents are written into the rows.
        table: The table's name.
        busy_timeout: How long to wait for another process that writes, in seconds.
        clock: Tells the time, aware.

    Raises:
        ConfigError: The file cannot be opened, or an argument is wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        lease: float = DEFAULT_LEASE,
        keep_tokens: bool = False,
        table: str = TABLE_NAME,
        busy_timeout: float = 30.0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(lease=lease, keep_tokens=keep_tokens, clock=clock)
        if not table.isidentifier():
            raise ArgumentValueError("table must be a plain name")
        self._path = os.fspath(path)
        self._table = table
        self._busy_timeout = check_seconds(busy_timeout, "busy_timeout")
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        # One connection for all threads: SQLite has one writer at a time anyway.
        self._lock = threading.RLock()
        reset_after_fork(self)
        try:
            with self._locked() as connection:
                self._make_table(connection)
        except sqlite3.Error as error:
            self.close()
            raise ConfigError(
                f"{self._path} cannot be used: {error}",
                remediation="Give the path of a SQLite file, or of one to create, in a directory "
                "that this process may write to.",
            ) from None

    def _reset_after_fork(self) -> None:
        """In a forked child: a new lock and a new connection; an inherited one is not safe."""
        leak_until_exit(self._connection)
        self._connection = None
        self._lock = threading.RLock()

    def within(self, connection: sqlite3.Connection) -> Enqueuer:
        """
        Return an object that writes inside a transaction of the host's, on the same file.

        Args:
            connection: The host's; it is neither committed nor closed here.
        """
        return Enqueuer(partial(self.write, connection))

    def close(self, timeout: float = 10.0) -> None:
        """
        Close the file. Idempotent, from any thread; later calls of other methods raise.

        Args:
            timeout: How long to wait for a call of another thread to end, in seconds. After it the
                file is closed when that call has ended.
        """
        self._closed = True
        # If another thread's call still uses the connection, that call closes it at its end.
        if self._lock.acquire(timeout=timeout):
            try:
                self._close_connection()
            finally:
                self._lock.release()

    def __enter__(self) -> SQLiteRepository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SQLiteRepository({self._path!r})"

    def add_new(self, messages: Sequence[FailedMessage]) -> int:
        """
        Write those messages whose ids are not there yet, in one transaction.

        Returns:
            How many were written.
        """
        rows = [_as_stored(self._new_row(message)) for message in messages]
        statement = self._insert_statement("INSERT OR IGNORE")
        with self._writing() as connection:
            before = connection.total_changes
            connection.executemany(statement, rows)
            return connection.total_changes - before

    def write(self, connection: sqlite3.Connection, message: FailedMessage) -> None:
        """Write a message on this connection, without a commit."""
        self._insert_on(connection, self._new_row(message))

    def _insert(self, row: Row) -> None:
        with self._writing() as connection:
            self._insert_on(connection, row)

    def _insert_on(self, connection: sqlite3.Connection, row: Row) -> None:
        try:
            connection.execute(self._insert_statement("INSERT"), _as_stored(row))
        except sqlite3.IntegrityError:
            raise ArgumentValueError(id_taken(row["id"])) from None

    def _claim(self, now: datetime, leased_until: datetime, limit: int) -> list[Row]:
        with self._writing() as connection:
            found = connection.execute(
                f"SELECT {_COLUMNS} FROM {self._table} "  # noqa: S608 - names of ours
                "WHERE status = 'pending' AND next_retry_at <= :now "
                "AND (leased_until IS NULL OR leased_until <= :now) "
                "ORDER BY next_retry_at, created_at LIMIT :limit",
                {"now": _stored(now), "limit": limit},
            ).fetchall()
            connection.executemany(
                f"UPDATE {self._table} SET leased_until = ? WHERE id = ?",  # noqa: S608 - a checked name
                [(_stored(leased_until), row["id"]) for row in found],
            )
        return [_loaded(row) for row in found]

    def _update(self, msg_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        where, values = _where(msg_id, condition)
        assignments = ", ".join(f"{name} = ?" for name in changes)
        with self._writing() as connection:
            cursor = connection.execute(
                f"UPDATE {self._table} SET {assignments} WHERE {where}",  # noqa: S608 - names of ours
                [*map(_stored, changes.values()), *values],
            )
            return cursor.rowcount == 1

    def _find(self, msg_id: str) -> Row | None:
        found = self._read("WHERE id = ?", (msg_id,))
        return found[0] if found else None

    def _newest(self, status: FailedStatus | None, limit: int) -> list[Row]:
        order = "ORDER BY created_at DESC, id DESC LIMIT ?"
        if status is None:
            return self._read(order, (limit,))
        return self._read(f"WHERE status = ? {order}", (status, limit))

    def _leased(self, now: datetime) -> list[Row]:
        return self._read("WHERE status = ? AND leased_until > ?", ("pending", _stored(now)))

    def _counts(self) -> Mapping[str, int]:
        statement = f"SELECT status, count(*) FROM {self._table} GROUP BY status"  # noqa: S608 - a checked name
        with self._locked() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def _read(self, rest: str, values: Sequence[Any]) -> list[Row]:
        statement = f"SELECT {_COLUMNS} FROM {self._table} {rest}"  # noqa: S608 - text of ours
        with self._locked() as connection:
            return [_loaded(row) for row in connection.execute(statement, values)]

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        reset_if_forked()
        with self._lock:
            try:
                yield self._connected()
            finally:
                if self._closed:
                    self._close_connection()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._locked() as connection:
            try:
                # IMMEDIATE takes the write lock first. A transaction that reads and then writes
                # fails at once, without waiting, if another process has written in between.
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # An open transaction would keep every other process from writing.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> sqlite3.Connection:
        if self._closed:
            raise ClientClosedError(
                f"the repository {self._path} is closed",
                remediation="Open another SQLiteRepository, or close this one later.",
            )
        if self._connection is None:
            connection = sqlite3.connect(
                self._path,
                timeout=self._busy_timeout,
                isolation_level=None,
                check_same_thread=False,
            )
            connection.row_factory = sqlite3.Row
            self._connection = connection
            connection.execute("PRAGMA journal_mode = WAL")
            # In WAL mode SQLite's NORMAL may lose the last commits when the power fails: an attempt
            # that began would be forgotten, and its message sent twice.
            connection.execute("PRAGMA synchronous = FULL")
        return self._connection

    def _make_table(self, connection: sqlite3.Connection) -> None:
        columns = ", ".join(map(_definition, COLUMNS))
        connection.execute(f"CREATE TABLE IF NOT EXISTS {self._table} ({columns})")
        for name, keys in (
            ("due", "status, next_retry_at, created_at"),
            ("new", "created_at, id"),
        ):
            connection.execute(
                f"CREATE INDEX IF NOT EXISTS {self._table}_{name} ON {self._table} ({keys})"
            )

    def _insert_statement(self, verb: str) -> str:
        return f"{verb} INTO {self._table} ({_COLUMNS}) VALUES ({_PLACES})"


def _definition(name: str) -> str:
    if name == "id":
        return "id TEXT PRIMARY KEY"
    kind = "INTEGER" if name in NUMBER_FIELDS else "TEXT"
    return f"{name} {kind}{' NOT NULL' if name in _REQUIRED or kind == 'INTEGER' else ''}"


def _where(msg_id: str, condition: Condition) -> tuple[str, list[Any]]:
    places = ", ".join("?" * len(condition.statuses))
    parts = ["id = ?", f"status IN ({places})"]
    values: list[Any] = [msg_id, *condition.statuses]
    if condition.retry_count is not None:
        parts.append("retry_count = ?")
        values.append(condition.retry_count)
    if condition.no_lease_at is not None:
        parts.append("(leased_until IS NULL OR leased_until <= ?)")
        values.append(_stored(condition.no_lease_at))
    return " AND ".join(parts), values


def _as_stored(row: Row) -> Row:
    return {name: _stored(value) for name, value in row.items()}


def _stored(value: Any) -> Any:
    """Return a value for SQLite: a time becomes text in UTC, which sorts as times do."""
    if not isinstance(value, datetime):
        return value
    return value.astimezone(timezone.utc).strftime(_TIME_FORMAT)


def _loaded(stored: sqlite3.Row) -> Row:
    row: Row = dict(stored)
    for name in TIME_FIELDS:
        row[name] = _time(row[name])
    return row


def _time(stored: Any) -> Any:
    """Return a time, also one that a person wrote; anything else stays as it is."""
    try:
        moment = datetime.fromisoformat(stored)
    except (TypeError, ValueError):
        return stored
    return as_utc(moment)
