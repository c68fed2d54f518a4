"""What the open-source server's texts mean: it answers without codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from buttdial_sync import errors
from buttdial_sync.errors import (
    AgentSuspended,
    AuthError,
    ButtDialError,
    ChannelError,
    ComplianceError,
    InvalidRequestError,
    NoChannelAssigned,
    NotProvisioned,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    ToolError,
    ToolNotAvailable,
    error_from_response,
    error_from_tool_answer,
)
from buttdial_sync.errors.texts import MEANING_OF_CODE

ZOD = "MCP error -32602: Input validation error: Invalid arguments for tool "

# text, class, code, a part of the advice, and the HTTP status with which REST says it
TEXTS: tuple[tuple[str, type[ButtDialError], str, str, int], ...] = (
    (
        'Token for agent "a" cannot access agent "b"',
        PermissionDeniedError,
        "PERMISSION_DENIED",
        "scope",
        403,
    ),
    (
        "Admin access required. Agent tokens cannot perform this action.",
        PermissionDeniedError,
        "PERMISSION_DENIED",
        "scope",
        403,
    ),
    (
        "Super-admin access required. Only the master token can perform this action.",
        PermissionDeniedError,
        "PERMISSION_DENIED",
        "scope",
        403,
    ),
    (
        "Organization admin access required.",
        PermissionDeniedError,
        "PERMISSION_DENIED",
        "scope",
        403,
    ),
    (
        'Agent "b" does not belong to your organization',
        PermissionDeniedError,
        "PERMISSION_DENIED",
        "scope",
        403,
    ),
    ("Authentication required", PermissionDeniedError, "PERMISSION_DENIED", "scope", 403),
    (
        'Agent "a" has no phone number available (checked pool and agent)',
        NoChannelAssigned,
        "NO_CHANNEL_ASSIGNED",
        "Assign a channel",
        400,
    ),
    (
        'Agent "a" has no email address assigned',
        NoChannelAssigned,
        "NO_CHANNEL_ASSIGNED",
        "Assign a channel",
        400,
    ),
    (
        'Agent "a" is blocked on sms channel',
        ChannelError,
        "CHANNEL_BLOCKED",
        "unblock",
        403,
    ),
    (
        'Agent "a" is not active (status: suspended)',
        AgentSuspended,
        "AGENT_SUSPENDED",
        "activate the agent",
        400,
    ),
    ('Agent "a" is not active', AgentSuspended, "AGENT_SUSPENDED", "activate the agent", 400),
    (
        "Compliance: Message contains threatening content",
        ComplianceError,
        "CONTENT_REFUSED",
        "Change the text",
        403,
    ),
    (
        "Compliance: Message contains prohibited language",
        ComplianceError,
        "CONTENT_REFUSED",
        "Change the text",
        403,
    ),
    (
        "Compliance: +15550001111 is on the Do Not Contact list",
        ComplianceError,
        "DO_NOT_CONTACT",
        "Do not write to this recipient again",
        403,
    ),
    (
        "Compliance: TCPA: Calls not allowed at this time (22:00 in Asia/Tokyo). Allowed: 8:00 AM",
        ComplianceError,
        "CALLING_HOURS",
        "between 8:00 and 21:00",
        403,
    ),
    ("Compliance: no consent", ComplianceError, "CONSENT_REQUIRED", "consent.check", 403),
    ("Compliance: rule 17", ComplianceError, "COMPLIANCE", "the error names it", 403),
    (
        'Invalid input for "body": SQL injection pattern',
        InvalidRequestError,
        "CONTENT_REFUSED",
        "takes it for an attack",
        400,
    ),
    (
        'Invalid input for "to": Path traversal',
        InvalidRequestError,
        "INVALID_RECIPIENT",
        "E.164",
        400,
    ),
    (
        "The 'To' number +1555 is not a valid phone number.",
        InvalidRequestError,
        "INVALID_RECIPIENT",
        "E.164",
        400,
    ),
    (
        "Subject is required for email channel",
        InvalidRequestError,
        "SUBJECT_REQUIRED",
        "Give a subject",
        400,
    ),
    (
        "agentId is required (or use an agent token)",
        InvalidRequestError,
        "AGENT_ID_REQUIRED",
        "agent_id",
        400,
    ),
    (
        "Missing agentId. It is auto-detected from an agent's token",
        InvalidRequestError,
        "AGENT_ID_REQUIRED",
        "agent_id",
        400,
    ),
    (
        "Rate limit exceeded: per-minute (10/10). Resets in up to 60 seconds.",
        RateLimitError,
        "RATE_LIMITED",
        "retry_after",
        429,
    ),
    (
        "Rate limit exceeded: per-day (500/500). Resets at midnight UTC.",
        RateLimitError,
        "QUOTA_EXCEEDED",
        "limits raised",
        429,
    ),
    (
        "Rate limit exceeded: daily-spend (10/10). Resets at midnight UTC.",
        RateLimitError,
        "QUOTA_EXCEEDED",
        "limits raised",
        429,
    ),
    (
        "PayloadTooLargeError: request entity too large",
        PayloadTooLargeError,
        "PAYLOAD_TOO_LARGE",
        "by URL",
        400,
    ),
)


@pytest.mark.parametrize(("text", "kind", "code", "advice", "status"), TEXTS)
def test_texts(text: str, kind: type[ButtDialError], code: str, advice: str, status: int) -> None:
    """As a tool's answer and over REST, the text alone gives the class, the code and the advice."""
    for error in (
        error_from_tool_answer({"error": text}),
        error_from_response(status, {"error": text}),
    ):
        assert type(error) is kind
        assert (error.code, error.outcome, error.message) == (code, "rejected", text)
        assert advice in str(error.remediation)


