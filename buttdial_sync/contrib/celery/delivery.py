"""One message at a time through a retry loop, which learns about tokens and limits meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from buttdial_sync.agent import AgentView
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry.loop import RetryLoop
from buttdial_sync.retry.report import RetryReport
from buttdial_sync.retry.repository import FailedMessageRepository


class Deliverer:
    """
    Tries given messages; one for a process. Safe to share between threads.

    Args:
        repository: Where their rows are.
        client: Sends them.
        **options: Further arguments of :class:`~buttdial_sync.RetryLoop`.
    """

    def __init__(
        self, repository: FailedMessageRepository, client: AgentView, **options: Any
    ) -> None:
        self._given = _Given(repository)
        # What is given to one thread is due in that thread alone.
        self._loop = RetryLoop(self._given, client, **{**options, "workers": 1})

    def deliver(self, message: FailedMessage) -> RetryReport:
        """Try a message once, and record what became of it. Never raises for its sake."""
        self._given.give(message)
        return self._loop.run_once()


class _Given:
    """A repository in which only what was given to this thread is due."""

    def __init__(self, inner: FailedMessageRepository) -> None:
        self._inner = inner
        self._local = threading.local()

    def give(self, message: FailedMessage) -> None:
        self._local.messages = [message]

    def fetch_due(self, limit: int) -> Sequence[FailedMessage]:
        found: list[FailedMessage] = getattr(self._local, "messages", [])
        self._local.messages = []
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
