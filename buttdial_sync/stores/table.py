"""The rules that all tables of work share, in memory, SQLite or another database."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError
from buttdial_sync.errors.scrubbing import storable
from buttdial_sync.stores.schema import KEY_LENGTH, LEASE, PENDING, Condition, Row
from buttdial_sync.stores.store import Store
from buttdial_sync.transport.deadline import check_seconds, seconds_of

logger = logging.getLogger("buttdial_sync.stores")

DEFAULT_LEASE = 300.0
_LONGEST_ERROR = 2000
_PURGED_AT_ONCE = 1000
_OPEN = (PENDING, "dead")


class WorkTable:
    """
    Work that is pending until it is resolved, by one process at a time. Safe between threads.

    Args:
        store: Has the rows.
        statuses: What a row may be, ``"pending"`` first.
        lease: How long claimed work is kept from the others, in seconds.

    Attributes:
        store: Has the rows.

    Raises:
        ArgumentValueError: ``lease`` is not a number of seconds from above 0 to a year.
    """

    def __init__(
        self, store: Store, statuses: tuple[str, ...], lease: float = DEFAULT_LEASE
    ) -> None:
        self.store = store
        self._statuses = statuses
        self._lease = check_seconds(lease, "lease")

    @property
    def lease(self) -> float:
        """How long a message is kept from the others, in seconds."""
        return self._lease

    def count_pending(self) -> int:
        """Return how many are pending."""
        return self.store.count(PENDING)

    def stats(self) -> Mapping[str, int]:
        """Return how many messages there are of each status."""
        counts = self.store.counts()
        return {status: counts.get(status, 0) for status in self._statuses}

    def leased(self) -> dict[str, datetime]:
        """
        Return which pending messages are leased now, and until when.

        A process works on them, or died while it had them.
        """
        return {row["id"]: row[LEASE] for row in self.store.leased(self.store.now())}

    def extend_lease(self, msg_id: str, attempt_number: int) -> bool:
        """
        Start the lease of a message again while work on it goes on.

        Args:
            msg_id: The message.
            attempt_number: The number that its row must still have.

        Returns:
            False when another has taken it over, or it is resolved, or has no lease any more. Then
            it was let go for another attempt, which must not wait.
        """
        condition = Condition(attempt_number=attempt_number, present=(LEASE,))
        return self.store.update(msg_id, {LEASE: self._lease_end()}, condition)

    def dismiss(self, msg_id: str) -> bool:
        """
        Give up a pending or dead message; False when there is none, or while its lease runs.

        One that may have been sent stays marked so.
        """
        condition = Condition(statuses=_OPEN, no_lease_at=self.store.now())
        return self.store.update(msg_id, self._resolved("dismissed"), condition)

    def purge(self, older_than: timedelta | float, statuses: Collection[str] | None = None) -> int:
        """
        Delete messages that were resolved long ago. Safe to repeat, and while others work.

        They are deleted in portions, each a transaction of its own, so that nobody waits long.

        Args:
            older_than: How long ago at least: a ``timedelta`` or seconds.
            statuses: Of which status, never ``"pending"``; all resolved ones but dead letters when
                None, because those wait for a person.

        Returns:
            How many were deleted.

        Raises:
            ArgumentTypeError: ``older_than`` is not a time, or ``statuses`` is a text.
            ArgumentValueError: It is not positive, or a status is not one of a resolved message.
        """
        resolved = [status for status in self._statuses if status != PENDING]
        if statuses is None:
            statuses = [status for status in resolved if status != "dead"]
        if isinstance(statuses, str):
            raise ArgumentTypeError("statuses must be a collection of texts")
        if not set(statuses) <= set(resolved):
            raise ArgumentValueError(f"statuses must be some of {', '.join(resolved)}")
        try:
            before = self.store.now() - timedelta(seconds=seconds_of(older_than, "older_than"))
        except OverflowError:
            raise ArgumentValueError("older_than is too long") from None
        total = 0
        while (deleted := self.store.delete(sorted(statuses), before, _PURGED_AT_ONCE)) > 0:
            total += deleted
        return total

    def _force_retry(self, msg_id: str, attempt_number: int, changes: Mapping[str, Any]) -> bool:
        now = self.store.now()
        revived = {**self._revived(now), **changes}
        # The number was read a moment ago; somebody may have begun an attempt since.
        condition = Condition(statuses=_OPEN, attempt_number=attempt_number, no_lease_at=now)
        return self.store.update(msg_id, revived, condition)

    def _give_up_unreadable(self, row_id: str, reason: str) -> bool:
        """Give up a row that cannot be read; False if it is not pending any more."""
        # Without a fence, which may be what cannot be read; the lease keeps the others away.
        changes = {**self._resolved("dead"), "last_error": cut(reason)}
        try:
            return self.store.update(row_id, changes, Condition())
        except Exception:  # it may be written all the same: better tell of it twice than never
            logger.exception("row %s cannot be read, and could not be given up", row_id)
            return True

    def _lease_end(self) -> datetime:
        return self.store.now() + timedelta(seconds=self._lease)

    def _revived(self, now: datetime) -> Row:
        return {"status": PENDING, "next_retry_at": now, "resolved_at": None, LEASE: None}

    def _resolved(self, status: str) -> Row:
        return {"status": status, "resolved_at": self.store.now(), LEASE: None}


def begin_attempt(
    store: Store,
    row_id: str,
    retry_count: int,
    started_at: datetime,
    *,
    attempt_number: int | None,
    leased_until: datetime,
) -> bool:
    """
    Record in a row that an attempt begins.

    Args:
        store: Has the row.
        row_id: The row.
        retry_count: The attempt, among those that count.
        started_at: When it began.
        attempt_number: The attempt, among all; None for the one after the row's.
        leased_until: How long the row is kept from the others now.

    Returns:
        False when another has begun one meanwhile.
    """
    if attempt_number is None:
        row = store.find(row_id)
        if row is None:
            return False
        attempt_number = (row["attempt_number"] or 0) + 1
    changes = {
        "retry_count": retry_count,
        "attempt_number": attempt_number,
        "attempt_started_at": started_at,
        LEASE: leased_until,
    }
    condition = Condition(retry_count=retry_count - 1, attempt_number=attempt_number - 1)
    return store.update(row_id, changes, condition)


def as_key(text: str) -> str:
    """Return a foreign id as columns with an index hold it: PostgreSQL's take no long texts."""
    return storable(text)[:KEY_LENGTH]


def cut(error: str) -> str:
    """Return an error as rows keep it: not longer than people read."""
    return error if len(error) <= _LONGEST_ERROR else error[: _LONGEST_ERROR - 1] + "…"
