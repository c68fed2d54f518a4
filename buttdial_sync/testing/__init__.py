"""
A Butt-Dial server for tests.

`FakeButtDialServer` answers as the hosted service or as the open-source server, records what
came, and fails on demand. It can be reached over a real socket (``listen()``) or by way of the
``responses`` library (``mocked()``). Only the latter needs ``buttdial-sync[testing]``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

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


def __getattr__(name: str) -> object:
    """Load a public name on its first use."""
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
