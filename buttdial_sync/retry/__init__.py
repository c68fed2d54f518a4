"""
Sending messages again that could not be sent: the loop, the outbox, and their tables.

``RetryLoop``, ``RetryReport``, ``Outbox``, ``FailedMessage`` and the interfaces are names of
:mod:`buttdial_sync` too. ``SQLAlchemyRepository`` needs ``buttdial-sync[sqlalchemy]``.
"""

from __future__ import annotations

from buttdial_sync._lazy import names_of_stub

__getattr__, __dir__ = names_of_stub(__name__, __file__)
