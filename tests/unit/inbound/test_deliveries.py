"""The log of what was handed over."""

from __future__ import annotations

import os
import threading

import pytest

from buttdial_sync import DeliveryInProgressError, DeliveryLog, MemoryDeliveryLog
from buttdial_sync.errors import ArgumentValueError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_once() -> None:
    """What is done cannot be claimed any more, however long ago."""
    clock = Clock()
    log: DeliveryLog = MemoryDeliveryLog(clock=clock)
    assert log.claim("a", 10)
    log.done("a")
    clock.now = 1e9
    assert not log.claim("a", 10)
    assert log.claim("b", 10)


def test_release() -> None:
    """What is released can be claimed at once; releasing the unknown does nothing."""
    log = MemoryDeliveryLog()
    assert log.claim("a", 10)
    log.release("a")
    log.release("unknown")
    assert log.claim("a", 10)


def test_lease() -> None:
    """A claim holds others off until its lease ends, and no longer."""
    clock = Clock()
    log = MemoryDeliveryLog(clock=clock)
    assert log.claim("a", 10)
    clock.now = 9.9
    with pytest.raises(DeliveryInProgressError):
        log.claim("a", 10)
    clock.now = 10.0
    assert log.claim("a", 10)


def test_bound() -> None:
    """The oldest is forgotten first."""
    log = MemoryDeliveryLog(max_deliveries=2)
    for name in "abc":
        assert log.claim(name, 10)
        log.done(name)
    assert log.claim("a", 10)
    assert not log.claim("c", 10)
    with pytest.raises(ArgumentValueError):
        MemoryDeliveryLog(max_deliveries=0)


def test_threads() -> None:
    """Of many threads that claim the same, one gets it."""
    log = MemoryDeliveryLog()
    got: list[int] = []
    barrier = threading.Barrier(8)

    def claim(number: int) -> None:
        barrier.wait(5)
        try:
            if log.claim("a", 10):
                got.append(number)
        except DeliveryInProgressError:
            pass

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(got) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_while_the_lock_is_held() -> None:
    """A child does not wait for a lock that nobody holds, nor for claims of its parent."""
    log = MemoryDeliveryLog()
    assert log.claim("done", 10)
    log.done("done")
    assert log.claim("claimed", 10)
    with log._lock:
        child = os.fork()
        if not child:
            good = log.claim("claimed", 10) and not log.claim("done", 10)
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
