"""What a test lets a host receive: over real HTTP, or handed to its handler directly."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from buttdial_sync.testing.assertions import Assertions
from buttdial_sync.testing.programming import Programming

if TYPE_CHECKING:
    from buttdial_sync.inbound.handler import InboundHandler
    from buttdial_sync.testing.simulate import Delivery, HostSimulator

_NUMBERS = itertools.count(1)


class Incoming(Assertions, Programming):
    """
    Lets messages, receipts and account events come in.

    The host is a URL, which gets a webhook over HTTP, signed where servers sign; or an
    `InboundHandler`, which gets it without a network and without a check of its signature.
    """

    def simulate_inbound(
        self,
        host: str | InboundHandler,
        *,
        sender: str = "+14155550123",
        text: str = "hello",
        channel: str = "whatsapp",
        whatsapp_secret: str | None = None,
        **fields: Any,
    ) -> int:
        """
        Let a message come in.

        What the host does not take with an answer of 2xx, the open-source server keeps in its
        waiting queue.

        Args:
            host: Where to.
            sender: Who wrote it.
            text: What.
            channel: On which channel.
            whatsapp_secret: Send it as WhatsApp Cloud does, signed with this app secret; else it
                comes in the format of this server's dialect.
            **fields: More fields, with their wire names.

        Returns:
            The HTTP status of the answer; 200 or 500 for a handler. 0 where the open-source server
            got none.
        """
        if whatsapp_secret is not None:
            text_message = {"from": sender, "text": {"body": text}, **fields}
            return self._deliver(host, lambda make: make.whatsapp(text_message), whatsapp_secret)
        payload = self._payload(channel=channel, body=text, **{"from": sender}, **fields)
        if self._dialect.hosted:
            return self._deliver(host, lambda make: make.packed(payload))
        try:
            status = self._deliver(host, lambda make: make.packed(payload))
        except OSError:  # as all that requests raises
            status = 0
        if not 200 <= status < 300:
            self._queue(payload)
        return status

    def simulate_receipt(
        self,
        host: str | InboundHandler,
        *,
        message_sid: str,
        status: str = "delivered",
        channel: str = "whatsapp",
        **fields: Any,
    ) -> int:
        """
        Let a delivery receipt come in.

        Args:
            host: Where to.
            message_sid: The message's id.
            status: ``"queued"``, ``"sent"``, ``"delivered"``, ``"read"``, ``"failed"`` or
                ``"undelivered"``.
            channel: On which channel.
            **fields: More fields, with their wire names.

        Returns:
            The HTTP status of the answer; 200 or 500 for a handler.
        """
        wanted = {"type": "status", "messageId": message_sid, "status": status, "channel": channel}
        payload = self._payload(**wanted, **fields)
        return self._deliver(host, lambda make: make.packed(payload))

    def simulate_account_verified(
        self,
        host: str | InboundHandler,
        *,
        secret: str = "webhook-secret",
        delivery_id: str | None = None,
        **fields: Any,
    ) -> int:
        """
        Let the event come in that a workspace was verified.

        Args:
            host: Where to.
            secret: The webhook secret that it is signed with.
            delivery_id: The same for a repeated delivery; made when absent.
            **fields: More fields, with their wire names: ``orgId``, ``teamToken``, …

        Returns:
            The HTTP status of the answer; 200 or 500 for a handler.
        """
        return self._deliver(
            host,
            lambda make: make.account_verified(delivery_id=delivery_id, **fields),
            account_secret=secret,
        )

    def _payload(self, **fields: Any) -> dict[str, Any]:
        from buttdial_sync.testing.simulate import message_payload

        return message_payload(next(_NUMBERS), self.dialect, **fields)

    def _deliver(
        self,
        host: str | InboundHandler,
        made: Callable[[HostSimulator], Delivery],
        whatsapp_secret: str | None = None,
        account_secret: str = "",
    ) -> int:
        from buttdial_sync.testing.simulate import HostSimulator

        delivery = made(
            HostSimulator(whatsapp_secret=whatsapp_secret, account_secret=account_secret)
        )
        if isinstance(host, str):
            return delivery.send(host)
        payload: Mapping[str, Any] = json.loads(delivery.body)
        return 500 if host.dispatch(payload).failed else 200
