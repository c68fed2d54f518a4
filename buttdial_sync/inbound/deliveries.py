"""What was handed over already."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import attrs

from buttdial_sync.errors import ArgumentValueError
from buttdial_sync.transport.fork import on_fork_start_anew


class DeliveryInProgressError(Exception):
    """Somebody else has claimed the delivery and is still at it, as far as one can know."""


class DeliveryLog(Protocol):
    """
    Remembers what was handed over, so that nothing is handed over twice.

    A claim is good for its lease: when the process that holds it dies, the next delivery after that
    comes through. So the lease must be longer than a handler may take. Several threads, and where
    the log is shared several processes, may call at once: of them one gets the claim. Ids are
    at most 255 printable ASCII characters.
    """

    def claim(self, delivery_id: str, lease: float) -> bool:
        """
        Claim a delivery for ``lease`` seconds.

        Returns:
            True when it is the caller's to hand over, False when it was handed over before.

        Raises:
            DeliveryInProgressError: Another's claim is still good. The sender is then asked to
                try again, for that other may yet fail. A log that cannot tell returns False.
        """
        ...

    def done(self, delivery_id: str) -> None:
        """It was handed over; claiming it is False from now on."""
        ...

    def release(self, delivery_id: str) -> None:
        """It was not; it may be claimed again at once. Nothing happens when it is unknown."""
        ...


@attrs.define
class _Claim:
    ends_at: float
    done: bool = False


class MemoryDeliveryLog:
    """
    A :class:`DeliveryLog` of one process. Safe to share between threads.

    A forked child goes on with a copy: processes do not know of each other's deliveries. Where a
    webhook has several worker processes, use one that lives in a database.

    Args:
        max_deliveries: Remembers this many; the oldest is forgotten first.
        clock: A monotonic clock in seconds, for tests.

    Raises:
        ArgumentValueError: ``max_deliveries`` is not positive.
    """

    def __init__(
        self, max_deliveries: int = 50_000, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if max_deliveries < 1:
            raise ArgumentValueError("max_deliveries must be at least 1")
        self._max_deliveries = max_deliveries
        self._clock = clock
        self._claims: OrderedDict[str, _Claim] = OrderedDict()
        self.start_anew()
        on_fork_start_anew(self)

    def start_anew(self) -> None:
        """In a forked child: a new lock, and none of the claims that the parent has not ended."""
        self._lock = threading.Lock()
        self._claims = OrderedDict((key, each) for key, each in self._claims.items() if each.done)

    def claim(self, delivery_id: str, lease: float) -> bool:
        """Claim a delivery; see :meth:`DeliveryLog.claim`."""
        with self._lock:
            now = self._clock()
            known = self._claims.get(delivery_id)
            if known is not None and known.done:
                return False
            if known is not None and now < known.ends_at:
                raise DeliveryInProgressError(delivery_id)
            self._claims[delivery_id] = _Claim(now + lease)
            self._claims.move_to_end(delivery_id)
            while len(self._claims) > self._max_deliveries:
                self._claims.popitem(last=False)
        return True

    def done(self, delivery_id: str) -> None:
        """Note that it was handed over."""
        with self._lock:
            self._claims[delivery_id] = _Claim(0.0, done=True)

    def release(self, delivery_id: str) -> None:
        """Give a claim back."""
        with self._lock:
            self._claims.pop(delivery_id, None)
