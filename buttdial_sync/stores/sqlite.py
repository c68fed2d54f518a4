"""Rows in a SQLite file, with the standard library alone."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from buttdial_sync.errors import ArgumentValueError, ClientClosedError, ConfigError
from buttdial_sync.stores.figures import Figures, measure
from buttdial_sync.stores.private_file import create_private_file
from buttdial_sync.stores.schema import (
    Claim,
    Column,
    Condition,
    Row,
    RowKey,
    Schema,
    Selection,
    Turn,
    id_taken,
    missing_columns,
    portions,
)
from buttdial_sync.stores.store import Store
from buttdial_sync.stores.times import Clock, as_text, from_text
from buttdial_sync.stores.turns import (
    AGENT,
    IS_PENDING,
    TURNS_INDEX,
    as_turns,
    next_statement,
    take_turns,
    turns_statement,
)
from buttdial_sync.transport.deadline import check_seconds
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork, reset_if_forked

logger = logging.getLogger("buttdial_sync.stores")

_MOST_PARAMETERS = 900  # SQLite before 3.32 takes 999
_NOT_FILES = ("", ":memory:")


class SQLiteStore(Store):
    """
    Rows in one file, made when it is missing.

    Several processes may use the file at once (write-ahead logging), on a local disk. Safe to share
    between threads and across forks. Columns that a table of an earlier release lacks are added.
    Only its owner can read a file that is made here; one that is there stays as it is.

    Args:
        path: The file, or ``":memory:"`` for a database that ends with the store.
        schema: The table.
        busy_timeout: How long to wait for another process that writes, in seconds.
        clock: Tells the time, aware.

    Raises:
        ConfigError: The file cannot be opened, or has another table of that name.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        schema: Schema,
        *,
        busy_timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(schema, clock)
        if not schema.table.isidentifier():
            raise ArgumentValueError("table must be a plain name")
        self.path = os.fspath(path)
        self._table = schema.table
        self._columns = ", ".join(schema.names)
        self._places = ", ".join(f":{name}" for name in schema.names)
        self._times = schema.times
        self._next_statement = next_statement(self._table)
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
                f"{self.path} cannot be used: {error}",
                remediation="Give the path of a SQLite file, or of one to create, in a directory "
                "that this process may write to.",
            ) from None
        except ConfigError:
            self.close()
            raise

    def _reset_after_fork(self) -> None:
        """In a forked child: a new lock and a new connection; an inherited one is not safe."""
        leak_until_exit(self._connection)
        self._connection = None
        self._lock = threading.RLock()

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

    def insert(self, row: Row) -> None:
        """Write a new row; see :meth:`Store.insert`."""
        with self.writing() as connection:
            self.insert_on(connection, row)

    def insert_on(self, connection: sqlite3.Connection, row: Row) -> None:
        """Write a new row on a connection of the host's, without a commit."""
        try:
            connection.execute(self._insert_statement("INSERT"), _as_stored(row))
        except sqlite3.IntegrityError:
            raise ArgumentValueError(id_taken(row["id"])) from None

    def insert_new(self, rows: Sequence[Row]) -> int:
        """Write those that are new; see :meth:`Store.insert_new`."""
        statement = self._insert_statement("INSERT OR IGNORE")
        with self.writing() as connection:
            before = connection.total_changes
            connection.executemany(statement, [_as_stored(row) for row in rows])
            return connection.total_changes - before

    def claim(self, claim: Claim) -> list[Row]:
        """Lease rows; see :meth:`Store.claim`."""
        begins = claim.begins_attempt
        begin = ", retry_count = retry_count + 1, attempt_number = attempt_number + 1"
        with self.writing() as connection:
            ids = (
                take_turns(claim, partial(self._find_next, connection, as_text(claim.now)))
                if self.schema.takes_turns
                else self._find_due(connection, claim)
            )
            connection.executemany(
                f"UPDATE {self._table} SET leased_until = ?{begin if begins else ''} "  # noqa: S608 - a checked name
                "WHERE id = ?",
                [(as_text(claim.leased_until), row_id) for row_id in ids],
            )
            read = f"SELECT {self._columns} FROM {self._table} WHERE id = ?"  # noqa: S608 - names of ours
            return [self._loaded(connection.execute(read, (each,)).fetchone()) for each in ids]

    def turns(self, now: datetime) -> list[Turn]:
        """Return the agents with rows to claim; see :meth:`Store.turns`."""
        statement = turns_statement(self._table, f"INDEXED BY {self._table}_{TURNS_INDEX}")
        with self._locked() as connection:
            return as_turns(connection.execute(statement, {"now": as_text(now)}))

    def release(
        self, ids: Sequence[str], leased_until: datetime, changes: Mapping[str, Any]
    ) -> int:
        """End leases; see :meth:`Store.release`."""
        places = ", ".join("?" * len(ids))
        assignments = ", ".join(f"{name} = ?" for name in ("leased_until", *changes))
        with self.writing() as connection:
            cursor = connection.execute(
                f"UPDATE {self._table} SET {assignments} WHERE id IN ({places}) "  # noqa: S608 - names of ours
                "AND status = 'pending' AND leased_until = ?",
                [None, *map(as_text, changes.values()), *ids, as_text(leased_until)],
            )
            return cursor.rowcount

    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        """Change a row; see :meth:`Store.update`."""
        where, values = _where(row_id, condition)
        assignments = ", ".join(f"{name} = ?" for name in changes)
        with self._locked() as connection:  # a statement alone is a transaction
            cursor = connection.execute(
                f"UPDATE {self._table} SET {assignments} WHERE {where}",  # noqa: S608 - names of ours
                [*map(as_text, changes.values()), *values],
            )
            return cursor.rowcount == 1

    def find(self, row_id: str) -> Row | None:
        """Return one row; see :meth:`Store.find`."""
        found = self._read("WHERE id = ?", (row_id,))
        return found[0] if found else None

    def find_many(self, ids: Sequence[str]) -> list[Row]:
        """Return some rows; see :meth:`Store.find_many`."""
        return [
            row
            for some in portions(ids, _MOST_PARAMETERS)
            for row in self._read(f"WHERE id IN ({', '.join('?' * len(some))})", some)
        ]

    def ids_between(self, bounds: Sequence[tuple[str, str]]) -> list[str]:
        """Return ids; see :meth:`Store.ids_between`."""
        statement = f"SELECT id FROM {self._table} WHERE id BETWEEN ? AND ?"  # noqa: S608 - a checked name
        with self._locked() as connection:
            return [row[0] for pair in bounds for row in connection.execute(statement, pair)]

    def newest_by(self, column: str, value: str, limit: int) -> list[Row]:
        """Return the newest of some rows; see :meth:`Store.newest_by`."""
        return self._read(f"WHERE {column} = ? ORDER BY created_at DESC LIMIT ?", (value, limit))

    def find_by_on(self, connection: sqlite3.Connection, column: str, value: str) -> Row | None:
        """Return the newest of some rows, as a connection of the host's sees them."""
        statement = (
            f"SELECT {self._columns} FROM {self._table} WHERE {column} = ? "  # noqa: S608 - names of ours
            "ORDER BY created_at DESC LIMIT 1"
        )
        return self._first(connection.execute(statement, (value,)))

    def first_in_order(self, agent_id: str, ordering_key: str) -> Row | None:
        """Return the oldest row; see :meth:`Store.first_in_order`."""
        statement = (
            f"SELECT {self._columns} FROM {self._table} WHERE {IS_PENDING} "  # noqa: S608 - names of ours
            f"AND ordering_key = ? AND {AGENT} = ? ORDER BY created_at, id LIMIT 1"
        )
        with self._locked() as connection:
            return self._first(connection.execute(statement, (ordering_key, agent_id)))

    def _first(self, cursor: sqlite3.Cursor) -> Row | None:
        found = cursor.fetchone()
        # A host's connection may return plain tuples.
        return (
            None
            if found is None
            else self._loaded(dict(zip(self.schema.names, found, strict=True)))
        )

    def newest(self, status: str | None, limit: int) -> list[Row]:
        """Return rows; see :meth:`Store.newest`."""
        order = "ORDER BY created_at DESC, id DESC LIMIT ?"
        if status is None:
            return self._read(order, (limit,))
        return self._read(f"WHERE status = ? {order}", (status, limit))

    def leased(self, now: datetime) -> list[Row]:
        """Return the leased ones; see :meth:`Store.leased`."""
        return self._read("WHERE status = ? AND leased_until > ?", ("pending", as_text(now)))

    def counts(self) -> Mapping[str, int]:
        """Count all; see :meth:`Store.counts`."""
        statement = f"SELECT status, count(*) FROM {self._table} GROUP BY status"  # noqa: S608 - a checked name
        with self._locked() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def count(self, status: str) -> int:
        """Count those of a status; see :meth:`Store.count`."""
        statement = f"SELECT count(*) FROM {self._table} WHERE status = ?"  # noqa: S608 - a checked name
        with self._locked() as connection:
            return int(connection.execute(statement, (status,)).fetchone()[0])

    def keys(self, status: str, after: RowKey | None, limit: int) -> list[RowKey]:
        """Return keys; see :meth:`Store.keys`."""
        following = "" if after is None else "AND (created_at, id) > (?, ?) "
        statement = (
            f"SELECT created_at, id FROM {self._table} WHERE status = ? {following}"  # noqa: S608 - a checked name
            "ORDER BY created_at, id LIMIT ?"
        )
        with self._locked() as connection:
            found = connection.execute(statement, (status, *(after or ()), limit))
            return [(row[0], row[1]) for row in found]

    def count_selected(self, ids: Sequence[str], selection: Selection) -> int:
        """Count rows; see :meth:`Store.count_selected`."""
        with self._locked() as connection:
            return sum(
                connection.execute(
                    f"SELECT count(*) FROM {self._table} WHERE {where}",  # noqa: S608 - names of ours
                    values,
                ).fetchone()[0]
                for where, values in _selected(ids, selection)
            )

    def update_selected(
        self,
        ids: Sequence[str],
        selection: Selection,
        changes: Mapping[str, Any],
        *,
        one_more_attempt: bool,
    ) -> int:
        """Change rows; see :meth:`Store.update_selected`."""
        assignments = [f"{name} = ?" for name in changes]
        if one_more_attempt:
            assignments.append("max_retries = max(max_retries, retry_count + 1)")
        with self.writing() as connection:
            return sum(
                connection.execute(
                    f"UPDATE {self._table} SET {', '.join(assignments)} WHERE {where}",  # noqa: S608 - names of ours
                    [*map(as_text, changes.values()), *values],
                ).rowcount
                for where, values in _selected(ids, selection)
            )

    def figures(self, statuses: Sequence[str], now: datetime) -> Figures:
        """Measure the rows; see :meth:`Store.figures`."""
        hint = f"INDEXED BY {self._table}_{TURNS_INDEX}"
        with self._locked() as connection:

            def select(statement: str, values: Mapping[str, Any]) -> list[Any]:
                return connection.execute(statement, _as_stored(dict(values))).fetchall()

            return measure(select, self._table, statuses, now, hint)

    def delete(self, statuses: Sequence[str], before: datetime, limit: int) -> int:
        """Delete rows; see :meth:`Store.delete`."""
        places = ", ".join("?" * len(statuses))
        with self.writing() as connection:
            cursor = connection.execute(
                f"DELETE FROM {self._table} WHERE id IN (SELECT id FROM {self._table} "  # noqa: S608 - a checked name
                f"WHERE status IN ({places}) AND resolved_at < ? LIMIT ?)",
                [*statuses, as_text(before), limit],
            )
            return cursor.rowcount

    def _find_due(self, connection: sqlite3.Connection, claim: Claim) -> list[str]:
        found = connection.execute(
            f"SELECT id FROM {self._table} AS found "  # noqa: S608 - names of ours
            "WHERE status = 'pending' AND next_retry_at <= :now "
            f"AND (leased_until IS NULL OR leased_until <= :now) {self._only_heads()} "
            "ORDER BY next_retry_at, created_at LIMIT :limit",
            {"now": as_text(claim.now), "limit": claim.limit},
        )
        return [row["id"] for row in found]

    def _find_next(
        self, connection: sqlite3.Connection, now: str, agent: str, priority: int, limit: int
    ) -> list[str]:
        values = {"now": now, "agent": agent, "priority": priority, "limit": limit}
        return [row["id"] for row in connection.execute(self._next_statement, values)]

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that writes; it is committed at the end of the block."""
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

    def _read(self, rest: str, values: Sequence[Any]) -> list[Row]:
        statement = f"SELECT {self._columns} FROM {self._table} {rest}"  # noqa: S608 - text of ours
        with self._locked() as connection:
            return [self._loaded(row) for row in connection.execute(statement, values)]

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        reset_if_forked()
        with self._lock:
            try:
                yield self._connected()
            finally:
                if self._closed:
                    self._close_connection()

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> sqlite3.Connection:
        if self._closed:
            raise ClientClosedError(
                f"the repository {self.path} is closed",
                remediation="Open another SQLiteRepository, or close this one later.",
            )
        if self._connection is None:
            self._create_file()
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.row_factory = sqlite3.Row
        # While another process does the same to a new file, SQLite does not wait, but fails.
        until_free = Retrying(
            retry=retry_if_exception(_is_locked),
            stop=stop_after_delay(self._busy_timeout),
            wait=wait_random(0.001, 0.05),
            reraise=True,
        )
        try:
            until_free(connection.execute, "PRAGMA journal_mode = WAL")
            # In WAL mode SQLite's NORMAL may lose the last commits when the power fails: an attempt
            # that began would be forgotten, and its message sent twice.
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:  # Ctrl-C, too: nobody else has the connection
            connection.close()
            raise
        return connection

    def _create_file(self) -> None:
        # It gets people's texts, and perhaps tokens. SQLite would let everybody read it; it gives
        # the files beside it the same permissions.
        if self.path not in _NOT_FILES:
            with suppress(OSError):  # SQLite finds the same fault, and tells it
                create_private_file(self.path)

    def _make_table(self, connection: sqlite3.Connection) -> None:
        columns = ", ".join(map(_definition, self.schema.columns))
        connection.execute(f"CREATE TABLE IF NOT EXISTS {self._table} ({columns})")
        present = {row["name"] for row in connection.execute(f"PRAGMA table_info({self._table})")}
        missing = missing_columns(self.schema, present)
        wanting = [column.name for column in missing if column.required]
        if wanting:
            raise ConfigError(
                f"{self.path} has another table {self._table}: it lacks {', '.join(wanting)}",
                remediation="Give another file, or another name for the table.",
            )
        for column in missing:
            self._add_column(connection, column)
        for name, index in self.schema.indexes.items():
            where = f" WHERE {index.where}" if index.where else ""
            connection.execute(
                f"CREATE {'UNIQUE ' if index.unique else ''}INDEX IF NOT EXISTS "
                f"{self._table}_{name} ON {self._table} ({', '.join(index.keys)}){where}"
            )

    def _add_column(self, connection: sqlite3.Connection, column: Column) -> None:
        logger.info("%s: the column %s is added to %s", self.path, column.name, self._table)
        try:
            connection.execute(f"ALTER TABLE {self._table} ADD COLUMN {_definition(column)}")
        except sqlite3.OperationalError as error:
            # Another process, which opens the file at the same time, may have been faster.
            if "duplicate column" not in str(error):
                raise

    def _only_heads(self) -> str:
        """Return the condition that a row may be claimed as far as its group goes."""
        group = self.schema.group
        if group is None:
            return ""
        return (
            f"AND NOT EXISTS (SELECT 1 FROM {self._table} AS other "  # noqa: S608 - names of ours
            f"WHERE other.{group} = found.{group} AND other.status = 'pending' "
            "AND (other.created_at < found.created_at OR other.leased_until > :now))"
        )

    def _loaded(self, stored: Any) -> Row:
        row: Row = dict(stored)
        for name in self._times:
            row[name] = from_text(row[name])
        return row

    def _insert_statement(self, verb: str) -> str:
        return f"{verb} INTO {self._table} ({self._columns}) VALUES ({self._places})"


def _definition(column: Column) -> str:
    if column.name == "id":
        return "id TEXT PRIMARY KEY"
    kind = "INTEGER" if column.kind == "number" else "TEXT"
    return f"{column.name} {kind}{' NOT NULL' if column.required else ''}"


def _where(row_id: str, condition: Condition) -> tuple[str, list[Any]]:
    places = ", ".join("?" * len(condition.statuses))
    parts = ["id = ?", f"status IN ({places})"]
    values: list[Any] = [row_id, *condition.statuses]
    if condition.retry_count is not None:
        parts.append("retry_count = ?")
        values.append(condition.retry_count)
    if condition.attempt_number is not None:
        parts.append("coalesce(attempt_number, 0) = ?")
        values.append(condition.attempt_number)
    if condition.no_lease_at is not None:
        parts.append("(leased_until IS NULL OR leased_until <= ?)")
        values.append(as_text(condition.no_lease_at))
    for name, value in condition.values.items():
        parts.append(f"{name} IS ?")
        values.append(value)
    parts.extend(f"{name} IS NOT NULL" for name in condition.present)
    return " AND ".join(parts), values


def _selected(ids: Sequence[str], selection: Selection) -> Iterator[tuple[str, list[Any]]]:
    """Return the conditions of a selection, and their values, for so many ids at a time."""
    parts = [
        f"status IN ({', '.join('?' * len(selection.statuses))})",
        "(leased_until IS NULL OR leased_until <= ?)",
    ]
    values: list[Any] = [*selection.statuses, as_text(selection.now)]
    if selection.since is not None:
        parts.append("coalesce(resolved_at, created_at) >= ?")
        values.append(as_text(selection.since))
    if selection.error_like:
        # Not LIKE: there is no % or _ to be escaped, and no setting that changes it.
        parts.append("instr(lower(last_error), lower(?)) > 0")
        values.append(selection.error_like)
    if selection.in_doubt is not None:
        parts.append(f"attempt_started_at IS {'NOT ' if selection.in_doubt else ''}NULL")
    if selection.agent_id is not None:
        parts.append(f"{AGENT} = ?")
        values.append(selection.agent_id)
    for some in portions(ids, _MOST_PARAMETERS):
        of_ids = f"id IN ({', '.join('?' * len(some))})"
        yield " AND ".join([*parts, of_ids]), [*values, *some]


def _as_stored(row: Row) -> Row:
    return {name: as_text(value) for name, value in row.items()}


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
