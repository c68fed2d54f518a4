"""How answers become exceptions: every status, code and text of the wire."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buttdial_sync.errors import (
    AccountsError,
    AuthError,
    AuthForbidden,
    AuthInvalidTokenError,
    AuthLockedOutError,
    AuthMissingHeaderError,
    AuthTokenRevokedError,
    ButtDialError,
    ChannelError,
    ComplianceError,
    ConflictError,
    EndpointNotAvailable,
    InvalidRequestError,
    NoChannelAssigned,
    NotFoundError,
    NotProvisioned,
    OnboardingSessionError,
    PayloadTooLargeError,
    PermissionDeniedError,
    ProviderCapabilityError,
    ProviderWebhookWireFailed,
    RateLimitError,
    ServerError,
    SessionUnknownError,
    TokenRevoked,
    ToolError,
    ToolNotAvailable,
    error_from_response,
    error_from_tool_answer,
)
from buttdial_sync.errors.answers import LOCKOUT_SECONDS, Exchange

FOREIGN_PAGE = "<html><head><title>503</title></head><body><h1>Error 503</h1></body></html>"
PAGE = "<!DOCTYPE html><html><body>Cannot GET /x</body></html>"
EXCHANGES: tuple[Exchange, ...] = ("stream", "message", "rest")

every_exchange = pytest.mark.parametrize("exchange", EXCHANGES)

BY_CODE = {
    "AUTH_MISSING_HEADER": AuthMissingHeaderError,
    "AUTH_INVALID_TOKEN": AuthInvalidTokenError,
    "AUTH_TOKEN_REVOKED": AuthTokenRevokedError,
    "AUTH_LOCKED_OUT": AuthLockedOutError,
    "AGENT_NOT_PROVISIONED": NotProvisioned,
    "AGENT_NOT_FOUND": NotProvisioned,
    "NOT_PROVISIONED": NotProvisioned,
    "NO_CHANNEL_ASSIGNED": NoChannelAssigned,
    "PROVIDER_UNSUPPORTED": ProviderCapabilityError,
    "CHANNEL_UNSUPPORTED": ProviderCapabilityError,
    "PROVIDER_WEBHOOK_WIRE_FAILED": ProviderWebhookWireFailed,
    "AUTH_FORBIDDEN": AuthForbidden,
    "TOKEN_REVOKED": TokenRevoked,
    "ONBOARDING_SESSION_EXPIRED": OnboardingSessionError,
    "ONBOARDING_SESSION_NEW_ONE": OnboardingSessionError,
    "RATE_LIMITED": RateLimitError,
}
OF_ACCOUNTS = [
    "EMAIL_ALREADY_REGISTERED",
    "VERIFICATION_TOKEN_EXPIRED",
    "PHONE_NOT_CONFIGURED",
    "OTP_INVALID",
    "OTP_EXPIRED",
    "OTP_MAX_ATTEMPTS",
    "CHALLENGE_NOT_FOUND",
    "TOKEN_REVOKED",
    "REQUIRES_ONBOARDING",
    "TEMPLATE_MISSING_VERIFY_URL",
    "TEMPLATE_TOO_LARGE",
    "ORG_ALREADY_VERIFIED",
    "ALREADY_VERIFIED",
    "WEBHOOK_SECRET_UNREGISTERED",
    "AUTH_FORBIDDEN",
    "AUTH_TIMESTAMP_EXPIRED",
    "AUTH_NONCE_REPLAY",
    "TOS_VERSION_MISMATCH",
    "ONBOARDING_SESSION_USED",
]

PER_MINUTE = "Rate limit exceeded: per-minute (10/10). Resets in up to 60 seconds."
BY_WORDS: tuple[tuple[int, str, type[ButtDialError], str], ...] = (
    (401, "Missing token. Use: /sse?token=<token>", AuthMissingHeaderError, "AUTH_MISSING_HEADER"),
    (401, "Missing Authorization header", AuthMissingHeaderError, "AUTH_MISSING_HEADER"),
    (401, "Invalid or revoked token", AuthInvalidTokenError, "AUTH_INVALID_TOKEN"),
    (429, "Too many failed attempts. Try again later.", AuthLockedOutError, "AUTH_LOCKED_OUT"),
    (429, "Too many requests", RateLimitError, "RATE_LIMITED"),
    (429, PER_MINUTE, RateLimitError, "RATE_LIMITED"),
    (403, "Auth error: not yours", PermissionDeniedError, "PERMISSION_DENIED"),
    (403, "Compliance: no consent", ComplianceError, "CONSENT_REQUIRED"),
    (403, "no", PermissionDeniedError, "PERMISSION_DENIED"),
    (404, "Agent not provisioned", NotFoundError, "NOT_FOUND"),
    (404, "gone", NotFoundError, "NOT_FOUND"),
    (410, "gone", NotFoundError, "NOT_FOUND"),
    (400, "Invalid recipient", InvalidRequestError, "INVALID_RECIPIENT"),
    (400, "what", InvalidRequestError, "INVALID_REQUEST"),
    (409, "Agent exists", ConflictError, "CONFLICT"),
    (413, "too large", PayloadTooLargeError, "PAYLOAD_TOO_LARGE"),
    (418, "teapot", InvalidRequestError, "INVALID_REQUEST"),
    (500, "boom", ServerError, "SERVER_ERROR"),
    (502, "bad gateway", ServerError, "SERVER_ERROR"),
    (503, "busy", ServerError, "SERVER_ERROR"),
    (504, "gateway timeout", ServerError, "SERVER_ERROR"),
)


@pytest.mark.parametrize(("code", "kind"), BY_CODE.items())
@every_exchange
def test_code_decides(code: str, kind: type[ButtDialError], exchange: Exchange) -> None:
    """The code wins over the status and the text, whatever was asked."""
    error = error_from_response(400, {"error": "Too many requests", "code": code})
    assert type(error) is kind
    assert error.code == code
    assert type(error_from_response(500, {"code": code}, exchange=exchange)) is kind


@pytest.mark.parametrize("code", OF_ACCOUNTS)
def test_codes_of_accounts(code: str) -> None:
    """Every documented code of the accounts endpoints has a class of its own."""
    error = error_from_response(400, {"error": "no", "code": code})
    assert isinstance(error, AccountsError)
    assert type(error) is not AccountsError


@pytest.mark.parametrize(("status", "text", "kind", "code"), BY_WORDS)
def test_words_decide_without_a_code(
    status: int, text: str, kind: type[ButtDialError], code: str
) -> None:
    """Where there is no code, the status and the server's words say what it was."""
    for body in ({"error": text}, {"message": text}, {"error": {"message": text}}, text):
        error = error_from_response(status, body)
        assert type(error) is kind
        assert error.message == text
        assert error.status_code == status
        assert error.body == body
        assert error.code == code


