"""
Transports of Healthchecks: SMS, WhatsApp and phone calls, with receipts.

It belongs beside ``hc/api/transports.py``, with three rows in ``hc/api/models.py``::

    "bd_sms": healthchecks_transport.Sms,
    "bd_whatsapp": healthchecks_transport.WhatsApp,
    "bd_call": healthchecks_transport.Call,

and in the settings, from the environment as all others of Healthchecks::

    BUTT_DIAL = {"BASE_URL": …, "AGENT_TOKEN": …, "CLIENT": {"timeout": 15.0}}

Healthchecks repeats nothing, so the client does: three attempts within its timeout, and a message
that may have been sent only where the server honours keys. The key is the code of the row in
``Notification``. ``take_receipt`` is a handler of delivery receipts, which finds the row by it and
writes why a message did not arrive. A server that sends no key back needs a column for
``result.message_sid``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils.timezone import now
from hc.api.models import Channel, Notification
from hc.api.transports import Transport, TransportError

from buttdial_sync import ButtDialError, DeliveryReceipt, OutcomeUnknownError
from buttdial_sync.contrib.django import get_client

_FAILED = {"failed", "undelivered"}
_RECEIPTS_FOR = timedelta(hours=1)


class _Phone(Transport):
    """What the three have in common: a phone, and when it is told."""

    def is_noop(self, status: str) -> bool:
        """Whether this channel is not told about this status."""
        phone = self.channel.phone
        return not (phone.notify_down if status == "down" else phone.notify_up)

    def text(self, flip: Any) -> str:
        """Say what happened to a check."""
        return f"The check {flip.owner.name_then_code()} is {flip.new_status.upper()}."


class Sms(_Phone):
    """Tells somebody by SMS."""

    wire_channel = "sms"

    def notify(self, flip: Any, notification: Any) -> None:
        """
        Send one message.

        Raises:
            TransportError: It was not sent, or may not have been. Permanent where no further
                message would get through: then Healthchecks disables the channel.
        """
        result = get_client().send_message(
            self.channel.phone.value,
            self.text(flip),
            self.wire_channel,
            idempotency_key=str(notification.code),
            entity_id=str(notification.code),
        )
        if result.unknown:
            raise TransportError(f"It may have been sent: {result.error}")
        if result.failed:
            raise TransportError(result.error or "It was not sent", permanent=result.permanent)


class WhatsApp(Sms):
    """Tells somebody by WhatsApp."""

    wire_channel = "whatsapp"


class Call(_Phone):
    """Calls somebody when a check goes down."""

    def is_noop(self, status: str) -> bool:
        """Nobody is called because something works."""
        return status != "down"

    def notify(self, flip: Any, notification: Any) -> None:
        """
        Call, and say what happened.

        Raises:
            TransportError: As for a message.
        """
        try:
            get_client().voice.send_message(self.channel.phone.value, self.text(flip))
        except OutcomeUnknownError as error:
            raise TransportError(f"There may have been a call: {error}") from None
        except ButtDialError as error:
            raise TransportError(str(error), permanent=error.cured_by == "nothing") from None


def take_receipt(receipt: DeliveryReceipt) -> None:
    """
    Write a receipt into the row of its notification; for ``on_delivery_receipt``.

    A message that did not arrive is an error of the channel, as with the other transports. Receipts
    come in any order and more than once, and an hour later nobody waits for one.
    """
    code = receipt.idempotency_key or receipt.entity_id
    if receipt.status not in _FAILED or code is None or not _is_uuid(code):
        return
    recent = Notification.objects.filter(code=code, created__gt=now() - _RECEIPTS_FOR)
    notification = recent.first()
    if notification is not None:
        error = f"Delivery failed: {receipt.error or receipt.error_code or receipt.status}"[:200]
        recent.update(error=error)
        Channel.objects.filter(id=notification.channel_id).update(last_error=error)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
