"""Between messages in a repository and what ``send_message`` takes."""

from __future__ import annotations

from typing import Any

from buttdial_sync.calls import sending
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.message import CONTENT, Message


def arguments_of(message: FailedMessage) -> dict[str, Any]:
    """Return a message as the keyword arguments of ``send_message``."""
    arguments = {name: getattr(message, name) for name in CONTENT}
    arguments["body"] = message.body or None
    arguments["to"] = message.recipient
    # The same key at every attempt, also for a row that was written without one.
    arguments["idempotency_key"] = message.idempotency_key or f"buttdial-sync-{message.id}"
    return arguments


def check_message(message: FailedMessage) -> None:
    """
    Check a message as ``send_message`` would, before it is written.

    Raises:
        ArgumentTypeError: A field has the wrong type.
        ArgumentValueError: It has a value that it cannot have, or there is nothing to send.
    """
    sending.check_message(Message(**arguments_of(message)))