@pytest.mark.parametrize(
    "body",
    [
        {"error": "no sender", "code": "NO_CHANNEL_ASSIGNED", "channel": "sms"},
        {"error": {"message": "no sender", "code": "NO_CHANNEL_ASSIGNED", "channel": "sms"}},
        {"error": {"error": "no sender", "code": "NO_CHANNEL_ASSIGNED", "channel": "sms"}},
        {"errors": [{"message": "no sender", "code": "NO_CHANNEL_ASSIGNED", "channel": "sms"}]},
    ],
)
def test_shapes_of_errors(body: dict[str, Any]) -> None:
    """The error as a text, as an object and in a list says the same."""
    for error in (error_from_response(404, body), error_from_tool_answer(body)):
        assert isinstance(error, NoChannelAssigned)
        assert (error.message, error.code, error.channel) == (
            "no sender",
            "NO_CHANNEL_ASSIGNED",
            "sms",
        )
        assert error.remediation == NoChannelAssigned.remedy


def test_list_of_texts() -> None:
    """A list of texts tells the first."""
    assert str(error_from_tool_answer({"errors": ["first", "second"]})) == "first"


def test_channel_details() -> None:
    """What the server says about channel, action and provider is kept, and its advice wins."""
    body = {
        "error": "cannot",
        "code": "PROVIDER_UNSUPPORTED",
        "channel": "whatsapp",
        "action": "react",
        "provider": "twilio",
        "remediation": "Use meta.",
    }
    error = error_from_response(400, body)
    assert isinstance(error, ChannelError)
    assert (error.channel, error.action, error.provider) == ("whatsapp", "react", "twilio")
    assert error.remediation == "Use meta."


