"""Onboarding: from the registration to the workspace's first token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from buttdial_sync.accounts.subject import Subject, warn_caller
from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import Endpoint
from buttdial_sync.errors import OnboardingRequired
from buttdial_sync.models.names import snake_case
from buttdial_sync.models.onboarding import (
    AbandonedOrg,
    Registration,
    TeamCredentials,
    VerificationSent,
    VerificationStatus,
)


def _refuse_without_token(answer: Any) -> None:
    """Raise if the terms have to be accepted first."""
    if not isinstance(answer, Mapping):
        return
    fields = {snake_case(str(key)): value for key, value in answer.items() if value}
    if fields.keys() & {"team_token", "owner_token"}:
        return
    if fields.keys() & {"requires_onboarding", "onboarding_session_id", "onboarding_url"}:
        raise OnboardingRequired(status_code=200, code="REQUIRES_ONBOARDING", body=dict(answer))


_REGISTER = Endpoint("POST", "/api/orgs/register", Registration, auth="none", takes_key=True)
_RESEND = Endpoint("POST", "/api/orgs/{org_id}/resend-verification", VerificationSent, auth="none")
_VERIFY = Endpoint(
    "POST", "/api/orgs/verify", TeamCredentials, auth="none", check=_refuse_without_token
)
_ACCEPT = Endpoint(
    "POST", "/api/orgs/onboarding/accept", TeamCredentials, auth="none", check=_refuse_without_token
)
_REVEAL = Endpoint(
    "POST", "/api/orgs/{org_id}/reveal-team-token", TeamCredentials, auth="given", is_signed=True
)
_STATUS = Endpoint(
    "GET",
    "/api/orgs/{org_id}/verification-status",
    VerificationStatus,
    auth="none",
    reads_only=True,
    query=("poll_token",),
)
_ABANDON = Endpoint("POST", "/api/orgs/abandon", AbandonedOrg)


class Onboarding(Subject):
    """Registers workspaces and fetches their tokens."""

    @checked
    def register(
        self,
        org_name: str,
        owner_email: str,
        *,
        branding: Mapping[str, Any] | None = None,
        return_url: str | None = None,
        webhook_url: str | None = None,
        verification_email: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Registration:
        """
        Register a workspace. Its owner gets a mail with a link.

        Scope: none, it needs no token. Calling it twice for an address that is not verified yet
        returns the same workspace and the same webhook secret. Give at least one of ``branding``,
        ``return_url``, ``webhook_url`` and ``verification_email``: a bare registration is
        deprecated.

        Args:
            org_name: The workspace's name.
            owner_email: Who gets the mail.
            branding: ``logoUrl``, ``primaryColor``, ``productName``, ``supportEmail``.
            return_url: Where the browser goes afterwards.
            webhook_url: Where the server posts ``account.verified``.
            verification_email: ``subject``, ``html``, ``text``; with ``{{verifyUrl}}`` in it, and
                ``{{orgName}}``, ``{{ownerEmail}}``, ``{{expiresInMinutes}}`` where wanted.
            idempotency_key: One for one registration; made when absent.

        Returns:
            The workspace's id and its poll token; with ``webhook_url`` the webhook secret, once.

        Raises:
            TemplateMissingVerifyUrl: The mail has no link.
            TemplateTooLarge: The mail is over 200 KB.
            OrgAlreadyVerified: The workspace has its token already.
            RateLimitError: Too many registrations.
        """
        if all(each is None for each in (branding, return_url, webhook_url, verification_email)):
            warn_caller(
                "a bare register() is deprecated: give branding, return_url, webhook_url or "
                "verification_email"
            )
        return self._call(
            _REGISTER,
            org_name=org_name,
            owner_email=owner_email,
            branding=branding,
            return_url=return_url,
            webhook_url=webhook_url,
            verification_email=verification_email,
            idempotency_key=idempotency_key,
        )

    @checked
    def resend_verification(self, org_id: str) -> VerificationSent:
        """
        Send the mail with the link again.

        Scope: none, it needs no token. Calling it twice sends two mails.

        Args:
            org_id: The workspace.

        Returns:
            Whether a mail went out.

        Raises:
            OrgAlreadyVerified: It is verified already.
            RateLimitError: Too many mails. ``retry_after`` is in seconds.
        """
        return self._call(_RESEND, org_id=org_id)

    @checked
    def verification_status(self, org_id: str, poll_token: str) -> VerificationStatus:
        """
        Return whether the owner followed the link.

        The server expects the poll token in the URL, so this works over https or on this machine
        only. Scope: none, the poll token is enough.

        Args:
            org_id: The workspace.
            poll_token: From :meth:`register`.

        Returns:
            The status.

        Raises:
            ConfigError: The poll token would be sent unencrypted.
        """
        return self._call(_STATUS, org_id=org_id, poll_token=poll_token)

    @checked
    def verify(self, token: str) -> TeamCredentials:
        """
        Redeem the token of the link in the mail for the workspace's token.

        Scope: none, the link's token is enough. Calling it twice fails: a link is good once.

        Args:
            token: From the link.

        Returns:
            The workspace's token. Store it; the server shows it only once.

        Raises:
            OnboardingRequired: The terms have to be accepted first. Send the user to its
                ``onboarding_url``.
            VerificationTokenExpired: The link is too old.
            OrgAlreadyVerified: The link was used.
        """
        return self._team_token(_VERIFY, token=token)

    @checked
    def accept_onboarding(self, session_id: str, version: str) -> TeamCredentials:
        """
        Accept the terms for a user who agreed to them, and get the workspace's token.

        Scope: none, the session is enough. Calling it twice fails: a session is good once.

        Args:
            session_id: From :class:`OnboardingRequired`.
            version: Which version of the terms the user saw.

        Returns:
            The workspace's token. Store it; the server shows it only once.

        Raises:
            TosVersionMismatch: The terms have a newer version.
            OnboardingSessionError: The session is unknown, used or expired.
        """
        return self._team_token(_ACCEPT, session_id=session_id, version=version)

    @checked
    def reveal_team_token(self, org_id: str, webhook_secret: str) -> TeamCredentials:
        """
        Fetch the workspace's token with the webhook secret, as after a lost webhook.

        Scope: workspace, proved by the webhook secret; the team token is not sent. Calling it twice
        may end the token that the first call returned: see ``rotated``.

        Args:
            org_id: The workspace.
            webhook_secret: From :meth:`register`.

        Returns:
            The workspace's token, and whether an older one ended.

        Raises:
            WebhookSecretUnregistered: The workspace has no webhook.
            AuthForbidden: The secret is wrong.
            AuthTimestampExpired: This machine's clock is more than 60 seconds off.
            AuthNonceReplay: The nonce was used before.
        """
        return self._call(_REVEAL, credential=webhook_secret, org_id=org_id)

    @checked
    def abandon_org(
        self, org_id: str, *, poll_token: str | None = None, reason: str | None = None
    ) -> AbandonedOrg:
        """
        Give up a registration that was not verified.

        Scope: workspace, proved by the poll token if given, else by the super-admin's team token.
        Calling it twice fails the second time: the workspace is gone.

        Args:
            org_id: The workspace.
            poll_token: From :meth:`register`.
            reason: For the server's log.

        Returns:
            Whether it is gone.

        Raises:
            OrgAlreadyVerified: It is verified, and can only be erased.
            ConfigError: There is neither a poll token nor a team token.
        """
        return self._call(_ABANDON, credential=poll_token, org_id=org_id, reason=reason)

    def _team_token(self, endpoint: Endpoint[TeamCredentials], **arguments: Any) -> TeamCredentials:
        try:
            return self._call(endpoint, **arguments)
        except OnboardingRequired as error:
            _complete(error, self._connection.base_url)
            raise


def _complete(error: OnboardingRequired, base_url: str) -> None:
    """Set the error's attributes from its body."""
    body = error.body if isinstance(error.body, Mapping) else {}
    inner = body.get("error")
    said = {**body, **(inner if isinstance(inner, Mapping) else {})}
    fields = {snake_case(str(key)): str(value) for key, value in said.items() if value}
    session_id = fields.get("onboarding_session_id") or fields.get("session_id")
    error.org_id = fields.get("org_id", "")
    error.onboarding_session_id = session_id
    error.expires_at = fields.get("onboarding_expires_at") or fields.get("expires_at")
    error.onboarding_url = fields.get("onboarding_url") or (
        f"{base_url}/onboarding?s={quote(session_id, safe='')}" if session_id else ""
    )
