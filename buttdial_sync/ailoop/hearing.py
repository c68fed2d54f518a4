"""Who waits for which message, over all connections of a client."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Any

from buttdial_sync.ailoop.errors import AiloopClosedError
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork
from buttdial_sync.transport.pending import Failure


class End(Enum):
    """Why nothing more is heard."""

    LOST = "the connection has ended"
    CLOSED = "the client is closed"


Heard = Mapping[str, Any] | End


class Waiter:
    """
    A caller that waits for the echo of its message, and for the responses to it.

    Args:
        message_id: The message.
    """

    def __init__(self, message_id: str = "") -> None:
        self.message_id = message_id
        self.listens_on: Receiver | None = None
        self._heard: deque[Heard] = deque()
        self._changed = threading.Condition()

    def put(self, heard: Heard) -> None:
        """Hand something over."""
        with self._changed:
            self._heard.append(heard)
            self._changed.notify()

    def put_back(self, heard: Heard) -> None:
        """Return what was got; it is the next to be got."""
        with self._changed:
            self._heard.appendleft(heard)

    def forget_losses(self) -> None:
        """Forget that a connection ended on which it no longer listens."""
        with self._changed:
            self._heard = deque(each for each in self._heard if each is not End.LOST)

    def get(self, seconds: float) -> Heard | None:
        """Wait for the next thing; return None when the seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._heard, seconds)
            return self._heard.popleft() if self._heard else None


class Waiters:
    """The callers that wait. Safe to share between threads; a forked child has none."""

    def __init__(self) -> None:
        self._make_empty()
        reset_after_fork(self)

    def _make_empty(self) -> None:
        self._lock = threading.Condition()
        self._closed = False
        self._waiters: dict[str, Waiter] = {}

    def _reset_after_fork(self) -> None:
        """In a forked child: the parent's callers wait in the parent."""
        leak_until_exit(self._lock, self._waiters)
        self._make_empty()

    def register(self, message_id: str) -> Waiter:
        """
        Wait for a message, from before it is sent.

        Raises:
            AiloopClosedError: The client is closed: nobody would withdraw it.
        """
        with self._lock:
            self.check_open()
            return self.hold(message_id)

    def check_open(self) -> None:
        """
        Look whether something may be sent.

        Raises:
            AiloopClosedError: The client is closed.
        """
        if self._closed:
            raise AiloopClosedError("the client is closed")

    def hold(self, message_id: str) -> Waiter:
        """Have :meth:`close` wait, for a message's withdrawal instead of its caller."""
        with self._lock:
            waiter = self._waiters[message_id] = Waiter(message_id)
        return waiter

    def discard(self, waiter: Waiter) -> None:
        """Wait no longer."""
        with self._lock:
            if self._waiters.get(waiter.message_id) is waiter:
                del self._waiters[waiter.message_id]
                self._lock.notify_all()

    def close(self, seconds: float) -> None:
        """Tell all that the client is closed, and wait until they are gone, or not longer."""
        with self._lock:
            self._closed = True
            for waiter in self._waiters.values():
                waiter.put(End.CLOSED)
            self._lock.wait_for(lambda: not self._waiters, seconds)

    def listen(self, waiter: Waiter, receiver: Receiver) -> None:
        """Have a waiter told when this connection ends, or that it has ended; no other counts."""
        with self._lock:
            waiter.forget_losses()
            waiter.listens_on = receiver
            if receiver.ended:
                waiter.put(End.LOST)

    def give(self, message: Mapping[str, Any]) -> None:
        """Hand a message to whoever waits for it. Anything else is not for this client."""
        for name in ("id", "correlation_id"):
            message_id = message.get(name)
            if isinstance(message_id, str):
                with self._lock:
                    waiter = self._waiters.get(message_id)
                if waiter is not None:
                    waiter.put(message)

    def tell_end(self, receiver: Receiver) -> None:
        """Tell those who listen on a connection that it has ended."""
        with self._lock:
            if receiver.ended:
                return
            receiver.ended = True
            for waiter in self._waiters.values():
                if waiter.listens_on is receiver:
                    waiter.put(End.LOST)


class Receiver:
    """Takes what comes on one connection. In its reading thread, so it only hands on."""

    def __init__(self, waiters: Waiters) -> None:
        self.ended = False
        self._waiters = waiters

    def take(self, message: dict[str, Any]) -> None:
        """Take a message."""
        self._waiters.give(message)

    def end(self, failure: Failure) -> None:
        """Tell those who listen."""
        self._waiters.tell_end(self)
