"""
Django signals for what comes in; receivers get ``event`` and, as sender, its class.

A receiver that raises is logged, the other receivers run, and the sender of the webhook tries
again: then all receivers of the signal are called once more.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

from django.dispatch import Signal

from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.models.inbound import InboundEvent

message_received = Signal()
delivery_receipt = Signal()
status_update = Signal()
account_verified = Signal()

_forwarding: WeakSet[InboundHandler] = WeakSet()


def forward_to_signals(inbound: InboundHandler) -> None:
    """Have a handler send the signals. Calling it twice for the same one is safe."""
    if inbound in _forwarding:
        return
    _forwarding.add(inbound)
    inbound.on_message(_forwarder(message_received, "message_received"))
    inbound.on_delivery_receipt(_forwarder(delivery_receipt, "delivery_receipt"))
    inbound.on_status_update(_forwarder(status_update, "status_update"))
    inbound.on_account_verified(_forwarder(account_verified, "account_verified"))


def _forwarder(signal: Signal, name: str) -> Callable[[InboundEvent], None]:
    def forward(event: InboundEvent) -> None:
        for _, answer in signal.send_robust(sender=type(event), event=event):
            if isinstance(answer, Exception):
                raise answer

    # The delivery log knows handlers by name, and the processes have to agree on it.
    forward.__qualname__ = name
    return forward
