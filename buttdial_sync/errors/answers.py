"""The one place that turns a server's answer into an exception."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Literal

from buttdial_sync.errors.accounts import OnboardingSessionError
from buttdial_sync.errors.moments import parse_moment
from buttdial_sync.errors.texts import INVALID_REQUEST, Meaning, meaning_of, without_quotations
from buttdial_sync.errors.tree import (
    AuthError,
    AuthInvalidTokenError,
    AuthLockedOutError,
    AuthMissingHeaderError,
    ButtDialError,
    ChannelError,
    ConflictError,
    EndpointNotAvailable,
    InvalidRequestError,
    NotFoundError,
    Outcome,
    PayloadTooLargeError,
    PermissionDeniedError,
    ProviderWebhookWireFailed,
    RateLimitError,
    ServerError,
    SessionUnknownError,
    Stage,
    ToolError,
    ToolNotAvailable,
    TransportError,
)

Exchange = Literal["stream", "message", "rest"]

# The open-source server names no time for these two; these are its measured windows.
LOCKOUT_SECONDS = 900.0
LIMITER_SECONDS = 60.0
_LONGEST_MESSAGE = 300
_LONGEST_PAUSE = 365 * 24 * 3600
_MOST_DIGITS = 12

_STAGES: dict[Exchange, Stage] = {"stream": "session", "message": "tool_call", "rest": "server"}

_BY_STATUS: dict[int, type[ButtDialError]] = {
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    413: PayloadTooLargeError,
    429: RateLimitError,
}

_ADDRESS_LIMIT = re.compile(r"^too many requests", re.IGNORECASE)
_REFUSED_BY_A_PROXY = (
    "It is not Butt-Dial that refused. Check the login in proxies, or in HTTP_PROXY and NO_PROXY, "
    "and the rules of the gateway before the server, which may want headers."
)
_BARE_CODE = re.compile(r"[A-Z]+(?:_[A-Z]+)+")
_MISSING_TOKEN = re.compile(r"\bmissing\b", re.IGNORECASE)
_UNKNOWN_SESSION = re.compile(
    r"(?:unknown|invalid|could not find) session|session not found|session_id is required",
    re.IGNORECASE,
)
# What the servers answer a POST with before they look at what it asks for, as plain text: the
# open-source server's MCP SDK, the official Python server, and the limits of the address.
_OWN_PLAIN_TEXT = re.compile(
    r"Invalid message: |PayloadTooLargeError: |BadRequestError: |UnsupportedMediaTypeError: "
    r"|Error: Unsupported content-type"
    r"|Could not find session|Invalid session ID|session_id is required|Could not parse message"
    r"|Request body too large|Invalid (?:Host|Origin|Content-Type) header"
    r"|Too many failed attempts|Too many requests(?: \(global limit\))?$"
)
# Pages of Express, which the open-source server uses, for an unknown path and a body too large.
_OWN_PAGE = re.compile(r">\s*(?:Cannot [A-Z]+ /|PayloadTooLargeError|Payload Too Large)")
# Proxies also send these themselves, even after they have passed the request on.
_ALSO_OF_PROXIES = frozenset({408, 425, 429, 499, 503})
_STATUS_IN_WORDS = {status.value: status.phrase for status in HTTPStatus}
# Of the JSON-RPC errors only these say that the request was not carried out.
_INVALID_PARAMS = -32602
_REFUSING_RPC_CODES = frozenset({-32700, -32600, -32601, _INVALID_PARAMS})
_RPC_ERROR = re.compile(r"MCP error (-\d{1,12})\b")
_SECONDS = re.compile(r"\bin (?:up to )?(\d{1,12})\s*(second|minute|hour)", re.IGNORECASE)
_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600}


def error_from_response(
    status_code: int,
    body: Any,
    headers: Mapping[str, str] | None = None,
    *,
    exchange: Exchange = "rest",
) -> ButtDialError:
    """
    Build the exception for an HTTP answer that is not a success.

    Its ``outcome`` is "rejected" or "not_sent" only if the server itself says so. A proxy may
    answer with an error after it has passed the request on: then the outcome is "unknown". These
    answers of 4xx or 503 count as the server's own:

    - a JSON object with a code that Butt-Dial documents;
    - a JSON object whose ``error`` is a text of its own, not only the status in words. With a
      status that proxies also use (408, 425, 429, 499, 503), and if ``error`` is an object, the
      text has to be a known one;
    - the plain texts of the two servers' MCP libraries, which they send before they carry anything
      out: the session is unknown, the body is too large or cannot be read. The body may follow;
    - Express's page for a path that the server lacks, or for a body that is too large.

    Any 407, and a page or an empty body with 401 or 403, is the refusal of a proxy or gateway.

    ``retryable: true`` says with any status that nothing was carried out. The same is true if a
    stream could not be opened.

    Args:
        status_code: The HTTP status.
        body: The decoded JSON, or the text if it is not JSON.
        headers: The answer's headers, looked up without regard to case.
        exchange: The request: opening the ``"stream"``, posting a ``"message"``, or ``"rest"``.

    Returns:
        The exception, for the caller to raise.
    """
    headers = {name.lower(): value for name, value in (headers or {}).items()}
    envelope = _envelope(body)
    text = str(envelope.get("message", ""))
    is_own = _is_own(status_code, body, text)
    meaning = _meaning_of_response(status_code, envelope, text, exchange, is_own=is_own)
    is_page = isinstance(body, str) and body.lstrip().startswith("<")
    error = _build(meaning, envelope, f"HTTP {status_code}" if is_page or not text else text)
    error.stage = _STAGES[exchange]
    if not is_own and _is_of_a_proxy(status_code, body, headers):
        error = _refusal_of_a_proxy(status_code)
    error.status_code = status_code
    error.body = body
    error.outcome = _outcome_of_response(error, exchange, is_own=is_own)
    waiting = _retry_after_header(headers)
    if waiting is not None:
        error.retry_after = waiting
    elif is_own and error.retry_after is None and _is_of_limiter(error, envelope):
        error.retry_after = LIMITER_SECONDS
    return error


def error_from_tool_answer(answer: Any, *, code: int | None = None) -> ButtDialError:
    """
    Build the exception for a tool's refusal.

    A JSON-RPC error proves only with the codes -32700 and -32600 to -32602 that nothing was
    carried out. With any other, such as -32603 (internal error), the server may have acted before
    it failed: the ``outcome`` is "unknown". The same is true if a tool passes on such an error as
    text.

    Args:
        answer: The decoded JSON or the text of the result, or a JSON-RPC error's ``message``.
        code: The JSON-RPC error's ``code``, where it was one.

    Returns:
        The exception, for the caller to raise; :class:`ToolError` or one of its subclasses.
    """
    envelope = _envelope(answer)
    text = str(envelope.get("message") or "the tool failed without saying why")
    known = _meaning_of_code(envelope)
    meaning = known or meaning_of(text) or Meaning(ToolError)
    if code == _INVALID_PARAMS and meaning.kind is not ToolNotAvailable:
        meaning = known or INVALID_REQUEST
    if not issubclass(meaning.kind, ToolError):
        meaning = Meaning(ToolError)
    if code not in {None, _INVALID_PARAMS}:
        envelope.setdefault("code", str(code))
    error = _build(meaning, envelope, text)
    error.body = answer
    says_why = known is not None or error.retryable is True
    error.outcome = "rejected" if says_why or _refuses(text, code) else "unknown"
    error.stage = "server"
    return error


def _is_of_limiter(error: ButtDialError, envelope: Mapping[str, Any]) -> bool:
    """Whether a 429 is about the requests of this address, not about an agent's own actions."""
    is_named = bool(envelope.get("code") or _ADDRESS_LIMIT.search(error.message))
    return isinstance(error, RateLimitError) and is_named


