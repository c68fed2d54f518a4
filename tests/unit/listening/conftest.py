"""A listener over the wire without a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from buttdial_sync import Client, InboundHandler, Listener, MemoryDeliveryLog
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.testing import FakeButtDialServer

URL = "https://butt-dial.test"
TOKEN = "tok-1"
Make = Callable[..., Listener]


class Clock:
    """Seconds that pass only when somebody sleeps, or says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class LogOfKilled(MemoryDeliveryLog):
    """A log in which a process may have been killed that had a claim."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self._is_killed = False

    def die_with(self, inbound: InboundHandler, event: InboundEvent | None) -> None:
        """Hand an event to a handler that raises ``SystemExit``, and never end its claim."""
        assert event is not None
        self._is_killed = True
        with pytest.raises(SystemExit):
            inbound.dispatch_event(event)
        self._is_killed = False

    def release(self, delivery_id: str, token: str) -> None:
        if not self._is_killed:
            super().release(delivery_id, token)


@pytest.fixture
def fake() -> Iterator[FakeButtDialServer]:
    fake = FakeButtDialServer()
    with fake.mocked(URL):
        yield fake


@pytest.fixture
def client(fake: FakeButtDialServer) -> Iterator[Client]:
    with Client(URL, agent_token=TOKEN) as client:
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(client: Client, clock: Clock) -> Make:
    def make(inbound: InboundHandler, **options: Any) -> Listener:
        defaults = {"clock": clock, "sleep": clock.sleep, "random_fraction": lambda: 1.0}
        return Listener(client, inbound, **{**defaults, **options})

    return make
