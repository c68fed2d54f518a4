"""Messages in a table of the host's database, by way of SQLAlchemy 2."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from typing import Any, Protocol

from sqlalchemy import (
    Column,
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
    create_engine,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeDecorator

from buttdial_sync.errors import ArgumentValueError, ConfigError
from buttdial_sync.errors.moments import as_utc, utc_now
from buttdial_sync.models.failed import FailedMessage, FailedStatus
from buttdial_sync.retry.rows import (
    COLUMNS,
    NUMBER_FIELDS,
    TABLE_NAME,
    TIME_FIELDS,
    Row,
)
from buttdial_sync.retry.table import (
    DEFAULT_LEASE,
    Condition,
    Enqueuer,
    TableRepository,
    id_taken,
)

_KEY_LENGTH = 255
_REQUIRED = ("recipient", "body", "channel", "status", "created_at", "next_retry_at")


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
    """What :meth:`SQLAlchemyRepository.within` needs: a ``Connection`` or an ORM ``Session``."""

    def execute(self, statement: Any, parameters: Any = None, /) -> Any:
        """Execute a statement."""
        ...


def make_table(metadata: MetaData, name: str = TABLE_NAME) -> Table:
    """
    Describe the table in a host's metadata, so that its migrations know it.

    Args:
        metadata: The host's.
        name: The table's name.
    """
    return Table(
        name,
        metadata,
        *(_column(column) for column in COLUMNS),
        Index(f"{name}_due", "status", "next_retry_at", "created_at"),
        Index(f"{name}_new", "created_at", "id"),
    )


class SQLAlchemyRepository(TableRepository):
    """
    A repository in a table of the host's database.

    For PostgreSQL (with ``FOR UPDATE SKIP LOCKED``), SQLite, and others that SQLAlchemy knows. Each
    call is a transaction of its own. Safe to share between threads. An engine must not be used
    on both sides of a fork: the host disposes of it in the child, as SQLAlchemy's manual says.

    Args:
        engine: The host's.
        metadata: The host's; the table is described in it under ``table_name``, or found there.
        table_name: The table's name.
        lease: How long a fetched message is kept from the others, in seconds; longer than the
            client's ``timeout``.
        keep_tokens: Whether the tokens of agents are written into the rows.
        clock: Tells the time, aware.

    Attributes:
        table: The table.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        metadata: MetaData | None = None,
        table_name: str = TABLE_NAME,
        lease: float = DEFAULT_LEASE,
        keep_tokens: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(lease=lease, keep_tokens=keep_tokens, clock=clock)
        self._engine = engine
        known = None if metadata is None else metadata.tables.get(table_name)
        self.table = make_table(metadata or MetaData(), table_name) if known is None else known

    def create_table(self) -> None:
        """Make the table where it is missing. Safe to repeat; hosts with migrations use those."""
        self.table.create(self._engine, checkfirst=True)

    def within(self, transaction: Executes) -> Enqueuer:
        """
        Return what writes inside a transaction of the host's.

        Args:
            transaction: The host's ``Connection`` or ORM ``Session``; it is not committed here.
        """
        return Enqueuer(partial(self.write, transaction))

    def write(self, transaction: Executes, message: FailedMessage) -> None:
        """Write a message inside this transaction, without a commit."""
        row = self._new_row(message)
        with _telling_only(row["id"]):
            transaction.execute(insert(self.table), row)

    def _insert(self, row: Row) -> None:
        with _telling_only(row["id"]), self._engine.begin() as connection:
            connection.execute(insert(self.table), row)

    def _claim(self, now: datetime, leased_until: datetime, limit: int) -> list[Row]:
        table = self.table.c
        due = (
            select(self.table)
            .where(table.status == "pending", table.next_retry_at <= now, _is_free(self.table, now))
            .order_by(table.next_retry_at, table.created_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "sqlite":
                _begin_as_writer(connection, self.table)
            found = connection.execute(due).mappings().all()
            if found:
                ids = [row["id"] for row in found]
                connection.execute(
                    update(self.table).where(table.id.in_(ids)).values(leased_until=leased_until)
                )
        return [dict(row) for row in found]

    def _update(self, msg_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        table = self.table.c
        statement = update(self.table).where(
            table.id == msg_id, table.status.in_(condition.statuses)
        )
        if condition.retry_count is not None:
            statement = statement.where(table.retry_count == condition.retry_count)
        if condition.no_lease_at is not None:
            statement = statement.where(_is_free(self.table, condition.no_lease_at))
        with self._engine.begin() as connection:
            return connection.execute(statement.values(**changes)).rowcount == 1

    def _find(self, msg_id: str) -> Row | None:
        found = self._read(select(self.table).where(self.table.c.id == msg_id))
        return found[0] if found else None

    def _newest(self, status: FailedStatus | None, limit: int) -> list[Row]:
        table = self.table.c
        query = select(self.table).order_by(table.created_at.desc(), table.id.desc()).limit(limit)
        return self._read(query if status is None else query.where(table.status == status))

    def _leased(self, now: datetime) -> list[Row]:
        table = self.table.c
        query = select(self.table).where(table.status == "pending", table.leased_until > now)
        return self._read(query)

    def _counts(self) -> Mapping[str, int]:
        status = self.table.c.status
        with self._engine.connect() as connection:
            counted = connection.execute(select(status, func.count()).group_by(status))
            return {row[0]: row[1] for row in counted}

    def _read(self, query: Select[Any]) -> list[Row]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


@contextmanager
def _telling_only(msg_id: str) -> Iterator[None]:
    """Keep what was to be written, tokens among it, out of the database's errors."""
    try:
        yield
    except IntegrityError:
        raise ArgumentValueError(id_taken(msg_id)) from None
    except StatementError as error:
        error.hide_parameters = True
        raise


@contextmanager
def opened(url: str, *, lease: float = DEFAULT_LEASE) -> Iterator[SQLAlchemyRepository]:
    """
    Open a database by its address, for programs without an engine of their own.

    The table is made where it is missing; the database's errors become :class:`ConfigError`.

    Args:
        url: SQLAlchemy's address; it may hold a password, and is never repeated.
        lease: As in :class:`SQLAlchemyRepository`.
    """
    try:
        engine = create_engine(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise ConfigError(
            f"this database's address cannot be used: {type(error).__name__}",
            remediation="Check it, and that the driver that it names is installed.",
        ) from None
    try:
        repository = SQLAlchemyRepository(engine, lease=lease)
        repository.create_table()
        yield repository
    except SQLAlchemyError as error:
        raise ConfigError(
            f"the database failed: {type(error).__name__}",
            remediation="Check that it is up, and that its user may read and write the table.",
        ) from None
    finally:
        engine.dispose()


def _column(name: str) -> Column[Any]:
    if name == "id":
        return Column(name, String(_KEY_LENGTH), primary_key=True)
    if name in NUMBER_FIELDS:
        return Column(name, Integer, nullable=False)
    nullable = name not in _REQUIRED
    if name in TIME_FIELDS:
        return Column(name, UtcDateTime, nullable=nullable)
    return Column(name, String(16) if name == "status" else Text, nullable=nullable)


def _is_free(table: Table, now: datetime) -> ColumnElement[bool]:
    return or_(table.c.leased_until.is_(None), table.c.leased_until <= now)


def _begin_as_writer(connection: Connection, table: Table) -> None:
    """Take SQLite's write lock first: after a read, SQLite would not wait for another writer."""
    nothing = table.c.id.is_(None)
    connection.execute(update(table).where(nothing).values(leased_until=None))
