"""A host's agents as an operator sees them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import attrs

AgentStatus = Literal["active", "paused"]


@attrs.frozen(kw_only=True)
class AgentInfo:
    """
    One of the host's agents.

    Attributes:
        id: The host's id of it.
        name: Its name.
        has_token: Whether it was provisioned.
        whatsapp_number, phone_number, email: Its addresses, where it has them.
        status: ``"active"`` or ``"paused"``.
        message_count: How many messages it sent.
        failed_count: How many of them failed.
        last_activity: When it last did something (aware), or None.
    """

    id: str
    name: str
    has_token: bool
    whatsapp_number: str | None = None
    phone_number: str | None = None
    email: str | None = None
    status: AgentStatus = "active"
    message_count: int = 0
    failed_count: int = 0
    last_activity: datetime | None = None


@attrs.frozen(kw_only=True)
class OverviewSnapshot:
    """
    What a host counted over all of its agents.

    Attributes:
        agents_provisioned: Agents with a token.
        total_messages_sent: Messages that the server took.
        total_messages_failed: Messages that it did not.
        total_messages_received: Messages that came in.
    """

    agents_provisioned: int = 0
    total_messages_sent: int = 0
    total_messages_failed: int = 0
    total_messages_received: int = 0