@pytest.mark.parametrize(
    ("text", "channel"),
    [
        ('Agent "a" has no phone number available', None),
        ('Agent "a" has no email address assigned', "email"),
        ('Agent "a" has no email address', "email"),
        ('Agent "a" has no WhatsApp sender assigned', "whatsapp"),
        ('Agent "a" has no WhatsApp sender', "whatsapp"),
        ('Agent "a" has no LINE channel configured', "line"),
        ('Agent "a" has no LINE channel', "line"),
        ('Agent "a" is blocked on voice channel', "voice"),
    ],
)
def test_the_channel_that_a_text_names(text: str, channel: str | None) -> None:
    """It stands in ``channel``, unless the server has told it apart from its text."""
    error = error_from_tool_answer({"error": text})
    assert isinstance(error, ChannelError)
    assert error.channel == channel
    told = error_from_tool_answer({"error": text, "channel": "sms"})
    assert isinstance(told, ChannelError)
    assert told.channel == "sms"


@pytest.mark.parametrize(
    "tool", ["comms_check_consent", "comms_record_consent", "comms_revoke_consent", "opted out"]
)
@pytest.mark.parametrize(
    "issues",
    [
        '[{"message":"Rate limit: Do Not Contact, admin access required"}]',
        "tool comms_x not found",
        "no consent",
        "Invalid recipient",
    ],
)
def test_invalid_arguments_whatever_the_words(tool: str, issues: str) -> None:
    """The text of -32602 quotes names and arguments, so no other word of it counts."""
    for error in (
        error_from_tool_answer(f"{ZOD}{tool}: {issues}"),
        error_from_tool_answer(f"Invalid arguments for tool {tool}: {issues}", code=-32602),
        error_from_tool_answer(f"Input validation error: {tool} {issues}"),
    ):
        assert type(error) is InvalidRequestError
        assert (error.code, error.outcome) == ("INVALID_REQUEST", "rejected")


@pytest.mark.parametrize(
    "text",
    [
        "MCP error -32602: Tool comms_check_consent not found",
        "MCP error -32602: Tool comms_check_consent disabled",
        "Tool comms_check_consent not found",
        "Unknown tool: comms_check_consent",
    ],
)
@pytest.mark.parametrize("code", [None, -32602])
def test_a_tool_that_is_not_there(text: str, code: int | None) -> None:
    """The same number says that a tool is missing; only these words tell it."""
    error = error_from_tool_answer(text, code=code)
    assert type(error) is ToolNotAvailable
    assert error.code == "TOOL_NOT_AVAILABLE"


