"""The servers that listeners are tested with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer


@pytest.fixture(params=["hosted", "open-source"])
def server(request: pytest.FixtureRequest) -> Iterator[LoopbackServer]:
    with FakeButtDialServer(dialect=request.param).listen() as loopback:
        yield loopback


@pytest.fixture
def hosted() -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        yield loopback
