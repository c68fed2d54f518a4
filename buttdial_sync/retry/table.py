"""The rules that all tables of messages share, in memory, SQLite or another database."""

from __future__ import annotations

import builtins
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs

from buttdial_sync.errors import ConfigError
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.models.failed import FAILED_STATUSES, FailedMessage, FailedStatus
from buttdial_sync.retry.rows import JSON_FIELDS, LEASE, TIME_FIELDS, Row, as_message, as_row
from buttdial_sync.transport.deadline import check_seconds

logger = logging.getLogger("buttdial_sync.retry")

DEFAULT_LEASE = 300.0
_OPEN: tuple[FailedStatus, ...] = ("pending", "dead")
_LONGEST_ERROR = 2000


@attrs.frozen(kw_only=True)
class Condition:
    """
    The condition under which a row may be changed.

    It is part of the statement that changes the row, so that checking and changing are one step.
    Between two statements another process could change the row.

    Attributes:
        statuses: The row must have one of these.
        retry_count: The row must have this count; None allows any. This is the fence: the count
            rises with each attempt, so a process whose row was taken over cannot change it.
        no_lease_at: No lease may run at this time; None allows a lease.
    """

    statuses: tuple[FailedStatus, ...] = ("pending",)
    retry_count: int | None = None
    no_lease_at: datetime | None = None


@attrs.frozen
class Enqueuer:
    """
    Writes messages inside a transaction of the host's; ``within`` of a repository returns it.

    Attributes:
        add: Writes a message; it is stored when the host commits. Raises ``ArgumentValueError``
            if there is a message with this id.
    """

    add: Callable[[FailedMessage], None]


