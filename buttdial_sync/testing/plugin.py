"""
The pytest plugin: a fake server as a fixture.

``fake_server`` answers behind the ``responses`` library at ``https://butt-dial.test``;
``loopback_server`` listens on a port of 127.0.0.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from buttdial_sync.testing.loopback import LoopbackServer
    from buttdial_sync.testing.server import FakeButtDialServer


@pytest.fixture
def fake_server() -> Iterator[FakeButtDialServer]:
    """Give a fake hosted server, installed at ``https://butt-dial.test``."""
    from buttdial_sync.testing.server import FakeButtDialServer

    server = FakeButtDialServer()
    server.install()
    try:
        yield server
    finally:
        server.uninstall()


@pytest.fixture
def loopback_server() -> Iterator[LoopbackServer]:
    """Give a fake hosted server that listens; its core is ``loopback_server.fake``."""
    from buttdial_sync.testing.server import FakeButtDialServer

    with FakeButtDialServer().listen() as loopback:
        yield loopback
