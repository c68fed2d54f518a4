"""Which failures are worth another attempt, and how long the pause before it is."""

from __future__ import annotations

from typing import Any

import pytest

from buttdial_sync.errors import (
    ArgumentNotSupported,
    AuthError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    ProtocolError,
    RateLimitError,
    ServerError,
    SessionUnknownError,
    StreamLostError,
    ToolError,
    TransportError,
)
from buttdial_sync.transport.retrying import RetryPolicy


def pauses(error: ButtDialError, fraction: float = 1.0, attempts: int = 8) -> list[float | None]:
    policy = RetryPolicy(attempts, lambda: fraction)
    return [policy.pause_after(error, number) for number in range(1, attempts + 1)]


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_the_pauses_double(fraction: float) -> None:
    """Up to eight seconds, less half of it by chance; none after the last attempt."""
    told = pauses(TransportError("no"), fraction)
    longest = [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert told == [*(each * (0.5 + fraction / 2) for each in longest), None]


def test_the_server_names_a_time() -> None:
    """That is the pause, without chance, also if it is none."""
    for seconds in (7.5, 0.0):
        error = RateLimitError("limit", retry_after=seconds)
        assert pauses(error, 0.0, 3) == [seconds, seconds, None]


@pytest.mark.parametrize("kind", [SessionUnknownError, StreamLostError])
def test_a_lost_session_is_opened_again_at_once(kind: type[ButtDialError]) -> None:
    """Once; after that it is a failure as others are."""
    assert pauses(kind("lost"), 1.0, 4) == [0.0, 1.0, 2.0, None]


@pytest.mark.parametrize(
    ("error", "worth"),
    [
        (TransportError("no"), True),
        (ServerError("busy"), True),
        (ToolError("no"), False),
        (AuthError("no"), False),
        (ClientClosedError("no"), False),
        (ConfigError("no"), False),
        (ArgumentNotSupported("no"), False),
        (ProtocolError("no"), False),
        (RateLimitError("the agent's quota"), False),
        (RateLimitError("the address", retry_after=5.0), True),
        (RateLimitError("a proxy", outcome="not_sent"), True),
    ],
    ids=str,
)
def test_what_is_worth_another(error: ButtDialError, worth: bool) -> None:
    """What a person has to correct is not; what may pass is."""
    assert (pauses(error)[0] is not None) is worth


@pytest.mark.parametrize(
    ("kind", "details", "worth"),
    [
        (ToolError, {"retryable": True}, True),
        (ToolError, {"outcome": "unknown"}, True),  # the call knows whether it may be repeated
        (TransportError, {"retryable": False}, False),
        (TransportError, {"retryable": False, "outcome": "unknown"}, False),
        (RateLimitError, {"retryable": True}, True),
        (RateLimitError, {"outcome": "unknown"}, True),
        (AuthError, {"retryable": True}, False),
        (ProtocolError, {"outcome": "unknown"}, False),
    ],
)
def test_the_servers_word_counts(
    kind: type[ButtDialError], details: dict[str, Any], worth: bool
) -> None:
    """But for what is final."""
    assert (pauses(kind("no", **details))[0] is not None) is worth
