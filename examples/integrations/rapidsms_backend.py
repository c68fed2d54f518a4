"""
A backend of RapidSMS: SMS or WhatsApp.

In the settings::

    INSTALLED_BACKENDS = {
        "butt-dial": {
            "ENGINE": "rapidsms_backend.ButtDialBackend",
            "base_url": "https://…",
            "agent_token": "…",
            "channel": "sms",
        },
    }

RapidSMS makes a new backend for each message; ``shared_client`` keeps one client all the same.
Messages that come in: mount ``InboundHandler.wsgi()``, or use ``buttdial_sync.contrib.django``, and
call ``rapidsms.router.receive`` in the handler.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from rapidsms.backends.base import BackendBase
from rapidsms.errors import MessageSendingError

from buttdial_sync import shared_client

logger = logging.getLogger(__name__)


class ButtDialBackend(BackendBase):
    """Sends the router's messages through a Butt-Dial server."""

    def configure(
        self, base_url: str, agent_token: str, channel: str = "sms", **options: Any
    ) -> None:
        """Take what the settings say; further options are those of ``Client``."""
        self.channel = channel
        # The router may be called again by Celery, so the client need not try again by itself.
        self.client = shared_client(
            base_url, agent_token=agent_token, **{"max_attempts": 1, **options}
        )
        self._config = {}  # the base class keeps what it was given, the token included

    def send(
        self,
        id_: str,
        text: str,
        identities: Sequence[str],
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Send a message to some people, to each under the key that he has in this message.

        Raises:
            MessageSendingError: With those who certainly did not get it. Who may have got it is
                only logged: the router would send it again.
        """
        results = self.client.send_many(identities, text, self.channel, campaign=id_)
        failed = []
        for identity, result in zip(identities, results, strict=True):
            if result.unknown:
                logger.warning("message %s may have been sent to %s", id_, identity)
            elif result.failed:
                logger.warning("message %s was not sent to %s: %s", id_, identity, result.error)
                failed.append(identity)
        if failed:
            raise MessageSendingError(f"{len(failed)} messages failed", failed_identities=failed)
