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
    from buttdial_sync.testing.faults import FaultKind, Place
    from buttdial_sync.testing.http_messages import Request
    from buttdial_sync.testing.loopback import LoopbackServer
    from buttdial_sync.testing.mocked import MockedServer
    from buttdial_sync.testing.request_log import ToolCall
    from buttdial_sync.testing.server import FakeButtDialServer
    from buttdial_sync.testing.simulate import HostSimulator
    from buttdial_sync.testing.tool_answers import ToolFailure

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
    "Request": "http_messages",
    "ToolCall": "request_log",
    "ToolFailure": "tool_answers",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