@pytest.mark.parametrize("status", [404, 405, 410])
@pytest.mark.parametrize("exchange", ["stream", "rest"])
def test_html_page_is_a_missing_endpoint(status: int, exchange: Exchange) -> None:
    """A web framework's own 404 page means that the server has no such endpoint."""
    error = error_from_response(status, PAGE, exchange=exchange)
    assert type(error) is EndpointNotAvailable
    assert error.message == f"HTTP {status}"
    assert error.outcome == "not_sent"


@pytest.mark.parametrize("status", [400, 413, 500, 502])
def test_html_page_is_no_message(status: int) -> None:
    """A page does not become the exception's text."""
    assert error_from_response(status, PAGE).message == f"HTTP {status}"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": "Unknown session"}),
        (404, {"error": "Session not found"}),
        (404, {"error": {"code": -32001, "message": "Session not found"}}),
        (404, "Could not find session"),
        (404, PAGE),
        (400, "Invalid session ID"),
    ],
)
def test_unknown_session(status: int, body: object) -> None:
    """A post to a session that is gone was not carried out; elsewhere the same words mean less."""
    error = error_from_response(status, body, exchange="message")
    assert type(error) is SessionUnknownError
    assert error.outcome == "not_sent"
    assert type(error_from_response(status, body, exchange="rest")) is not SessionUnknownError


@pytest.mark.parametrize(
    ("exchange", "stage"), [("stream", "session"), ("message", "tool_call"), ("rest", "server")]
)
def test_stage(exchange: Exchange, stage: str) -> None:
    """The stage says what was being done."""
    assert error_from_response(500, None, exchange=exchange).stage == stage


@pytest.mark.parametrize(
    ("status", "body", "stream", "message", "rest"),
    [
        (400, {"error": "x"}, "not_sent", "rejected", "rejected"),
        (401, {"error": "Invalid token"}, "rejected", "rejected", "rejected"),
        (429, {"error": "Too many requests"}, "not_sent", "rejected", "rejected"),
        (429, {"error": "Too many failed attempts"}, "rejected", "rejected", "rejected"),
        (500, {"error": "x"}, "not_sent", "unknown", "unknown"),
        (502, {"code": "PROVIDER_WEBHOOK_WIRE_FAILED"}, "not_sent", "rejected", "rejected"),
        (502, {"error": "x", "retryable": True}, "not_sent", "rejected", "rejected"),
        (502, {"error": "x", "retryable": False}, "not_sent", "unknown", "unknown"),
        (503, {"error": "x", "retryable": True}, "not_sent", "rejected", "rejected"),
        (503, {"error": "Too many requests (global limit)"}, "not_sent", "rejected", "rejected"),
        (503, {"error": "x", "code": "RATE_LIMITED"}, "not_sent", "rejected", "rejected"),
        (504, PAGE, "not_sent", "unknown", "unknown"),
        (404, PAGE, "not_sent", "not_sent", "not_sent"),
    ],
)
def test_outcome(status: int, body: object, stream: str, message: str, rest: str) -> None:
    """What became of a request follows from the status and from what was asked."""
    found = [error_from_response(status, body, exchange=each).outcome for each in EXCHANGES]
    assert found == [stream, message, rest]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *(
            (status, body)
            for status in (401, 403, 404, 413, 429, 503)
            for body in (
                FOREIGN_PAGE,
                "",
                None,
                "upstream connect error or disconnect/reset before headers",
                {"message": "Service Unavailable"},
                {"status": status, "title": "No"},
                {"error": {"code": status, "message": "The service is not there.", "status": "NO"}},
                {"errors": [{"code": 10000, "message": "No"}]},
                ["no"],
            )
        ),
        (503, {"error": "Service Unavailable"}),
        (503, {"error": "busy"}),
        (503, {"error": "busy", "code": "MAINTENANCE"}),
        (429, {"error": "Too Many Requests"}),
        (408, {"error": "The request took too long"}),
        (404, {"timestamp": 1, "status": 404, "error": "Not Found", "path": "/messages"}),
        (403, {"error": "Forbidden"}),
        (300, {"error": "Choose one"}),
        *((status, {"error": "x", "code": "OTP_INVALID"}) for status in (500, 502, 504)),
    ],
)
@pytest.mark.parametrize("exchange", ["message", "rest"])
def test_what_a_proxy_says_proves_nothing(status: int, body: object, exchange: Exchange) -> None:
    """Varnish answers 503 after it has passed the request on: only the server's own word counts."""
    headers = {"Retry-After": "5"}
    error = error_from_response(status, body, headers, exchange=exchange)
    assert (error.outcome, error.retry_after) == ("unknown", 5.0)
    assert not isinstance(error, SessionUnknownError)
    assert error_from_response(status, body, headers, exchange="stream").outcome != "unknown"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, "Invalid message: {not json", InvalidRequestError),
        (400, "PayloadTooLargeError: request entity too large", PayloadTooLargeError),
        (400, "Error: Unsupported content-type: text/plain", InvalidRequestError),
        (400, "Could not parse message", InvalidRequestError),
        (413, "Request body too large", PayloadTooLargeError),
        (413, "<html><pre>PayloadTooLargeError: x<br></pre></html>", PayloadTooLargeError),
        (403, "Invalid Origin header", PermissionDeniedError),
        (429, "Too many requests", RateLimitError),
        (429, {"error": "Rate limit exceeded: per-minute (10/10)."}, RateLimitError),
        (401, {"error": "Missing Authorization header. Use: Bearer <token>"}, AuthError),
    ],
)
@pytest.mark.parametrize("exchange", ["message", "rest"])
def test_the_servers_own_word(
    status: int, body: object, kind: type[ButtDialError], exchange: Exchange
) -> None:
    """What the servers answer before they carry anything out is a refusal, also as plain text."""
    error = error_from_response(status, body, exchange=exchange)
    assert isinstance(error, kind)
    assert error.outcome == "rejected"


