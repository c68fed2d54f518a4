"""The errors of the accounts endpoints: one class per code that the server documents."""

from __future__ import annotations

from typing import Any

from buttdial_sync.errors.tree import AuthError, AuthTokenRevokedError, ButtDialError


class AccountsError(ButtDialError):
    """The accounts endpoints refused a request. Raised itself for codes without a class."""


class EmailAlreadyRegistered(AccountsError):
    """Never sent today: the server hides which addresses exist. Kept for hosts that move over."""

    server_codes = ("EMAIL_ALREADY_REGISTERED",)


class VerificationTokenExpired(AccountsError):
    """The link in the verification mail is too old."""

    server_codes = ("VERIFICATION_TOKEN_EXPIRED",)
    remedy = "Request a new mail (resend_verification)."


class PhoneNotConfigured(AccountsError):
    """A rotation needs a confirmed phone number, and there is none."""

    server_codes = ("PHONE_NOT_CONFIGURED",)
    remedy = "Set and confirm a phone first (set_phone, confirm_phone)."


class OTPInvalid(AccountsError):
    """The passcode is wrong."""

    server_codes = ("OTP_INVALID",)
    remedy = "Ask for the code again."


class OTPExpired(AccountsError):
    """The passcode is too old."""

    server_codes = ("OTP_EXPIRED",)
    remedy = "Request a new challenge."


class OTPMaxAttempts(AccountsError):
    """Too many wrong passcodes for this challenge."""

    server_codes = ("OTP_MAX_ATTEMPTS",)
    remedy = "Request a new challenge."


class ChallengeNotFound(AccountsError):
    """The challenge does not exist, or was used already."""

    server_codes = ("CHALLENGE_NOT_FOUND",)
    remedy = "Request a new challenge."


class TokenRevoked(AccountsError, AuthTokenRevokedError):
    """
    The team token was revoked, mostly by a rotation.

    A subclass of :class:`~buttdial_sync.AuthTokenRevokedError`: catch that one for agents' tokens
    too.
    """

    server_codes = ("TOKEN_REVOKED",)
    default_stage = "session"


class OrgAlreadyVerified(AccountsError):
    """The workspace is verified already."""

    server_codes = ("ORG_ALREADY_VERIFIED", "ALREADY_VERIFIED")


class TemplateMissingVerifyUrl(AccountsError):
    """The verification mail's template lacks ``{{verifyUrl}}``."""

    server_codes = ("TEMPLATE_MISSING_VERIFY_URL",)
    remedy = "Put {{verifyUrl}} into the html or text of verification_email."


class TemplateTooLarge(AccountsError):
    """The verification mail's template is over 200 KB."""

    server_codes = ("TEMPLATE_TOO_LARGE",)


class WebhookSecretUnregistered(AccountsError):
    """The workspace was registered without a webhook, so there is no secret to prove."""

    server_codes = ("WEBHOOK_SECRET_UNREGISTERED",)


class AuthForbidden(AccountsError, AuthError):
    """The webhook secret or the token does not permit this."""

    server_codes = ("AUTH_FORBIDDEN",)


class AuthTimestampExpired(AccountsError, AuthError):
    """The request's timestamp is more than 60 seconds off."""

    server_codes = ("AUTH_TIMESTAMP_EXPIRED",)
    remedy = "Set this machine's clock (NTP)."


class AuthNonceReplay(AccountsError, AuthError):
    """The request's nonce was used before."""

    server_codes = ("AUTH_NONCE_REPLAY",)


class TosVersionMismatch(AccountsError):
    """The accepted version of the terms is not the current one."""

    server_codes = ("TOS_VERSION_MISMATCH",)
    remedy = "Show the user the current terms and accept that version."


class OnboardingSessionError(AccountsError):
    """The onboarding session is unknown, used or expired (codes ``ONBOARDING_SESSION_*``)."""

    remedy = "Ask the user to follow a new verification link."


class OnboardingRequired(AccountsError):
    """
    The address is verified, but the user must accept the terms before there is a token.

    Attributes:
        org_id: The workspace.
        onboarding_url: Where to send the user's browser.
        onboarding_session_id: For :meth:`~buttdial_sync.AccountsClient.accept_onboarding`.
        expires_at: When the onboarding session ends, as the server wrote it, or None.
    """

    server_codes = ("REQUIRES_ONBOARDING",)
    remedy = "Send the user to onboarding_url."

    def __init__(
        self,
        message: str = "verified, but the terms have to be accepted first",
        *,
        org_id: str = "",
        onboarding_url: str = "",
        onboarding_session_id: str | None = None,
        expires_at: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.org_id = org_id
        self.onboarding_url = onboarding_url
        self.onboarding_session_id = onboarding_session_id
        self.expires_at = expires_at
