"""A workspace's agents and their tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from buttdial_sync.models.converter import Identifier
from buttdial_sync.models.credentials import agent_token_field
from buttdial_sync.models.result import ServerResult, named


@attrs.frozen(kw_only=True)
class AgentCredentials(ServerResult):
    """
    An agent and its token. The server shows the token once: keep it.

    Attributes:
        agent_token: The token.
        agent_id: The agent, where the server names it.
        agent_name: Its name.
        success: As the server says it.
        channels: What was provisioned, by channel.
    """

    agent_token: str = agent_token_field()
    agent_id: Identifier | None = named("agentId", "agent_id", "provisioning.agentId")
    agent_name: str | None = named(
        *("agentName", "agent_name", "displayName", "display_name"),
        *("provisioning.displayName", "provisioning.agentName"),
    )
    success: bool | None = None
    channels: Any = named("channels", "provisioning.channels", repr=False)


@attrs.frozen(kw_only=True)
class RegeneratedToken(ServerResult):
    """
    An agent's new token. The ones before it are dead.

    Attributes:
        agent_token: The token.
        revoked_count: How many older ones ended.
    """

    agent_token: str = agent_token_field()
    revoked_count: int | None = None


@attrs.frozen(kw_only=True)
class AgentToken(ServerResult):
    """
    What is known about a token; not the token itself.

    Attributes:
        id: Its id.
        label: Its name.
        last_four: Its last four characters.
        created_at: Since when it exists.
        last_used_at: When it was used last, or None.
        ip_hint: From where, in part.
    """

    id: Identifier | None = None
    label: str | None = None
    last_four: str | None = None
    created_at: datetime | None = None
    last_used_at: datetime | None = None
    ip_hint: str | None = None


@attrs.frozen(kw_only=True)
class AgentTokens(ServerResult):
    """
    An agent's tokens. It has a length and can be iterated over; false when empty.

    Attributes:
        tokens: What is known about each.
    """

    tokens: list[AgentToken] = attrs.field(factory=list)

    def __len__(self) -> int:
        return len(self.tokens)

    def __iter__(self) -> Iterator[AgentToken]:
        return iter(self.tokens)


@attrs.frozen(kw_only=True)
class Deprovisioned(ServerResult):
    """
    An agent that was taken down.

    Attributes:
        status: As the server says it.
        number_released: Whether its number went back, where the server says so.
    """

    status: str | None = None
    number_released: Any = None


@attrs.frozen(kw_only=True)
class ClientLimits(ServerResult):
    """
    What an agent may do.

    Attributes:
        current_limits: The limits that hold now, by their names on the wire.
    """

    current_limits: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class BillingSettings(ServerResult):
    """
    How an agent is billed.

    Attributes:
        billing_config: The settings that hold now, by their names on the wire.
        tier_limits: What the tier allows, by its names on the wire.
    """

    billing_config: Mapping[str, Any] = attrs.field(factory=dict)
    tier_limits: Mapping[str, Any] = attrs.field(factory=dict)
