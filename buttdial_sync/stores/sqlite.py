"""Rows in a SQLite file, with the standard library alone."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from buttdial_sync.errors import ArgumentValueError, ClientClosedError, ConfigError
from buttdial_sync.stores.private_file import create_private_file
from buttdial_sync.stores.schema import Column, Row, Schema, id_taken, missing_columns
from buttdial_sync.stores.sql import Execute, SQLStore, as_text
from buttdial_sync.stores.times import Clock
from buttdial_sync.transport.deadline import check_seconds
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork, reset_if_forked

logger = logging.getLogger("buttdial_sync.stores")

_NOT_FILES = ("", ":memory:")


class SQLiteStore(SQLStore):
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

    _is_sqlite = True

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

    @property
    def _table(self) -> str:
        return self.schema.table

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

    def find_by_on(self, connection: sqlite3.Connection, column: str, value: str) -> Row | None:
        """Return the newest of some rows, as a connection of the host's sees them."""
        cursor = connection.cursor()
        cursor.row_factory = None  # the host's may make anything of a row
        found = self._newest_by(partial(_execute, cursor), column, value, 1)
        return found[0] if found else None

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

    @contextmanager
    def _writing(self, *, reads_first: bool, durable: bool) -> Iterator[Execute]:
        with self.writing() as connection:
            yield partial(_execute, connection)

    @contextmanager
    def _reading(self) -> Iterator[Execute]:
        with self._locked() as connection:
            yield partial(_execute, connection)

    def _change(self, statement: str, values: Mapping[str, Any], *, durable: bool) -> int:
        with self._locked() as connection:  # a statement alone is a transaction
            return _execute(connection, statement, values).rowcount

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
        present = {row[1] for row in connection.execute(f"PRAGMA table_info({self._table})")}
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

    def _insert_statement(self, verb: str) -> str:
        places = ", ".join(f":{name}" for name in self._names)
        return f"{verb} INTO {self._table} ({', '.join(self._names)}) VALUES ({places})"


def _definition(column: Column) -> str:
    if column.name == "id":
        return "id TEXT PRIMARY KEY"
    kind = "INTEGER" if column.kind == "number" else "TEXT"
    return f"{column.name} {kind}{' NOT NULL' if column.required else ''}"


def _execute(
    database: sqlite3.Connection | sqlite3.Cursor, statement: str, values: Mapping[str, Any]
) -> sqlite3.Cursor:
    return database.execute(statement, _as_stored(values))


def _as_stored(row: Mapping[str, Any]) -> Row:
    return {name: as_text(value) for name, value in row.items()}


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
