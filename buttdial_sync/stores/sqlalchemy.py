"""Rows in a table of the host's database, by way of SQLAlchemy 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from functools import partial
from typing import Any, Protocol

from sqlalchemy import (
    ARRAY,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    bindparam,
    case,
    cast,
    create_engine,
    delete,
    exists,
    func,
    insert,
    inspect,
    or_,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy import Column as TableColumn
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.schema import CreateColumn, CreateIndex
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from buttdial_sync.errors import ArgumentValueError, ConfigError
from buttdial_sync.errors.moments import as_utc
from buttdial_sync.stores.figures import Figures, measure
from buttdial_sync.stores.schema import (
    KEY_LENGTH,
    PENDING,
    WORD_LENGTH,
    Claim,
    Column,
    Condition,
    Row,
    RowKey,
    Schema,
    Selection,
    TableIndex,
    Turn,
    id_taken,
    missing_columns,
    portions,
)
from buttdial_sync.stores.store import Store
from buttdial_sync.stores.times import Clock, DatabaseClock, from_text
from buttdial_sync.stores.turns import (
    IN_ORDER,
    IS_PENDING,
    TURNS_INDEX,
    as_turns,
    next_statement,
    take_turns,
    turns_statement,
)

_MOST_PARAMETERS = 900  # SQLite before 3.32 takes 999, and no deeper expressions now
_MOST_NEAR = 100
_UNTESTED = frozenset({"mysql", "mariadb"})


class _TextTime(sqlite.DATETIME):
    """SQLite's times are text, and a person may have written one that cannot be read."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Return what reads a time, and leaves anything else as it is."""
        return from_text


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, also in databases that know none."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the database's type."""
        kind: type[TypeEngine[Any]] = _TextTime
        if dialect.name == "sqlite":
            return dialect.type_descriptor(kind())
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Write a time in UTC."""
        return None if value is None else value.astimezone(timezone.utc)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Read a time; one without a zone was written in UTC."""
        return as_utc(value) if isinstance(value, datetime) else value


_TIME = bindparam("now", type_=UtcDateTime())


class Executes(Protocol):
    """A transaction of the host's: a ``Connection`` or an ORM ``Session``."""

    def execute(self, statement: Any, parameters: Any = None, /) -> Any:
        """Execute a statement."""
        ...


def table_of(schema: Schema, metadata: MetaData) -> Table:
    """Describe a table of work in a host's metadata, so that its migrations know it."""
    return Table(
        schema.table,
        metadata,
        *map(_column, schema.columns),
        *(_index(schema, name, index) for name, index in schema.indexes.items()),
    )


