"""
The interfaces that a host implements so that messages survive.

The host is responsible for the storage: nothing here writes to a disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from buttdial_sync.models.failed import FailedMessage, FailedStatus


class FailedMessageRepository(Protocol):
    """
    Where messages wait to be sent again.

    **Order of calls.** For each message of :meth:`fetch_due`: :meth:`begin_attempt`, and if it says
    True the message is sent and exactly one of :meth:`mark_delivered`, :meth:`increment_retry`,
    :meth:`mark_dead`, :meth:`postpone` follows, in the thread that sent it. A message that is not
    sent after all is put back with :meth:`postpone` or given up with :meth:`mark_dead`, without
    :meth:`begin_attempt`.

    **Transactions.** Each call is one of its own, which the repository begins and commits before it
    returns: :meth:`begin_attempt` must be on disk before the message leaves.

    **At the same time.** Threads and processes call at once. A lease (``lease`` seconds, longer
    than the client's ``timeout``) keeps a fetched message from the others; it begins with
    :meth:`fetch_due` and again with :meth:`begin_attempt`. When it runs out, the message is due
    again, with ``attempt_started_at`` unchanged.

    **Fences.** Each call that changes a row names the ``retry_count`` that the row must still have.
    If the row has another one or is not pending any more, another process has taken the message
    over, and the call changes nothing and returns False. True and None both mean that the row was
    changed.
    """

    @property
    def lease(self) -> float:
        """How long a message is kept from the others, in seconds."""
        ...

    def fetch_due(self, limit: int) -> Sequence[FailedMessage]:
        """
        Lease and return at most ``limit`` pending messages that are due, oldest due first.

        All messages that are due and not leased, also those with ``attempt_started_at``.
        """
        ...

    def begin_attempt(self, msg_id: str, retry_count: int, started_at: datetime) -> bool:
        """
        Record that an attempt begins, before anything can leave.

        Sets ``retry_count`` and ``attempt_started_at``, and starts the lease again, if the row has
        ``retry_count - 1``.

        Args:
            msg_id: The message.
            retry_count: The number of this attempt: the fetched one plus 1.
            started_at: Now (aware).

        Returns:
            Whether the attempt may be made; False when another has begun one meanwhile.
        """
        ...

    def mark_delivered(self, msg_id: str, message_sid: str | None, retry_count: int) -> bool | None:
        """
        The server took the message. ``retry_count`` includes this attempt.

        Of the calls that a fence refuses this is the one that may change a row that is dead: where
        the row still has this number, the attempt whose end was not known was this one. Our own
        repositories know each attempt by a number that only grows, and record it also after others
        have tried the message again.
        """
        ...

    def increment_retry(
        self,
        msg_id: str,
        retry_count: int,
        error: str,
        next_retry_at: datetime,
        unknown: bool = False,
    ) -> bool | None:
        """
        Keep the message for another attempt, and end the lease.

        Args:
            msg_id: The message.
            retry_count: The number of the attempt that failed.
            error: Why.
            next_retry_at: When it is due again (aware).
            unknown: It may have been sent: ``attempt_started_at`` stays. Otherwise it is set to
                None.
        """
        ...

    def mark_dead(
        self, msg_id: str, retry_count: int, error: str, unknown: bool = False
    ) -> bool | None:
        """
        Give the message up; only :meth:`AdminFailedMessageRepository.force_retry` revives it.

        Args:
            msg_id: The message.
            retry_count: What the row has now.
            error: Why.
            unknown: It may have been sent: ``attempt_started_at`` stays. Otherwise it is set to
                None. Passed only if it is True.
        """
        ...

    def postpone(
        self, message: FailedMessage, retry_count: int, error: str | None, next_retry_at: datetime
    ) -> bool | None:
        """
        Put a message back as it was fetched, due later: this attempt does not count.

        Sets ``retry_count`` and ``attempt_started_at`` to what ``message`` has, and ends the lease.

        Args:
            message: As it was fetched.
            retry_count: What the row has now: one more than ``message`` if the attempt had begun.
            error: The reason; None leaves ``last_error`` as it is.
            next_retry_at: When it is due again (aware).
        """
        ...


class AdminFailedMessageRepository(FailedMessageRepository, Protocol):
    """The further methods that an operator's page needs."""

    def list(self, status: FailedStatus | None = None, limit: int = 50) -> Sequence[FailedMessage]:
        """Return at most ``limit`` messages, newest first."""
        ...

    def count_pending(self) -> int:
        """Return how many are pending."""
        ...

    def force_retry(self, msg_id: str, *, even_if_sent: bool = False) -> bool:
        """
        Make a pending or dead message due now, with at least one attempt left.

        Its key stays, and so does ``attempt_started_at``: a message that may have been sent is
        repeated where the server honours keys, and given up again where it does not.

        Args:
            msg_id: The message.
            even_if_sent: ``attempt_started_at`` is set to None: the message is sent on every
                server, and the recipient may get it twice. Passed only if it is True, so a
                repository whose rows have no ``attempt_started_at`` does not need it.

        Returns:
            False when there is no such message, or while its lease runs.
        """
        ...

    def dismiss(self, msg_id: str) -> bool:
        """Give up a pending or dead message; False when there is none, or while its lease runs."""
        ...


class OutboxRepository(FailedMessageRepository, Protocol):
    """Where messages are written before they are sent."""

    def add(self, message: FailedMessage) -> None:
        """
        Write a message, inside the caller's transaction where there is one.

        One whose ``attempt_started_at`` is set is leased from the start: the caller sends it, and
        when the caller dies the lease runs out and the message is due. One without is due at its
        ``next_retry_at``, at once when that is None.

        Raises:
            ArgumentValueError: There is a message with this id.
        """
        ...
