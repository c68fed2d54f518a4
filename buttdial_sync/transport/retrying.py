"""Which failures are tried again, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Generic, TypeVar

# Here, and not at the first failure: that is when descriptors may have run out.
from tenacity import RetryCallState, Retrying

from buttdial_sync.errors import (
    AuthError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    NotSupportedError,
    Outcome,
    ProtocolError,
    RateLimitError,
    ServerError,
    SessionUnknownError,
    StreamLostError,
    TransportError,
)
from buttdial_sync.transport.deadline import Deadline

T = TypeVar("T")

_FIRST_DELAY = 0.25
_LONGEST_DELAY = 8.0
_FINAL = (AuthError, ClientClosedError, ConfigError, NotSupportedError, ProtocolError)
_REOPENING_MENDS = (SessionUnknownError, StreamLostError)


class RetryPolicy:
    """
    Decides about attempts. Safe to share between threads.

    Args:
        max_attempts: Attempts in all.
        sleep: Sleeps for some seconds, or less when the client closes.
        is_closing: Whether the client closes.
        random_fraction: Gives a number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        *,
        max_attempts: int,
        sleep: Callable[[float], None],
        is_closing: Callable[[], bool],
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self._max_attempts = max_attempts
        self._sleep = sleep
        self._is_closing = is_closing
        self._random_fraction = random_fraction

    def run(
        self,
        attempt: Callable[[int], T],
        deadline: Deadline,
        *,
        may_repeat_unknown: Callable[[], bool],
        on_retry: Callable[[int, ButtDialError, float], None],
    ) -> T:
        """
        Call ``attempt`` with 1, 2, … until it succeeds or must not be tried again.

        Args:
            attempt: One attempt.
            deadline: Over all attempts and the pauses between them.
            may_repeat_unknown: Whether a second attempt does no harm where the first may have been
                carried out. Asked only then.
            on_retry: Called before a pause with the attempt that failed, its error, and the pause
                in seconds.

        Returns:
            What ``attempt`` returned.

        Raises:
            ButtDialError: The last attempt's. Once an attempt's outcome was unknown, it stays so.
        """
        call = _Call(self._is_closing, attempt)
        try:
            return call.next_attempt()
        except ButtDialError as error:
            first = error
        return self._go_on(call, first, deadline, may_repeat_unknown, on_retry)

    def _go_on(
        self,
        call: _Call[T],
        first: ButtDialError,
        deadline: Deadline,
        may_repeat_unknown: Callable[[], bool],
        on_retry: Callable[[int, ButtDialError, float], None],
    ) -> T:
        failed = [first]

        def next_attempt() -> T:
            if failed:
                raise failed.pop()
            return call.next_attempt()

        def is_worth_another(state: RetryCallState) -> bool:
            error = _error_of(state)
            over = state.attempt_number >= self._max_attempts or deadline.remaining() <= 0
            return (
                error is not None and not over and self._is_worth_another(error, may_repeat_unknown)
            )

        def is_over(state: RetryCallState) -> bool:
            return self._is_closing() or state.upcoming_sleep >= deadline.remaining()

        def announce(state: RetryCallState) -> None:
            error = _error_of(state)
            if error is not None:
                on_retry(state.attempt_number, error, state.upcoming_sleep)

        retrying = Retrying(
            retry=is_worth_another,
            stop=is_over,
            wait=self._pause,
            sleep=self._sleep,
            before_sleep=announce,
            reraise=True,
        )
        result: T = retrying(next_attempt)
        return result

    def _is_worth_another(
        self, error: ButtDialError, may_repeat_unknown: Callable[[], bool]
    ) -> bool:
        if isinstance(error, _FINAL) or self._is_closing():
            return False
        if error.outcome == "unknown":
            return may_repeat_unknown()
        if error.retryable is True:
            return True
        if isinstance(error, RateLimitError):
            # A tool's own limit without a time is the agent's quota, not the server's load.
            return error.retry_after is not None or error.status_code is not None
        # Of a server's failures only a 503 comes here: the others' outcome is unknown.
        return isinstance(error, TransportError | ServerError)

    def _pause(self, state: RetryCallState) -> float:
        error = _error_of(state)
        if error is not None and error.retry_after is not None:
            return error.retry_after
        if isinstance(error, _REOPENING_MENDS) and state.attempt_number == 1:
            return 0.0
        longest = min(_LONGEST_DELAY, _FIRST_DELAY * 2**state.attempt_number)
        return float(longest) * (0.5 + self._random_fraction() / 2)


class _Call(Generic[T]):
    """The attempts of one call, and what is certain about them."""

    def __init__(self, is_closing: Callable[[], bool], attempt: Callable[[int], T]) -> None:
        self._is_closing = is_closing
        self._attempt = attempt
        self._number = 0
        self._unknown = False

    def next_attempt(self) -> T:
        # tenacity decides before it sleeps, so a close() during the pause shows only here.
        if self._is_closing():
            outcome: Outcome = "unknown" if self._unknown else "not_sent"
            raise ClientClosedError("the client is closed", outcome=outcome)
        self._number += 1
        try:
            return self._attempt(self._number)
        except ButtDialError as error:
            self._unknown = self._unknown or error.outcome == "unknown"
            if self._unknown:
                error.outcome = "unknown"
            raise


def _error_of(state: RetryCallState) -> ButtDialError | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, ButtDialError) else None
