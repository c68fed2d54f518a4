"""What administrators of a workspace do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.models.organization import CreatedTeam, OnboardedCustomer
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.family import Family

ManagedChannel = Literal["phone", "email", "whatsapp", "line"]
Provider = Literal[
    "twilio",
    "vonage",
    "resend",
    "elevenlabs",
    "openai",
    "deepgram",
    "greenapi",
    "s3",
    "r2",
    "turso",
    "convex",
]

_MANAGE_CHANNEL = ToolOperation("comms_manage_channel", ToolResult)
_LIST_AVAILABLE_NUMBERS = ToolOperation("comms_list_available_numbers", ToolResult, reads_only=True)
_CREATE_TEAM = ToolOperation(
    "comms_create_team", CreatedTeam, open_source_name="comms_create_organization"
)
_LIST_TEAMS = ToolOperation(
    "comms_list_teams", ToolResult, reads_only=True, open_source_name="comms_list_organizations"
)
_ONBOARD_CUSTOMER = ToolOperation(
    "comms_onboard_customer",
    OnboardedCustomer,
    open_source_names={"agentName": "displayName"},
    agent_id_is_subject=True,
)
_REGISTER_PROVIDER = ToolOperation(
    "comms_register_provider",
    ToolResult,
    shared=("credentials", "provider"),
    defaults={"autoVerify": True},
)
_SET_CLIENT_LIMITS = ToolOperation(
    "comms_set_client_limits", ToolResult, open_source_name="comms_set_agent_limits"
)
_EXPAND_CLIENT_POOL = ToolOperation(
    "comms_expand_client_pool", ToolResult, open_source_name="comms_expand_agent_pool"
)
_DEPROVISION_CHANNELS = ToolOperation("comms_deprovision_channels", ToolResult)
_LIST_BRIDGES = ToolOperation("comms_bridge_call", ToolResult, reads_only=True, shared=("action",))
_BRIDGE_CALL = ToolOperation("comms_bridge_call", ToolResult, shared=("action",))


class Organization(Family):
    """
    What a workspace's administrators do, as ``client.organization``.

    An agent's own token is not enough. Safe to share between threads.

    Scope: administrator of a workspace, unless a method says otherwise.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        PermissionDeniedError: The token does not have this scope.
        NotSupportedError: This server does not support the call or an argument. Nothing was done.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.
    """

    @checked
    def add_channel(
        self,
        channel: ManagedChannel,
        *,
        country: str | None = None,
        email_domain: str | None = None,
    ) -> ToolResult:
        """
        Add a channel.

        Calling it twice: the second fails, or buys another number.

        Args:
            channel: ``"phone"``, ``"email"``, ``"whatsapp"`` or ``"line"``.
            country: Of a phone number, as in ``"US"``.
            email_domain: Of an email address.
        """
        return self._call(
            _MANAGE_CHANNEL,
            action="add",
            channel=channel,
            country=country,
            email_domain=email_domain,
        )

    @checked
    def remove_channel(self, channel: ManagedChannel) -> ToolResult:
        """
        Remove a channel.

        Calling it twice removes nothing more, but the server may object.

        Args:
            channel: ``"phone"``, ``"email"``, ``"whatsapp"`` or ``"line"``.
        """
        return self._call(_MANAGE_CHANNEL, action="remove", channel=channel)

    @checked
    def available_numbers(self) -> ToolResult:
        """Return the phone numbers that are available."""
        return self._call(_LIST_AVAILABLE_NUMBERS)

    @checked
    def create_team(
        self, name: str, slug: str, *, settings: Mapping[str, Any] | None = None
    ) -> CreatedTeam:
        """
        Create a workspace, which the server calls a team.

        Scope: super-administrator. Calling it twice fails the second time: the slug is taken.

        Args:
            name: Its name.
            slug: Its short name.
            settings: Its settings, by their names on the wire.

        Returns:
            The workspace, and its administrator's token, a secret, shown only once.
        """
        return self._call(_CREATE_TEAM, name=name, slug=slug, settings=settings)

    @checked
    def list_teams(self) -> ToolResult:
        """
        Return all workspaces.

        Scope: super-administrator.
        """
        return self._call(_LIST_TEAMS)

    @checked
    def onboard_customer(
        self,
        agent_name: str,
        capabilities: Mapping[str, bool],
        *,
        agent_id: str | None = None,
        callback_url: str | None = None,
        email_domain: str | None = None,
    ) -> OnboardedCustomer:
        """
        Set up an agent for a new customer, with channels.

        Calling it twice with an ``agent_id`` fails, or replaces its token; without one it sets up
        two.

        Args:
            agent_name: Its name.
            capabilities: Which channels it gets, as in ``{"phone": True}``.
            agent_id: Its id. Defaults to one that the server makes.
            callback_url: Where messages for it are posted.
            email_domain: Of its email address.

        Returns:
            The agent, and its token, a secret, shown only once.
        """
        return self._call(
            _ONBOARD_CUSTOMER,
            agent_name=agent_name,
            capabilities=capabilities,
            agent_id=agent_id,
            callback_url=callback_url,
            email_domain=email_domain,
        )

    @checked
    def register_provider(
        self, provider: Provider, credentials: Mapping[str, str], *, auto_verify: bool = True
    ) -> ToolResult:
        """
        Give the server the credentials of a provider.

        Calling it twice is safe: the credentials are replaced.

        Args:
            provider: Its name, as in ``"twilio"``.
            credentials: Its credentials, by the provider's names. They go to the server and nowhere
                else.
            auto_verify: Whether the server checks them.
        """
        return self._call(
            _REGISTER_PROVIDER, provider=provider, credentials=credentials, auto_verify=auto_verify
        )

    @checked
    def set_limits(self, limits: Mapping[str, Any], *, confirm: bool) -> ToolResult:
        """
        Set the limits of what agents may do and spend.

        Calling it twice is safe.

        Args:
            limits: The limits, by their names on the wire.
            confirm: True carries it out. False asks what would happen: ``previewed`` is true.
        """
        return self._call(_SET_CLIENT_LIMITS, limits=limits, confirm=confirm)

    @checked
    def expand_pool(self, max_agents: int, *, confirm: bool) -> ToolResult:
        """
        Set how many agents there may be.

        Calling it twice is safe.

        Args:
            max_agents: How many.
            confirm: True carries it out. False asks what would happen: ``previewed`` is true.
        """
        return self._call(_EXPAND_CLIENT_POOL, max_agents=max_agents, confirm=confirm)

    @checked
    def deprovision_channels(self, *, confirm: bool) -> ToolResult:
        """
        Remove all channels. Their phone numbers are lost.

        Calling it twice removes nothing more.

        Args:
            confirm: True carries it out. False asks what would happen: ``previewed`` is true.
        """
        return self._call(_DEPROVISION_CHANNELS, confirm=confirm)

    @checked
    def bridges(self) -> ToolResult:
        """Return the call bridges."""
        return self._call(_LIST_BRIDGES, action="list")

    @checked
    def setup_bridge(
        self,
        *,
        from_number: str | None = None,
        local_number: str | None = None,
        destination_number: str | None = None,
        label: str | None = None,
    ) -> ToolResult:
        """
        Set up a call bridge: calls to a local number are passed on.

        Calling it twice sets up two.

        Args:
            from_number: A number in E.164 form.
            local_number: The number that is called.
            destination_number: The number that the calls are passed on to.
            label: Its name.
        """
        return self._call(
            _BRIDGE_CALL,
            action="setup",
            from_number=from_number,
            local_number=local_number,
            destination_number=destination_number,
            label=label,
        )

    @checked
    def call_bridge(
        self,
        *,
        bridge_id: str | None = None,
        caller_number: str | None = None,
        destination_number: str | None = None,
    ) -> ToolResult:
        """
        Call over a bridge.

        The open-source server needs both numbers. Calling it twice makes two calls.

        Args:
            bridge_id: The bridge's id.
            caller_number: Who calls, as an E.164 number.
            destination_number: Who is called, as an E.164 number.
        """
        return self._call(
            _BRIDGE_CALL,
            action="call",
            bridge_id=bridge_id,
            caller_number=caller_number,
            destination_number=destination_number,
        )

    @checked
    def remove_bridge(self, bridge_id: str) -> ToolResult:
        """
        Remove a call bridge.

        Calling it twice removes nothing more, but the server may object.

        Args:
            bridge_id: The bridge's id.
        """
        return self._call(_BRIDGE_CALL, action="remove", bridge_id=bridge_id)
