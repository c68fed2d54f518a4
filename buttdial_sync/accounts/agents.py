"""The agents of a workspace: registered, limited, deprovisioned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buttdial_sync.accounts.subject import Subject, warn_caller
from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import Endpoint
from buttdial_sync.models.agents import AgentCredentials, ClientLimits, Deprovisioned
from buttdial_sync.models.tool_result import ToolResult

_OPEN_SOURCE_NAMES = {"agentName": "displayName"}


def _reads(*keys: str, **objects: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of an object, of which the open-source server reads these keys only."""
    return {"properties": {**{key: {} for key in keys}, **objects}}


_OPEN_SOURCE_AGENT = _reads(
    "agentId",
    "displayName",
    "country",
    "greeting",
    "systemPrompt",
    "emailDomain",
    capabilities=_reads("phone", "whatsapp", "email", "voiceAi"),
)

_REGISTER = Endpoint("POST", "/api/v1/agents", AgentCredentials, takes_key=True, spell=str)
_GET = Endpoint("GET", "/api/v1/agents/{agent_id}", ToolResult, reads_only=True)
_ONBOARD = Endpoint(
    "POST",
    "/api/v1/onboard",
    AgentCredentials,
    open_source_names=_OPEN_SOURCE_NAMES,
    open_source_schema=_OPEN_SOURCE_AGENT,
)
_PROVISION = Endpoint(
    "POST",
    "/api/v1/provision",
    AgentCredentials,
    names={"display_name": "agentName"},
    open_source_names=_OPEN_SOURCE_NAMES,
    open_source_schema=_OPEN_SOURCE_AGENT,
    defaults={"identityMode": "dedicated"},
)
_DEPROVISION = Endpoint("POST", "/api/v1/deprovision", Deprovisioned)
_RELEASE = Endpoint("POST", "/api/v1/release-number", ToolResult)
_LIMITS = Endpoint(
    "POST",
    "/api/v1/client-limits",
    ClientLimits,
    open_source_path="/api/v1/agent-limits",
    open_source_schema=_reads(
        "agentId",
        limits=_reads(
            "maxActionsPerMinute",
            "maxActionsPerHour",
            "maxActionsPerDay",
            "maxSpendPerDay",
            "maxSpendPerMonth",
        ),
    ),
)

_SUNSET = (
    "{} is deprecated and the hosted server will remove it: use register_agent(), then "
    "manage_agent_channel() for each channel"
)


