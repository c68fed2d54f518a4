"""An agent's profile and channels."""

from __future__ import annotations

from datetime import datetime

import attrs

from buttdial_sync.models.converter import Identifier
from buttdial_sync.models.credentials import agent_token_field
from buttdial_sync.models.result import ServerResult, named
from buttdial_sync.models.tool_result import ToolResult


@attrs.frozen(kw_only=True)
class AgentProfile(ServerResult):
    """
    An agent as the server knows it.

    Attributes:
        agent_id: Its id.
        display_name: Its name.
        status: As the server says it, such as ``"active"``.
        lifecycle_state: How far it is set up.
        channels: Its ``phone``, ``whatsapp`` and ``email``.
        callback_url: Where messages for it are posted.
        created_at: Since when it exists.
        provisioned_at: Since when it has channels.
    """

    agent_id: Identifier | None = None
    display_name: str | None = None
    status: str | None = None
    lifecycle_state: str | None = None
    channels: ToolResult | None = None
    callback_url: str | None = attrs.field(default=None, repr=False)  # hosts put tokens into it
    created_at: datetime | None = None
    provisioned_at: datetime | None = None


@attrs.frozen(kw_only=True)
class ChannelStatus(ServerResult):
    """
    The state of an agent's channels.

    Attributes:
        phone, whatsapp, email, voice_ai: What the server says about each, with its ``status``; None
            where there is no such channel.
        agent_id: The agent. This and the following only from the open-source server.
        display_name: Its name.
        status: Its own state.
        provisioned_at: Since when it has channels.
        pool: How many agents there may be, and are.
    """

    phone: ToolResult | None = named("phone", "channels.phone")
    whatsapp: ToolResult | None = named("whatsapp", "channels.whatsapp")
    email: ToolResult | None = named("email", "channels.email")
    voice_ai: ToolResult | None = named("voiceAi", "voice_ai", "channels.voiceAi")
    agent_id: Identifier | None = None
    display_name: str | None = None
    status: str | None = None
    provisioned_at: datetime | None = None
    pool: ToolResult | None = None


@attrs.frozen(kw_only=True)
class RotatedToken(ServerResult):
    """
    An agent's new token. The old one dies 30 seconds later.

    Attributes:
        token: The token; None in a preview.
        previewed: Nothing was changed: the call asked for a preview.
    """

    token: str | None = agent_token_field(default=None)
    previewed: bool = False
