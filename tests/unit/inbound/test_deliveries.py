"""The log of what was handed over."""

from __future__ import annotations

import os
import threading

import pytest

from buttdial_sync import DeliveryInProgressError, DeliveryLog, MemoryDeliveryLog
from buttdial_sync.errors import ArgumentValueError
from tests.unit.inbound.log_contract import Advance, DeliveryLogContract, claimed


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TestMemoryDeliveryLog(DeliveryLogContract):
    """The log in memory does what every log has to do."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def log(self, clock: Clock) -> DeliveryLog:
        return MemoryDeliveryLog(clock=clock)

    @pytest.fixture
    def advance(self, clock: Clock) -> Advance:
        def advance(seconds: float) -> None:
            clock.now += seconds

        return advance


def test_bound() -> None:
    """The oldest is forgotten first."""
    log = MemoryDeliveryLog(max_deliveries=2)
    for name in "abc":
        log.done(name, claimed(log, name))
    assert log.claim("a", 10)
    assert log.claim("c", 10) is None
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
    log.done("done", claimed(log, "done"))
    assert log.claim("claimed", 10)
    with log._lock:
        child = os.fork()
        if not child:
            good = log.claim("claimed", 10) and log.claim("done", 10) is None
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
