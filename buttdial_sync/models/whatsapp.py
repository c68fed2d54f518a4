"""The results of WhatsApp actions."""

from __future__ import annotations

import attrs

from buttdial_sync.models.converter import Identifier
from buttdial_sync.models.result import ServerResult


@attrs.frozen(kw_only=True)
class WhatsAppMessage(ServerResult):
    """
    A WhatsApp message that the server took.

    Attributes:
        message_id: The server's id of it, as the other actions take it.
    """

    message_id: Identifier | None = None
