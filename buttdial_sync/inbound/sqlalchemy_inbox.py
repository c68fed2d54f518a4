"""An inbox in a table of the host's database, by way of SQLAlchemy 2."""

from __future__ import annotations

from datetime import timedelta

from buttdial_sync._extras import Extra

with Extra("sqlalchemy", "sqlalchemy"):
    from sqlalchemy import Engine, MetaData, Table

from buttdial_sync.inbound.inbox import TABLE_NAME, WEEK, Inbox, inbox_schema
from buttdial_sync.stores.sqlalchemy import SQLAlchemyStore, table_of
from buttdial_sync.stores.table import DEFAULT_LEASE
from buttdial_sync.stores.times import Clock


def make_inbox_table(metadata: MetaData, name: str = TABLE_NAME) -> Table:
    """
    Describe the table in a host's metadata, so that its migrations know it.

    Args:
        metadata: The host's.
        name: The table's name.
    """
    return table_of(inbox_schema(name), metadata)


class SQLAlchemyInbox(Inbox):
    """
    An inbox in a table of the host's database: PostgreSQL or SQLite.

    Safe to share between threads. An engine must not be used on both sides of a fork: the host
    disposes of it in the child, as SQLAlchemy's manual says.

    Args:
        engine: The host's.
        metadata: The host's; the table is described in it under ``table_name``, or found there.
        table_name: The table's name.
        lease: As in :class:`~buttdial_sync.Inbox`.
        keep_for: As there.
        clock: Tells the time, aware; PostgreSQL's own, or this machine's, when None.

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
        keep_for: timedelta = WEEK,
        clock: Clock | None = None,
    ) -> None:
        schema = inbox_schema(table_name)
        store = SQLAlchemyStore(engine, schema, metadata=metadata, clock=clock)
        super().__init__(store, lease=lease, keep_for=keep_for)

    def create_table(self) -> None:
        """Make the table where it is missing; see ``create_table`` of ``SQLAlchemyRepository``."""
        self.store.create_table()
