"""The log of what was handed over."""

from __future__ import annotations

import inspect
import os
import threading

import attrs
import pytest

from buttdial_sync import (
    DeliveryInProgressError,
    DeliveryLog,
    InboundHandler,
    InboundMessage,
    MemoryDeliveryLog,
)
from buttdial_sync.errors import ArgumentValueError, ConfigError
from buttdial_sync.inbound.deliveries import UNSIGNED, check_token
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
    for kind in ("", UNSIGNED):
        log.done(f"{kind}done", claimed(log, f"{kind}done"))
        assert log.claim(f"{kind}claimed", 10)
    with log._lock:
        child = os.fork()
        if not child:
            good = all(
                log.claim(f"{kind}claimed", 10) and log.claim(f"{kind}done", 10) is None
                for kind in ("", UNSIGNED)
            )
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_usual_bound() -> None:
    """Fifty thousand are remembered."""
    log = MemoryDeliveryLog()
    for number in range(50_000):
        log.done(str(number), claimed(log, str(number)))
    assert log.claim("0", 10) is None
    assert log.claim("one more", 10)
    assert log.claim("1", 10) is None
    assert log.claim("0", 10)


def test_a_stranger_cannot_make_it_forget() -> None:
    """What anybody may have sent has a room of its own, also under ids that have to be hashed."""
    inbound, got = InboundHandler(delivery_log=MemoryDeliveryLog(max_deliveries=2)), list[str]()
    inbound.on_message(lambda event: got.append(event.text))
    signed = InboundMessage(id="m1", sender="+1", channel="sms", text="signed", verified=True)
    assert inbound.dispatch_event(signed).handled == 1
    for number in range(3):
        odd = attrs.evolve(signed, id=f"ü{number}", text="anybody's", verified=False)
        plain = attrs.evolve(odd, id=f"m{number}")
        assert inbound.dispatch_event(odd).handled == inbound.dispatch_event(plain).handled == 1
    assert inbound.dispatch_event(signed).repeated == 1
    assert inbound.dispatch_event(plain).repeated == 1
    assert got.count("signed") == 1


def test_the_smallest_bound() -> None:
    """One is enough to remember the last."""
    log = MemoryDeliveryLog(max_deliveries=1)
    log.done("a", claimed(log, "a"))
    assert log.claim("a", 10) is None
    log.done("b", claimed(log, "b"))
    assert log.claim("b", 10) is None
    assert log.claim("a", 10)


def test_a_claim_made_anew_is_the_youngest() -> None:
    """It is not forgotten before those that were made meanwhile."""
    now = [0.0]
    log = MemoryDeliveryLog(max_deliveries=2, clock=lambda: now[0])
    claimed(log, "a")
    log.done("b", claimed(log, "b"))
    now[0] = 60.0
    claimed(log, "a")
    claimed(log, "c")
    with pytest.raises(DeliveryInProgressError):
        log.claim("a", 10)
    assert log.claim("b", 10)


@pytest.mark.parametrize("method", ["claim", "done", "release"])
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (None, "has no method"),
        ("text", "has no method"),
        (lambda: None, "does not take 2 arguments"),
        (lambda _: None, "does not take 2 arguments"),
        (lambda _, __, ___: None, "does not take 2 arguments"),
    ],
)
def test_methods_that_cannot_be_called(method: str, wrong: object, reason: str) -> None:
    """They are found when the handler is made, not when the first message comes."""
    log = MemoryDeliveryLog()
    setattr(log, method, wrong)
    with pytest.raises(ConfigError, match=f"delivery log.*{method}|{method}.*{reason}") as raised:
        InboundHandler(delivery_log=log)
    assert reason in str(raised.value)
    assert "See DeliveryLog" in str(raised.value.remediation)


def test_a_method_that_does_not_tell_its_arguments() -> None:
    """A function of C is taken as it is."""
    log = MemoryDeliveryLog()
    unknown: object = dict.update
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(dict.update)
    for method in ("claim", "done", "release"):
        setattr(log, method, unknown)
    InboundHandler(delivery_log=log)


def test_a_claim_that_is_not_a_token() -> None:
    """What a log returns by mistake is told with its type."""
    with pytest.raises(ConfigError, match="claim returned a bool"):
        check_token(True)  # type: ignore[arg-type]
    assert check_token(None) is None
    assert check_token("") == ""