def test_lockout_with_details() -> None:
    """The hosted lockout says until when, in three ways."""
    body = {
        "error": "Too many failed attempts",
        "code": "AUTH_LOCKED_OUT",
        "retryable": False,
        "retryAfterSeconds": 899,
        "lockedUntil": "2026-01-02T03:04:05Z",
    }
    error = error_from_response(429, body, {"retry-after": "900"}, exchange="stream")
    assert type(error) is AuthLockedOutError
    assert error.retry_after == 900.0
    assert error.retryable is False
    assert error.locked_until == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert error_from_response(429, body).retry_after == 899.0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-02T05:04:05+02:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("2026-01-02 03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("soon", None),
        (17, None),
        ("0001-01-01T00:00:00+10:00", None),
    ],
)
def test_locked_until_is_utc(text: object, moment: datetime | None) -> None:
    """Until when it is locked is an aware UTC time, or nothing."""
    found = error_from_response(429, {"code": "AUTH_LOCKED_OUT", "lockedUntil": text}).locked_until
    assert found == moment
    if found is not None:
        assert found.utcoffset() == timedelta(0)


def test_lockout_without_details() -> None:
    """The open-source server names no time; its window is known."""
    error = error_from_response(429, "Too many failed attempts. Try again later.")
    assert type(error) is AuthLockedOutError
    assert error.retry_after == LOCKOUT_SECONDS


def test_remaining_attempts() -> None:
    """A refused token tells how many are left."""
    body = {"code": "AUTH_INVALID_TOKEN", "retryable": False, "remainingAttempts": 9}
    error = error_from_response(401, body)
    assert (error.remaining_attempts, error.retryable) == (9, False)
    assert error_from_response(401, {"remainingAttempts": True}).remaining_attempts is None
    assert error_from_response(401, {"remainingAttempts": "9"}).remaining_attempts is None


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        ({"error": "x"}, {"Retry-After": "7"}, 7.0),
        ({"error": "x"}, {"RETRY-AFTER": " 7 "}, 7.0),
        ({"error": "x", "retryAfterSeconds": 3.5}, {}, 3.5),
        ({"error": "x", "retryAfterSeconds": 0}, {}, 0.0),
        ({"error": "x", "retryAfterSeconds": 3}, {"Retry-After": "7"}, 7.0),
        ({"error": "x", "retryAfterSeconds": -3}, {}, None),
        ({"error": "x", "retryAfterSeconds": True}, {}, None),
        ({"error": "x", "retryAfterSeconds": "3"}, {}, None),
        ({"error": "Rate limit. Resets in up to 60 seconds."}, {}, 60.0),
        ({"error": "Rate limit", "resetDescription": "Resets in 2 minutes"}, {}, 120.0),
        ({"error": "Try again in 1 hour"}, {}, 3600.0),
        ({"error": "x"}, {}, None),
        ({"error": "x"}, {"Retry-After": "soon"}, None),
        ({"error": "x"}, {"Retry-After": "-1"}, None),
        ({"error": "x"}, {"Retry-After": "\u00b2"}, None),
        ({"error": "x"}, {"Retry-After": ""}, None),
    ],
)
def test_retry_after(body: object, headers: dict[str, str], seconds: float | None) -> None:
    """The header wins over the body's number, and that over the words."""
    assert error_from_response(429, body, headers).retry_after == seconds


