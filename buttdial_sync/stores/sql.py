"""The statements of a store whose database knows SQL: SQLite or PostgreSQL, by any library."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from functools import partial
from typing import Any, Protocol, TypeVar

from buttdial_sync.errors.moments import as_utc
from buttdial_sync.stores.figures import Figures, measure
from buttdial_sync.stores.schema import Claim, Condition, Row, RowKey, Schema, Selection, Turn
from buttdial_sync.stores.store import Store
from buttdial_sync.stores.times import Clock
from buttdial_sync.stores.turns import (
    AGENT,
    IN_ORDER,
    IS_FREE,
    IS_PENDING,
    TURNS_INDEX,
    as_turns,
    next_statement,
    take_turns,
    turns_statement,
)

T = TypeVar("T")
_MOST_PARAMETERS = 900  # SQLite before 3.32 takes 999
_MOST_NEAR = 100
_Part = tuple[str, dict[str, Any]]
"""A part of a condition, and its values."""


class Cursor(Protocol):
    """What a statement did or found."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    def fetchall(self) -> Sequence[Any]:
        """Return the rows that it found, each a sequence."""
        ...


Execute = Callable[[str, Mapping[str, Any]], Cursor]
"""Executes a statement with ``:name`` parameters, of which datetimes are aware."""


