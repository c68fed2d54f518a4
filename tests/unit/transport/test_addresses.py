"""Which address of a name is tried first."""

from __future__ import annotations

import socket

from buttdial_sync.transport.addresses import AddressInfo, FailedAddresses


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


def test_they_are_bounded() -> None:
    """A process that connects to ever new addresses does not grow."""
    failed = FailedAddresses()
    for number in range(1000):
        failed.add((str(number), 443))
    failed.add(("a", 443))
    assert len(failed._failed_at) <= 256
    assert order(failed) == "bca"
