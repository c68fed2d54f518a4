"""Messages in a SQLite file, with the standard library alone."""

from __future__ import annotations

import os
import sqlite3
from functools import partial

from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry.pauses import pauses_schema
from buttdial_sync.retry.receipts import receipts_schema
from buttdial_sync.retry.rows import TABLE_NAME, outbox_schema
from buttdial_sync.retry.table import Enqueuer, TableRepository
from buttdial_sync.stores.sqlite import SQLiteStore
from buttdial_sync.stores.table import DEFAULT_LEASE
from buttdial_sync.stores.times import Clock
from buttdial_sync.transport.deadline import check_seconds


class SQLiteRepository(TableRepository):
    """
    A repository in one file, made when it is missing.

    Several processes may use the file at once (write-ahead logging), on a local disk. Safe to share
    between threads and across forks. Use it as a context manager or :meth:`close` it. A file of an
    earlier release gets the columns that it lacks.

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

    store: SQLiteStore

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        lease: float = DEFAULT_LEASE,
        keep_tokens: bool = False,
        table: str = TABLE_NAME,
        busy_timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        lease = check_seconds(lease, "lease")  # before the file is opened
        self._stores: list[SQLiteStore] = []
        try:
            for schema in (outbox_schema(table), receipts_schema(table), pauses_schema(table)):
                self._stores.append(
                    SQLiteStore(path, schema, busy_timeout=busy_timeout, clock=clock)
                )
        except BaseException:  # Ctrl-C, too: nobody else has the files that are open
            self.close()
            raise
        store, receipts, pauses = self._stores
        super().__init__(
            store, lease=lease, keep_tokens=keep_tokens, early_receipts=receipts, pauses=pauses
        )

    def within(self, connection: sqlite3.Connection) -> Enqueuer:
        """
        Return an object that writes inside a transaction of the host's, on the same file.

        Args:
            connection: The host's; it is neither committed nor closed here.
        """
        return Enqueuer(partial(self.write, connection), partial(self._write_once, connection))

    def write(self, connection: sqlite3.Connection, message: FailedMessage) -> None:
        """Write a message on this connection, without a commit."""
        self.store.insert_on(connection, self._new_row(message))

    def _write_once(self, connection: sqlite3.Connection, message: FailedMessage) -> FailedMessage:
        find = partial(self.store.find_by_on, connection)
        return self._added_once(message, partial(self.write, connection), find)

    def close(self, timeout: float = 10.0) -> None:
        """
        Close the file. Idempotent, from any thread; later calls of other methods raise.

        Args:
            timeout: How long to wait for a call of another thread to end, in seconds. After it the
                file is closed when that call has ended.
        """
        for store in self._stores:
            store.close(timeout)

    def __enter__(self) -> SQLiteRepository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SQLiteRepository({self.store.path!r})"