def _refuses(text: str, code: int | None) -> bool:
    named = _RPC_ERROR.match(text)
    number = int(named[1]) if code is None and named else code
    return number is None or number in _REFUSING_RPC_CODES


def _envelope(body: Any) -> dict[str, Any]:
    """Flatten the shapes in which servers report errors into one dict with a ``message``."""
    if isinstance(body, str):
        return {"message": _shorten(body)}
    if not isinstance(body, Mapping):
        return {}
    flat = {str(key): value for key, value in body.items() if key not in {"error", "errors"}}
    errors = body.get("errors")
    details = body.get("error") or (errors[0] if errors and isinstance(errors, list) else None)
    if isinstance(details, Mapping):
        flat.update({str(key): value for key, value in details.items()})
        details = details.get("message") or details.get("error")
    message = details or flat.get("message")
    flat["message"] = _shorten(str(message)) if message else ""
    if not flat.get("code") and _BARE_CODE.fullmatch(flat["message"]):
        flat["code"] = flat["message"]
    return flat


def _shorten(text: str) -> str:
    """Keep messages readable: some servers echo the whole request."""
    text = text.strip()
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def _is_own(status: int, body: Any, text: str) -> bool:
    """Whether an answer is the server's own word: see :func:`error_from_response`."""
    is_refusal = 400 <= status < 500 or status == HTTPStatus.SERVICE_UNAVAILABLE
    if not is_refusal or status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return False
    if isinstance(body, str):
        return bool(_OWN_PLAIN_TEXT.match(body) or _OWN_PAGE.search(body))
    if not isinstance(body, Mapping):
        return False
    return bool(_meaning_of_code(_envelope(body))) or _is_own_text(status, body.get("error"), text)


def _is_own_text(status: int, error: object, text: str) -> bool:
    if not error or text == _STATUS_IN_WORDS.get(status):
        return False
    if isinstance(error, str) and status not in _ALSO_OF_PROXIES:
        return True
    return bool(meaning_of(text) or _says_session_is_unknown(text))


def _is_of_a_proxy(status: int, body: Any, headers: Mapping[str, str]) -> bool:
    """Whether a proxy or a gateway refuses: Butt-Dial does it with words, or asks for a bearer."""
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return True
    if status not in {401, 403} or not isinstance(body, str):
        return False
    wants_bearer = headers.get("www-authenticate", "").lower().startswith("bearer")
    return body.strip()[:1] in {"", "<"} and not wants_bearer


