"""
Sending again what could not be sent: the loop, the outbox, and the tables they stand on.

``RetryLoop``, ``RetryReport``, ``Outbox``, ``FailedMessage`` and the interfaces are names of
:mod:`buttdial_sync` too. ``SQLAlchemyRepository`` needs ``buttdial-sync[sqlalchemy]``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buttdial_sync.retry.loop import RetryLoop
    from buttdial_sync.retry.memory import MemoryRepository
    from buttdial_sync.retry.outbox import Outbox
    from buttdial_sync.retry.report import RetryReport
    from buttdial_sync.retry.sqlalchemy import SQLAlchemyRepository
    from buttdial_sync.retry.sqlite import SQLiteRepository

__all__ = [
    "MemoryRepository",
    "Outbox",
    "RetryLoop",
    "RetryReport",
    "SQLAlchemyRepository",
    "SQLiteRepository",
]

_HOMES = {
    "MemoryRepository": "memory",
    "Outbox": "outbox",
    "RetryLoop": "loop",
    "RetryReport": "report",
    "SQLAlchemyRepository": "sqlalchemy",
    "SQLiteRepository": "sqlite",
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
