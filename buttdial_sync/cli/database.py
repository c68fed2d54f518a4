"""The database of an outbox: ``--db PATH|URL``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buttdial_sync.cli.command import needing_extra
from buttdial_sync.cli.report import Report
from buttdial_sync.errors import ConfigError

if TYPE_CHECKING:
    from buttdial_sync.client import Client
    from buttdial_sync.retry.table import TableRepository

_LEASE_BEYOND_TIMEOUT = 60.0


def check_is_there(db: str) -> None:
    """
    Refuse the path of a missing file: SQLite would create an empty one for a mistyped path.

    Raises:
        ConfigError: It is missing.
    """
    if "://" not in db and not Path(db).is_file():
        raise ConfigError(f"there is no file {db}", remediation="Check the path after --db.")


db_option = click.option(
    "--db",
    required=True,
    metavar="PATH|URL",
    help="A SQLite file, or a database's address for SQLAlchemy.",
)


def with_db(
    opened: Callable[[str], AbstractContextManager[Any]],
) -> Callable[[Callable[..., Report]], Callable[..., Report]]:
    """Give a command the option ``--db``, and what ``opened`` opens there while it runs."""

    def decorate(callback: Callable[..., Report]) -> Callable[..., Report]:
        @db_option
        @wraps(callback)
        def run(*args: Any, db: str, **kwargs: Any) -> Report:
            check_is_there(db)
            with opened(db) as found:
                return callback(found, *args, **kwargs)

        return run

    return decorate


def needing_sqlalchemy() -> AbstractContextManager[None]:
    """Say what an address needs where SQLAlchemy cannot be imported."""
    return needing_extra("sqlalchemy", "a database address needs SQLAlchemy")


@contextmanager
def errors_of_file(path: str) -> Iterator[None]:
    """Make SQLite's errors those of this library."""
    try:
        yield
    except sqlite3.Error as error:
        raise ConfigError(f"{path} cannot be used: {error}") from None


@contextmanager
def open_database(db: str, client: Client | None = None) -> Iterator[TableRepository]:
    """
    Open an outbox's database; its errors become those of this library.

    Args:
        db: A path, or an address with ``://``.
        client: Who sends: its timeout decides how long messages are leased.

    Raises:
        ConfigError: It cannot be opened or used.
    """
    from buttdial_sync.stores.table import DEFAULT_LEASE

    timeout = 0.0 if client is None else client.timeout
    lease = max(DEFAULT_LEASE, timeout + _LEASE_BEYOND_TIMEOUT)
    repository: TableRepository
    if "://" in db:
        with needing_sqlalchemy():
            from buttdial_sync.retry.sqlalchemy import opened
        with opened(db, lease=lease) as repository:
            yield repository
    else:
        from buttdial_sync.retry.sqlite import SQLiteRepository

        with SQLiteRepository(db, lease=lease) as repository, errors_of_file(db):
            yield repository


with_database = with_db(open_database)
