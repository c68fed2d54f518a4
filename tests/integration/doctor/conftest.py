"""Servers for the doctor, healthy and ill, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer

TOKEN = "agent-token-of-the-tests"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """A hosted server that knows one token."""
    with FakeButtDialServer(tokens=[TOKEN]).listen() as loopback:
        yield loopback


@pytest.fixture
def closed_port() -> Iterator[str]:
    """The address of a port that is taken, and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
