"""
The remediation table: the faults that a diagnosis knows by name, and what to do about each.

The advice is that of the exceptions themselves, so that a program, the command line and the
doctor say the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs

from buttdial_sync.doctor.reaching import HTTP_PORT_REMEDY, TLS_PORT_REMEDY
from buttdial_sync.errors import (
    AuthError,
    AuthLockedOutError,
    AuthMissingHeaderError,
    AuthTimestampExpired,
    ButtDialError,
    ComplianceError,
    ConfigError,
    DeadlineExceededError,
    EndpointNotAvailable,
    NoChannelAssigned,
    NotProvisioned,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ToolNotAvailable,
    error_from_tool_answer,
)
from buttdial_sync.transport.failures import REMEDIES as CONNECTION_REMEDIES

ErrorTest = Callable[[ButtDialError], bool]

WITHOUT_ADVICE = "The server says no more than the detail: run with -v, or read the server's log."
_WRONG_SETTING = "Correct the setting that the detail names. No server was asked."
_LIMIT_WITHOUT_TIME = "Wait a minute, then send more slowly, or ask for a higher limit."


@attrs.frozen
class Fault:
    """
    A fault with a name.

    Attributes:
        name: Its name in reports.
        title: A short description.
        remedy: The advice, if the server has none of its own.
        explains: Whether an exception is this fault.
    """

    name: str
    title: str
    remedy: str
    explains: ErrorTest = attrs.field(repr=False, eq=False)


def fault_of(error: ButtDialError) -> Fault | None:
    """Return the first fault of the table that explains an exception."""
    return next((fault for fault in FAULTS if fault.explains(error)), None)


def remediation_of(error: ButtDialError) -> str:
    """Return the advice: the exception's own, otherwise the table's, otherwise where to look."""
    fault = fault_of(error)
    otherwise = _WRONG_SETTING if isinstance(error, ConfigError) else WITHOUT_ADVICE
    advice = error.remediation or (fault.remedy if fault else otherwise)
    if isinstance(error, RateLimitError) and error.retry_after is None:
        advice = advice.replace(str(RateLimitError.remedy), _LIMIT_WITHOUT_TIME)
    if error.outcome == "unknown" and fault is not None and fault.remedy not in advice:
        return f"{fault.remedy} {advice}"
    return advice


def detail_of(error: ButtDialError) -> str:
    """Return what happened on one line: the message, the code, and the times that it names."""
    message = " ".join(error.message.split()) or type(error).__name__
    code = f" ({error.code})" if error.code and error.code not in message else ""
    return f"{message}{code}{''.join(_limits_of(error))}"


def _limits_of(error: ButtDialError) -> list[str]:
    limits = []
    if error.locked_until is not None:
        limits.append(f"; locked out until {error.locked_until:%Y-%m-%d %H:%M:%S} UTC")
    elif error.retry_after is not None:
        limits.append(f"; try again in {error.retry_after:g} s")
    if error.remaining_attempts is not None:
        limits.append(f"; {error.remaining_attempts} more failed logins until a lockout")
    return limits


def _is(*kinds: type[ButtDialError]) -> ErrorTest:
    return lambda error: isinstance(error, kinds)


def _says(words: str, *kinds: type[ButtDialError]) -> ErrorTest:
    pattern = re.compile(words, re.IGNORECASE)
    chosen = kinds or (ButtDialError,)
    return lambda error: (
        isinstance(error, chosen) and bool(pattern.search(f"{error.message} {error.code or ''}"))
    )


def _any(*tests: ErrorTest) -> ErrorTest:
    return lambda error: any(test(error) for test in tests)


def _connection(name: str, title: str, *kinds: type[ButtDialError]) -> Fault:
    code = name.upper()
    return Fault(
        name,
        title,
        CONNECTION_REMEDIES[code],
        lambda error: error.code == code or isinstance(error, kinds),
    )


def _of_class(
    name: str, title: str, kind: type[ButtDialError], test: ErrorTest | None = None
) -> Fault:
    return Fault(name, title, kind.remedy or WITHOUT_ADVICE, test or _is(kind))


def _of_words(name: str, title: str, words: str, example: str) -> Fault:
    remedy = error_from_tool_answer(example).remediation
    return Fault(name, title, remedy or WITHOUT_ADVICE, _says(words))


def _is_http_limit(error: ButtDialError) -> bool:
    return isinstance(error, RateLimitError) and error.status_code == 429


def _of_code(name: str, title: str, remedy: str) -> Fault:
    return Fault(name, title, remedy, lambda error: error.code == name.upper())


WRONG_AGENT = _of_code(
    "wrong_agent",
    "the token belongs to another agent",
    "Give the token of this agent, or the id of the token's agent.",
)
QUOTED_TOKEN = _of_code(
    "quoted_token",
    "the token is in quotes",
    "Remove the quotes around the token: shells take them away, but Docker's --env-file, some "
    "configuration files and web forms keep them.",
)
WRONG_PATH = Fault(
    "wrong_path",
    "a web page instead of Butt-Dial",
    "No Butt-Dial server answers at this path: check the path in base_url, which is what comes "
    "before /sse.",
    # With "sent" it is Butt-Dial that answers, though not as it should.
    lambda error: (
        isinstance(error, ProtocolError | EndpointNotAvailable) and error.outcome != "sent"
    ),
)

FAULTS: tuple[Fault, ...] = (
    Fault(
        "base_url",
        "the base URL is missing or wrong",
        "Give the server's address, as in https://butt-dial.example.",
        _says("base_url|no server is configured", ConfigError),
    ),
    _connection("proxy", "a proxy does not let it through"),
    _connection("dns", "the host's name cannot be resolved"),
    _of_code("tls_port", "http:// to a port that speaks TLS", TLS_PORT_REMEDY),
    _of_code("http_port", "https:// to a port that speaks plain HTTP", HTTP_PORT_REMEDY),
    _connection("tls", "no secure connection"),
    _connection("refused", "nothing listens at this address"),
    _connection("timeout", "no answer in time", DeadlineExceededError),
    _of_class("lockout", "too many failed logins from this address", AuthLockedOutError),
    _of_class(
        "missing_token",
        "no token, or the server saw none",
        AuthMissingHeaderError,
        _any(_is(AuthMissingHeaderError), _says(r"^no agent.?token", ConfigError)),
    ),
    QUOTED_TOKEN,
    _of_class("clock_skew", "this machine's clock is wrong", AuthTimestampExpired),
    _of_class("unauthorized", "401: the token is wrong or revoked", AuthError),
    _of_class("forbidden", "403: the token may not do this", PermissionDeniedError),
    _of_class(
        "limiter",
        "429: too many requests",
        RateLimitError,
        _any(_is_http_limit, _says("too many requests", RateLimitError)),
    ),
    _of_class("rate_limit", "the agent's own limit of actions", RateLimitError),
    _of_class("consent", "a rule forbids the message", ComplianceError),
    _of_class(
        "unprovisioned",
        "the agent has no sender on this channel",
        NoChannelAssigned,
        _is(NoChannelAssigned, NotProvisioned),
    ),
    _of_class("tool_missing", "the server has no such tool", ToolNotAvailable),
    WRONG_AGENT,
    _of_words("agent_id", "agentId is required", "agent ?id is required", "agentId is required"),
    _of_words(
        "recipient",
        "the recipient is not valid",
        "invalid[ _](recipient|phone|number)",
        "Invalid recipient",
    ),
    WRONG_PATH,
)
"""The faults, most specific first: the first that explains an exception is its name."""
