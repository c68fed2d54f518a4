"""One deadline over everything that a call does."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError, DeadlineExceededError

Clock = Callable[[], float]

_LONGEST = 365 * 24 * 3600.0  # operating systems refuse much longer waits


class Deadline:
    """
    The moment at which a call must have ended.

    Safe to share between threads.

    Args:
        seconds: From now.
        clock: A monotonic clock, in seconds.
    """

    __slots__ = ("_clock", "_moment", "seconds")

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._moment = clock() + seconds

    def remaining(self) -> float:
        """Return the seconds left, never less than 0."""
        return max(0.0, self._moment - self._clock())

    def within(self, seconds: float) -> Deadline:
        """Return a deadline that is at most ``seconds`` away and never after this one."""
        return Deadline(min(seconds, self.remaining()), self._clock)

    def check(self, waiting_for: str) -> float:
        """
        Return the seconds left.

        Raises:
            DeadlineExceededError: None are left.
        """
        left = self.remaining()
        if left <= 0:
            raise DeadlineExceededError(f"{waiting_for}: not done within {self.seconds:g} s")
        return left


def check_seconds(value: float, name: str) -> float:
    """
    Return ``value`` as a float if it is a number of seconds that one can wait.

    Raises:
        ArgumentTypeError: It is not a number.
        ArgumentValueError: It is not positive, or over a year: no call may wait without a limit.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentTypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0 < value <= _LONGEST:
        raise ArgumentValueError(f"{name} must be a positive number of seconds, at most a year")
    return float(value)


def seconds_of(value: timedelta | float, name: str) -> float:
    """
    Return a time in seconds, which may be infinite.

    Raises:
        ArgumentTypeError: It is neither a ``timedelta`` nor a number.
        ArgumentValueError: It is not positive.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ArgumentTypeError(f"{name} must be a timedelta or a number of seconds")
    if not seconds > 0:
        raise ArgumentValueError(f"{name} must be positive")
    return float(seconds)
