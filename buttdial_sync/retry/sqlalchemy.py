"""Messages in a table of the host's database, by way of SQLAlchemy 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from buttdial_sync._extras import Extra

with Extra("sqlalchemy", "sqlalchemy"):
    from sqlalchemy import Engine, MetaData, Table

from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry.pauses import pauses_schema
from buttdial_sync.retry.receipts import receipts_schema
from buttdial_sync.retry.rows import TABLE_NAME, outbox_schema
from buttdial_sync.retry.table import Enqueuer, TableRepository
from buttdial_sync.stores.sqlalchemy import Executes, SQLAlchemyStore, engine_at, table_of
from buttdial_sync.stores.table import DEFAULT_LEASE
from buttdial_sync.stores.times import Clock


def make_table(metadata: MetaData, name: str = TABLE_NAME) -> Table:
    """
    Describe the table, and those beside it, in a host's metadata, for its migrations.

    Args:
        metadata: The host's.
        name: The table's name.
    """
    table_of(receipts_schema(name), metadata)
    table_of(pauses_schema(name), metadata)
    return table_of(outbox_schema(name), metadata)


class SQLAlchemyRepository(TableRepository):
    """
    A repository in a table of the host's database.

    For PostgreSQL (with ``FOR UPDATE SKIP LOCKED``) and SQLite. Each call is a transaction of its
    own. Safe to share between threads. An engine must not be used on both sides of a fork: the host
    disposes of it in the child, as SQLAlchemy's manual says.

    Args:
        engine: The host's.
        metadata: The host's; the table is described in it under ``table_name``, or found there.
        table_name: The table's name.
        lease: How long a fetched message is kept from the others, in seconds; longer than the
            client's ``timeout``.
        keep_tokens: Whether the tokens of agents are written into the rows.
        clock: Tells the time, aware; PostgreSQL's own when None, so that machines whose clocks
            differ agree about leases. On SQLite this machine's.

    Attributes:
        table: The table.

    Raises:
        ConfigError: The database is MySQL or MariaDB, which are not supported.
    """

    store: SQLAlchemyStore

    def __init__(
        self,
        engine: Engine,
        *,
        metadata: MetaData | None = None,
        table_name: str = TABLE_NAME,
        lease: float = DEFAULT_LEASE,
        keep_tokens: bool = False,
        clock: Clock | None = None,
    ) -> None:
        schema = outbox_schema(table_name)
        store = SQLAlchemyStore(engine, schema, metadata=metadata, clock=clock)
        receipts, pauses = (
            SQLAlchemyStore(engine, beside(table_name), metadata=metadata, clock=store.now)
            for beside in (receipts_schema, pauses_schema)
        )
        super().__init__(
            store, lease=lease, keep_tokens=keep_tokens, early_receipts=receipts, pauses=pauses
        )
        self._stores = (store, receipts, pauses)
        self.table = store.table

    def create_table(self) -> None:
        """
        Make the three tables, and indexes, where they are missing. Safe to repeat.

        Hosts with migrations use those instead.

        Raises:
            ConfigError: The table is one of an earlier release; the message has the statements that
                add the columns.
        """
        for store in self._stores:
            store.create_table()

    def within(self, transaction: Executes) -> Enqueuer:
        """
        Return what writes inside a transaction of the host's.

        Args:
            transaction: The host's ``Connection`` or ORM ``Session``; it is not committed here.
        """
        return Enqueuer(partial(self.write, transaction), partial(self._write_once, transaction))

    def write(self, transaction: Executes, message: FailedMessage) -> None:
        """Write a message inside this transaction, without a commit."""
        # Asked for on this connection: the pool may have no other one.
        self.store.sync_clock(transaction)
        self.store.insert_on(transaction, self._new_row(message))

    def _write_once(self, transaction: Executes, message: FailedMessage) -> FailedMessage:
        find = partial(self.store.find_by_on, transaction)
        return self._added_once(message, partial(self.write, transaction), find)


@contextmanager
def opened(url: str, *, lease: float = DEFAULT_LEASE) -> Iterator[SQLAlchemyRepository]:
    """
    Open a database by its address, for programs without an engine of their own.

    The table is made where it is missing; the database's errors become :class:`ConfigError`.

    Args:
        url: SQLAlchemy's address; it may hold a password, and is never repeated.
        lease: As in :class:`SQLAlchemyRepository`.
    """
    with engine_at(url) as engine:
        repository = SQLAlchemyRepository(engine, lease=lease)
        repository.create_table()
        yield repository
