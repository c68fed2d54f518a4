"""Where one meaning of an answer ends and the next begins."""

from __future__ import annotations

from typing import Any

import pytest

from buttdial_sync import ButtDialError, RateLimitError, ServerError, ToolError
from buttdial_sync.errors import (
    AuthInvalidTokenError,
    AuthLockedOutError,
    AuthMissingHeaderError,
    ConflictError,
    EndpointNotAvailable,
    InvalidRequestError,
    NotFoundError,
    NotProvisioned,
    OnboardingSessionError,
    PayloadTooLargeError,
    PermissionDeniedError,
    ProviderWebhookWireFailed,
    SessionUnknownError,
)
from buttdial_sync.errors.answers import (
    LOCKOUT_SECONDS,
    error_from_response,
    error_from_tool_answer,
)

YEAR = 31_536_000
PAGE = "<!DOCTYPE html><pre>Cannot GET /x</pre>"


@pytest.mark.parametrize(
    ("seconds", "kept"), [(YEAR, YEAR), (YEAR + 1, None), (0, 0.0), (0.5, 0.5), (-0.5, None)]
)
def test_the_longest_pause(seconds: float, kept: float | None) -> None:
    """A year; whoever names more does not mean it."""
    assert error_from_response(429, {"retryAfterSeconds": seconds}).retry_after == kept
    assert error_from_tool_answer({"retryAfterSeconds": seconds}).retry_after == kept


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(str(YEAR), YEAR), (str(YEAR + 1), None), ("000000000007", 7), ("0", 0), ("7.5", None)],
)
def test_the_longest_header(header: str, seconds: float | None) -> None:
    """Twelve digits are read."""
    assert error_from_response(429, {}, {"Retry-After": header}).retry_after == seconds


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("in 1 second", 1),
        ("IN UP TO 2 SECONDS", 2),
        ("in 3 minutes", 180),
        ("in 2 hours", 7200),
        ("in 8760 hours", YEAR),
        ("in 8761 hours", None),
        ("within 5 seconds", None),
        ("in 5 days", None),
    ],
)
def test_pauses_in_words(words: str, seconds: float | None) -> None:
    """Seconds, minutes and hours, in the text or beside it."""
    assert error_from_tool_answer(f"Rate limit. Resets {words}").retry_after == seconds
    body = {"error": "Rate limit", "resetDescription": f"Resets {words}"}
    assert error_from_response(429, body).retry_after == seconds


@pytest.mark.parametrize(("length", "kept"), [(299, 299), (300, 300), (301, 299)])
def test_the_longest_text(length: int, kept: int) -> None:
    """Three hundred characters; a longer one is cut, and shows it."""
    told = "x" * kept + ("…" if kept < length else "")
    assert str(error_from_response(400, {"error": " " + "x" * length + "\n"})) == told
    assert str(error_from_tool_answer("x" * length)) == told


@pytest.mark.parametrize("status", [408, 425, 429, 499, 503])
def test_what_proxies_answer_too(status: int) -> None:
    """There a text of its own is not enough; one that is known is."""
    assert error_from_response(status, {"error": "busy"}).outcome == "unknown"
    assert error_from_response(status, {"error": "Too many requests, please"}).outcome == "rejected"
    known = {"error": {"message": "Unknown session"}}
    assert error_from_response(status, known).outcome == "rejected"


@pytest.mark.parametrize("status", [400, 402, 409, 424, 426, 428, 430, 498])
def test_what_only_the_server_answers(status: int) -> None:
    """A text of its own is its own word; an object needs one that is known."""
    assert error_from_response(status, {"error": "busy"}).outcome == "rejected"
    assert error_from_response(status, {"error": {"message": "busy"}}).outcome == "unknown"
    assert error_from_response(status, {"error": ""}).outcome == "unknown"


@pytest.mark.parametrize("status", [399, 500, 502, 504, 505])
def test_what_proves_nothing(status: int) -> None:
    """Neither a code nor a known text says that nothing was carried out."""
    for body in ({"code": "RATE_LIMITED"}, {"error": "Rate limit"}, "Too many requests"):
        assert error_from_response(status, body).outcome == "unknown"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (399, InvalidRequestError),
        (400, InvalidRequestError),
        (402, InvalidRequestError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (405, InvalidRequestError),
        (409, ConflictError),
        (410, NotFoundError),
        (413, PayloadTooLargeError),
        (428, InvalidRequestError),
        (429, RateLimitError),
        (430, InvalidRequestError),
        (499, InvalidRequestError),
        (500, ServerError),
        (501, ServerError),
    ],
)
def test_a_status_alone(status: int, kind: type[ButtDialError]) -> None:
    """What it means where the server says nothing."""
    bodies: list[Any] = [None, {}, {"error": None}, []]
    for body in bodies:
        error = error_from_response(status, body)
        assert type(error) is kind
        assert error.message == f"HTTP {status}"
        assert (error.retryable, error.retry_after) == (None, None)
        assert error.code == (kind.default_code or kind.server_codes[0])