class SQLStore(Store):
    """Rows in a table of SQLite or PostgreSQL. A subclass connects, and writes new rows."""

    def __init__(self, schema: Schema, clock: Clock | None = None) -> None:
        super().__init__(schema, clock)
        self._names = schema.names
        self._times = schema.times

    @property
    @abstractmethod
    def _table(self) -> str:
        """The table, quoted."""

    @property
    @abstractmethod
    def _is_sqlite(self) -> bool:
        """Whether it is SQLite; PostgreSQL otherwise."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Execute]:
        """Lend what executes statements that change nothing."""

    @abstractmethod
    def _writing(self, *, reads_first: bool, durable: bool) -> AbstractContextManager[Execute]:
        """
        Begin a transaction, and commit it at the end of the block.

        Args:
            reads_first: Take SQLite's write lock at once: SQLite fails, without waiting for another
                writer, if a transaction reads first and then writes.
            durable: It must be on disk then: refuse a transaction of the host's that is open.
        """

    def claim(self, claim: Claim) -> list[Row]:
        """Lease rows; see :meth:`Store.claim`."""
        begin = ", retry_count = retry_count + 1, attempt_number = attempt_number + 1"
        more = begin if claim.begins_attempt else ""
        rows: dict[str, Row] = {}
        with self._writing(reads_first=True, durable=True) as execute:
            if self.schema.takes_turns:
                self._keep_order(execute)
                ids = take_turns(claim, partial(self._find_next, execute, claim.now))
            else:
                ids = self._find_due(execute, claim)
            for some in portions(ids, _MOST_PARAMETERS):
                chosen = _among("id", some)
                execute(*self._update({"leased_until": claim.leased_until}, chosen, more))
                rows.update((row["id"], row) for row in self._read(execute, *chosen))
        return [rows[row_id] for row_id in ids]

    def turns(self, now: datetime) -> list[Turn]:
        """Return the agents with rows to claim; see :meth:`Store.turns`."""
        with self._reading() as execute:
            self._keep_order(execute)
            statement = turns_statement(self._table, self._hint)
            return as_turns(execute(statement, {"now": now}).fetchall())

    def release(
        self, ids: Sequence[str], leased_until: datetime, changes: Mapping[str, Any]
    ) -> int:
        """End leases; see :meth:`Store.release`."""
        leased = f"{IS_PENDING} AND leased_until = :until", {"until": leased_until}
        ended = {**changes, "leased_until": None}
        with self._writing(reads_first=False, durable=True) as execute:
            return sum(
                execute(*self._update(ended, _all_of([leased, _among("id", some)]))).rowcount
                for some in portions(ids, _MOST_PARAMETERS)
            )

    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        """Change a row; see :meth:`Store.update`."""
        # An operator's change may be part of a request's transaction, and so may a receipt. An
        # attempt's must not: it has to be on disk before the message leaves.
        is_attempts = condition.no_lease_at is None and not condition.values
        statement, values = self._update(changes, _of_row(row_id, condition))
        return self._change(statement, values, durable=is_attempts) == 1

    def find(self, row_id: str) -> Row | None:
        """Return one row; see :meth:`Store.find`."""
        return self._find("id = :id", {"id": row_id})

    def find_many(self, ids: Sequence[str]) -> list[Row]:
        """Return some rows; see :meth:`Store.find_many`."""
        with self._reading() as execute:
            return [
                row
                for some in portions(ids, _MOST_PARAMETERS)
                for row in self._read(execute, *_among("id", some))
            ]

    def ids_between(self, bounds: Sequence[tuple[str, str]]) -> list[str]:
        """Return ids; see :meth:`Store.ids_between`."""
        between = f"SELECT id FROM {self._table} WHERE id BETWEEN"  # noqa: S608 - names of ours
        with self._reading() as execute:
            if self._is_sqlite:
                pairs = [{"low": low, "high": high} for low, high in bounds]
                looks = [execute(f"{between} :low AND :high", pair).fetchall() for pair in pairs]
                return [row[0] for rows in looks for row in rows]
            lows, highs = ([pair[end] for pair in bounds] for end in (0, 1))
            # Looked up in the index, whatever the planner thinks of the number of pairs.
            statement = (
                "SELECT near.id FROM unnest(CAST(:lows AS text[]), CAST(:highs AS text[])) "  # noqa: S608 - names of ours
                f"AS pairs(low, high) CROSS JOIN LATERAL ({between} pairs.low AND pairs.high "
                f"ORDER BY id LIMIT {_MOST_NEAR}) AS near"
            )
            found = execute(statement, {"lows": lows, "highs": highs}).fetchall()
            return [row[0] for row in found]

    def newest_by(self, column: str, value: str, limit: int) -> list[Row]:
        """Return the newest of some rows; see :meth:`Store.newest_by`."""
        with self._reading() as execute:
            return self._newest_by(execute, column, value, limit)

    def first_in_order(self, agent_id: str, ordering_key: str) -> Row | None:
        """Return the oldest row; see :meth:`Store.first_in_order`."""
        return self._find(
            f"{IS_PENDING} AND ordering_key = :key AND {AGENT} = :agent "
            "ORDER BY created_at, id LIMIT 1",
            {"key": ordering_key, "agent": agent_id},
        )

    def newest(self, status: str | None, limit: int) -> list[Row]:
        """Return rows; see :meth:`Store.newest`."""
        chosen = "1 = 1" if status is None else "status = :status"
        rest = f"{chosen} ORDER BY created_at DESC, id DESC LIMIT :limit"
        with self._reading() as execute:
            return self._read(execute, rest, {"status": status, "limit": limit})

    def leased(self, now: datetime) -> list[Row]:
        """Return the leased ones; see :meth:`Store.leased`."""
        with self._reading() as execute:
            return self._read(execute, f"{IS_PENDING} AND leased_until > :now", {"now": now})

    def counts(self) -> Mapping[str, int]:
        """Count all; see :meth:`Store.counts`."""
        statement = f"SELECT status, count(*) FROM {self._table} GROUP BY status"  # noqa: S608 - names of ours
        with self._reading() as execute:
            return {row[0]: row[1] for row in execute(statement, {}).fetchall()}

    def count(self, status: str) -> int:
        """Count those of a status; see :meth:`Store.count`."""
        return self._count([("status = :status", {"status": status})])

    def keys(self, status: str, after: RowKey | None, limit: int) -> list[RowKey]:
        """Return keys; see :meth:`Store.keys`."""
        following = "" if after is None else "AND (created_at, id) > (:created_at, :id) "
        created_at, row_id = after or (None, None)
        statement = (
            f"SELECT {self._columns(('created_at', 'id'))} FROM {self._table} "  # noqa: S608 - names of ours
            f"WHERE status = :status {following}ORDER BY created_at, id LIMIT :limit"
        )
        values = {"status": status, "created_at": created_at, "id": row_id, "limit": limit}
        with self._reading() as execute:
            return [(row[0], row[1]) for row in execute(statement, values).fetchall()]

    def count_selected(self, ids: Sequence[str], selection: Selection) -> int:
        """Count rows; see :meth:`Store.count_selected`."""
        return self._count(self._selected(ids, selection))

    def update_selected(
        self,
        ids: Sequence[str],
        selection: Selection,
        changes: Mapping[str, Any],
        *,
        one_more_attempt: bool,
    ) -> int:
        """Change rows; see :meth:`Store.update_selected`."""
        budget = "CASE WHEN max_retries > retry_count THEN max_retries ELSE retry_count + 1 END"
        more = f", max_retries = {budget}" if one_more_attempt else ""
        with self._writing(reads_first=False, durable=False) as execute:
            return sum(
                execute(*self._update(changes, chosen, more)).rowcount
                for chosen in self._selected(ids, selection)
            )

    def figures(self, statuses: Sequence[str], now: datetime) -> Figures:
        """Measure the rows; see :meth:`Store.figures`."""
        with self._reading() as execute:
            self._keep_order(execute)

            def select(statement: str, values: Mapping[str, Any]) -> Sequence[Any]:
                return execute(statement, values).fetchall()

            return measure(select, as_time, self._table, statuses, now, self._hint)

    def delete(self, statuses: Sequence[str], before: datetime, limit: int) -> int:
        """Delete rows; see :meth:`Store.delete`."""
        is_old, values = _all_of(
            [_among("status", statuses), ("resolved_at < :before", {"before": before})]
        )
        # Twice: after waiting for somebody who changes a row, PostgreSQL does not look for the ids
        # again, and would delete what was revived meanwhile.
        statement = (
            f"DELETE FROM {self._table} WHERE {is_old} AND id IN "  # noqa: S608 - names of ours
            f"(SELECT id FROM {self._table} WHERE {is_old} LIMIT :limit)"
        )
        return self._change(statement, {**values, "limit": limit}, durable=False)

    def _change(self, statement: str, values: Mapping[str, Any], *, durable: bool) -> int:
        """Execute a statement as a transaction of its own; return how many rows it changed."""
        with self._writing(reads_first=False, durable=durable) as execute:
            return execute(statement, values).rowcount

    def _update(
        self, changes: Mapping[str, Any], chosen: _Part, more: str = ""
    ) -> tuple[str, dict[str, Any]]:
        """Return the statement that changes the rows that are chosen, and its values."""
        where, values = chosen
        assignments = ", ".join(f"{name} = :new_{name}" for name in changes)
        statement = f"UPDATE {self._table} SET {assignments}{more} WHERE {where}"  # noqa: S608 - names of ours
        return statement, {**values, **{f"new_{name}": changes[name] for name in changes}}

    def _find(self, rest: str, values: Mapping[str, Any]) -> Row | None:
        with self._reading() as execute:
            found = self._read(execute, rest, values)
        return found[0] if found else None

    def _read(self, execute: Execute, rest: str, values: Mapping[str, Any]) -> list[Row]:
        """Return the rows of a condition, in the order that follows it."""
        names = self._names
        statement = f"SELECT {self._columns(names)} FROM {self._table} WHERE {rest}"  # noqa: S608 - text of ours
        rows = [dict(zip(names, row, strict=True)) for row in execute(statement, values).fetchall()]
        for row in rows:
            for name in self._times:
                row[name] = as_time(row[name])
        return rows

    def _columns(self, names: Iterable[str]) -> str:
        """Return columns as they are to be read."""
        return ", ".join(names)

    def _newest_by(self, execute: Execute, column: str, value: str, limit: int) -> list[Row]:
        rest = f"{column} = :value ORDER BY created_at DESC LIMIT :limit"
        return self._read(execute, rest, {"value": value, "limit": limit})

    def _count(self, chosen: Iterable[_Part]) -> int:
        statement = f"SELECT count(*) FROM {self._table} WHERE"  # noqa: S608 - names of ours
        with self._reading() as execute:
            return sum(
                int(execute(f"{statement} {where}", values).fetchall()[0][0])
                for where, values in chosen
            )

    def _selected(self, ids: Sequence[str], selection: Selection) -> Iterator[_Part]:
        """Return the conditions of a selection, for so many ids at a time."""
        parts = [_among("status", selection.statuses), (IS_FREE, {"now": selection.now})]
        if selection.since is not None:
            is_since = "coalesce(resolved_at, created_at) >= :since"
            parts.append((is_since, {"since": selection.since}))
        if selection.error_like:
            # Not LIKE: there is no % or _ to be escaped, and no setting that changes it.
            place = "instr" if self._is_sqlite else "strpos"
            is_like = f"{place}(lower(last_error), lower(:like)) > 0"
            parts.append((is_like, {"like": selection.error_like}))
        if selection.in_doubt is not None:
            negated = "NOT " if selection.in_doubt else ""
            parts.append((f"attempt_started_at IS {negated}NULL", {}))
        if selection.agent_id is not None:
            parts.append((f"{AGENT} = :agent", {"agent": selection.agent_id}))
        for some in portions(ids, _MOST_PARAMETERS):
            yield _all_of([*parts, _among("id", some)])

    def _find_due(self, execute: Execute, claim: Claim) -> list[str]:
        statement = (
            f"SELECT found.id FROM {self._table} AS found WHERE {IS_PENDING} "  # noqa: S608 - names of ours
            f"AND next_retry_at <= :now AND {IS_FREE} {self._only_heads} "
            f"ORDER BY next_retry_at, created_at LIMIT :limit {self._skip_locked}"
        )
        found = execute(statement, {"now": claim.now, "limit": claim.limit}).fetchall()
        return [row[0] for row in found]

    def _find_next(
        self, execute: Execute, now: datetime, agent: str, priority: Any, limit: int
    ) -> list[str]:
        values = {"now": now, "agent": agent, "priority": priority, "limit": limit}
        found = execute(next_statement(self._table, self._skip_locked), values).fetchall()
        return [row[0] for row in found]

    @property
    def _only_heads(self) -> str:
        """The condition that a row may be claimed as far as its group goes."""
        group = self.schema.group
        if group is None:
            return ""
        return (
            f"AND NOT EXISTS (SELECT 1 FROM {self._table} AS other "  # noqa: S608 - names of ours
            f"WHERE other.{group} = found.{group} AND other.status = 'pending' "
            "AND (other.created_at < found.created_at OR other.leased_until > :now))"
        )

    @property
    def _skip_locked(self) -> str:
        """What locks the rows that are found, and leaves out what others have locked."""
        return "" if self._is_sqlite else "FOR UPDATE OF found SKIP LOCKED"

    @property
    def _no_change(self) -> str:
        """A statement that changes nothing: SQLite's write lock is taken by it."""
        return f"UPDATE {self._table} SET id = id WHERE id IS NULL"  # noqa: S608 - names of ours

    def _keep_order(self, execute: Execute) -> None:
        """Read by the index of turns, whatever PostgreSQL's statistics say."""
        if not self._is_sqlite:
            execute(IN_ORDER, {})

    @property
    def _hint(self) -> str:
        """What makes SQLite use the index of turns."""
        return f"INDEXED BY {self._turns_index}" if self._is_sqlite else ""

    @property
    def _turns_index(self) -> str:
        return f"{self.schema.table}_{TURNS_INDEX}"


