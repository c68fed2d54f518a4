"""
The blocking, thread-safe client for Butt-Dial.

::

    from buttdial_sync import Client

    with Client("https://butt-dial.example", agent_token="…") as client:
        result = client.send_message("+14155550123", "Your order has shipped.")

The public names are loaded on first use: importing this package loads neither ``requests`` nor
``cattrs``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from buttdial_sync._version import __version__ as __version__

if TYPE_CHECKING:
    from buttdial_sync.client import Client as Client
    from buttdial_sync.errors import *  # noqa: F403
    from buttdial_sync.models.events import ClientEvent as ClientEvent
    from buttdial_sync.models.failed import FailedMessage as FailedMessage
    from buttdial_sync.models.inbox import WaitingMessage as WaitingMessage
    from buttdial_sync.models.sending import SendResult as SendResult
    from buttdial_sync.models.tool_result import ToolResult as ToolResult
    from buttdial_sync.models.tools import Tool as Tool
    from buttdial_sync.models.whatsapp import WhatsAppMessage as WhatsAppMessage
    from buttdial_sync.retry.repository import (
        AdminFailedMessageRepository as AdminFailedMessageRepository,
    )
    from buttdial_sync.retry.repository import FailedMessageRepository as FailedMessageRepository
    from buttdial_sync.retry.repository import OutboxRepository as OutboxRepository

_HOMES = {
    "Client": "client",
    "ClientEvent": "models.events",
    "FailedMessage": "models.failed",
    "WaitingMessage": "models.inbox",
    "SendResult": "models.sending",
    "Tool": "models.tools",
    "ToolResult": "models.tool_result",
    "WhatsAppMessage": "models.whatsapp",
    "AdminFailedMessageRepository": "retry.repository",
    "FailedMessageRepository": "retry.repository",
    "OutboxRepository": "retry.repository",
}


_ERRORS = f"{__name__}.errors"


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif not name.startswith("_") and name in (errors := import_module(_ERRORS)).__all__:
        value = getattr(errors, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*_HOMES, *import_module(_ERRORS).__all__, "__version__"})