def _refusal_of_a_proxy(status: int) -> TransportError:
    return TransportError(
        f"a proxy or gateway on the way refuses with HTTP {status}",
        code="PROXY",
        remediation=_REFUSED_BY_A_PROXY,
        retryable=False,
    )


def _meaning_of_response(
    status: int, envelope: Mapping[str, Any], text: str, exchange: Exchange, *, is_own: bool
) -> Meaning:
    by_code = _meaning_of_code(envelope)
    if by_code:
        return by_code
    if exchange == "message" and is_own and _session_is_unknown(status, text):
        return Meaning(SessionUnknownError)
    if status in {404, 405, 410} and text.startswith("<") and exchange != "message":
        return Meaning(EndpointNotAvailable)
    if status == 401:
        missing = _MISSING_TOKEN.search(text)
        return Meaning(AuthMissingHeaderError if missing else AuthInvalidTokenError)
    if status in {400, 403, 429}:
        by_text = meaning_of(text)
        if by_text and by_text.kind is not ToolNotAvailable:
            return by_text
    otherwise = ServerError if status >= 500 else InvalidRequestError
    return Meaning(_BY_STATUS.get(status, otherwise))


def _session_is_unknown(status: int, text: str) -> bool:
    # A server that lacks the whole endpoint is another one than that which named it.
    is_page = status == HTTPStatus.NOT_FOUND and text.startswith("<")
    return is_page or (status in {400, 404} and _says_session_is_unknown(text))


def _says_session_is_unknown(text: str) -> bool:
    return bool(_UNKNOWN_SESSION.search(without_quotations(text)))


def _meaning_of_code(envelope: Mapping[str, Any]) -> Meaning | None:
    code = str(envelope.get("code"))
    if code.startswith("ONBOARDING_SESSION_"):
        return Meaning(OnboardingSessionError)
    kind = _BY_CODE.get(code)
    return Meaning(kind) if kind else None


def _build(meaning: Meaning, envelope: Mapping[str, Any], text: str) -> ButtDialError:
    kind = meaning.kind
    error = kind(
        text,
        code=_text_or_none(envelope.get("code")) or meaning.code,
        remediation=_text_or_none(envelope.get("remediation")) or meaning.remedy,
        retryable=_retryable(kind, envelope),
        retry_after=_retry_after(envelope, text),
        remaining_attempts=_whole_number(envelope.get("remainingAttempts")),
        locked_until=_moment(envelope.get("lockedUntil")),
    )
    if isinstance(error, ChannelError):
        error.channel = _text_or_none(envelope.get("channel")) or meaning.channel
        error.action = _text_or_none(envelope.get("action"))
        error.provider = _text_or_none(envelope.get("provider"))
    if isinstance(error, AuthLockedOutError) and error.retry_after is None:
        error.retry_after = LOCKOUT_SECONDS
    return error


def _outcome_of_response(error: ButtDialError, exchange: Exchange, *, is_own: bool) -> Outcome:
    if exchange == "stream":
        return "rejected" if isinstance(error, AuthError) else "not_sent"
    if error.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return "not_sent"  # the others may also be refusals to pass the answer on
    if not is_own:
        return "rejected" if error.retryable is True else "unknown"
    nothing_done = isinstance(error, SessionUnknownError | EndpointNotAvailable)
    return "not_sent" if nothing_done else "rejected"


def _retryable(kind: type[ButtDialError], envelope: Mapping[str, Any]) -> bool | None:
    said = envelope.get("retryable")
    if isinstance(said, bool):
        return said
    return True if kind is ProviderWebhookWireFailed else None


def _retry_after(envelope: Mapping[str, Any], text: str) -> float | None:
    seconds = envelope.get("retryAfterSeconds")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        return _seconds(seconds)
    words = f"{without_quotations(text)} {envelope.get('resetDescription') or ''}"
    named = _SECONDS.search(words)
    return _seconds(int(named[1]) * _UNIT_SECONDS[named[2].lower()]) if named else None


def _retry_after_header(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return _seconds(int(value[:_MOST_DIGITS]))
    try:
        when = parsedate_to_datetime(value)
        now = parsedate_to_datetime(headers.get("date", ""))
        return _seconds(max(0.0, (when - now).total_seconds()))
    except (ValueError, TypeError, OverflowError):  # no date, or one of them without a zone
        return None


def _seconds(value: float) -> float | None:
    return float(value) if 0 <= value <= _LONGEST_PAUSE else None


def _text_or_none(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and value != "" else None


def _whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _moment(value: Any) -> datetime | None:
    try:
        return parse_moment(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _codes(base: type[ButtDialError]) -> Iterator[tuple[str, type[ButtDialError]]]:
    yield from ((code, base) for code in vars(base).get("server_codes", ()))
    for child in base.__subclasses__():
        yield from _codes(child)


_BY_CODE: dict[str, type[ButtDialError]] = dict(_codes(ButtDialError))
