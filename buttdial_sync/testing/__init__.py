"""
A Butt-Dial server for tests.

`FakeButtDialServer` answers as the hosted service or as the open-source server, records what
came, and fails on demand. It can be reached over a real socket (``listen()``) or by way of the
``responses`` library (``mocked()``). Only the latter needs ``buttdial-sync[testing]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buttdial_sync._lazy import lazy_names

if TYPE_CHECKING:
    from buttdial_sync.testing.answers import ToolFailure
    from buttdial_sync.testing.exchange import Request
    from buttdial_sync.testing.faults import FaultKind, Place
    from buttdial_sync.testing.journal import ToolCall
    from buttdial_sync.testing.loopback import LoopbackServer
    from buttdial_sync.testing.mocked import MockedServer
    from buttdial_sync.testing.server import FakeButtDialServer
    from buttdial_sync.testing.simulate import HostSimulator

__all__ = [
    "FakeButtDialServer",
    "FaultKind",
    "HostSimulator",
    "LoopbackServer",
    "MockedServer",
    "Place",
    "Request",
    "ToolCall",
    "ToolFailure",
]

_HOMES = {
    "FakeButtDialServer": "server",
    "FaultKind": "faults",
    "HostSimulator": "simulate",
    "LoopbackServer": "loopback",
    "MockedServer": "mocked",
    "Place": "faults",
    "Request": "exchange",
    "ToolCall": "journal",
    "ToolFailure": "answers",
}

if not TYPE_CHECKING:  # a type checker would take every misspelt name for Any
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
