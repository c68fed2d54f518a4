"""Rows in a table of the host's database, by way of SQLAlchemy 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from functools import partial
from typing import Any, Protocol

from sqlalchemy import Column as TableColumn
from sqlalchemy import (
    DateTime,
    Dialect,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.schema import CreateColumn, CreateIndex
from sqlalchemy.types import TypeDecorator

from buttdial_sync.errors import ArgumentValueError, ConfigError
from buttdial_sync.errors.moments import as_utc
from buttdial_sync.stores.schema import (
    KEY_LENGTH,
    WORD_LENGTH,
    Column,
    Row,
    Schema,
    TableIndex,
    id_taken,
    missing_columns,
)
from buttdial_sync.stores.sql import Cursor, Execute, SQLStore, as_text
from buttdial_sync.stores.times import Clock, DatabaseClock

_UNTESTED = frozenset({"mysql", "mariadb"})


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, also in databases that know none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Write a time in UTC."""
        return None if value is None else value.astimezone(timezone.utc)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read a time; one without a zone was written in UTC."""
        return None if value is None else as_utc(value)


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


class SQLAlchemyStore(SQLStore):
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
        made = (sqlite if self._is_sqlite else postgresql).insert(self.table)
        statement = made.on_conflict_do_nothing()
        with _telling_only(""), self._engine.begin() as connection:
            if self._is_sqlite:
                return connection.execute(statement, given).rowcount
            return len(connection.scalars(statement.returning(self.table.c.id), given).all())

    def find_by_on(self, transaction: Executes, column: str, value: str) -> Row | None:
        """Return the newest of some rows, as a transaction of the host's sees them."""
        found = self._newest_by(partial(self._execute, transaction), column, value, 1)
        return found[0] if found else None

    @contextmanager
    def _reading(self) -> Iterator[Execute]:
        with self._engine.connect() as connection:
            yield partial(self._execute, connection)

    @contextmanager
    def _writing(self, *, reads_first: bool, durable: bool) -> Iterator[Execute]:
        with self._engine.begin() as connection:
            execute = partial(self._execute, connection)
            if reads_first and self._is_sqlite:
                execute(self._no_change, {})
            yield execute

    def _execute(self, transaction: Executes, statement: str, values: Mapping[str, Any]) -> Cursor:
        if self._is_sqlite:
            values = {name: as_text(value) for name, value in values.items()}
        cursor: Cursor = transaction.execute(text(statement), values)
        return cursor

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @property
    def _table(self) -> str:
        return self._engine.dialect.identifier_preparer.format_table(self.table)

    def _ask_time(self) -> datetime:
        with self._engine.connect() as connection:
            return _time_of(connection)

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
