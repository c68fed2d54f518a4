"""Which address of a name is tried first."""

from __future__ import annotations

import socket

import pytest

from buttdial_sync.errors import ConfigError
from buttdial_sync.transport.addresses import AddressInfo, ConnectionGuard, FailedAddresses


class Clock:
    now = 5000.0

    def __call__(self) -> float:
        return self.now


def info(host: str) -> AddressInfo:
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 443))


NAMES = [info(host) for host in ("a", "b", "c")]


def order(failed: FailedAddresses) -> str:
    return "".join(found[4][0] for found in failed.put_last(NAMES))


def test_those_that_failed_come_last() -> None:
    """The latest last; the others stay in the resolver's order."""
    clock = Clock()
    failed = FailedAddresses(clock)
    assert order(failed) == "abc"
    failed.add(("a", 443))
    assert order(failed) == "bca"
    clock.now += 1
    failed.add(("b", 443))
    assert order(failed) == "cab"
    failed.discard(("a", 443))
    failed.discard(("c", 443))
    assert order(failed) == "acb"
    failed.clear()
    assert order(failed) == "abc"


def test_other_ports_are_other_addresses() -> None:
    """What listens at another port has not failed."""
    failed = FailedAddresses()
    failed.add(("a", 80))
    assert order(failed) == "abc"


def test_after_five_minutes_it_counts_no_more() -> None:
    """Or an address that was down once would never be the first again."""
    clock = Clock()
    failed = FailedAddresses(clock)
    failed.add(("a", 443))
    clock.now += 299
    assert order(failed) == "bca"
    clock.now += 1
    assert order(failed) == "abc"


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("2001:db8::1", False),
    ],
)
def test_guard(host: str, allowed: bool) -> None:
    """With an advice only this machine may be called, by whatever name."""
    guard = ConnectionGuard()
    guard.check("h.test", (host, 443))
    guard.advice = "use a mock"
    if allowed:
        guard.check("h.test", (host, 443))
    else:
        with pytest.raises(ConfigError, match=r"h\.test") as caught:
            guard.check("h.test", (host, 443))
        assert caught.value.remediation == "use a mock"


def test_they_are_bounded() -> None:
    """A process that connects to ever new addresses keeps 256 of them."""
    failed = FailedAddresses()
    failed.add(("a", 443))
    for number in range(255):
        failed.add((str(number), 443))
    assert order(failed) == "bca"
    failed.add(("one too many", 443))
    assert order(failed) == "abc"
    failed.add(("b", 443))
    assert order(failed) == "acb"
