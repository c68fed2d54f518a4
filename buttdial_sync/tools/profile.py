"""Who the agent is."""

from __future__ import annotations

from typing import Literal

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import Endpoint, ToolOperation
from buttdial_sync.models.profile import AgentProfile, ChannelStatus, RotatedToken
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.family import Family

Gender = Literal["male", "female", "neutral"]
ProfileStatus = Literal["active", "inactive"]
AgentStatus = Literal["active", "inactive", "suspended"]

_ME = Endpoint("GET", "/api/v1/agents/me", AgentProfile, reads_only=True)
_GET_ME = ToolOperation("comms_get_me", AgentProfile, reads_only=True)
_CHANNEL_STATUS = Endpoint("GET", "/api/v1/channel-status", ChannelStatus, reads_only=True)
_UPDATE_PROFILE = ToolOperation("comms_update_profile", ToolResult)
_CLIENT_STATUS = Endpoint("PUT", "/api/v1/client-status", ToolResult)
_ROTATE_TOKEN = ToolOperation(
    "comms_rotate_token",
    RotatedToken,
    without_tool="Let an administrator issue a new one: AccountsClient.regenerate_agent_token.",
)


class Profile(Family):
    """
    The agent itself, as ``client.profile``. Safe to share between threads.

    Scope: agent.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        NotSupportedError: This server does not support the call or an argument. Nothing was done.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.
    """

    @checked
    def get(self) -> AgentProfile:
        """Return the agent as the server knows it, without opening a session."""
        return self._call(_ME)

    @checked
    def me(self) -> AgentProfile:
        """Return the same as :meth:`get`, over the session."""
        return self._call(_GET_ME)

    @checked
    def channel_status(self) -> ChannelStatus:
        """
        Return the state of the agent's channels.

        Returns:
            The channels; on the open-source server also the agent's own state.
        """
        return self._call(_CHANNEL_STATUS)

    @checked
    def update(
        self,
        *,
        agent_name: str | None = None,
        greeting: str | None = None,
        system_prompt: str | None = None,
        voice_id: str | None = None,
        language: str | None = None,
        gender: Gender | None = None,
        voice_gender: str | None = None,
        status: ProfileStatus | None = None,
    ) -> ToolResult:
        """
        Change the agent's profile. What is None stays as it is.

        Calling it twice is safe.

        Args:
            agent_name: Its name.
            greeting: Its first words in a call.
            system_prompt: Its task.
            voice_id: Its voice.
            language: As in ``"en-US"``.
            gender: ``"male"``, ``"female"`` or ``"neutral"``.
            voice_gender: Of its voice.
            status: ``"active"`` or ``"inactive"``.
        """
        return self._call(
            _UPDATE_PROFILE,
            agent_name=agent_name,
            greeting=greeting,
            system_prompt=system_prompt,
            voice_id=voice_id,
            language=language,
            gender=gender,
            voice_gender=voice_gender,
            status=status,
        )

    @checked
    def set_status(self, status: AgentStatus, *, reason: str | None = None) -> ToolResult:
        """
        Switch the agent on or off.

        Calling it twice is safe.

        Args:
            status: ``"active"``, ``"inactive"`` or ``"suspended"``.
            reason: Why, for the log.
        """
        return self._call(_CLIENT_STATUS, status=status, reason=reason)

    @checked
    def rotate_token(self, *, confirm: bool) -> RotatedToken:
        """
        Replace the agent's token. The old one ends 30 seconds later.

        This client goes on with the old token: make a new one, or use
        :meth:`~buttdial_sync.Client.as_agent`.

        Calling it twice replaces the new one too.

        Args:
            confirm: True carries it out. False asks what would happen: ``previewed`` is true.

        Returns:
            The new token, a secret, shown only once.
        """
        return self._call(_ROTATE_TOKEN, confirm=confirm)
