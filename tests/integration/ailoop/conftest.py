"""A fake server of each generation, and a client with time for a slow machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from buttdial_sync.ailoop import AiloopClient
from buttdial_sync.testing import FakeAiloopServer
from buttdial_sync.testing.ailoop_hub import FakePrompt, Generation

PATIENT = 60.0
InBackground = Callable[..., "Future[Any]"]


def connections_are_in_step(server: FakeAiloopServer) -> None:
    """Wait until the only client has noticed which of its connections the server has cut."""
    deadline = time.monotonic() + PATIENT
    while time.monotonic() < deadline:
        readers = [each for each in threading.enumerate() if each.name.endswith("-reader")]
        with server.hub.changed:
            if len(readers) == len(server.hub.sockets):
                return
            server.hub.changed.wait(0.01)
    raise AssertionError("the client still reads from a connection that was cut")


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_deadline(self, server: FakeAiloopServer, prompt: FakePrompt) -> None:
        """Let a short time be over, and wake its waiter with a message that says nothing."""
        server.wait_until_received()
        self.now += PATIENT
        self.wake(server, prompt)

    def wake(self, server: FakeAiloopServer, prompt: FakePrompt) -> None:
        """Have a waiter look at the clock: send it what says nothing."""
        server.post({"type": "dance"}, channel=prompt.message["channel"], correlation_id=prompt.id)


@pytest.fixture(params=["decision", "question"])
def generation(request: pytest.FixtureRequest) -> Generation:
    found: Generation = request.param
    return found


@pytest.fixture
def server(generation: Generation) -> Iterator[FakeAiloopServer]:
    with FakeAiloopServer(generation) as server:
        yield server


@pytest.fixture
def new_server() -> Iterator[FakeAiloopServer]:
    with FakeAiloopServer() as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed_client(server: FakeAiloopServer, clock: Clock) -> Iterator[AiloopClient]:
    with AiloopClient(server.url, timeout=PATIENT, accept_timeout=PATIENT, clock=clock) as client:
        yield client


@pytest.fixture
def client(server: FakeAiloopServer) -> Iterator[AiloopClient]:
    with AiloopClient(server.url, timeout=PATIENT, accept_timeout=PATIENT) as client:
        yield client


@pytest.fixture
def new_client(new_server: FakeAiloopServer) -> Iterator[AiloopClient]:
    with AiloopClient(new_server.url, timeout=PATIENT, accept_timeout=PATIENT) as client:
        yield client


@pytest.fixture
def background() -> Iterator[InBackground]:
    threads = ThreadPoolExecutor(64)
    yield threads.submit
    # Of a test that failed, calls may still wait: for nobody, until their client is closed.
    threads.shutdown(wait=False, cancel_futures=True)