@pytest.mark.parametrize("status", [401, 402, 404, 409, 500])
def test_words_count_at_few_statuses(status: int) -> None:
    """Elsewhere the status says more than they do."""
    assert not isinstance(error_from_response(status, {"error": "Rate limit"}), RateLimitError)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", AuthInvalidTokenError),
        ("dismissing", AuthInvalidTokenError),
        ("MISSING token", AuthMissingHeaderError),
    ],
)
def test_a_refused_token(text: str, kind: type[ButtDialError]) -> None:
    """Only the word itself says that there was none."""
    assert type(error_from_response(401, {"error": text})) is kind


@pytest.mark.parametrize("status", [400, 404])
def test_an_unknown_session(status: int) -> None:
    """Only where the server itself says so, and only for a message."""
    body = {"error": "Session not found"}
    assert type(error_from_response(status, body, exchange="message")) is SessionUnknownError
    for other in (401, 403, 409, 500, 503):
        error = error_from_response(other, body, exchange="message")
        assert not isinstance(error, SessionUnknownError)
    for refusal in ({"error": "no"}, {"error": "no", "code": "NOT_MINE"}):
        assert type(error_from_response(404, refusal, exchange="message")) is NotFoundError
    assert type(error_from_response(400, PAGE, exchange="message")) is InvalidRequestError
    assert type(error_from_response(405, PAGE, exchange="message")) is InvalidRequestError
    assert type(error_from_response(405, PAGE, exchange="rest")) is EndpointNotAvailable
    assert type(error_from_response(403, PAGE, exchange="rest")) is PermissionDeniedError


def test_a_lockout_has_always_a_time() -> None:
    """The server's, or the window that is known; nothing else gets it."""
    assert LOCKOUT_SECONDS == 900
    lockout = {"code": "AUTH_LOCKED_OUT"}
    assert error_from_response(429, lockout).retry_after == 900
    assert error_from_response(429, {**lockout, "retryAfterSeconds": 0}).retry_after == 0
    assert error_from_response(429, lockout, {"Retry-After": "5"}).retry_after == 5
    assert error_from_response(401, {"code": "AUTH_INVALID_TOKEN"}).retry_after is None
    assert isinstance(error_from_response(429, lockout), AuthLockedOutError)


@pytest.mark.parametrize(
    ("body", "retryable"),
    [
        ({"code": "PROVIDER_WEBHOOK_WIRE_FAILED"}, True),
        ({"code": "PROVIDER_WEBHOOK_WIRE_FAILED", "retryable": False}, False),
        ({"retryable": True}, True),
        ({"retryable": "yes"}, None),
        ({"retryable": 1}, None),
    ],
)
def test_retryable(body: dict[str, Any], retryable: bool | None) -> None:
    """What the server says; a change that it has rolled back may be tried again."""
    assert error_from_response(502, body).retryable is retryable
    assert error_from_tool_answer(body).retryable is retryable
    if "code" in body:
        assert isinstance(error_from_response(502, body), ProviderWebhookWireFailed)


@pytest.mark.parametrize(
    ("body", "text", "code"),
    [
        ({"error": "AGENT_NOT_FOUND"}, "AGENT_NOT_FOUND", "AGENT_NOT_FOUND"),
        ({"error": "NO_SUCH_CODE"}, "NO_SUCH_CODE", "NO_SUCH_CODE"),
        ({"error": "STOP"}, "STOP", None),
        ({"error": "AGENT_NOT_FOUND", "code": "OTHER"}, "AGENT_NOT_FOUND", "OTHER"),
        ({"error": "x", "code": 7}, "x", "7"),
        ({"error": "x", "code": ""}, "x", None),
        ({"error": "x", "code": ["y"]}, "x", None),
        ({"error": {"message": "inner", "code": "A_B"}, "message": "outer", "code": "C_D"}, "inner",
         "A_B"),
        ({"error": {"message": "inner", "error": "kind"}, "message": "outer"}, "inner", None),
        ({"error": {"code": "A_B"}, "message": "outer"}, "outer", "A_B"),
        ({"error": "", "errors": ["first"]}, "first", None),
        ({"errors": {"first": 1}, "message": "outer"}, "outer", None),
        ({"errors": [], "message": "outer"}, "outer", None),
        ({"error": 5}, "5", None),
    ],
)  # fmt: skip
def test_shapes(body: dict[str, Any], text: str, code: str | None) -> None:
    """The innermost text and code count."""
    of_status = error_from_response(400, body)
    of_tool = error_from_tool_answer(body)
    assert (of_status.message, of_status.code) == (text, code or "INVALID_REQUEST")
    assert (of_tool.message, of_tool.code) == (text, code)


