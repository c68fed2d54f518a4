"""The results of an administrator's calls."""

from __future__ import annotations

import attrs

from buttdial_sync.models.converter import Identifier
from buttdial_sync.models.credentials import agent_token_field
from buttdial_sync.models.result import ServerResult, named
from buttdial_sync.models.tool_result import ToolResult


@attrs.frozen(kw_only=True)
class CreatedTeam(ServerResult):
    """
    A team, and the token of its administrator. The server shows the token once: keep it.

    Attributes:
        admin_token: The token.
        id: The team's id.
        name: Its name.
        slug: Its short name.
    """

    admin_token: str | None = named("adminToken", "admin_token", "team.adminToken", repr=False)
    id: Identifier | None = named("id", "teamId", "orgId", "team.id", "organization.id")
    name: str | None = named("name", "team.name", "organization.name")
    slug: str | None = named("slug", "team.slug", "organization.slug")


@attrs.frozen(kw_only=True)
class OnboardedCustomer(ServerResult):
    """
    A customer's new agent, and its token. The server shows the token once: keep it.

    Attributes:
        agent_id: The agent's id.
        agent_token: Its token.
        channels: What was provisioned, by channel.
        email_setup: What has to be done for email.
        webhook_urls: Where the providers have to post to.
        connection_instructions: How to connect as this agent.
    """

    agent_id: Identifier | None = named("agentId", "agent_id", "provisioning.agentId")
    agent_token: str | None = agent_token_field(default=None)
    channels: ToolResult | None = named("channels", "provisioning.channels")
    email_setup: ToolResult | None = None
    webhook_urls: ToolResult | None = None
    connection_instructions: ToolResult | None = None
