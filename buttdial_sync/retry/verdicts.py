"""One attempt at a message, and what its result means for the message and for the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import attrs

from buttdial_sync.agent import AgentView
from buttdial_sync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    AuthError,
    AuthLockedOutError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    LoginPostponedError,
    RateLimitError,
    ServerError,
    TransportError,
)
from buttdial_sync.errors.scrubbing import storable
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.rows import arguments_of

logger = logging.getLogger("buttdial_sync.retry")

Verdict = Literal[
    "delivered",
    "unknown",
    "failed",
    "hopeless",
    "limited",
    "locked_out",
    "refused",
    "not_tried",
    "unreachable",
    "too_early",
    "needs_operator",
]
"""
The meaning of an attempt.

``"hopeless"``: this message can never be sent. Of all after it the message is not the cause, and
no attempt is spent: ``"limited"``, ``"locked_out"``, ``"refused"``: a limit, a lockout, or a token
that the server does not accept. ``"not_tried"``: the client was closed, or lacks a setting.
``"unreachable"``: nobody answered, and the message certainly was not sent. ``"too_early"``: outside
of the recipient's calling hours. ``"needs_operator"``: somebody has to change something first.
"""

# The first match counts: a class comes before its base class.
_VERDICTS: tuple[tuple[type[ButtDialError], Verdict], ...] = (
    (AuthLockedOutError, "locked_out"),
    (AuthError, "refused"),
    (RateLimitError, "limited"),
    (LoginPostponedError, "limited"),
    (ArgumentTypeError, "hopeless"),
    (ArgumentValueError, "hopeless"),
    (ConfigError, "not_tried"),
    (ClientClosedError, "not_tried"),
)
_BY_CURE: Mapping[str | None, Verdict] = {"nothing": "hopeless", "operator": "needs_operator"}
_UNAVAILABLE = 503
_CALLING_HOURS = "CALLING_HOURS"
_OF_THE_AGENT = frozenset(
    {
        *("AGENT_SUSPENDED", "AGENT_NOT_FOUND", "AGENT_NOT_PROVISIONED", "NOT_PROVISIONED"),
        "QUOTA_EXCEEDED",
    }
)


def deliver(client: AgentView, message: FailedMessage, token: str | None) -> SendResult:
    """
    Make one attempt. The result says what happened, also if the client failed.

    A row must be able to hold what the server said, or the attempt would have no recorded end.
    """
    arguments = arguments_of(message)
    try:
        result = client.send_message(**arguments, agent_token=token)
    except ButtDialError as error:
        result = SendResult.of(error, idempotency_key=arguments["idempotency_key"])
    except Exception as error:
        logger.exception("message %s: the client failed", message.id)
        result = SendResult(
            outcome="unknown",
            error=f"the client failed: {type(error).__name__}",
            error_type=type(error).__name__,
            idempotency_key=arguments["idempotency_key"],
        )
    texts = result.error, result.message_sid
    storable_texts = tuple(text and storable(text) for text in texts)
    if texts == storable_texts:
        return result
    return attrs.evolve(result, error=storable_texts[0], message_sid=storable_texts[1])


def verdict_of(result: SendResult) -> Verdict:
    """Return the meaning of a result; without an exception, only the stage shows it."""
    if result.ok:
        return "delivered"
    if result.unknown:
        return "unknown"
    by_kind = (meant for kind, meant in _VERDICTS if isinstance(result.exception, kind))
    verdict = next(by_kind, "hopeless" if result.stage_failed == "config" else None)
    if verdict is not None:
        return verdict
    if result.error_code == _CALLING_HOURS:
        return "too_early"
    # If a tool names a time, it may concern this message alone: the others need not stop.
    if result.retry_after is not None and concerns_everybody(result):
        return "limited"
    if _is_unreachable(result):
        return "unreachable"
    # A named time says that it ends by itself, whatever the code says.
    error = None if result.retry_after is not None else result.exception
    cure = None if error is None else error.cured_by
    return _BY_CURE.get(cure, "failed")


def concerns_everybody(result: SendResult) -> bool:
    """Whether a limit is for all requests from this address; otherwise it is one agent's."""
    return result.stage_failed != "server" and not isinstance(result.exception, LoginPostponedError)


def concerns_agent(result: SendResult) -> bool:
    """Whether other messages of this agent would be refused for the same reason."""
    return result.error_code in _OF_THE_AGENT


def is_outage(result: SendResult) -> bool:
    """Whether the server gave no answer of its own; a proxy may have."""
    return result.unknown and isinstance(result.exception, TransportError | ServerError)


def _is_unreachable(result: SendResult) -> bool:
    if result.exception is not None and result.exception.status_code == _UNAVAILABLE:
        return True  # the server's own, or the outcome would be unknown
    if result.outcome != "not_sent":
        return False
    # Any error status on opening the stream, such as the 404 of a proxy: the server says its own.
    is_opening = result.stage_failed in {"transport", "session"}
    return is_opening or isinstance(result.exception, TransportError | ServerError)
