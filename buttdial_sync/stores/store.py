"""What keeps the rows of a table of work."""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from buttdial_sync.errors.moments import utc_now
from buttdial_sync.stores.figures import Figures
from buttdial_sync.stores.schema import Claim, Condition, Row, RowKey, Schema, Selection, Turn
from buttdial_sync.stores.times import Clock


class Store(ABC):
    """
    The rows of one table. Safe to share between threads; processes that share the table may too.

    Each call is a transaction of its own. A time that somebody wrote by hand and that cannot be
    read comes back as it is, so that it harms its own row only.

    Args:
        schema: The table.
        clock: Tells the time, aware; this machine's when None.

    Attributes:
        schema: The table.
        now: Tells the time (aware): the database's where it has a clock of its own.
    """

    def __init__(self, schema: Schema, clock: Clock | None = None) -> None:
        self.schema = schema
        self.now = clock or utc_now

    @abstractmethod
    def insert(self, row: Row) -> None:
        """Write a new row, or raise ArgumentValueError when its id is taken."""

    @abstractmethod
    def insert_new(self, rows: Sequence[Row]) -> int:
        """Write those whose ids are not there yet, all or none of them; return how many."""

    @abstractmethod
    def claim(self, claim: Claim) -> builtins.list[Row]:
        """
        Lease pending rows that are due and that no process has; atomic among processes.

        Returns:
            At most as many as wanted, oldest due first, as they are after the claim. In a table
            whose agents take turns: in the order of the turns, then highest priority first.
        """

    @abstractmethod
    def turns(self, now: datetime) -> builtins.list[Turn]:
        """Return the agents with rows to claim, by their ids; see ``Schema.takes_turns``."""

    @abstractmethod
    def release(
        self, ids: Sequence[str], leased_until: datetime, changes: Mapping[str, Any]
    ) -> int:
        """End the leases of those rows whose lease ends at this time, and change them; how many."""

    @abstractmethod
    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        """Change a row if it is as the condition says; atomic. Return whether it was."""

    @abstractmethod
    def find(self, row_id: str) -> Row | None:
        """Return one row."""

    @abstractmethod
    def find_many(self, ids: Sequence[str]) -> builtins.list[Row]:
        """Return those rows of at most a thousand ids that are there, in any order."""

    @abstractmethod
    def ids_between(self, bounds: Sequence[tuple[str, str]]) -> builtins.list[str]:
        """
        Return the ids that lie between two ids, these included, for at most a thousand such pairs.

        Databases compare texts each in its own way: give bounds that are as long as the ids between
        them, and look at what comes.
        """

    def find_by(self, column: str, value: str) -> Row | None:
        """Return the newest row that has this value in a column of text."""
        found = self.newest_by(column, value, 1)
        return found[0] if found else None

    @abstractmethod
    def newest_by(self, column: str, value: str, limit: int) -> builtins.list[Row]:
        """Return the newest rows that have this value in a column of text."""

    @abstractmethod
    def first_in_order(self, agent_id: str, ordering_key: str) -> Row | None:
        """Return an agent's oldest pending row with this key; see ``Schema.takes_turns``."""

    @abstractmethod
    def newest(self, status: str | None, limit: int) -> builtins.list[Row]:
        """Return rows, newest first."""

    @abstractmethod
    def leased(self, now: datetime) -> builtins.list[Row]:
        """Return the pending rows whose lease ends after this time."""

    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """Return how many rows there are of each status."""

    @abstractmethod
    def count(self, status: str) -> int:
        """Return how many rows have a status."""

    @abstractmethod
    def keys(self, status: str, after: RowKey | None, limit: int) -> builtins.list[RowKey]:
        """Return the keys of rows of a status, oldest first, from the one after this key on."""

    @abstractmethod
    def count_selected(self, ids: Sequence[str], selection: Selection) -> int:
        """Return how many of at most a thousand rows are as the selection says."""

    @abstractmethod
    def update_selected(
        self,
        ids: Sequence[str],
        selection: Selection,
        changes: Mapping[str, Any],
        *,
        one_more_attempt: bool,
    ) -> int:
        """
        Change those of at most a thousand rows that are as the selection says; atomic for each.

        Args:
            ids: The rows.
            selection: What they must be.
            changes: The columns and their values.
            one_more_attempt: ``max_retries`` becomes ``retry_count + 1`` where it is lower.

        Returns:
            How many were changed.
        """

    @abstractmethod
    def figures(self, statuses: Sequence[str], now: datetime) -> Figures:
        """Measure a table of outgoing messages, without reading all of it."""

    @abstractmethod
    def delete(self, statuses: Sequence[str], before: datetime, limit: int) -> int:
        """Delete at most ``limit`` rows that were resolved before this time; return how many."""

    def close(self, timeout: float = 10.0) -> None:  # noqa: B027 - most have nothing to close
        """Close the files of the store, if it has any. ``timeout`` is in seconds."""
