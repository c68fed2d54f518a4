"""The tokens of a workspace and of its agents, and the phone that guards them."""

from __future__ import annotations

from collections.abc import Callable

from buttdial_sync.accounts.subject import Subject
from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import Endpoint
from buttdial_sync.models.accounts import ConfirmedPhone, PhoneChallenge
from buttdial_sync.models.agents import AgentTokens, RegeneratedToken
from buttdial_sync.models.onboarding import TeamCredentials
from buttdial_sync.models.tool_result import ToolResult

_SET_PHONE = Endpoint("POST", "/api/orgs/me/phone/set", PhoneChallenge)
_CONFIRM_PHONE = Endpoint("POST", "/api/orgs/me/phone/confirm", ConfirmedPhone)
_REQUEST_ROTATION = Endpoint("POST", "/api/orgs/me/rotate-token/request", PhoneChallenge)
_CONFIRM_ROTATION = Endpoint("POST", "/api/orgs/me/rotate-token/confirm", TeamCredentials)
_REVOKE = Endpoint("POST", "/api/orgs/me/tokens/revoke", ToolResult)
_REGENERATE = Endpoint("POST", "/api/v1/agents/{agent_id}/regenerate-token", RegeneratedToken)
_LIST = Endpoint("GET", "/api/v1/agents/{agent_id}/tokens", AgentTokens, reads_only=True)


class Tokens(Subject):
    """Rotates, revokes and lists tokens."""

    @checked
    def set_phone(self, phone: str) -> PhoneChallenge:
        """
        Set the workspace's phone. A passcode is sent to it.

        Calling it twice sends two passcodes, of which the second is good.

        Args:
            phone: In E.164 form.

        Returns:
            The challenge, for :meth:`confirm_phone`.

        Raises:
            InvalidRequestError: The number cannot be reached.
            RateLimitError: Too many passcodes. ``retry_after`` is in seconds.
        """
        return self._call(_SET_PHONE, phone=phone)

    @checked
    def confirm_phone(self, challenge_id: str, otp: str) -> ConfirmedPhone:
        """
        Confirm the workspace's phone with the passcode.

        Calling it twice fails: a challenge is good once.

        Args:
            challenge_id: From :meth:`set_phone`.
            otp: The passcode.

        Returns:
            Whether it is confirmed, and the phone's last digits.

        Raises:
            OTPInvalid: The passcode is wrong.
            OTPExpired: It is too old.
            OTPMaxAttempts: It was tried too often.
            ChallengeNotFound: The challenge does not exist.
        """
        return self._call(_CONFIRM_PHONE, challenge_id=challenge_id, otp=otp)

    @checked
    def rotate_token(self, otp_prompt: Callable[[str], str]) -> TeamCredentials:
        """
        Exchange the workspace's token for a new one: request, ask for the passcode, confirm.

        This client goes on with the old token, which stops working: use :meth:`with_token`. The
        time that the prompt takes does not count towards a deadline. Calling it twice rotates
        twice.

        Args:
            otp_prompt: Called with the phone's last digits (``""`` if the server does not say
                them); returns the passcode.

        Returns:
            The new token. Store it; the server shows it only once.

        Raises:
            PhoneNotConfigured: The workspace has no confirmed phone.
            OTPInvalid: The passcode is wrong.
            OTPExpired: It is too old.
            OTPMaxAttempts: It was tried too often.
            OutcomeUnknownError: It may have been carried out: the old token may have ended.
        """
        challenge = self.rotate_token_request()
        return self.rotate_token_confirm(
            challenge.challenge_id, otp_prompt(challenge.phone_hint or "")
        )

    @checked
    def rotate_token_request(self) -> PhoneChallenge:
        """
        Begin a rotation. A passcode is sent to the workspace's phone.

        Calling it twice sends two passcodes, of which the second is good.

        Returns:
            The challenge, and the phone's last digits.

        Raises:
            PhoneNotConfigured: The workspace has no confirmed phone.
            RateLimitError: Too many passcodes. ``retry_after`` is in seconds.
        """
        return self._call(_REQUEST_ROTATION)

    @checked
    def rotate_token_confirm(self, challenge_id: str, otp: str) -> TeamCredentials:
        """
        Complete a rotation. The old token stops working.

        Calling it twice fails: a challenge is good once.

        Args:
            challenge_id: From :meth:`rotate_token_request`.
            otp: The passcode.

        Returns:
            The new token. Store it; the server shows it only once.

        Raises:
            OTPInvalid: The passcode is wrong.
            OTPExpired: It is too old.
            OTPMaxAttempts: It was tried too often.
            ChallengeNotFound: The challenge does not exist.
            OutcomeUnknownError: It may have been carried out: the old token may have ended.
        """
        return self._call(_CONFIRM_ROTATION, challenge_id=challenge_id, otp=otp)

    @checked
    def revoke_token(self) -> ToolResult:
        """
        Revoke the workspace's token, as after a leak; :meth:`reveal_team_token` gives a new one.

        Calling it twice fails the second time: the token is revoked.

        Raises:
            AuthTokenRevokedError: It was revoked already.
        """
        return self._call(_REVOKE)

    @checked
    def regenerate_agent_token(self, agent_id: str) -> RegeneratedToken:
        """
        Give an agent a new token. Its older ones stop working.

        Calling it twice ends the token that the first call returned.

        Args:
            agent_id: The agent.

        Returns:
            The new token, and how many older ones ended.

        Raises:
            OutcomeUnknownError: It may have been carried out: the old token may have ended.
        """
        return self._call(_REGENERATE, agent_id=agent_id)

    @checked
    def list_agent_tokens(self, agent_id: str) -> AgentTokens:
        """
        List an agent's tokens.

        Args:
            agent_id: The agent.

        Returns:
            Label, last characters and last use of each; never a token.
        """
        return self._call(_LIST, agent_id=agent_id)
