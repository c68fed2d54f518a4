"""The columns of a table of work, and the condition under which a row may be changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import attrs

RowKey = tuple[Any, str]
"""What :meth:`Store.keys` gives: when a row was written, as the database has it, and its id."""
Row = dict[str, Any]
ColumnKind = Literal["key", "text", "word", "number", "time"]
"""``"key"``: text of at most 255 characters; ``"word"``: of at most 16, as a status."""

KEY_LENGTH = 255
WORD_LENGTH = 16
PENDING = "pending"
LEASE = "leased_until"


@attrs.frozen
class Column:
    """
    A column.

    Attributes:
        name: Its name.
        kind: What it holds.
        required: Whether each row has a value. A column that is added to tables of an earlier
            release is not required: older processes may still write rows without it.
    """

    name: str
    kind: ColumnKind = "text"
    required: bool = False


ROW_COLUMNS = (
    Column("id", "key", required=True),
    Column("status", "word", required=True),
    Column("created_at", "time", required=True),
    Column("resolved_at", "time"),
)
"""What each table has."""
WORK_COLUMNS = (
    *ROW_COLUMNS,
    Column("retry_count", "number", required=True),
    Column("attempt_number", "number"),
    Column("last_error"),
    Column("next_retry_at", "time", required=True),
    Column(LEASE, "time"),
)
"""
What each table of work has, in any order among its own columns.

``retry_count`` is a budget: it falls back when an attempt does not count. ``attempt_number`` only
grows: it is the fence. ``next_retry_at`` is when a pending row is due, ``leased_until`` until when
it is kept from the others.
"""


@attrs.frozen
class TableIndex:
    """
    An index.

    Attributes:
        keys: Columns, or expressions that PostgreSQL and SQLite both know.
        where: Which rows it has, as SQL; all when None.
        unique: Whether each value may be there once. NULL may be there often.
    """

    keys: tuple[str, ...]
    where: str | None = None
    unique: bool = False


LIST_INDEXES: Mapping[str, TableIndex] = {
    "new": TableIndex(("created_at", "id")),
    "listed": TableIndex(("status", "created_at", "id")),
    "resolved": TableIndex(("status", "resolved_at")),
}
WORK_INDEXES: Mapping[str, TableIndex] = {
    "due": TableIndex(("status", "next_retry_at", "created_at")),
    **LIST_INDEXES,
}


@attrs.frozen(kw_only=True)
class Schema:
    """
    A table of work.

    Attributes:
        table: The table's name.
        columns: Its columns, all of :data:`WORK_COLUMNS` among them.
        indexes: Its indexes, by the ends of their names.
        group: A column of kind ``"key"``. Of the pending rows that share its value only the oldest
            may be claimed, while none is leased: they are worked on one by one, in their order, and
            an older one that a slow process writes late waits for the leased one. None: all may be.
        takes_turns: Whether agents take turns; see :mod:`buttdial_sync.stores.turns`.
    """

    table: str
    columns: tuple[Column, ...]
    indexes: Mapping[str, TableIndex] = WORK_INDEXES
    group: str | None = None
    takes_turns: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def times(self) -> tuple[str, ...]:
        """The names of the columns that hold times."""
        return tuple(column.name for column in self.columns if column.kind == "time")


@attrs.frozen(kw_only=True)
class Condition:
    """
    The condition under which a row may be changed.

    It is part of the statement that changes the row, so that checking and changing are one step.
    Between two statements another process could change the row.

    Attributes:
        statuses: The row must have one of these.
        retry_count: The row must have this count; None allows any.
        attempt_number: The row must have this number; None allows any. This is the fence: the
            number rises with each attempt and never falls, so a process whose row was taken over
            cannot change it. 0 allows a row of an earlier release too, which has none.
        no_lease_at: No lease may run at this time; None allows a lease.
        values: Columns of text that must have these values; None stands for no value.
        present: Columns that must have a value.
    """

    statuses: tuple[str, ...] = (PENDING,)
    retry_count: int | None = None
    attempt_number: int | None = None
    no_lease_at: datetime | None = None
    values: Mapping[str, str | None] = attrs.field(factory=dict)
    present: tuple[str, ...] = ()


@attrs.frozen
class Turn:
    """
    An agent that has rows to claim.

    Attributes:
        agent: Its id; empty for rows that name none.
        priorities: Those of its rows that are due, highest first. They are whole numbers, and what
            a person wrote in place of one, which SQLite keeps.
    """

    agent: str
    priorities: tuple[Any, ...]


@attrs.frozen(kw_only=True)
class Selection:
    """
    The rows that somebody wants to change many of at once. A leased row is never one of them.

    Attributes:
        statuses: A row must have one of these.
        now: The time, by which leases run.
        since: When it was resolved, or written while it is pending, at the earliest.
        error_like: A text that is in ``last_error``, in any letters' case.
        in_doubt: Whether ``attempt_started_at`` must be set: it may have been sent. None: both.
        agent_id: Whose it must be; ``""``: one that names no agent. None: anybody's.
    """

    statuses: tuple[str, ...]
    now: datetime
    since: datetime | None = None
    error_like: str | None = None
    in_doubt: bool | None = None
    agent_id: str | None = None


@attrs.frozen(kw_only=True)
class Claim:
    """
    What a process wants to have.

    Attributes:
        now: The time.
        leased_until: The end of the lease that it gets.
        limit: How many rows at most.
        begins_attempt: Count the claim as an attempt: ``retry_count`` and ``attempt_number`` rise.
        turns: Whose rows, in this order, in a table whose agents take turns.
        share: How many rows of one agent at most.
        at_most: Smaller shares, by agent.
    """

    now: datetime
    leased_until: datetime
    limit: int
    begins_attempt: bool = False
    turns: tuple[Turn, ...] = ()
    share: int = 0
    at_most: Mapping[str, int] = attrs.field(factory=dict)


def id_taken(row_id: str) -> str:
    """Return what :meth:`Store.insert` says about an id that is taken."""
    return f"there is a message with the id {row_id!r}, or with its agent and key"


def missing_columns(schema: Schema, present: set[str]) -> tuple[Column, ...]:
    """Return the columns that a table lacks."""
    return tuple(column for column in schema.columns if column.name not in present)