@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        ("Fri, 02 Jan 2026 03:04:35 GMT", 30.0),
        ("Fri, 02 Jan 2026 03:03:05 GMT", 0.0),
        ("Sat, 02 Jan 2027 03:04:05 GMT", 365 * 86400.0),
        ("Sat, 02 Jan 2027 03:04:06 GMT", None),  # as a number of seconds is bounded
        ("Fri, 31 Dec 9999 03:04:05 GMT", None),
        ("Fri, 02 Jan 2026 03:04:35 -0000", None),
        ("Fri, 02 Jan 2026 03:04:35 +9999", None),
        ("Fri, 02 Jan 99999999999 03:04:35 GMT", None),
        ("Fri, 32 Jan 2026 03:04:35 GMT", None),
    ],
)
def test_retry_after_as_a_date(when: str, seconds: float | None) -> None:
    """A date counts from the server's own ``Date``, so no clock has to be right."""
    headers = {"Retry-After": when, "Date": "Fri, 02 Jan 2026 03:04:05 GMT"}
    assert error_from_response(503, None, headers).retry_after == seconds
    assert error_from_response(503, None, {"Retry-After": when}).retry_after is None


def test_absurd_numbers() -> None:
    """A number that no float can hold is no time to wait, and no crash."""
    for seconds in (10**400, float("inf")):
        error = error_from_response(429, {"error": "x", "retryAfterSeconds": seconds})
        assert error.retry_after is None
    assert error_from_response(429, {"error": "x"}, {"Retry-After": "9" * 400}).retry_after is None
    error = error_from_tool_answer({"error": f"Rate limit. Resets in {'9' * 400} hours"})
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("MCP error -32602: Tool comms_x not found", ToolNotAvailable),
        ("Unknown tool: comms_x", ToolNotAvailable),
        ("MCP error -32602: Input validation error", InvalidRequestError),
        ({"error": "Rate limit exceeded: per-minute (10/10)."}, RateLimitError),
        ({"error": "Recipient opted out"}, ComplianceError),
        ({"error": "agentId is required"}, InvalidRequestError),
        ({"error": "whatever"}, ToolError),
        ({"success": False}, ToolError),
        (["x"], ToolError),
        (None, ToolError),
        ({"error": "Invalid token", "code": "AUTH_INVALID_TOKEN"}, ToolError),
    ],
)
def test_answers_of_tools(answer: object, kind: type[ButtDialError]) -> None:
    """A tool's no is a ``ToolError``, also where it is about a credential: it was no login."""
    error = error_from_tool_answer(answer)
    assert type(error) is kind
    assert isinstance(error, ToolError)
    assert (error.outcome, error.stage) == ("rejected", "server")
    assert error.body == answer
    assert str(error)


def test_jsonrpc_code() -> None:
    """A JSON-RPC error's number becomes the code, unless the message brings a better one."""
    assert error_from_tool_answer("Internal error", code=-32603).code == "-32603"
    body = {"code": "NOT_PROVISIONED", "error": "x"}
    for number in (-32603, -32602):
        error = error_from_tool_answer(body, code=number)
        assert (type(error), error.code) == (NotProvisioned, "NOT_PROVISIONED")


