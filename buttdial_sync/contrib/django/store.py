"""Rows of work in the host's database, by way of Django's ORM."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from functools import partial, reduce
from operator import or_
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import IntegrityError, close_old_connections, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count, Exists, F, OuterRef, Q, TextField
from django.db.models.functions import Cast, Coalesce, Greatest

from buttdial_sync.errors import ArgumentValueError
from buttdial_sync.errors.moments import as_utc, utc_now
from buttdial_sync.stores.figures import Figures, measure
from buttdial_sync.stores.schema import (
    LEASE,
    PENDING,
    Claim,
    Condition,
    Row,
    RowKey,
    Schema,
    Selection,
    Turn,
    id_taken,
    portions,
)
from buttdial_sync.stores.store import Store
from buttdial_sync.stores.times import Clock, DatabaseClock, from_text
from buttdial_sync.stores.turns import (
    IN_ORDER,
    TURNS_INDEX,
    as_turns,
    next_statement,
    take_turns,
    turns_statement,
)

_TEXT = "text_of_"
_MOST_PARAMETERS = 900  # SQLite before 3.32 takes 999


class DatabaseStore(Store):
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
        with self._transaction(durable=False):
            self._lock_first()
            known = set(self._rows().filter(pk__in=ids).values_list("pk", flat=True))
            made = [self._model(**_as_stored(row)) for row in rows]
            self._rows().bulk_create(made, ignore_conflicts=True)
            # A row may be missing because another one has its unique values.
            return int(self._rows().filter(pk__in=ids - known).count())

    def claim(self, claim: Claim) -> list[Row]:
        """Lease rows; see :meth:`Store.claim`."""
        changes: dict[str, Any] = {LEASE: stored(claim.leased_until)}
        if claim.begins_attempt:
            changes["retry_count"] = F("retry_count") + 1
            changes["attempt_number"] = F("attempt_number") + 1
        with self._transaction():
            self._lock_first()
            if self.schema.takes_turns:
                with self._in_order():
                    ids = take_turns(claim, partial(self._find_next, claim.now))
            else:
                ids = self._find_due(claim)
            if not ids:
                return []
            chosen = self._rows().filter(pk__in=ids)
            chosen.update(**changes)
            rows = {row["id"]: row for row in self._read(chosen)}
        return [rows[row_id] for row_id in ids]

    def turns(self, now: datetime) -> list[Turn]:
        """Return the agents with rows to claim; see :meth:`Store.turns`."""
        # Not inside a transaction of the host's, also if there is nothing to claim.
        with self._transaction(), self._in_order():
            return as_turns(self._select(turns_statement(self._quoted, self._hint), {"now": now}))

    def release(
        self, ids: Sequence[str], leased_until: datetime, changes: Mapping[str, Any]
    ) -> int:
        """End leases; see :meth:`Store.release`."""
        leased = self._rows().filter(pk__in=ids, status=PENDING, leased_until=stored(leased_until))
        with self._transaction():
            return int(leased.update(**_as_stored({**changes, LEASE: None})))

    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        """Change a row; see :meth:`Store.update`."""
        rows = self._rows().filter(pk=row_id, status__in=condition.statuses)
        if condition.retry_count is not None:
            rows = rows.filter(retry_count=condition.retry_count)
        if condition.attempt_number is not None:
            rows = rows.annotate(number=Coalesce("attempt_number", 0))
            rows = rows.filter(number=condition.attempt_number)
        if condition.no_lease_at is not None:
            rows = rows.filter(is_free(condition.no_lease_at))
        for name, value in condition.values.items():
            rows = rows.filter(**({f"{name}__isnull": True} if value is None else {name: value}))
        rows = rows.filter(**{f"{name}__isnull": False for name in condition.present})
        # An operator's change may be part of a request's transaction, and so may a receipt. An
        # attempt's must not: it has to be on disk before the message leaves.
        is_attempts = condition.no_lease_at is None and not condition.values
        with self._transaction(durable=is_attempts):
            return bool(rows.update(**_as_stored(changes)))

    def find(self, row_id: str) -> Row | None:
        """Return one row; see :meth:`Store.find`."""
        return next(iter(self._read(self._rows().filter(pk=row_id))), None)

    def find_many(self, ids: Sequence[str]) -> list[Row]:
        """Return some rows; see :meth:`Store.find_many`."""
        return [
            row
            for some in portions(ids, _MOST_PARAMETERS)
            for row in self._read(self._rows().filter(pk__in=some))
        ]

    def ids_between(self, bounds: Sequence[tuple[str, str]]) -> list[str]:
        """Return ids; see :meth:`Store.ids_between`."""
        found: list[str] = []
        for some in portions(bounds, _MOST_PARAMETERS // 2):
            lies_between = reduce(or_, (Q(pk__range=pair) for pair in some))
            found += self._rows().filter(lies_between).values_list("pk", flat=True)
        return found

    def newest_by(self, column: str, value: str, limit: int) -> list[Row]:
        """Return the newest of some rows; see :meth:`Store.newest_by`."""
        rows = self._rows().filter(**{column: value})
        return self._read(rows.order_by("-created_at")[:limit])

    def first_in_order(self, agent_id: str, ordering_key: str) -> Row | None:
        """Return the oldest row; see :meth:`Store.first_in_order`."""
        rows = self._rows().filter(_of_agent(agent_id), status=PENDING, ordering_key=ordering_key)
        return next(iter(self._read(rows.order_by("created_at", "id")[:1])), None)

    def newest(self, status: str | None, limit: int) -> list[Row]:
        """Return rows; see :meth:`Store.newest`."""
        rows = self._rows() if status is None else self._rows().filter(status=status)
        return self._read(rows.order_by("-created_at", "-id")[:limit])

    def leased(self, now: datetime) -> list[Row]:
        """Return the leased ones; see :meth:`Store.leased`."""
        return self._read(self._rows().filter(status=PENDING, leased_until__gt=stored(now)))

    def counts(self) -> Mapping[str, int]:
        """Count all; see :meth:`Store.counts`."""
        counted = self._rows().order_by().values_list("status").annotate(Count("pk"))
        return dict(counted)

    def count(self, status: str) -> int:
        """Count those of a status; see :meth:`Store.count`."""
        return int(self._rows().filter(status=status).count())

    def keys(self, status: str, after: RowKey | None, limit: int) -> list[RowKey]:
        """Return keys; see :meth:`Store.keys`."""
        rows = self._rows().filter(status=status)
        if after is not None:
            # As a pair, which the index finds at once.
            rows = rows.extra(where=["(created_at, id) > (%s, %s)"], params=list(after))
        created_at = Cast("created_at", TextField()) if self._is_sqlite else F("created_at")
        found = rows.order_by("created_at", "pk").annotate(key=created_at)
        return list(found.values_list("key", "pk")[:limit])

    def count_selected(self, ids: Sequence[str], selection: Selection) -> int:
        """Count rows; see :meth:`Store.count_selected`."""
        return sum(chosen.count() for chosen in self._selected(ids, selection))

    def update_selected(
        self,
        ids: Sequence[str],
        selection: Selection,
        changes: Mapping[str, Any],
        *,
        one_more_attempt: bool,
    ) -> int:
        """Change rows; see :meth:`Store.update_selected`."""
        values = _as_stored(changes)
        if one_more_attempt:
            values["max_retries"] = Greatest("max_retries", F("retry_count") + 1)
        with self._transaction(durable=False):
            return sum(chosen.update(**values) for chosen in self._selected(ids, selection))

    def _selected(self, ids: Sequence[str], selection: Selection) -> Iterator[Any]:
        """Return the rows of a selection, so many ids at a time."""
        rows = self._rows().filter(is_free(selection.now), status__in=selection.statuses)
        if selection.since is not None:
            since = stored(selection.since)
            rows = rows.filter(
                Q(resolved_at__gte=since) | Q(resolved_at__isnull=True, created_at__gte=since)
            )
        if selection.error_like:
            rows = rows.filter(last_error__icontains=selection.error_like)
        if selection.in_doubt is not None:
            rows = rows.filter(attempt_started_at__isnull=not selection.in_doubt)
        if selection.agent_id is not None:
            rows = rows.filter(_of_agent(selection.agent_id))
        for some in portions(ids, _MOST_PARAMETERS):
            yield rows.filter(pk__in=some)

    def figures(self, statuses: Sequence[str], now: datetime) -> Figures:
        """Measure the rows; see :meth:`Store.figures`."""
        with self._transaction(durable=False), self._in_order():
            return measure(self._select, self._quoted, statuses, now, self._hint)

    def delete(self, statuses: Sequence[str], before: datetime, limit: int) -> int:
        """Delete rows; see :meth:`Store.delete`."""
        with self._transaction(durable=False):
            # Django deletes by the ids alone where the host listens to the signals of deletions, so
            # nobody may change these rows meanwhile.
            self._lock_first()
            old = self._rows().filter(status__in=statuses, resolved_at__lt=stored(before))
            ids = list(self._locked(old).order_by().values_list("pk", flat=True)[:limit])
            deleted, _ = self._rows().filter(pk__in=ids).delete()
        return int(deleted)

    def durable(self) -> AbstractContextManager[object]:
        """
        Begin a transaction whose rows are on disk when it ends.

        Raises:
            RuntimeError: A transaction of the host is open, or autocommit is off.
        """
        return self._transaction()

    @property
    def _is_sqlite(self) -> bool:
        return bool(self._database.vendor == "sqlite")

    @property
    def _quoted(self) -> str:
        return str(self._database.ops.quote_name(self._model._meta.db_table))

    @contextmanager
    def _in_order(self) -> Iterator[None]:
        """Read by the index of turns, whatever PostgreSQL's statistics say; in a transaction."""
        if self._is_sqlite:
            yield
            return
        with self._database.cursor() as cursor:
            cursor.execute(IN_ORDER)
        yield
        with self._database.cursor() as cursor:
            # It may be a transaction of the host's, which goes on.
            for setting in ("enable_sort", "jit"):
                cursor.execute(f"SET LOCAL {setting} TO DEFAULT")

    @property
    def _hint(self) -> str:
        """What makes SQLite use the index of turns."""
        names = [index.name for index in self._model._meta.indexes]
        (name,) = (name for name in names if name.endswith(f"_{TURNS_INDEX}"))
        return f"INDEXED BY {name}" if self._is_sqlite else ""

    def _find_due(self, claim: Claim) -> list[str]:
        moment = stored(claim.now)
        due = (
            self._only_heads(moment)
            .filter(is_free(claim.now), status=PENDING, next_retry_at__lte=moment)
            .order_by("next_retry_at", "created_at")
        )
        return list(self._locked(due).values_list("pk", flat=True)[: claim.limit])

    def _find_next(self, now: datetime, agent: str, priority: int, limit: int) -> list[str]:
        statement = next_statement(
            self._quoted, "" if self._is_sqlite else "FOR UPDATE OF found SKIP LOCKED"
        )
        values = {"now": now, "agent": agent, "priority": priority, "limit": limit}
        return [row[0] for row in self._select(statement, values)]

    def _select(self, statement: str, values: Mapping[str, Any]) -> list[Any]:
        adapt = self._database.ops.adapt_datetimefield_value
        adapted = {
            name: adapt(stored(value)) if isinstance(value, datetime) else value
            for name, value in values.items()
        }
        with self._database.cursor() as cursor:
            # Django's way to write a parameter.
            cursor.execute(re.sub(r":(\w+)", r"%(\1)s", statement), adapted)
            return list(cursor.fetchall())

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

    def _lock_first(self) -> None:
        """
        Take SQLite's write lock, with an update that changes no row.

        SQLite fails at once if a transaction reads first and then has to wait for another writer.
        """
        if self._is_sqlite:
            self._rows().filter(pk="").update(**{self.schema.names[-1]: None})

    def _locked(self, rows: Any) -> Any:
        """Return the rows that nobody else has locked, and lock them where SQLite is not locked."""
        skips = self._database.features.has_select_for_update_skip_locked
        return rows.select_for_update(skip_locked=skips)

    def _only_heads(self, now: Any) -> Any:
        """Return the rows that may be claimed as far as their groups go."""
        group = self.schema.group
        if group is None:
            return self._rows()
        comes_first = Q(created_at__lt=OuterRef("created_at")) | Q(leased_until__gt=now)
        others = self._rows().filter(comes_first, **{group: OuterRef(group)}, status=PENDING)
        return self._rows().filter(~Exists(others))

    def _read(self, rows: Any) -> list[Row]:
        """Return the columns; on SQLite times as text, because a person may have written them."""
        if not self._is_sqlite:
            return [self._loaded(row) for row in rows.values(*self.schema.names)]
        names = [name for name in self.schema.names if name not in self.schema.times]
        texts = {f"{_TEXT}{name}": Cast(name, TextField()) for name in self.schema.times}
        return [self._loaded(row) for row in rows.values(*names, **texts)]

    def _loaded(self, found: Mapping[str, Any]) -> Row:
        row: Row = dict(found)
        for name in self.schema.times:
            if f"{_TEXT}{name}" in row:
                row[name] = from_text(row.pop(f"{_TEXT}{name}"))
            elif row[name] is not None:
                row[name] = as_utc(row[name])
        return row

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


def _of_agent(agent_id: str) -> Any:
    """Return the condition for an agent's rows; those that name none where the id is empty."""
    named = Q(agent_id=agent_id)
    return named if agent_id else named | Q(agent_id__isnull=True)


def _as_stored(row: Mapping[str, Any]) -> Row:
    return {name: stored(value) for name, value in row.items()}


def stored(value: Any) -> Any:
    """
    Return a value as the models have it.

    Times are UTC: without a zone where the project has none, which local times would break.
    """
    if not isinstance(value, datetime):
        return value
    moment = value.astimezone(timezone.utc)
    return moment if settings.USE_TZ else moment.replace(tzinfo=None)
