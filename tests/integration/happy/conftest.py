"""A fake Happy server with one machine, and a client that does not wait for long."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from buttdial_sync.happy.client import HappyClient
from buttdial_sync.testing.happy_agents import FakeMachine
from buttdial_sync.testing.happy_server import FakeHappyServer


@pytest.fixture(autouse=True)
def _no_happy_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name in ("HAPPY_SERVER_URL", "HAPPY_TOKEN", "HAPPY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HAPPY_HOME_DIR", str(tmp_path))


@pytest.fixture
def machine(happy_server: FakeHappyServer) -> FakeMachine:
    return happy_server.add_machine()


class LeapingClock:
    """A monotonic clock that can leap forward, so that no test waits for a time to pass."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def leap(self) -> None:
        self._ahead += 10_000.0


def client_of(server: FakeHappyServer, **options: object) -> HappyClient:
    """A client that looks often while it has no live connection, and settles soon."""
    settings = {"poll_interval": 0.02, "settle_seconds": 0.2, "random_fraction": lambda: 0.0}
    return HappyClient(
        server.server_url,
        token=server.token,
        secret_b64=server.secret_b64,
        **{**settings, **options},  # type: ignore[arg-type]
    )


@pytest.fixture
def client(happy_server: FakeHappyServer) -> Iterator[HappyClient]:
    with client_of(happy_server) as made:
        yield made