@pytest.mark.parametrize("code", [-32603, -32000, -32001, 0, 500])
def test_a_jsonrpc_error_may_come_after_the_act(code: int) -> None:
    """An internal error does not say that nothing was done, unless the server adds that itself."""
    assert error_from_tool_answer("Internal error", code=code).outcome == "unknown"
    rolled_back = {"error": "x", "retryable": True}
    assert error_from_tool_answer(rolled_back, code=code).outcome == "rejected"
    named = {"error": "x", "code": "NOT_PROVISIONED"}
    assert error_from_tool_answer(named, code=code).outcome == "rejected"


@pytest.mark.parametrize("code", [-32700, -32600, -32601, -32602])
def test_a_jsonrpc_error_that_refuses(code: int) -> None:
    """These say that the request was never carried out, in both forms."""
    assert error_from_tool_answer("no", code=code).outcome == "rejected"
    assert error_from_tool_answer(f"MCP error {code}: no").outcome == "rejected"


def test_a_jsonrpc_error_as_a_tools_text() -> None:
    """A tool that hands an internal error on has no more certainty than the error."""
    assert error_from_tool_answer("MCP error -32603: it broke").outcome == "unknown"


def test_long_texts_are_cut() -> None:
    """A server that echoes the request does not fill the log."""
    error = error_from_response(400, "Error: " + "x" * 5000)
    assert len(str(error)) == 300
    assert len(error.body) == 5007


def test_remedies_of_words() -> None:
    """Bad recipients and a missing agent get advice of their own."""
    assert "E.164" in str(error_from_tool_answer({"error": "Invalid phone number"}).remediation)
    assert "agent_id" in str(error_from_tool_answer({"error": "agentId is required"}).remediation)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
keys = st.sampled_from(
    [
        "error",
        "errors",
        "code",
        "message",
        "channel",
        "remediation",
        "retryable",
        "retryAfterSeconds",
        "lockedUntil",
        "remainingAttempts",
        "resetDescription",
        "success",
    ]
) | st.text(max_size=5)
bodies = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4)
)
headers_of_anything = st.dictionaries(
    st.sampled_from(["Retry-After", "Date", "retry-after", "X"]), st.text(max_size=40), max_size=3
)


@given(
    status=st.integers(100, 999),
    body=bodies,
    headers=headers_of_anything,
    exchange=st.sampled_from(EXCHANGES),
)
def test_garbage_is_an_error_of_ours(
    status: int, body: object, headers: dict[str, str], exchange: Exchange
) -> None:
    """Whatever a server answers, the result is one of our exceptions, whole and usable."""
    error = error_from_response(status, body, headers, exchange=exchange)
    assert isinstance(error, ButtDialError)
    assert error.status_code == status
    assert error.outcome in {"rejected", "not_sent", "unknown"}
    assert isinstance(error.code, str | None)
    assert isinstance(str(error), str)
    assert error.retry_after is None or error.retry_after >= 0
    if isinstance(error, AuthError) and exchange == "stream":
        assert error.outcome == "rejected"


@given(answer=bodies, code=st.none() | st.integers())
def test_garbage_of_tools(answer: object, code: int | None) -> None:
    """Whatever a tool answers, its no is a ``ToolError`` with a text."""
    error = error_from_tool_answer(answer, code=code)
    assert isinstance(error, ToolError)
    assert str(error).strip()


@given(text=st.text(max_size=400))
def test_any_text_survives(text: str) -> None:
    """Texts and JSON texts of any kind are readable."""
    assert isinstance(error_from_response(400, text), ButtDialError)
    assert isinstance(error_from_tool_answer(json.dumps(text)), ToolError)


@pytest.mark.parametrize("status", [400, 403, 429])
def test_unknown_tool_in_an_http_answer(status: int) -> None:
    """Only a tool's own answer says that a tool is missing; a status keeps its meaning."""
    kinds = {400: InvalidRequestError, 403: PermissionDeniedError, 429: RateLimitError}
    error = error_from_response(status, {"error": "Tool comms_x not found"})
    assert type(error) is kinds[status]


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system has one time zone")
def test_locked_until_without_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time without a zone is UTC, wherever the client runs."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        body = {"code": "AUTH_LOCKED_OUT", "lockedUntil": "2026-01-02T03:04:05"}
        found = error_from_response(429, body).locked_until
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
