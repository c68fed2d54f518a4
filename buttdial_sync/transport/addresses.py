"""The addresses of a name: which may be connected to, and which one is tried first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any

from buttdial_sync.errors import ConfigError

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


class ConnectionGuard:
    """
    Keeps the clients of a process on this machine, while a test runs.

    Attributes:
        advice: What to do instead of connecting; None while every address is allowed. The pytest
            plugin sets it.
        reasons: Return, for each fake server that is installed, such an advice, or None.
    """

    def __init__(self) -> None:
        self.advice: str | None = None
        self.reasons: dict[object, Callable[[], str | None]] = {}

    def check(self, host: str, address: tuple[Any, ...]) -> None:
        """
        Call this before a connection is made.

        Args:
            host: The name that was resolved, for the message.
            address: Where the connection would go.

        Raises:
            ConfigError: That is another machine.
        """
        found = (self.advice, *(reason() for reason in tuple(self.reasons.values())))
        advice = next(filter(None, found), None)
        if advice is not None and not ip_address(address[0]).is_loopback:
            raise ConfigError(f"a test tried to connect to {host}", remediation=advice)


failed_addresses = FailedAddresses()
connection_guard = ConnectionGuard()
