"""Servers for the doctor, healthy and ill, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer

TOKEN = "agent-token-of-the-tests"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """A hosted server that knows one token."""
    with FakeButtDialServer(tokens=[TOKEN]).listen() as loopback:
        yield loopback
