"""What administrators do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.models.organization import CreatedTeam, OnboardedCustomer
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.bridges import Bridges

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


class Organization(Bridges):
    """
    What an organization's administrator may do, as ``client.organization``.

    An agent's own token is not enough for it. Safe to share between threads.
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

        Scope: administrator of an organization. Calling it twice: the second fails, or buys another
        number.

        Args:
            channel: ``"phone"``, ``"email"``, ``"whatsapp"`` or ``"line"``.
            country: Of a phone number, as in ``"US"``.
            email_domain: Of an email address.

        Returns:
            The server's answer.

        Raises:
            PermissionDeniedError: The token is not of this scope.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
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

        Scope: administrator of an organization. Calling it twice removes nothing more, but the
        server may object.

        Args:
            channel: ``"phone"``, ``"email"``, ``"whatsapp"`` or ``"line"``.

        Returns:
            The server's answer.

        Raises:
            PermissionDeniedError: The token is not of this scope.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(_MANAGE_CHANNEL, action="remove", channel=channel)

    @checked
    def available_numbers(self) -> ToolResult:
        """
        Return the numbers that can be had.

        Scope: administrator of an organization. Calling it twice is safe.

        Returns:
            The server's answer.

        Raises:
            PermissionDeniedError: The token is not of this scope.
            ToolNotAvailable: This server has no such tool.
            ButtDialError: The server said no, or could not be reached.
        """
        return self._call(_LIST_AVAILABLE_NUMBERS)

    @checked
    def create_team(
        self, name: str, slug: str, *, settings: Mapping[str, Any] | None = None
    ) -> CreatedTeam:
        """
        Create a team.

        Scope: super-administrator. Calling it twice: the second fails, as the slug is taken.

        Args:
            name: Its name.
            slug: Its short name.
            settings: Its settings, by their names on the wire.

        Returns:
            The team, and its administrator's token: a secret, shown this once.

        Raises:
            PermissionDeniedError: The token is not of this scope.
            ArgumentNotSupported: This server would silently drop an argument.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(_CREATE_TEAM, name=name, slug=slug, settings=settings)

    @checked
    def list_teams(self) -> ToolResult:
        """
        Return all teams.

        Scope: super-administrator. Calling it twice is safe.

        Returns:
            The server's answer.

        Raises:
            PermissionDeniedError: The token is not of this scope.
            ButtDialError: The server said no, or could not be reached.
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

        Scope: administrator of an organization. Calling it twice with an ``agent_id`` fails, or
        replaces its token; without one it sets up two.

        Args:
            agent_name: Its name.
            capabilities: Which channels it gets, as in ``{"phone": True}``.
            agent_id: Its id. Defaults to one that the server makes.
            callback_url: Where messages for it are posted.
            email_domain: Of its email address.

        Returns:
            The agent, and its token: a secret, shown this once.

        Raises:
            PermissionDeniedError: The token is not of this scope.
            ArgumentNotSupported: This server would silently drop an argument.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
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

        Scope: administrator of an organization. Calling it twice is safe: the credentials are
        replaced.

        Args:
            provider: Its name, as in ``"twilio"``.
            credentials: Its credentials, by their names there. They go to the server and nowhere
                else.
            auto_verify: Whether the server tries them out.

        Returns:
            The server's answer.

        Raises:
            PermissionDeniedError: The token is not of this scope.
            ArgumentNotSupported: This server would silently drop an argument.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _REGISTER_PROVIDER,
            provider=provider,
            credentials=credentials,
            auto_verify=auto_verify,
        )

    @checked
    def set_limits(self, limits: Mapping[str, Any], *, confirm: bool) -> ToolResult:
        """
        Set what agents may do and spend.

        Scope: administrator of an organization. Calling it twice is safe.

        Args:
            limits: The limits, by their names on the wire.
            confirm: True carries it out, False asks what would happen.

        Returns:
            The server's answer; ``previewed`` when nothing was changed.

        Raises:
            PreviewNotSupported: This server has no preview; nothing was sent.
            PermissionDeniedError: The token is not of this scope.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(_SET_CLIENT_LIMITS, limits=limits, confirm=confirm)

    @checked
    def expand_pool(self, max_agents: int, *, confirm: bool) -> ToolResult:
        """
        Set how many agents there may be.

        Scope: administrator of an organization. Calling it twice is safe.

        Args:
            max_agents: How many.
            confirm: True carries it out, False asks what would happen.

        Returns:
            The server's answer; ``previewed`` when nothing was changed.

        Raises:
            PreviewNotSupported: This server has no preview; nothing was sent.
            PermissionDeniedError: The token is not of this scope.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(_EXPAND_CLIENT_POOL, max_agents=max_agents, confirm=confirm)

    @checked
    def deprovision_channels(self, *, confirm: bool) -> ToolResult:
        """
        Take all channels away. Numbers are lost.

        Scope: administrator of an organization. Calling it twice takes nothing more.

        Args:
            confirm: True carries it out, False asks what would happen.

        Returns:
            The server's answer; ``previewed`` when nothing was changed.

        Raises:
            PreviewNotSupported: This server has no preview; nothing was sent.
            PermissionDeniedError: The token is not of this scope.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(_DEPROVISION_CHANNELS, confirm=confirm)
