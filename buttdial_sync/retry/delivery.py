"""One attempt at a message: sending it, and saying what that means for its row."""

from __future__ import annotations

import logging
from typing import Literal

from buttdial_sync.agent import AgentView
from buttdial_sync.errors import ButtDialError
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.messages import arguments_of

logger = logging.getLogger("buttdial_sync.retry")

Verdict = Literal[
    "delivered", "unknown", "failed", "hopeless", "limited", "locked_out", "refused", "not_tried"
]
"""
What an attempt means.

``"hopeless"``: this message can never be sent. ``"limited"``, ``"locked_out"``, ``"refused"``: the
server wants to be left alone, or does not know the token; the message is not to blame.
``"not_tried"``: the client was closed, or lacks a setting.
"""

_VERDICTS: dict[str, Verdict] = {
    "AuthLockedOutError": "locked_out",
    "AuthError": "refused",
    "AuthMissingHeaderError": "refused",
    "AuthInvalidTokenError": "refused",
    "AuthTokenRevokedError": "refused",
    "ClientClosedError": "not_tried",
    "ConfigError": "not_tried",
    "RateLimitError": "limited",
}
DEFAULT_PAUSE = 60.0


def deliver(client: AgentView, message: FailedMessage, token: str | None) -> SendResult:
    """Make one attempt. Whatever happens is in the result, a failure of the client too."""
    arguments = arguments_of(message)
    try:
        return client.send_message(**arguments, agent_token=token)
    except ButtDialError as error:
        return SendResult(
            outcome=error.outcome,
            error=str(error),
            error_type=type(error).__name__,
            error_code=error.code,
            stage_failed=error.stage,
            remediation=error.remediation,
            retry_after=error.retry_after,
            idempotency_key=arguments["idempotency_key"],
            raw=error.body,
        )
    except Exception as error:
        logger.exception("message %s: the client failed", message.id)
        return SendResult(
            outcome="unknown",
            error=f"the client failed: {type(error).__name__}",
            error_type=type(error).__name__,
            idempotency_key=arguments["idempotency_key"],
        )


def verdict_of(result: SendResult) -> Verdict:
    """Say what a result means for the row."""
    if result.ok:
        return "delivered"
    if result.unknown:
        return "unknown"
    verdict = _VERDICTS.get(result.error_type or "")
    if verdict is not None:
        return verdict
    if result.stage_failed == "config":
        return "hopeless"
    # A tool that names a time for this message alone is no reason to stop the others.
    names_time = result.retry_after is not None and concerns_everybody(result)
    return "limited" if names_time else "failed"


def concerns_everybody(result: SendResult) -> bool:
    """Whether a limit is the server's, for all from here; else it is one agent's."""
    return result.stage_failed != "server"