@pytest.mark.parametrize(
    "text",
    [
        "No active consent found to revoke",
        "consent status unknown",
        "The provider's language model is busy",
        "SQL error in column not_active",
        'Bridge route "x" not found',
    ],
)
def test_words_that_mean_nothing(text: str) -> None:
    """A word of the table in another sentence does not decide."""
    kind = ComplianceError if text.startswith("No active consent") else ToolError
    assert type(error_from_tool_answer({"error": text})) is kind


def test_an_agent_that_is_not_there() -> None:
    """A tool says it in words, without a code."""
    error = error_from_tool_answer({"error": 'Agent "x" not found'})
    assert type(error) is NotProvisioned
    assert error.code == "AGENT_NOT_PROVISIONED"


def test_the_servers_own_words_win() -> None:
    """A code and advice of the server's stand before those of the table."""
    body = {
        "error": "Compliance: +1555 is on the Do Not Contact list",
        "code": "X",
        "remediation": "Y",
    }
    error = error_from_tool_answer(body)
    assert type(error) is ComplianceError
    assert (error.code, error.remediation) == ("X", "Y")


OWN_WORDS = (
    "You have opted out.",
    "We have no consent for that",
    "TCPA: calling hours are over",
    "Rate limit exceeded, try again in 5 minutes",
    "Agent x has no phone number",
    "agentId is required, admin access required",
)


@pytest.mark.parametrize("words", OWN_WORDS)
@pytest.mark.parametrize(
    "text",
    [
        'Provider error 30007: message "{}" was filtered',
        "Provider error 30007: message “{}” was filtered",
        'Provider error 30007: message "Hello. {}',
        'Provider error: {{"body": "{}", "code": 7}} was refused',
        'Provider error: {{"body": "{}',
        "Cannot fetch https://x.example/{}.png: 404",
    ],
)
def test_words_that_a_text_quotes(text: str, words: str) -> None:
    """Somebody wrote them to somebody: they do not say why the server refuses, nor until when."""
    if "https" in text:
        words = words.replace(" ", "-")
    error = error_from_tool_answer({"error": text.format(words)})
    assert (type(error), error.code, error.retry_after) == (ToolError, None, None)


@pytest.mark.parametrize("words", [*OWN_WORDS, "session not found"])
def test_message_that_the_server_could_not_read(words: str) -> None:
    """The MCP library repeats the whole message."""
    for rest in ('"}}}', '"}}', ""):
        text = f'Invalid message: {{"jsonrpc":"2.0","params":{{"arguments":{{"body":"{words}{rest}'
        error = error_from_response(400, text, exchange="message")
        assert (type(error), error.code) == (InvalidRequestError, "INVALID_REQUEST")
        assert (error.outcome, error.retry_after) == ("rejected", None)


def test_the_servers_words_around_a_quotation() -> None:
    """They decide as before."""
    for text, code in (
        ('Compliance: "Ann Lee" is on the Do Not Contact list', "DO_NOT_CONTACT"),
        ('Agent "Maya of the shop" is not active (status: "on hold")', "AGENT_SUSPENDED"),
        ('Agent "Maya of the shop" not found', "AGENT_NOT_PROVISIONED"),
        ('Rate limit exceeded for "Hello there": wait', "RATE_LIMITED"),
    ):
        assert error_from_tool_answer({"error": text}).code == code


@pytest.mark.parametrize("text", ["Authentication failed", "Invalid token"])
def test_a_tools_no_is_not_a_refused_login(text: str) -> None:
    """A tool answers on a session whose token was accepted."""
    assert not isinstance(error_from_tool_answer({"error": text}), AuthError)


def test_the_docs_list_every_code() -> None:
    """What the library calls a refusal stands in the table of ``docs/errors.rst``."""
    page = (Path(__file__).parents[3] / "docs" / "errors.rst").read_text("utf-8")
    kinds = [getattr(errors, name) for name in errors.__all__]
    named = {getattr(kind, "default_code", None) for kind in kinds}
    assert None not in MEANING_OF_CODE
    missing = [code for code in {*MEANING_OF_CODE, *named} - {None} if f"\n``{code}`` " not in page]
    assert missing == []