class Agents(Subject):
    """Registers and deprovisions agents."""

    @checked
    def register_agent(
        self, agent_id: str, display_name: str, *, idempotency_key: str | None = None, **extra: Any
    ) -> AgentCredentials:
        """
        Register an agent. It has no channel yet: see :meth:`manage_agent_channel`.

        Calling it twice with the same ``idempotency_key`` returns the same token; without one the
        second call fails.

        Args:
            agent_id: Your own id for it.
            display_name: Its name.
            idempotency_key: One for one agent; made when absent.
            **extra: More keys of the request, sent as given.

        Returns:
            The agent's token. Store it; the server shows it only once.

        Raises:
            ConflictError: The agent exists.
            EndpointNotAvailable: The open-source server has :meth:`provision_channels` instead.
            OutcomeUnknownError: It may have been carried out; ask again with the same key.
        """
        return self._call(
            _REGISTER,
            agent_id=agent_id,
            display_name=display_name,
            idempotency_key=idempotency_key,
            extra=extra,
        )

    @checked
    def get_agent(self, agent_id: str) -> ToolResult:
        """
        Return an agent.

        Args:
            agent_id: The agent.
        """
        return self._call(_GET, agent_id=agent_id)

    @checked
    def onboard(
        self,
        agent_name: str,
        *,
        agent_id: str | None = None,
        capabilities: Mapping[str, bool] | None = None,
        email_domain: str | None = None,
        greeting: str | None = None,
        system_prompt: str | None = None,
        country: str = "US",
    ) -> AgentCredentials:
        """
        Make an agent with channels at once. Deprecated: the hosted server ends it.

        Use :meth:`register_agent`, then :meth:`manage_agent_channel`. The open-source server
        rejects ``agentName`` before it does anything; the request is then sent again with
        ``displayName``. Calling it twice makes two agents.

        Args:
            agent_name: Its name.
            agent_id: Your own id for it.
            capabilities: Which channels: ``phone``, ``whatsapp``, ``email``, ``voiceAi``.
            email_domain: Of its address.
            greeting: Its first words in a call.
            system_prompt: How it behaves.
            country: Of its number.

        Returns:
            The agent's token. Store it; the server shows it only once.

        Raises:
            ArgumentNotSupported: The open-source server would drop an unknown capability.
            ConflictError: The agent exists.
        """
        warn_caller(_SUNSET.format("onboard()"))
        return self._call(
            _ONBOARD,
            agent_name=agent_name,
            agent_id=agent_id,
            capabilities=capabilities,
            email_domain=email_domain,
            greeting=greeting,
            system_prompt=system_prompt,
            country=country,
        )

    @checked
    def provision_channels(
        self,
        agent_id: str,
        display_name: str,
        capabilities: Mapping[str, bool],
        *,
        callback_url: str | None = None,
        country: str = "US",
        preferred_whatsapp_number: str | None = None,
        preferred_phone_number: str | None = None,
        identity_mode: str = "dedicated",
        language: str | None = None,
        gender: str | None = None,
        voice_id: str | None = None,
        greeting: str | None = None,
        system_prompt: str | None = None,
        email_domain: str | None = None,
    ) -> AgentCredentials:
        """
        Give an agent its channels. Deprecated: the hosted server ends it.

        Use :meth:`register_agent`, then :meth:`manage_agent_channel`. The open-source server
        rejects ``agentName`` before it does anything; the request is then sent again with
        ``displayName``. Calling it twice fails or buys a second number.

        Args:
            agent_id: The agent.
            display_name: Its name.
            capabilities: Which channels: ``phone``, ``whatsapp``, ``email``, ``voiceAi``.
            callback_url: Where its messages go. The open-source server has one address for all
                agents, in its own settings.
            country: Of its number.
            preferred_whatsapp_number: Which number it gets.
            preferred_phone_number: Which number it gets.
            identity_mode: ``"dedicated"``, or another mode of the server.
            language: The language that it speaks.
            gender: Of its voice.
            voice_id: Its voice.
            greeting: Its first words in a call.
            system_prompt: How it behaves.
            email_domain: Of its address.

        Returns:
            The agent's token, which replaces the one from :meth:`register_agent`, and what was
            provisioned.

        Raises:
            ArgumentNotSupported: The open-source server would drop ``callback_url``,
                ``preferred_…``, ``identity_mode``, ``language``, ``gender``, ``voice_id`` or an
                unknown capability. Nothing was done.
            ConflictError: The agent has its channels already.
            ProviderWebhookWireFailed: It was rolled back; try again.
        """
        warn_caller(_SUNSET.format("provision_channels()"))
        return self._call(
            _PROVISION,
            agent_id=agent_id,
            display_name=display_name,
            callback_url=callback_url,
            capabilities=capabilities,
            country=country,
            preferred_whatsapp_number=preferred_whatsapp_number,
            preferred_phone_number=preferred_phone_number,
            identity_mode=identity_mode,
            language=language,
            gender=gender,
            voice_id=voice_id,
            greeting=greeting,
            system_prompt=system_prompt,
            email_domain=email_domain,
        )

    @checked
    def deprovision(self, agent_id: str, *, release_number: bool = True) -> Deprovisioned:
        """
        Deprovision an agent. Its token stops working.

        Calling it twice fails the second time.

        Args:
            agent_id: The agent.
            release_number: Whether to give its number back, which cannot be undone.

        Returns:
            Its status, and whether its number was given back.
        """
        return self._call(_DEPROVISION, agent_id=agent_id, release_number=release_number)

    @checked
    def release_number(self, phone_number: str, *, source: str | None = None) -> ToolResult:
        """
        Give a number back to its provider, which cannot be undone.

        Calling it twice fails the second time: the number is gone.

        Args:
            phone_number: In E.164 form.
            source: Where it came from, as the server calls it.

        Raises:
            NotFoundError: The workspace has no such number.
            EndpointNotAvailable: The open-source server has no such endpoint.
        """
        return self._call(_RELEASE, phone_number=phone_number, source=source)

    @checked
    def set_client_limits(
        self, limits: Mapping[str, Any], *, agent_id: str | None = None
    ) -> ClientLimits:
        """
        Set the limits of an agent.

        The open-source server has another path for it, which is tried when the first one answers
        with a page. Calling it twice is safe.

        Args:
            limits: By their names on the wire, such as ``maxActionsPerMinute`` or
                ``maxSpendPerDay``.
            agent_id: The agent; without it the workspace, where the server allows that.

        Returns:
            The limits that are in force now.

        Raises:
            ArgumentNotSupported: The open-source server would drop a limit that it does not know.
        """
        return self._call(_LIMITS, limits=limits, agent_id=agent_id)
