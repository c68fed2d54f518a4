"""Events that come in during a diagnosis: receipts of its message, answers of its recipient."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parseaddr
from typing import TypeVar

from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.models.inbound import DeliveryReceipt, InboundMessage

T = TypeVar("T")

_INTERIM = frozenset({"queued", "sent"})


class ReceivedEvents:
    """Keeps what an inbound handler hands over. Safe to share between threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[DeliveryReceipt | InboundMessage] = []

    @contextmanager
    def watching(self, inbound: InboundHandler) -> Iterator[None]:
        """Keep what a handler hands over until the block ends; its other handlers go on."""
        inbound.on_delivery_receipt(self._keep)
        inbound.on_message(self._keep)
        try:
            yield
        finally:
            inbound.remove(self._keep)

    def receipt(self, message_sid: str, seconds: float) -> DeliveryReceipt | None:
        """
        Wait for the receipt that says how a message ended.

        Returns:
            That receipt, otherwise the last interim one, or None.
        """

        def ours() -> list[DeliveryReceipt]:
            receipts = (each for each in self._events if isinstance(each, DeliveryReceipt))
            return [each for each in receipts if each.message_sid == message_sid]

        def final() -> DeliveryReceipt | None:
            return next((each for each in ours() if each.status not in _INTERIM), None)

        return self._wait(final, seconds) or next(reversed(ours()), None)

    def answer(self, sender: str, seconds: float) -> InboundMessage | None:
        """Wait for a message from somebody; None when none came."""

        def found() -> InboundMessage | None:
            messages = (each for each in self._events if isinstance(each, InboundMessage))
            return next((each for each in messages if is_from(each, sender)), None)

        return self._wait(found, seconds)

    def _wait(self, look: Callable[[], T | None], seconds: float) -> T | None:
        with self._changed:
            return self._changed.wait_for(look, seconds)

    def _keep(self, event: DeliveryReceipt | InboundMessage) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()


def is_from(message: InboundMessage, address: str) -> bool:
    """Whether somebody sent a message; numbers are written with and without plus and prefix."""
    return _plain(message.sender) == _plain(address)


def _plain(address: str) -> str:
    if "@" in address:
        return parseaddr(address)[1].casefold()
    return re.sub(r"\D", "", address) or address.casefold()
