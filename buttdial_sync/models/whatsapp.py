"""The results of WhatsApp actions."""

from __future__ import annotations

from typing import Any

import attrs

from buttdial_sync.models.converter import Identifier


@attrs.frozen(kw_only=True)
class WhatsAppMessage:
    """
    A WhatsApp message that the server took.

    Attributes:
        message_id: The server's id of it, as the other actions take it.
    """

    message_id: Identifier | None = None
    raw: Any = attrs.field(default=None, eq=False, repr=False)
