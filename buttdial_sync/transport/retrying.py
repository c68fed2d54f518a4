"""Which failures are worth another attempt, and after which pause."""

from __future__ import annotations

import random
from collections.abc import Callable

# Here, and not at the first failure: that is when descriptors may have run out.
from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_exponential

from buttdial_sync.errors import (
    AuthError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    NotSupportedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    SessionUnknownError,
    StreamLostError,
    TransportError,
)

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 8.0
_FINAL = (AuthError, ClientClosedError, ConfigError, NotSupportedError, ProtocolError)
_CURED_BY_REOPENING = (SessionUnknownError, StreamLostError)


class RetryPolicy:
    """
    Decides about attempts. Safe to share between threads.

    Whether an unknown outcome may be repeated is not decided here: only the call knows.

    Args:
        max_attempts: Attempts in all.
        random_fraction: Gives a number from 0 to 1, for the jitter.
    """

    def __init__(
        self, max_attempts: int, random_fraction: Callable[[], float] = random.random
    ) -> None:
        self._retrying = Retrying(
            stop=stop_after_attempt(max_attempts),
            wait=wait_exponential(multiplier=_FIRST_DELAY, max=_LONGEST_DELAY),
        )
        self._random_fraction = random_fraction

    def pause_after(self, error: ButtDialError, attempt: int) -> float | None:
        """
        Return the seconds to wait before the next attempt; None if there must not be one.

        Args:
            error: What the attempt failed with.
            attempt: Its number, from 1.
        """
        state = RetryCallState(self._retrying, None, (), {})
        state.attempt_number = attempt
        if self._retrying.stop(state) or not _is_worth_another(error):
            return None
        if error.retry_after is not None:
            return error.retry_after
        if attempt == 1 and isinstance(error, _CURED_BY_REOPENING):
            return 0.0
        return self._retrying.wait(state) * (0.5 + self._random_fraction() / 2)


def _is_worth_another(error: ButtDialError) -> bool:
    if isinstance(error, _FINAL) or error.retryable is False:
        return False
    if error.outcome == "unknown" or error.retryable is True:
        return True
    if isinstance(error, RateLimitError):
        # The server's own limit without a time is the agent's quota, not the server's load.
        return error.retry_after is not None or error.outcome == "not_sent"
    # Of a server's failures only its own 503 comes here: the others' outcome is unknown.
    return isinstance(error, TransportError | ServerError)
