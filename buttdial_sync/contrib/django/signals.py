"""
Django signals for what comes in; receivers get ``event`` and, as sender, its class.

A receiver that raises is logged, the other receivers run, and the sender of the webhook tries
again: then all receivers of the signal are called once more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from weakref import WeakSet

from django.dispatch import Signal

from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.models.inbound import InboundEvent

logger = logging.getLogger("buttdial_sync.django")

message_received = Signal()
delivery_receipt = Signal()
status_update = Signal()
account_verified = Signal()

_forwarding: WeakSet[InboundHandler] = WeakSet()


def forward_to_signals(inbound: InboundHandler, *, has_others: bool = True) -> None:
    """
    Have a handler send the signals. Calling it twice for the same one is safe, but not at once.

    Args:
        inbound: The handler.
        has_others: Whether functions of the host get the events too. Without them an event that no
            receiver gets is told in the log.
    """
    if inbound in _forwarding:
        return
    for signal, name, register in (
        (message_received, "message_received", inbound.on_message),
        (delivery_receipt, "delivery_receipt", inbound.on_delivery_receipt),
        (status_update, "status_update", inbound.on_status_update),
        (account_verified, "account_verified", inbound.on_account_verified),
    ):
        forward = _forwarder(signal, name, has_others=has_others)
        inbound.remove(forward)  # a call that was interrupted, or forked, may have added it
        register(forward)
    _forwarding.add(inbound)


@cache
def _forwarder(signal: Signal, name: str, *, has_others: bool) -> Callable[[InboundEvent], None]:
    def forward(event: InboundEvent) -> None:
        if not has_others and not signal.has_listeners(type(event)):
            # It counts as handled: a project need not listen for every kind of event.
            logger.warning("no receiver of the signal %s: an event is handled by nobody", name)
        for _, answer in signal.send_robust(sender=type(event), event=event):
            if isinstance(answer, Exception):
                raise answer

    # The delivery log knows handlers by name, and the processes have to agree on it.
    forward.__qualname__ = name
    return forward
