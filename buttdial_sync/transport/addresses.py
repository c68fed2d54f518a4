"""The addresses of a name: which one is tried first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

# What socket.getaddrinfo() returns: family, kind, protocol, canonical name, address.
AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]

_LAST_FOR_SECONDS = 300.0
_KEPT = 256


class FailedAddresses:
    """
    The addresses to which a connection failed lately; they are tried after the others.

    Safe to share between threads, also while the process forks: it changes by single atomic
    operations.

    Args:
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed_at: dict[tuple[Any, ...], float] = {}

    def add(self, address: tuple[Any, ...]) -> None:
        """Note that a connection to the address failed."""
        if len(self._failed_at) >= _KEPT:
            self.clear()  # only the order of the next attempts is lost
        self._failed_at[address] = self._clock()

    def discard(self, address: tuple[Any, ...]) -> None:
        """Note that a connection to the address was made."""
        self._failed_at.pop(address, None)

    def clear(self) -> None:
        """Forget them all."""
        self._failed_at.clear()

    def put_last(self, found: Iterable[AddressInfo]) -> list[AddressInfo]:
        """Return the addresses of a name, those that failed lately at the end, the latest last."""
        long_ago = self._clock() - _LAST_FOR_SECONDS

        def failed_at(info: AddressInfo) -> float:
            return max(self._failed_at.get(info[4], long_ago), long_ago)

        return sorted(found, key=failed_at)


failed_addresses = FailedAddresses()
