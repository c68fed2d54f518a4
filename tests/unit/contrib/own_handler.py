"""A host's own handler, as the documentation shows it."""

from __future__ import annotations

from buttdial_sync import InboundMessage
from buttdial_sync.contrib.django import make_handler

inbound = make_handler()
orders: list[str] = []


@inbound.on_message("sms")
def take_order(message: InboundMessage) -> None:
    """Take an order."""
    orders.append(message.text)
