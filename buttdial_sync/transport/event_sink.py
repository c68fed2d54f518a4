"""Reporting to the host what happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from buttdial_sync.errors import ButtDialError
from buttdial_sync.models.events import ClientEvent, EventKind
from buttdial_sync.transport.deadline import Clock

logger = logging.getLogger("buttdial_sync")


class EventSink:
    """
    Reports to the host what happens. Safe to share between threads.

    It is an object of its own, so that parts that only report do not keep the connection alive.

    Args:
        on_event: The host's callback. Its exceptions are logged.
    """

    def __init__(self, on_event: Callable[[ClientEvent], None] | None) -> None:
        self._on_event = on_event
        self.has_listener = on_event is not None

    @contextmanager
    def attempt(self, operation: str, number: int, clock: Clock) -> Iterator[None]:
        """Report an attempt of an operation: that it begins, and what became of it."""
        self.tell(operation, "attempt", number)
        began = clock()
        try:
            yield
        except ButtDialError as error:
            self.tell(operation, "answer", number, clock() - began, error)
            raise
        self.tell(operation, "answer", number, clock() - began)

    def tell(
        self,
        operation: str,
        kind: EventKind,
        attempt: int = 1,
        seconds: float | None = None,
        error: ButtDialError | None = None,
    ) -> None:
        """Report a step of an operation, and the error that it ended with."""
        if not self.has_listener:
            return
        self.emit(
            ClientEvent(
                kind=kind,
                operation=operation,
                attempt=attempt,
                seconds=seconds,
                outcome=None if kind == "attempt" else error.outcome if error else "sent",
                error=type(error).__name__ if error else None,
                code=error.code if error else None,
            )
        )

    def emit(self, event: ClientEvent) -> None:
        """Call the host's callback, if there is one."""
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:  # the host's callback must not change what a call does
            logger.exception("on_event failed")