def test_details_of_channels_only() -> None:
    """A failure of something else has no channel; a number is an id, too."""
    body = {"error": "x", "code": "NOT_PROVISIONED", "channel": 5, "action": "", "provider": None}
    error = error_from_response(404, body)
    assert isinstance(error, NotProvisioned)
    assert (error.channel, error.action, error.provider) == ("5", None, None)
    other = error_from_response(404, {"error": "x", "channel": "sms", "remediation": ""})
    assert not hasattr(other, "channel")
    assert other.remediation is None


def test_onboarding_codes() -> None:
    """One class for all of a kind, also for those that come later."""
    body = {"error": "x", "code": "ONBOARDING_SESSION_TOMORROW"}
    assert type(error_from_response(410, body)) is OnboardingSessionError
    assert type(error_from_response(410, {"code": "X_ONBOARDING_SESSION_"})) is NotFoundError


@pytest.mark.parametrize(
    ("answer", "code", "outcome"),
    [
        ("no", None, "rejected"),
        ("no", -32602, "rejected"),
        ("no", -32603, "unknown"),
        ("no", -32701, "unknown"),
        ("no", -32599, "unknown"),
        ("MCP error -32602: no", -32603, "unknown"),
        ("MCP error -32603: no", -32602, "rejected"),
        ("MCP error -32603: no", None, "unknown"),
        ("it said MCP error -32603", None, "rejected"),
        ({"error": "MCP error -32603: no", "code": "NOT_PROVISIONED"}, None, "rejected"),
        ({"error": "MCP error -32603: no", "retryable": True}, None, "rejected"),
        ({"error": "MCP error -32603: no", "retryable": False}, None, "unknown"),
    ],
)
def test_whether_a_tool_refused(answer: object, code: int | None, outcome: str) -> None:
    """The number of the error decides, unless the server adds that nothing was done."""
    error = error_from_tool_answer(answer, code=code)
    assert (error.outcome, error.stage) == (outcome, "server")
    assert isinstance(error, ToolError)


def test_a_tool_that_says_nothing() -> None:
    """It gets a text all the same, and keeps the number of the error."""
    error = error_from_tool_answer({"success": False}, code=-32602)
    assert (str(error), error.code) == ("the tool failed without saying why", "INVALID_REQUEST")
    assert type(error) is InvalidRequestError


def test_what_opening_a_stream_proves() -> None:
    """Nothing was sent; a refused login is an answer."""
    assert error_from_response(500, None, exchange="stream").outcome == "not_sent"
    assert error_from_response(401, None, exchange="stream").outcome == "rejected"
    assert error_from_response(403, {"error": "x"}, exchange="stream").outcome == "not_sent"


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ("Too many requests", 60.0),
        ({"error": "Too many requests (global limit)"}, 60.0),
        ({"error": "slow down", "code": "RATE_LIMITED"}, 60.0),
        ({"error": "slow down", "code": "RATE_LIMITED", "retryAfterSeconds": 3}, 3.0),
        ({"error": "Rate limit exceeded: spend per day (5/5)"}, None),
        ({"error": "Rate limit exceeded: per-minute. Resets in up to 20 seconds"}, 20.0),
        ({"message": "Too many requests"}, None),
        ("<html>Too many requests</html>", None),
    ],
    ids=str,
)
def test_the_window_of_a_limiter_without_a_time(body: Any, seconds: float | None) -> None:
    """A limiter of the address has a window of a minute; a quota and a proxy's 429 have none."""
    assert error_from_response(429, body).retry_after == seconds
    assert error_from_response(429, body, {"Retry-After": "7"}).retry_after == 7.0