class SQLAlchemyStore(Store):
    """
    Rows in a table of the host's database: PostgreSQL (``FOR UPDATE SKIP LOCKED``) or SQLite.

    Safe to share between threads. An engine must not be used on both sides of a fork: the host
    disposes of it in the child, as SQLAlchemy's manual says.

    Args:
        engine: The host's.
        schema: The table.
        metadata: The host's; the table is described in it, or found there.
        clock: Tells the time, aware; PostgreSQL's own, or this machine's, when None.

    Attributes:
        table: The table.

    Raises:
        ConfigError: This database is not supported.
    """

    def __init__(
        self,
        engine: Engine,
        schema: Schema,
        *,
        metadata: MetaData | None = None,
        clock: Clock | None = None,
    ) -> None:
        if engine.dialect.name in _UNTESTED:
            raise ConfigError(
                f"{engine.dialect.name} is not supported",
                remediation="Use PostgreSQL or SQLite: leases and fences are tested there.",
            )
        self._engine = engine
        self._database_clock = (
            DatabaseClock(self._ask_time)
            if clock is None and engine.dialect.name == "postgresql"
            else None
        )
        super().__init__(schema, clock or self._database_clock)
        known = None if metadata is None else metadata.tables.get(schema.table)
        self.table = table_of(schema, metadata or MetaData()) if known is None else known

    def create_table(self) -> None:
        """
        Make the table and indexes where they are missing. Safe to repeat.

        Hosts with migrations use those instead.

        Raises:
            ConfigError: There is a table of an earlier release, which lacks columns.
        """
        self.table.create(self._engine, checkfirst=True)
        self._check_columns()
        with self._engine.begin() as connection:
            for index in self.table.indexes:  # a table of an earlier release lacks some
                connection.execute(CreateIndex(index, if_not_exists=True))

    def _check_columns(self) -> None:
        columns = inspect(self._engine).get_columns(self.table.name)
        types = {each["name"]: each["type"] for each in columns}
        missing = missing_columns(self.schema, set(types))
        faults, statements = [], [self._add_statement(column) for column in missing]
        if missing:
            faults.append(f"lacks the columns {', '.join(column.name for column in missing)}")
        if self._engine.dialect.name == "postgresql" and not isinstance(types["id"], String):
            faults.append(f"has an id that is {types['id']} and not text")
            statements += _text_id_statements(self.table.name)
        if faults:
            raise ConfigError(
                f"the table {self.table.name} {' and '.join(faults)}",
                remediation=f"Change it: {' '.join(statements)}",
            )

    def sync_clock(self, transaction: Executes) -> None:
        """Ask for the database's time in a transaction that is open, if it has to be asked for."""
        if self._database_clock is not None:
            self._database_clock.asking(lambda: _time_of(transaction))

    def insert(self, row: Row) -> None:
        """Write a new row; see :meth:`Store.insert`."""
        with _telling_only(row["id"]), self._engine.begin() as connection:
            connection.execute(insert(self.table), row)

    def insert_on(self, transaction: Any, row: Row) -> None:
        """Write a new row inside a transaction of the host's, without a commit."""
        # PostgreSQL ends a transaction whose statement failed, unless it stood in a savepoint.
        in_savepoint = self._engine.dialect.name == "postgresql"
        with (
            _telling_only(row["id"]),
            transaction.begin_nested() if in_savepoint else nullcontext(),
        ):
            transaction.execute(insert(self.table), row)

    def insert_new(self, rows: Sequence[Row]) -> int:
        """Write those that are new; see :meth:`Store.insert_new`."""
        if not rows:
            return 0
        # Without the columns that no row needs, a thousand rows fit into one statement.
        names = {name for row in rows for name, value in row.items() if value is not None}
        given = [{name: row[name] for name in names} for row in rows]
        if self._engine.dialect.name == "postgresql":
            made = postgresql.insert(self.table).on_conflict_do_nothing()
            with _telling_only(""), self._engine.begin() as connection:
                return len(connection.scalars(made.returning(self.table.c.id), given).all())
        statement = sqlite.insert(self.table).on_conflict_do_nothing()
        with _telling_only(""), self._engine.begin() as connection:
            return connection.execute(statement, given).rowcount

    def claim(self, claim: Claim) -> list[Row]:
        """Lease rows; see :meth:`Store.claim`."""
        table = self.table.c
        changes: dict[str, Any] = {"leased_until": claim.leased_until}
        if claim.begins_attempt:
            changes["retry_count"] = table.retry_count + 1
            changes["attempt_number"] = table.attempt_number + 1
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "sqlite":
                _begin_as_writer(connection, self.table)
            if self.schema.takes_turns:
                self._keep_order(connection)
                ids = take_turns(claim, partial(self._find_next, connection, claim.now))
            else:
                ids = self._find_due(connection, claim)
            if not ids:
                return []
            chosen = table.id.in_(ids)
            connection.execute(update(self.table).where(chosen).values(changes))
            found = connection.execute(select(self.table).where(chosen)).mappings()
            rows = {row["id"]: dict(row) for row in found}
        return [rows[row_id] for row_id in ids]

    def turns(self, now: datetime) -> list[Turn]:
        """Return the agents with rows to claim; see :meth:`Store.turns`."""
        is_sqlite = self._engine.dialect.name == "sqlite"
        hint = f"INDEXED BY {self.table.name}_{TURNS_INDEX}" if is_sqlite else ""
        statement = text(turns_statement(self._quoted, hint)).bindparams(_TIME)
        with self._engine.connect() as connection:
            self._keep_order(connection)
            pairs = connection.execute(statement, {"now": now})
            return as_turns((agent, priority) for agent, priority in pairs)

    def release(
        self, ids: Sequence[str], leased_until: datetime, changes: Mapping[str, Any]
    ) -> int:
        """End leases; see :meth:`Store.release`."""
        table = self.table.c
        statement = update(self.table).where(
            table.id.in_(ids), table.status == PENDING, table.leased_until == leased_until
        )
        with self._engine.begin() as connection:
            return connection.execute(statement.values(leased_until=None, **changes)).rowcount

    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        """Change a row; see :meth:`Store.update`."""
        table = self.table.c
        statement = update(self.table).where(
            table.id == row_id, table.status.in_(condition.statuses)
        )
        if condition.retry_count is not None:
            statement = statement.where(table.retry_count == condition.retry_count)
        if condition.attempt_number is not None:
            number = func.coalesce(table.attempt_number, 0)
            statement = statement.where(number == condition.attempt_number)
        if condition.no_lease_at is not None:
            statement = statement.where(_is_free(self.table, condition.no_lease_at))
        for name, value in condition.values.items():
            statement = statement.where(table[name].is_not_distinct_from(value))
        for name in condition.present:
            statement = statement.where(table[name].is_not(None))
        with self._engine.begin() as connection:
            return connection.execute(statement.values(**changes)).rowcount == 1

    def find(self, row_id: str) -> Row | None:
        """Return one row; see :meth:`Store.find`."""
        found = self._read(select(self.table).where(self.table.c.id == row_id))
        return found[0] if found else None

    def find_many(self, ids: Sequence[str]) -> list[Row]:
        """Return some rows; see :meth:`Store.find_many`."""
        table = self.table.c
        return [
            row
            for some in portions(ids, _MOST_PARAMETERS)
            for row in self._read(select(self.table).where(table.id.in_(some)))
        ]

    def ids_between(self, bounds: Sequence[tuple[str, str]]) -> list[str]:
        """Return ids; see :meth:`Store.ids_between`."""
        if self._engine.dialect.name == "postgresql":
            return self._ids_near(bounds)
        row_id = self.table.c.id
        found: list[str] = []
        with self._engine.connect() as connection:
            for some in portions(bounds, _MOST_PARAMETERS // 2):
                lies_between = or_(*(row_id.between(low, high) for low, high in some))
                found += connection.execute(select(row_id).where(lies_between)).scalars()
        return found

    def _ids_near(self, bounds: Sequence[tuple[str, str]]) -> list[str]:
        """Look each pair up in PostgreSQL's index, whatever its planner thinks of their number."""
        lows, highs = (cast([pair[end] for pair in bounds], ARRAY(Text)) for end in (0, 1))
        pairs = func.unnest(lows, highs).table_valued("low", "high").render_derived()
        row_id = self.table.c.id
        within = row_id.between(pairs.c.low, pairs.c.high)
        near = select(row_id).where(within).order_by(row_id).limit(_MOST_NEAR).lateral()
        with self._engine.connect() as connection:
            query = select(near.c.id).select_from(pairs.join(near, true()))
            return list(connection.execute(query).scalars())

    def newest_by(self, column: str, value: str, limit: int) -> list[Row]:
        """Return the newest of some rows; see :meth:`Store.newest_by`."""
        with self._engine.connect() as connection:
            return self._newest_by(connection, column, value, limit)

    def find_by_on(self, transaction: Executes, column: str, value: str) -> Row | None:
        """Return the newest of some rows, as a transaction of the host's sees them."""
        found = self._newest_by(transaction, column, value, 1)
        return found[0] if found else None

    def _newest_by(self, transaction: Executes, column: str, value: str, limit: int) -> list[Row]:
        table = self.table.c
        query = select(self.table).where(table[column] == value)
        found = transaction.execute(query.order_by(table.created_at.desc()).limit(limit))
        return [dict(row) for row in found.mappings()]

    def first_in_order(self, agent_id: str, ordering_key: str) -> Row | None:
        """Return the oldest row; see :meth:`Store.first_in_order`."""
        table = self.table.c
        query = select(self.table).where(
            text(IS_PENDING),
            table.ordering_key == ordering_key,
            func.coalesce(table.agent_id, "") == agent_id,
        )
        found = self._read(query.order_by(table.created_at, table.id).limit(1))
        return found[0] if found else None

    def newest(self, status: str | None, limit: int) -> list[Row]:
        """Return rows; see :meth:`Store.newest`."""
        table = self.table.c
        query = select(self.table).order_by(table.created_at.desc(), table.id.desc()).limit(limit)
        return self._read(query if status is None else query.where(table.status == status))

    def leased(self, now: datetime) -> list[Row]:
        """Return the leased ones; see :meth:`Store.leased`."""
        table = self.table.c
        query = select(self.table).where(table.status == PENDING, table.leased_until > now)
        return self._read(query)

    def counts(self) -> Mapping[str, int]:
        """Count all; see :meth:`Store.counts`."""
        status = self.table.c.status
        with self._engine.connect() as connection:
            counted = connection.execute(select(status, func.count()).group_by(status))
            return {row[0]: row[1] for row in counted}

    def count(self, status: str) -> int:
        """Count those of a status; see :meth:`Store.count`."""
        query = select(func.count()).select_from(self.table).where(self.table.c.status == status)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def keys(self, status: str, after: RowKey | None, limit: int) -> list[RowKey]:
        """Return keys; see :meth:`Store.keys`."""
        table = self.table.c
        query = select(table.created_at, table.id).where(table.status == status)
        if after is not None:
            query = query.where(tuple_(table.created_at, table.id) > tuple_(*after))
        with self._engine.connect() as connection:
            found = connection.execute(query.order_by(table.created_at, table.id).limit(limit))
            return [(row[0], row[1]) for row in found]

    def count_selected(self, ids: Sequence[str], selection: Selection) -> int:
        """Count rows; see :meth:`Store.count_selected`."""
        query = select(func.count()).select_from(self.table)
        with self._engine.connect() as connection:
            return sum(
                connection.execute(query.where(*chosen)).scalar_one()
                for chosen in self._selected(ids, selection)
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
        table = self.table.c
        statement = update(self.table).values(**changes)
        if one_more_attempt:
            lowest = table.retry_count + 1
            budget = case((table.max_retries < lowest, lowest), else_=table.max_retries)
            statement = statement.values(max_retries=budget)
        with self._engine.begin() as connection:
            return sum(
                connection.execute(statement.where(*chosen)).rowcount
                for chosen in self._selected(ids, selection)
            )

    def _selected(
        self, ids: Sequence[str], selection: Selection
    ) -> Iterator[list[ColumnElement[bool]]]:
        """Return the conditions of a selection, for so many ids at a time."""
        table = self.table.c
        parts = [table.status.in_(selection.statuses), _is_free(self.table, selection.now)]
        if selection.since is not None:
            parts.append(func.coalesce(table.resolved_at, table.created_at) >= selection.since)
        if selection.error_like:
            parts.append(table.last_error.icontains(selection.error_like, autoescape=True))
        if selection.in_doubt is not None:
            began = table.attempt_started_at
            parts.append(began.is_not(None) if selection.in_doubt else began.is_(None))
        if selection.agent_id is not None:
            parts.append(func.coalesce(table.agent_id, "") == selection.agent_id)
        for some in portions(ids, _MOST_PARAMETERS):
            yield [*parts, table.id.in_(some)]

    def figures(self, statuses: Sequence[str], now: datetime) -> Figures:
        """Measure the rows; see :meth:`Store.figures`."""
        is_sqlite = self._engine.dialect.name == "sqlite"
        hint = f"INDEXED BY {self.table.name}_{TURNS_INDEX}" if is_sqlite else ""
        with self._engine.connect() as connection:
            self._keep_order(connection)

            def select(statement: str, values: Mapping[str, Any]) -> Sequence[Any]:
                times = [bindparam(name, type_=UtcDateTime()) for name in values]
                return connection.execute(text(statement).bindparams(*times), values).all()

            return measure(select, self._quoted, statuses, now, hint)

    def delete(self, statuses: Sequence[str], before: datetime, limit: int) -> int:
        """Delete rows; see :meth:`Store.delete`."""
        table = self.table.c
        is_old = (table.status.in_(statuses), table.resolved_at < before)
        some = select(table.id).where(*is_old).limit(limit)
        # Twice: after waiting for somebody who changes a row, PostgreSQL does not look for the ids
        # again, and would delete what was revived meanwhile.
        statement = delete(self.table).where(table.id.in_(some), *is_old)
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount

    def _find_due(self, connection: Connection, claim: Claim) -> list[str]:
        table = self.table.c
        due = (
            select(table.id)
            .where(
                table.status == PENDING,
                table.next_retry_at <= claim.now,
                _is_free(self.table, claim.now),
                *self._only_heads(claim.now),
            )
            .order_by(table.next_retry_at, table.created_at)
            .limit(claim.limit)
            .with_for_update(skip_locked=True)
        )
        return list(connection.execute(due).scalars())

    def _keep_order(self, connection: Connection) -> None:
        if self._engine.dialect.name == "postgresql":
            connection.execute(text(IN_ORDER))

    def _find_next(
        self, connection: Connection, now: datetime, agent: str, priority: int, limit: int
    ) -> list[str]:
        lock = "FOR UPDATE OF found SKIP LOCKED" if connection.dialect.name != "sqlite" else ""
        statement = text(next_statement(self._quoted, lock)).bindparams(_TIME)
        values = {"now": now, "agent": agent, "priority": priority, "limit": limit}
        return list(connection.execute(statement, values).scalars())

    @property
    def _quoted(self) -> str:
        return self._engine.dialect.identifier_preparer.format_table(self.table)

    def _ask_time(self) -> datetime:
        with self._engine.connect() as connection:
            return _time_of(connection)

    def _only_heads(self, now: datetime) -> tuple[ColumnElement[bool], ...]:
        """Return the condition that a row may be claimed as far as its group goes."""
        if self.schema.group is None:
            return ()
        other, found = self.table.alias().c, self.table.c
        comes_first = or_(other.created_at < found.created_at, other.leased_until > now)
        return (
            ~exists().where(
                other[self.schema.group] == found[self.schema.group],
                other.status == PENDING,
                comes_first,
            ),
        )

    def _read(self, query: Select[Any]) -> list[Row]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _add_statement(self, column: Column) -> str:
        definition = CreateColumn(self.table.c[column.name]).compile(dialect=self._engine.dialect)
        return f"ALTER TABLE {self.table.name} ADD COLUMN {definition};"


def _text_id_statements(table: str) -> tuple[str, ...]:
    """Return what turns an id of another type into text, as in tables of the published SDK."""
    change = f"ALTER TABLE {table} ALTER COLUMN id"
    return (
        f"{change} DROP DEFAULT;",
        f"{change} TYPE VARCHAR({KEY_LENGTH}) USING id::text;",
        f"{change} SET DEFAULT gen_random_uuid()::text;",
    )


@contextmanager
def engine_at(url: str) -> Iterator[Engine]:
    """
    Make an engine for programs without one of their own; errors become :class:`ConfigError`.

    Args:
        url: SQLAlchemy's address; it may hold a password, and is never repeated.
    """
    try:
        engine = create_engine(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise ConfigError(
            f"this database's address cannot be used: {type(error).__name__}",
            remediation="Check it, and that the driver that it names is installed.",
        ) from None
    try:
        yield engine
    except SQLAlchemyError as error:
        raise ConfigError(
            f"the database failed: {type(error).__name__}",
            remediation="Check that it is up, and that its user may read and write the table.",
        ) from None
    finally:
        engine.dispose()


@contextmanager
def _telling_only(row_id: str) -> Iterator[None]:
    """Keep what was to be written, tokens among it, out of the database's errors."""
    try:
        yield
    except IntegrityError:
        raise ArgumentValueError(id_taken(row_id)) from None
    except StatementError as error:
        error.hide_parameters = True
        raise


def _time_of(transaction: Executes) -> datetime:
    told: datetime = transaction.execute(select(func.clock_timestamp())).scalar_one()
    return as_utc(told)


def _column(column: Column) -> TableColumn[Any]:
    if column.name == "id":
        return TableColumn(column.name, String(KEY_LENGTH), primary_key=True)
    kinds: Mapping[str, Any] = {
        "key": String(KEY_LENGTH),
        "word": String(WORD_LENGTH),
        "text": Text,
        "number": Integer,
        "time": UtcDateTime,
    }
    return TableColumn(column.name, kinds[column.kind], nullable=not column.required)


def _index(schema: Schema, name: str, index: TableIndex) -> Index:
    columns = schema.names
    where = None if index.where is None else text(index.where)
    return Index(
        f"{schema.table}_{name}",
        *(key if key in columns else text(key) for key in index.keys),
        unique=index.unique,
        postgresql_where=where,
        sqlite_where=where,
    )


def _is_free(table: Table, now: datetime) -> ColumnElement[bool]:
    return or_(table.c.leased_until.is_(None), table.c.leased_until <= now)


def _begin_as_writer(connection: Connection, table: Table) -> None:
    """Take SQLite's write lock first: after a read, SQLite would not wait for another writer."""
    nothing = table.c.id.is_(None)
    connection.execute(update(table).where(nothing).values(leased_until=None))
