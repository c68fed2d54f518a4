"""The results of WhatsApp actions."""

from __future__ import annotations

import attrs

from buttdial_sync.models.answer import Answer
from buttdial_sync.models.converter import Identifier


@attrs.frozen(kw_only=True)
class WhatsAppMessage(Answer):
    """
    A WhatsApp message that the server took.

    Attributes:
        message_id: The server's id of it, as the other actions take it.
    """

    message_id: Identifier | None = None