def portions(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Return the items in their order, at most so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def as_text(value: Any) -> Any:
    """Return a time as text in UTC, which sorts as times do; anything else as it is."""
    if not isinstance(value, datetime):
        return value
    return value.astimezone(timezone.utc).replace(tzinfo=None).isoformat(" ", "microseconds")


def as_time(stored: Any) -> Any:
    """Return a time of a database, also as text that a person wrote; anything else as it is."""
    try:
        return as_utc(stored if isinstance(stored, datetime) else datetime.fromisoformat(stored))
    except (OverflowError, TypeError, ValueError):
        return stored


def _of_row(row_id: str, condition: Condition) -> _Part:
    parts = [("id = :id", {"id": row_id}), _among("status", condition.statuses)]
    if condition.retry_count is not None:
        parts.append(("retry_count = :count", {"count": condition.retry_count}))
    if condition.attempt_number is not None:
        number = {"number": condition.attempt_number}
        parts.append(("coalesce(attempt_number, 0) = :number", number))
    if condition.no_lease_at is not None:
        parts.append((IS_FREE, {"now": condition.no_lease_at}))
    for name, value in condition.values.items():
        is_equal = f"{name} IS NULL" if value is None else f"{name} = :is_{name}"
        parts.append((is_equal, {f"is_{name}": value}))
    parts += [(f"{name} IS NOT NULL", {}) for name in condition.present]
    return _all_of(parts)


def _all_of(parts: Sequence[_Part]) -> _Part:
    """Return the condition that all of these are met."""
    values = {name: value for _, given in parts for name, value in given.items()}
    return " AND ".join(where for where, _ in parts), values


def _among(column: str, values: Sequence[str]) -> _Part:
    given = {f"{column}{number}": value for number, value in enumerate(values)}
    # PostgreSQL takes no empty list; NULL is equal to nothing.
    return f"{column} IN ({', '.join(f':{name}' for name in given) or 'NULL'})", given
