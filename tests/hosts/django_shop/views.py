"""A shop that tells its customers, and listens to them."""

from __future__ import annotations

from typing import Any

import requests
from django.dispatch import receiver
from django.http import HttpRequest, JsonResponse

from buttdial_sync import InboundMessage
from buttdial_sync.contrib.django import get_client
from buttdial_sync.contrib.django.signals import message_received

PARCELS = "https://parcels.example/track/"


def ship(request: HttpRequest, order: str) -> JsonResponse:
    """Tell the customer where the parcel is."""
    state = requests.get(PARCELS + order, timeout=5).json()["state"]
    result = get_client().send_message(
        request.POST["to"], f"Your order {order} is {state}.", thread_id=f"order-{order}"
    )
    answer = {"outcome": result.outcome, "remediation": result.remediation}
    return JsonResponse(answer, status=200 if result.ok else 502)


@receiver(message_received)
def answer(event: InboundMessage, **_: Any) -> None:
    """Answer who asks."""
    if "open" in event.text:
        get_client().send_message(event.sender, "We open at nine.")
