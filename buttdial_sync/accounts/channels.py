"""The channels of a workspace's agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from buttdial_sync.accounts.subject import Subject
from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import Endpoint
from buttdial_sync.models.channels import CommChannels
from buttdial_sync.models.tool_result import ToolResult

ChannelType = Literal["phone", "whatsapp", "telegram", "line", "email"]

_MANAGE = Endpoint("POST", "/api/v1/agents/{agent_id}/channels", ToolResult)
_LIST = Endpoint("GET", "/api/v1/agents/{agent_id}/comm-channels", CommChannels, reads_only=True)
_ADD = Endpoint("POST", "/api/v1/agents/{agent_id}/comm-channels", ToolResult, spell=str)
_UPDATE = Endpoint("PATCH", "/api/v1/comm-channels/{record_id}", ToolResult)
_DELETE = Endpoint("DELETE", "/api/v1/comm-channels/{record_id}", ToolResult)


class Channels(Subject):
    """Adds channels to agents, changes and removes them."""

    @checked
    def manage_agent_channel(
        self,
        agent_id: str,
        action: Literal["add", "remove"],
        channel: Literal["phone", "email", "whatsapp", "line"],
        *,
        options: Mapping[str, Any] | None = None,
    ) -> ToolResult:
        """
        Add a channel to an agent, or remove one.

        Calling it twice fails the second time, or adds a second number.

        Args:
            agent_id: The agent.
            action: ``"add"`` or ``"remove"``.
            channel: ``"phone"``, ``"email"``, ``"whatsapp"`` or ``"line"``.
            options: The values that the channel needs, by their names on the wire.

        Raises:
            ProviderWebhookWireFailed: It was rolled back; try again.
        """
        return self._call(
            _MANAGE, agent_id=agent_id, action=action, channel=channel, options=options
        )

    @checked
    def list_agent_comm_channels(self, agent_id: str) -> CommChannels:
        """
        List the channels of an agent.

        Args:
            agent_id: The agent.
        """
        return self._call(_LIST, agent_id=agent_id)

    @checked
    def add_agent_comm_channel(
        self,
        agent_id: str,
        channel_type: ChannelType,
        *,
        identifier: str | None = None,
        email_local_part: str | None = None,
        label: str | None = None,
        capabilities: Sequence[str] | None = None,
    ) -> ToolResult:
        """
        Add a channel record to an agent.

        Calling it twice adds two records, or fails the second time.

        Args:
            agent_id: The agent.
            channel_type: ``"phone"``, ``"whatsapp"``, ``"telegram"``, ``"line"`` or ``"email"``.
            identifier: The number or address.
            email_local_part: The part of an email address before the ``@``.
            label: Its name.
            capabilities: Its capabilities, such as ``"sms"`` and ``"voice"``.

        Raises:
            ConflictError: The channel is taken.
        """
        return self._call(
            _ADD,
            agent_id=agent_id,
            channel_type=channel_type,
            identifier=identifier,
            email_local_part=email_local_part,
            label=label,
            capabilities=capabilities,
        )

    @checked
    def update_comm_channel(
        self,
        record_id: str,
        *,
        label: str | None = None,
        paused: bool | None = None,
        primary: bool | None = None,
    ) -> ToolResult:
        """
        Rename a channel, pause it, or make it the primary one.

        Calling it twice is safe.

        Args:
            record_id: From :meth:`list_agent_comm_channels`.
            label: Its new name.
            paused: Whether it is paused.
            primary: Whether it is used first.
        """
        return self._call(_UPDATE, record_id=record_id, label=label, paused=paused, primary=primary)

    @checked
    def delete_comm_channel(self, record_id: str) -> ToolResult:
        """
        Remove a channel.

        Calling it twice fails the second time: the record is gone.

        Args:
            record_id: From :meth:`list_agent_comm_channels`.
        """
        return self._call(_DELETE, record_id=record_id)
