"""
Sending again what could not be sent: the loop, the outbox, and the tables they stand on.

``RetryLoop``, ``RetryReport``, ``Outbox``, ``FailedMessage`` and the interfaces are names of
:mod:`buttdial_sync` too. ``SQLAlchemyRepository`` needs ``buttdial-sync[sqlalchemy]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buttdial_sync._lazy import lazy_names

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

if not TYPE_CHECKING:  # a type checker would take every misspelt name for Any
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
