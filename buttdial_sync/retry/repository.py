"""
What a host implements so that messages survive.

The host owns persistence: these are interfaces, and nothing here touches a disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from buttdial_sync.models.failed import FailedMessage, FailedStatus


class FailedMessageRepository(Protocol):
    """
    Where messages wait to be sent again.

    For each message of :meth:`fetch_due` exactly one of the other methods is called, in the thread
    that sent it. Each call is a transaction of its own, which the repository begins and commits.
    Several processes may call at once: what one fetched, the others must not get until its lease
    (longer than the client's ``timeout``) has run out, and settling is fenced: it changes the row
    only while its ``retry_count`` is still the one that was fetched.
    """

    def fetch_due(self, limit: int) -> Sequence[FailedMessage]:
        """Lease and return at most ``limit`` pending messages that are due, oldest due first."""
        ...

    def mark_delivered(self, msg_id: str, message_sid: str | None, retry_count: int) -> None:
        """The server took the message. ``retry_count`` includes this attempt."""
        ...

    def increment_retry(
        self, msg_id: str, retry_count: int, error: str, next_retry_at: datetime
    ) -> None:
        """It was not sent; it is due again at ``next_retry_at`` (aware)."""
        ...

    def mark_dead(self, msg_id: str, retry_count: int, error: str) -> None:
        """It is given up; only :meth:`AdminFailedMessageRepository.force_retry` revives it."""
        ...


class AdminFailedMessageRepository(FailedMessageRepository, Protocol):
    """What an operator's page needs beside."""

    def list(self, status: FailedStatus | None = None, limit: int = 50) -> Sequence[FailedMessage]:
        """Return at most ``limit`` messages, newest first."""
        ...

    def count_pending(self) -> int:
        """Return how many are pending."""
        ...

    def force_retry(self, msg_id: str) -> bool:
        """Make a message due now; False when there is none that could be."""
        ...

    def dismiss(self, msg_id: str) -> bool:
        """Give a message up; False when there is none."""
        ...


class OutboxRepository(FailedMessageRepository, Protocol):
    """Where messages are written before they are sent."""

    def add(self, message: FailedMessage) -> None:
        """
        Write a message, leased from the start, inside the caller's transaction.

        The lease keeps others away while the caller sends it; when the caller dies, it runs out and
        the message is due.
        """
        ...
