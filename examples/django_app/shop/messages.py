"""What the shop does with what comes in."""

import json
import logging
from typing import Any

from django.conf import settings
from django.dispatch import receiver

from buttdial_sync import AccountVerified, InboundMessage
from buttdial_sync.contrib.django import get_client
from buttdial_sync.contrib.django.signals import account_verified, message_received
from buttdial_sync.models.inbound import InboundEvent

logger = logging.getLogger("shop")


@receiver(message_received)
def answer(event: InboundMessage, **_: Any) -> None:
    """Answer a message. When that fails, raise: the sender tries again later."""
    result = get_client().send_message(
        event.sender,
        f"We got your message: {event.text}",
        channel="whatsapp",
        reply_msg_id=event.id,
        idempotency_key=f"answer-{event.channel}-{event.id}",
    )
    if result.failed:
        raise RuntimeError(result.error)


@receiver(account_verified)
def welcome(event: AccountVerified, **_: Any) -> None:
    """Note it. A real shop keeps event.team_token where it keeps its secrets."""
    logger.info("workspace %s is verified", event.org_id)


def keep(event: InboundEvent) -> None:
    """Write down what nobody could handle: it is not on the server any more."""
    with open(settings.DATA / "undelivered.jsonl", "a", encoding="utf-8") as kept:
        kept.write(json.dumps(event.raw) + "\n")
