"""Rows of work in the host's database, by way of Django's ORM."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from functools import partial
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import IntegrityError, close_old_connections, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Q

from buttdial_sync.errors import ArgumentValueError
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.stores.figures import Figures
from buttdial_sync.stores.schema import LEASE, Row, Schema, Turn, id_taken
from buttdial_sync.stores.sql import Cursor, Execute, SQLStore
from buttdial_sync.stores.times import Clock, DatabaseClock
from buttdial_sync.stores.turns import TURNS_INDEX


class DatabaseStore(SQLStore):
    """
    Rows in a table of the host's database, with Django's connections and router.

    For PostgreSQL and SQLite. Safe to share between threads and across forks. What has to be on
    disk before work begins is a transaction of its own, and raises ``RuntimeError`` inside one of
    the host's, or where the host has switched autocommit off.

    Args:
        schema: The table.
        model: The name of its model, which is looked up when the apps are loaded.
        using: The database's alias; that of the router when None.
        clock: Tells the time, aware; PostgreSQL's own, or this machine's, when None.
    """

    def __init__(
        self,
        schema: Schema,
        model: str,
        *,
        using: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(schema, clock or self._time)
        self._model_name = model
        self._using = using
        self._database_clock = DatabaseClock(self._ask_time)

    @property
    def alias(self) -> str:
        """The alias of the database."""
        return self._using or str(router.db_for_write(self._model))

    @property
    def _model(self) -> Any:
        return apps.get_model("buttdial_sync", self._model_name)

    @property
    def _database(self) -> BaseDatabaseWrapper:
        return connections[self.alias]

    def insert(self, row: Row) -> None:
        """Write a new row, inside the transaction that is open, unless it is leased already."""
        try:
            with self._transaction(durable=row[LEASE] is not None):
                self._rows().bulk_create([self._model(**_as_stored(row))])
        except IntegrityError:
            raise ArgumentValueError(id_taken(row["id"])) from None

    def insert_new(self, rows: Sequence[Row]) -> int:
        """Write those that are new; see :meth:`Store.insert_new`."""
        ids = {row["id"] for row in rows}
        with self._writing(reads_first=True, durable=False):
            known = set(self._rows().filter(pk__in=ids).values_list("pk", flat=True))
            made = [self._model(**_as_stored(row)) for row in rows]
            self._rows().bulk_create(made, ignore_conflicts=True)
            # A row may be missing because another one has its unique values.
            return int(self._rows().filter(pk__in=ids - known).count())

    def turns(self, now: datetime) -> list[Turn]:
        """Return the agents with rows to claim; see :meth:`Store.turns`."""
        with self._transaction():  # not inside one of the host's, also if there is nothing to claim
            return super().turns(now)

    def figures(self, statuses: Sequence[str], now: datetime) -> Figures:
        """Measure the rows; see :meth:`Store.figures`."""
        with self._transaction(durable=False), self._reading() as execute:
            measured = super().figures(statuses, now)
            if not self._is_sqlite:  # it may be a transaction of the host's, which goes on
                for setting in ("enable_sort", "jit"):
                    execute(f"SET LOCAL {setting} TO DEFAULT", {})
            return measured

    def delete(self, statuses: Sequence[str], before: datetime, limit: int) -> int:
        """Delete rows; see :meth:`Store.delete`."""
        # Django deletes by the ids alone where the host listens to the signals of deletions, so
        # nobody may change these rows meanwhile.
        with self._writing(reads_first=True, durable=False):
            old = self._rows().filter(status__in=statuses, resolved_at__lt=stored(before))
            free = old.select_for_update(skip_locked=not self._is_sqlite)
            ids = list(free.order_by().values_list("pk", flat=True)[:limit])
            deleted, _ = self._rows().filter(pk__in=ids).delete()
        return int(deleted)

    def durable(self) -> AbstractContextManager[object]:
        """
        Begin a transaction whose rows are on disk when it ends.

        Raises:
            RuntimeError: A transaction of the host is open, or autocommit is off.
        """
        return self._transaction()

    @contextmanager
    def _reading(self) -> Iterator[Execute]:
        with self._database.cursor() as cursor:
            yield partial(self._execute, cursor)

    @contextmanager
    def _writing(self, *, reads_first: bool, durable: bool) -> Iterator[Execute]:
        with self._transaction(durable=durable), self._reading() as execute:
            if reads_first and self._is_sqlite:
                execute(self._no_change, {})
            yield execute

    def _execute(self, cursor: Any, statement: str, values: Mapping[str, Any]) -> Cursor:
        adapt = self._database.ops.adapt_datetimefield_value
        adapted = {
            name: adapt(stored(value)) if isinstance(value, datetime) else value
            for name, value in values.items()
        }
        # Django's way to write a parameter.
        cursor.execute(re.sub(r":(\w+)", r"%(\1)s", statement), adapted)
        done: Cursor = cursor
        return done

    @property
    def _is_sqlite(self) -> bool:
        return bool(self._database.vendor == "sqlite")

    @property
    def _table(self) -> str:
        return str(self._database.ops.quote_name(self._model._meta.db_table))

    @property
    def _turns_index(self) -> str:
        names = [index.name for index in self._model._meta.indexes]
        (name,) = (name for name in names if name.endswith(f"_{TURNS_INDEX}"))
        return str(name)

    def _columns(self, names: Iterable[str]) -> str:
        # Django would read SQLite's times, and fail at what a person wrote in place of one.
        texts = self._times if self._is_sqlite else ()
        return super()._columns(
            f"CAST({name} AS text)" if name in texts else name for name in names
        )

    def _time(self) -> datetime:
        has_clock = self._database.vendor == "postgresql"
        return self._database_clock() if has_clock else utc_now()

    def _ask_time(self) -> datetime:
        with self._database.cursor() as cursor:
            # Django gives times without a zone, in UTC, to projects without USE_TZ.
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            return datetime.fromtimestamp(cursor.fetchone()[0], timezone.utc)

    def _transaction(self, *, durable: bool = True) -> AbstractContextManager[object]:
        if durable and not self._database.in_atomic_block:
            check_autocommit(self.alias)
        block: AbstractContextManager[object] = transaction.atomic(self.alias, durable=durable)
        return block

    def _rows(self) -> Any:
        return self._model.objects.using(self.alias)


# The threads that are inside of fresh_connections; each adds and removes itself only. Not by their
# idents: a thread of a forked child may have that of a thread of the parent.
_inside: set[threading.Thread] = set()


@contextmanager
def fresh_connections() -> Iterator[None]:
    """
    Close stale database connections, as Django does around a request.

    A thread of the library closes all of its own: nobody else could use or close them. Blocks may
    be nested; only the outermost closes. Inside a transaction of the host nothing is closed: Django
    would roll it back without a word.
    """
    thread = threading.current_thread()
    if thread in _inside or any(map(_is_in_transaction, connections.all(initialized_only=True))):
        yield
        return
    close_old_connections()
    _inside.add(thread)
    try:
        yield
    finally:
        _inside.discard(thread)
        if thread is threading.main_thread():
            close_old_connections()
        else:
            connections.close_all()


def _is_in_transaction(database: BaseDatabaseWrapper) -> bool:
    """Whether the host has begun one, or switched autocommit off, which does it by itself."""
    if database.connection is None:
        return False
    as_set = database.get_autocommit() == database.settings_dict["AUTOCOMMIT"]
    return bool(database.in_atomic_block or not as_set)


def check_autocommit(alias: str) -> None:
    """
    Refuse a database on which nothing is committed unless the host says so.

    Raises:
        RuntimeError: Autocommit is off.
    """
    if not connections[alias].get_autocommit():
        raise RuntimeError(
            f"autocommit is off for the database {alias!r}: what has to be on disk at once, such "
            "as the attempt to send, would not be. Leave it on, and use transaction.atomic"
        )


def is_free(now: datetime) -> Any:
    """Return the condition for rows that nobody has leased."""
    return Q(leased_until__isnull=True) | Q(leased_until__lte=stored(now))


def _as_stored(row: Mapping[str, Any]) -> Row:
    return {name: stored(value) for name, value in row.items()}


def stored(value: Any) -> Any:
    """
    Return a value as the models have it.

    Times are UTC: without a zone where the project has none, which local times would break. One
    without a zone is from the database.
    """
    if not isinstance(value, datetime) or value.tzinfo is None:
        return value
    moment = value.astimezone(timezone.utc)
    return moment if settings.USE_TZ else moment.replace(tzinfo=None)
