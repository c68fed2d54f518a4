"""What the accounts endpoints refuse, and how it reaches the caller."""

from __future__ import annotations

import logging
import pickle
from datetime import datetime, timezone
from typing import Any

import pytest

from buttdial_sync import (
    AccountsError,
    AuthError,
    AuthForbidden,
    AuthLockedOutError,
    AuthNonceReplay,
    AuthTimestampExpired,
    AuthTokenRevokedError,
    ButtDialError,
    ChallengeNotFound,
    ConflictError,
    EmailAlreadyRegistered,
    EndpointNotAvailable,
    InvalidRequestError,
    NotFoundError,
    OnboardingRequired,
    OnboardingSessionError,
    OrgAlreadyVerified,
    OTPExpired,
    OTPInvalid,
    OTPMaxAttempts,
    PermissionDeniedError,
    PhoneNotConfigured,
    ProtocolError,
    ProviderWebhookWireFailed,
    RateLimitError,
    TemplateMissingVerifyUrl,
    TemplateTooLarge,
    TokenRevoked,
    TosVersionMismatch,
    VerificationTokenExpired,
    WebhookSecretUnregistered,
)
from buttdial_sync.testing import FakeButtDialServer

from .workspaces import BASE_URL, workspace

CODES: list[tuple[str, int, type[ButtDialError], type[ButtDialError]]] = [
    ("EMAIL_ALREADY_REGISTERED", 409, EmailAlreadyRegistered, ConflictError),
    ("VERIFICATION_TOKEN_EXPIRED", 410, VerificationTokenExpired, NotFoundError),
    ("PHONE_NOT_CONFIGURED", 400, PhoneNotConfigured, InvalidRequestError),
    ("OTP_INVALID", 400, OTPInvalid, InvalidRequestError),
    ("OTP_EXPIRED", 400, OTPExpired, InvalidRequestError),
    ("OTP_MAX_ATTEMPTS", 429, OTPMaxAttempts, RateLimitError),
    ("CHALLENGE_NOT_FOUND", 404, ChallengeNotFound, NotFoundError),
    ("TOKEN_REVOKED", 401, TokenRevoked, AuthError),
    ("TEMPLATE_MISSING_VERIFY_URL", 400, TemplateMissingVerifyUrl, InvalidRequestError),
    ("TEMPLATE_TOO_LARGE", 400, TemplateTooLarge, InvalidRequestError),
    ("ORG_ALREADY_VERIFIED", 409, OrgAlreadyVerified, ConflictError),
    ("ALREADY_VERIFIED", 409, OrgAlreadyVerified, ConflictError),
    ("WEBHOOK_SECRET_UNREGISTERED", 409, WebhookSecretUnregistered, ConflictError),
    ("AUTH_FORBIDDEN", 403, AuthForbidden, PermissionDeniedError),
    ("AUTH_TIMESTAMP_EXPIRED", 401, AuthTimestampExpired, AuthError),
    ("AUTH_NONCE_REPLAY", 401, AuthNonceReplay, AuthError),
    ("TOS_VERSION_MISMATCH", 409, TosVersionMismatch, ConflictError),
    ("ONBOARDING_SESSION_EXPIRED", 410, OnboardingSessionError, NotFoundError),
    ("ONBOARDING_SESSION_NOT_FOUND", 404, OnboardingSessionError, NotFoundError),
    ("RATE_LIMITED", 429, RateLimitError, RateLimitError),
]


def error_of(status: int, body: Any, **headers: str) -> ButtDialError:
    with workspace(max_attempts=1) as (fake, client):
        fake.fault("status", on="rest", status=status, body=body, headers=headers)
        with pytest.raises(ButtDialError) as caught:
            client.confirm_phone("c-1", "123456")
    return caught.value


@pytest.mark.parametrize(("code", "status", "kind", "_plain"), CODES)
def test_each_code_has_its_class(
    code: str, status: int, kind: type[ButtDialError], _plain: type[ButtDialError]
) -> None:
    """A code decides on the class; all that the server says is in the attributes."""
    body = {
        "error": "That does not work",
        "code": code,
        "remediation": "Do something else",
        "retryable": False,
        "retryAfterSeconds": 30,
        "remainingAttempts": 4,
        "lockedUntil": "2026-01-02T03:04:05Z",
    }
    error = error_of(status, body)
    assert type(error) is kind
    assert error.message == "That does not work"
    assert (error.code, error.status_code, error.body) == (code, status, body)
    assert (error.remediation, error.retryable) == ("Do something else", False)
    assert (error.retry_after, error.remaining_attempts) == (30.0, 4)
    assert error.locked_until == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert error.outcome == "rejected"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own


@pytest.mark.parametrize(("_code", "status", "_kind", "plain"), CODES)
def test_without_a_code_the_status_decides(
    _code: str, status: int, _kind: type[ButtDialError], plain: type[ButtDialError]
) -> None:
    """A refusal in words alone gets the class of its status."""
    error = error_of(status, {"error": "Rate limit" if status == 429 else "That does not work"})
    assert isinstance(error, plain)
    assert error.code


@pytest.mark.parametrize(("code", "status", "kind", "_plain"), CODES)
def test_a_code_may_stand_where_the_words_do(
    code: str, status: int, kind: type[ButtDialError], _plain: type[ButtDialError]
) -> None:
    """``{"error": CODE}`` and an object under ``error`` are read as well."""
    assert type(error_of(status, {"error": code})) is kind
    assert type(error_of(status, {"error": {"code": code, "message": "No"}})) is kind