class TableRepository(ABC):
    """
    Implements the interfaces with seven operations on a table.

    It is a :class:`~buttdial_sync.retry.repository.AdminFailedMessageRepository` and an
    :class:`~buttdial_sync.retry.repository.OutboxRepository`. Safe to share between threads if the
    operations are.

    Args:
        lease: How long a fetched message is kept from the others, in seconds.
        keep_tokens: Whether the tokens of agents are written into the rows.
        clock: Tells the time, aware.

    Raises:
        ArgumentValueError: ``lease`` is not a number of seconds from above 0 to a year.
    """

    def __init__(
        self,
        *,
        lease: float = DEFAULT_LEASE,
        keep_tokens: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._lease = check_seconds(lease, "lease")
        self._keep_tokens = keep_tokens
        self._clock = clock

    @property
    def lease(self) -> float:
        """How long a message is kept from the others, in seconds."""
        return self._lease

    def add(self, message: FailedMessage) -> None:
        """
        Write a message; leased from the start if its ``attempt_started_at`` is set.

        Raises:
            ArgumentValueError: There is a message with this id.
        """
        self._insert(self._new_row(message))

    def add_new(self, messages: Sequence[FailedMessage]) -> int:
        """
        Write those messages whose ids are not there yet.

        Returns:
            How many were written.
        """
        new = [message for message in messages if self._find(message.id) is None]
        for message in new:
            self.add(message)
        return len(new)

    def fetch_due(self, limit: int) -> Sequence[FailedMessage]:
        """Lease and return at most ``limit`` pending messages that are due, oldest due first."""
        now = self._clock()
        claimed = self._claim(now, self._lease_end(now), limit)
        found = [self._readable(row) for row in claimed]
        return [message for message in found if message is not None]

    def begin_attempt(self, msg_id: str, retry_count: int, started_at: datetime) -> bool:
        """Record that an attempt begins; False when another has begun one meanwhile."""
        changes = {
            "retry_count": retry_count,
            "attempt_started_at": started_at,
            # The message may have waited since it was fetched, so the lease starts again.
            LEASE: self._lease_end(self._clock()),
        }
        return self._update(msg_id, changes, Condition(retry_count=retry_count - 1))

    def mark_delivered(self, msg_id: str, message_sid: str | None, retry_count: int) -> bool:
        """Record that the server took the message; False when another took it over."""
        changes = {
            **self._resolved("delivered"),
            "attempt_started_at": None,
            "message_sid": message_sid,
            "last_error": None,
        }
        # Also after another gave it up, because this attempt outlived its lease and had no known
        # end: that the server took it is a fact, and without it somebody would send it again.
        return self._update(msg_id, changes, Condition(statuses=_OPEN, retry_count=retry_count))

    def increment_retry(
        self,
        msg_id: str,
        retry_count: int,
        error: str,
        next_retry_at: datetime,
        unknown: bool = False,
    ) -> bool:
        """Keep the message for another attempt; False when another took it over."""
        changes: Row = {"last_error": _cut(error), "next_retry_at": next_retry_at, LEASE: None}
        if not unknown:
            changes["attempt_started_at"] = None
        return self._settle(msg_id, changes, retry_count)

    def mark_dead(self, msg_id: str, retry_count: int, error: str, unknown: bool = False) -> bool:
        """Give the message up; False when another took it over."""
        changes: Row = {**self._resolved("dead"), "last_error": _cut(error)}
        if not unknown:
            changes["attempt_started_at"] = None
        return self._settle(msg_id, changes, retry_count)

    def postpone(
        self, message: FailedMessage, retry_count: int, error: str | None, next_retry_at: datetime
    ) -> bool:
        """Put a message back as it was fetched, due later; False when another took it over."""
        # As it was fetched: an attempt that does not count must not remove the mark of an earlier
        # attempt whose outcome is unknown.
        changes: Row = {
            "retry_count": message.retry_count,
            "attempt_started_at": message.attempt_started_at,
            "next_retry_at": next_retry_at,
            LEASE: None,
        }
        if error is not None:
            changes["last_error"] = _cut(error)
        return self._settle(message.id, changes, retry_count)

    def get(self, msg_id: str) -> FailedMessage | None:
        """
        Return a message, or None when there is none with this id.

        Raises:
            ConfigError: Somebody wrote into its row what cannot be read.
        """
        row = self._find(msg_id)
        try:
            return None if row is None else as_message(row)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"the row of message {msg_id} cannot be read: {error}",
                remediation="Correct the row in the database, or dismiss the message.",
            ) from None

    def list(self, status: FailedStatus | None = None, limit: int = 50) -> Sequence[FailedMessage]:
        """Return at most ``limit`` messages, newest first; without what cannot be read in them."""
        return [_shown(row) for row in self._newest(status, limit)]

    def count_pending(self) -> int:
        """Return how many are pending."""
        return self._counts().get("pending", 0)

    def stats(self) -> dict[FailedStatus, int]:
        """Return how many messages there are of each status."""
        counts = self._counts()
        return {status: counts.get(status, 0) for status in FAILED_STATUSES}

    def leased(self) -> dict[str, datetime]:
        """
        Return which pending messages are leased now, and until when.

        A process is sending them, or died while it had them.
        """
        return {row["id"]: row[LEASE] for row in self._leased(self._clock())}

    def force_retry(self, msg_id: str, *, even_if_sent: bool = False) -> bool:
        """Make a pending or dead message due now; one that may have been sent stays marked so."""
        now = self._clock()
        row = self._find(msg_id)
        if row is None:
            return False
        changes = {
            "status": "pending",
            "max_retries": max(row["max_retries"], row["retry_count"] + 1),  # one attempt at least
            "next_retry_at": now,
            "resolved_at": None,
            LEASE: None,
        }
        if even_if_sent:
            changes["attempt_started_at"] = None
        # The count was read a moment ago; a loop may have begun an attempt since.
        condition = Condition(statuses=_OPEN, retry_count=row["retry_count"], no_lease_at=now)
        return self._update(msg_id, changes, condition)

    def dismiss(self, msg_id: str) -> bool:
        """
        Give up a pending or dead message; False when there is none, or while its lease runs.

        One that may have been sent stays marked so.
        """
        condition = Condition(statuses=_OPEN, no_lease_at=self._clock())
        return self._update(msg_id, self._resolved("dismissed"), condition)

    def _new_row(self, message: FailedMessage) -> Row:
        now = self._clock()
        row = as_row(message)
        row["created_at"] = message.created_at or now
        row["next_retry_at"] = message.next_retry_at or now
        if message.attempt_started_at is not None:
            row[LEASE] = self._lease_end(now)  # the caller sends it now, and no loop may
        if not self._keep_tokens:
            row["agent_token"] = ""
        return row

    def _readable(self, row: Row) -> FailedMessage | None:
        """Return a row as a message; give up a row that cannot be read, so that others are sent."""
        try:
            return as_message(row)
        except (TypeError, ValueError) as error:
            logger.exception("message %s cannot be read", row["id"])
            reason = f"the row cannot be read: {type(error).__name__}"
            unknown = row["attempt_started_at"] is not None
            self.mark_dead(row["id"], row["retry_count"], reason, unknown)
            return None

    def _lease_end(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self._lease)

    def _resolved(self, status: FailedStatus) -> Row:
        return {"status": status, "resolved_at": self._clock(), LEASE: None}

    def _settle(self, msg_id: str, changes: Mapping[str, Any], retry_count: int) -> bool:
        return self._update(msg_id, changes, Condition(retry_count=retry_count))

    @abstractmethod
    def _insert(self, row: Row) -> None:
        """Write a new row, or raise ArgumentValueError when its id is taken."""

    @abstractmethod
    def _claim(self, now: datetime, leased_until: datetime, limit: int) -> builtins.list[Row]:
        """Lease the due rows that no process has, oldest due first; atomic among processes."""

    @abstractmethod
    def _update(self, msg_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        """Change a row if it is as the condition says; atomic. Return whether it was."""

    @abstractmethod
    def _find(self, msg_id: str) -> Row | None:
        """Return one row."""

    @abstractmethod
    def _newest(self, status: FailedStatus | None, limit: int) -> builtins.list[Row]:
        """Return rows, newest first."""

    @abstractmethod
    def _leased(self, now: datetime) -> builtins.list[Row]:
        """Return the pending rows whose lease ends after this time."""

    @abstractmethod
    def _counts(self) -> Mapping[str, int]:
        """Return how many rows there are of each status."""


def _shown(row: Row) -> FailedMessage:
    """Return a message for people: one row that is broken must not hide the others."""
    try:
        return as_message(row)
    except (TypeError, ValueError):
        times = {name: None for name in TIME_FIELDS if not isinstance(row[name], datetime)}
        return as_message({**row, **times, **dict.fromkeys(JSON_FIELDS)})


def _cut(error: str) -> str:
    return error if len(error) <= _LONGEST_ERROR else error[: _LONGEST_ERROR - 1] + "…"


def id_taken(msg_id: str) -> str:
    """Return what :meth:`TableRepository.add` says about an id that is taken."""
    return f"there is a message with the id {msg_id!r}"
