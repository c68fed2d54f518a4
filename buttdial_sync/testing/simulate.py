"""Simulated servers: signed webhooks over real HTTP, repeated as servers repeat them."""

from __future__ import annotations

import copy
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from buttdial_sync.inbound.authentication import Authenticity, Headers, WebhookAuthenticator
from buttdial_sync.inbound.signatures import sign_webhook, sign_whatsapp
from buttdial_sync.testing.dialects import DialectName

if TYPE_CHECKING:
    from buttdial_sync.inbound.handler import InboundHandler

WebhookChannel = Literal["whatsapp", "butt-dial", "account"]

RETRY_PAUSES = (1.0, 5.0, 25.0, 120.0, 600.0)
"""The pauses between attempts at an account event, in seconds."""

ACCEPTED = range(200, 300)

NUMBERS = itertools.count(1)
"""Numbers what is made, in this process: an id twice would be a repetition for the host."""


@attrs.frozen(kw_only=True)
class Delivery:
    """
    A webhook that is ready to be sent, as often as wanted.

    Attributes:
        body: The body's bytes.
        headers: The headers, the signature among them.
    """

    body: bytes
    headers: Mapping[str, str] = attrs.field(repr=lambda headers: repr(sorted(headers)))

    def send(self, url: str, *, timeout: float = 10.0) -> int:
        """Post it; return the HTTP status."""
        import requests  # here, because the fake server itself needs no third-party library

        response = requests.post(url, data=self.body, headers=dict(self.headers), timeout=timeout)
        return response.status_code


@attrs.define
class HostSimulator:
    """
    Makes the webhooks that a host gets. Safe to share between threads.

    Args:
        whatsapp_secret: WhatsApp's app secret; unsigned when None.
        account_secret: The webhook secret.
        now: The time in unix seconds.
        sleep: Sleeps for some seconds between attempts.
    """

    whatsapp_secret: str | None = attrs.field(default=None, repr=False)
    account_secret: str = attrs.field(default="webhook-secret", repr=False)
    now: Callable[[], float] = time.time
    sleep: Callable[[float], object] = attrs.field(factory=lambda: threading.Event().wait)

    def whatsapp(self, *messages: Mapping[str, Any], **value: Any) -> Delivery:
        """
        Make WhatsApp's webhook.

        Args:
            *messages: Messages as WhatsApp writes them; what is absent is filled in.
            **value: What else the change holds, such as ``statuses`` or ``contacts``.
        """
        full = [self._whatsapp_message(each) for each in messages]
        change = {"field": "messages", "value": {"messages": full, **value}}
        body = _json({"object": "whatsapp_business_account", "entry": [{"changes": [change]}]})
        headers = {"Content-Type": "application/json"}
        if self.whatsapp_secret is not None:
            headers["X-Hub-Signature-256"] = sign_whatsapp(body, self.whatsapp_secret)
        return Delivery(body=body, headers=headers)

    def message(self, dialect: DialectName = "hosted", **fields: Any) -> Delivery:
        """
        Make Butt-Dial's own webhook with a message, or with a receipt when there is a ``status``.

        Args:
            dialect: Which server writes it.
            **fields: Its fields with their wire names, over plausible defaults.
        """
        return self.packed(message_payload(next(NUMBERS), dialect, **fields))

    def packed(self, payload: Mapping[str, Any]) -> Delivery:
        """Make an unsigned webhook of a payload, which is not changed."""
        return Delivery(body=_json(payload), headers={"Content-Type": "application/json"})

    def account_verified(
        self, *, delivery_id: str | None = None, signed_at: float | None = None, **fields: Any
    ) -> Delivery:
        """
        Make the webhook that tells that an account was verified.

        Args:
            delivery_id: Its id; made when absent.
            signed_at: When it was signed, in unix seconds; now when None.
            **fields: Its fields with their wire names, over plausible defaults.
        """
        number = next(NUMBERS)
        body = _json(
            {
                "event": "account.verified",
                "orgId": "org-1",
                "ownerEmail": "owner@example.com",
                "teamToken": f"team-token-{number}",
                "scopes": ["agents:write"],
                "verifiedAt": "2026-01-02T03:04:05Z",
                **fields,
            }
        )
        timestamp = int(self.now() if signed_at is None else signed_at)
        headers = {
            "Content-Type": "application/json",
            "X-BD-Event": "account.verified",
            "X-BD-Timestamp": str(timestamp),
            "X-BD-Signature": sign_webhook(body, timestamp, self.account_secret),
            "X-BD-Delivery-Id": delivery_id or f"delivery-{number}",
        }
        return Delivery(body=body, headers=headers)

    def deliver(self, delivery: Delivery, *urls: str) -> list[int]:
        """
        Send it as the hosted server sends account events: again after a failure, six times in all.

        The same bytes each time, with the time stamp and the signature of the first. If none was
        answered within five minutes, an `InboundHandler` refuses the last one, as too old.

        Args:
            delivery: What to send.
            *urls: Where to; with several, the attempts go round them, as through a balancer.

        Returns:
            The statuses of the attempts; 0 where there was none.
        """
        statuses: list[int] = []
        for pause, url in zip((0.0, *RETRY_PAUSES), itertools.cycle(urls), strict=False):
            if pause:
                self.sleep(pause)
            try:
                statuses.append(delivery.send(url))
            except OSError:  # as all that requests raises
                statuses.append(0)
            if statuses[-1] in ACCEPTED:
                break
        return statuses

    def _whatsapp_message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": f"wamid.{next(NUMBERS)}",
            "from": "14155550123",
            "timestamp": str(int(self.now())),
            "type": "text",
            **message,
        }


def hand_over(delivery: Delivery, host: str | InboundHandler, channel: WebhookChannel) -> int:
    """
    Send a webhook to a URL, or give it to a handler that takes its signature for right.

    Returns:
        The HTTP status of the answer.
    """
    if isinstance(host, str):
        return delivery.send(host)
    trusting = copy.copy(host)  # what it has handled, and its handlers, are shared
    trusting._authenticator = _Trusting()
    return trusting.handle(channel, delivery.body, delivery.headers).status


class _Trusting(WebhookAuthenticator):
    """Takes every signature for right; Butt-Dial's own messages have none."""

    def authenticate(self, channel: str, body: bytes, headers: Headers) -> Authenticity:
        """Tell whether servers sign on this channel."""
        return "unsigned" if channel == "butt-dial" else "signed"


def message_payload(number: int, dialect: DialectName = "hosted", **fields: Any) -> dict[str, Any]:
    """Make an inbound message as a server writes it, for a webhook or for ``push``."""
    message: dict[str, Any] = {
        "channel": "sms",
        "from": "+14155550123",
        "to": "+15550000000",
        "body": f"Message {number}",
    }
    if dialect == "hosted":
        own = {"type": "message", "messageId": f"message-{number}", **message}
    else:
        external = {"mediaUrl": None, "mediaType": None, "externalId": f"SM{number}"}
        own = {"agentId": "agent-1", "direction": "inbound", **message, **external}
    return {**own, **fields}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