def test_code_without_a_class() -> None:
    """A 400 with an unknown code is an accounts error, with the code in it."""
    error = error_of(400, {"error": "No", "code": "SOMETHING_NEW", "remediation": "Ask"})
    assert type(error) is AccountsError
    assert (error.code, error.remediation, error.status_code) == ("SOMETHING_NEW", "Ask", 400)


def test_revoked_token_is_both() -> None:
    """Who catches the agents' error for a revoked token catches the workspace's too."""
    assert isinstance(error_of(401, {"code": "TOKEN_REVOKED"}), AuthTokenRevokedError)


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500, 503])
def test_refusals_always_raise(status: int) -> None:
    """No 4xx or 5xx is returned as a value."""
    with workspace(max_attempts=1) as (fake, client):
        fake.fault("status", on="rest", status=status, body={"ok": True})
        with pytest.raises(ButtDialError) as caught:
            client.get_account()
    assert caught.value.status_code == status


def test_missing_endpoint() -> None:
    """An endpoint that the server lacks says so, and that nothing was done."""
    with workspace(FakeButtDialServer(dialect="open-source")) as (fake, client):
        with pytest.raises(EndpointNotAvailable, match="GET /api/orgs/me") as caught:
            client.get_account()
        assert len(fake.requests) == 1
    assert (caught.value.outcome, caught.value.status_code) == ("not_sent", 404)


def test_lockout_is_told_and_not_tried_again() -> None:
    """A locked-out address raises at once, with the time."""
    body = {"code": "AUTH_LOCKED_OUT", "retryAfterSeconds": 600}
    with workspace() as (fake, client):
        fake.fault("status", on="rest", status=429, body=body, count=3)
        with pytest.raises(AuthLockedOutError) as caught:
            client.get_account()
        assert len(fake.requests) == 1
    assert caught.value.retry_after == 600.0


def test_few_attempts_left_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """With three failed logins left before the lockout, the log says so."""
    body = {"code": "AUTH_INVALID_TOKEN", "remainingAttempts": 3}
    with caplog.at_level(logging.WARNING, "buttdial_sync"):
        error = error_of(401, body)
    assert error.remaining_attempts == 3
    assert "3 more failed logins" in caplog.text


def test_sunset_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """An endpoint's end is announced once per process, under its template."""
    headers = {"Deprecation": "true", "Sunset": "Mon, 27 Jul 2026 00:00:00 GMT"}
    with workspace() as (fake, client), caplog.at_level(logging.WARNING, "buttdial_sync"):
        fake.on_rest("GET", "/api/v1/agents/{agent_id}", {}, headers=headers)
        for agent_id in ("one", "two"):
            client.get_agent(agent_id)
    lines = [record.getMessage() for record in caplog.records if "deprecates" in record.msg]
    assert len(lines) == 1
    assert "/api/v1/agents/{agent_id}" in lines[0]
    assert "27 Jul 2026" in lines[0]


@pytest.mark.parametrize(
    "url", [None, "https://butt-dial.test/terms"], ids=["made", "the server's"]
)
def test_onboarding_required(url: str | None) -> None:
    """A verified address without accepted terms raises with where to send the user."""
    answer = {
        "teamToken": None,
        "requiresOnboarding": True,
        "orgId": "org-1",
        "onboardingSessionId": "s/1",
        "onboardingExpiresAt": "2026-01-02T03:04:05Z",
        **({"onboardingUrl": url} if url else {}),
    }
    with workspace() as (fake, client):
        fake.on_rest("POST", "/api/orgs/verify", answer, public=True)
        with pytest.raises(OnboardingRequired) as caught:
            client.verify("link")
    error = caught.value
    assert error.org_id == "org-1"
    assert error.onboarding_url == (url or f"{BASE_URL}/onboarding?s=s%2F1")
    assert error.onboarding_session_id == "s/1"
    assert error.expires_at == "2026-01-02T03:04:05Z"


def test_onboarding_required_as_a_refusal() -> None:
    """The same as an HTTP error with the code has the same attributes."""
    body = {"code": "REQUIRES_ONBOARDING", "org_id": "org-1", "onboarding_session_id": "s1"}
    with workspace() as (fake, client):
        fake.fault("status", on="rest", status=403, body=body)
        with pytest.raises(OnboardingRequired) as caught:
            client.verify("link")
    assert caught.value.org_id == "org-1"
    assert caught.value.onboarding_url == f"{BASE_URL}/onboarding?s=s1"
    assert caught.value.status_code == 403


def test_answer_without_a_token_is_none() -> None:
    """Neither a token nor a way to one is an answer that no document knows."""
    with workspace() as (fake, client):
        fake.on_rest("POST", "/api/orgs/verify", {"orgId": "org-1"}, public=True)
        with pytest.raises(ProtocolError, match="team_token") as caught:
            client.verify("link")
    assert caught.value.outcome == "sent"


def test_rolled_back_is_tried_again() -> None:
    """A 502 that was rolled back is repeated although the operation changes things."""
    body = {"code": "PROVIDER_WEBHOOK_WIRE_FAILED", "retryable": True}
    with workspace() as (fake, client):
        client.register_agent("a", "Bot")
        fake.fault("status", on="rest", status=502, body=body)
        assert client.manage_agent_channel("a", "add", "phone")["agent_id"] == "a"
        fake.fault("status", on="rest", status=502, body=body, count=3)
        with pytest.raises(ProviderWebhookWireFailed):
            client.manage_agent_channel("a", "add", "email")
