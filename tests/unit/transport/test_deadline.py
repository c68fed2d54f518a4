"""One deadline over everything."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError, DeadlineExceededError
from buttdial_sync.transport.deadline import Deadline, check_seconds, seconds_of


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_remaining_counts_down_to_zero() -> None:
    """What is left shrinks with the clock and is never negative."""
    clock = Clock()
    deadline = Deadline(10, clock)
    assert deadline.remaining() == 10
    clock.now += 4
    assert deadline.remaining() == 6
    clock.now += 100
    assert deadline.remaining() == 0


def test_within_is_never_later() -> None:
    """A part of the time ends with the whole at the latest, and keeps its clock."""
    clock = Clock()
    deadline = Deadline(10, clock)
    assert deadline.within(3).remaining() == 3
    assert deadline.within(30).remaining() == 10
    clock.now += 8
    part = deadline.within(3)
    assert part.remaining() == 2
    clock.now += 2
    assert part.remaining() == deadline.remaining() == 0


def test_check() -> None:
    """A deadline that has passed says what was waited for and how long."""
    clock = Clock()
    deadline = Deadline(2.5, clock)
    assert deadline.check("waiting") == 2.5
    clock.now += 2.5
    with pytest.raises(DeadlineExceededError, match=r"waiting: not done within 2\.5 s") as caught:
        deadline.check("waiting")
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.outcome == "not_sent"


YEAR = 31_536_000.0


@pytest.mark.parametrize("value", [1, 0.001, 30.0, 86400, YEAR])
def test_good_seconds(value: float) -> None:
    """Positive numbers are seconds."""
    found = check_seconds(value, "timeout")
    assert found == value
    assert type(found) is float


@pytest.mark.parametrize("value", [0, -1, math.inf, -math.inf, math.nan, YEAR + 1, 1e12, 10**400])
def test_bad_seconds(value: float) -> None:
    """Nothing waits without a limit, and nothing waits longer than the platform can count."""
    with pytest.raises(ArgumentValueError, match="timeout"):
        check_seconds(value, "timeout")


@pytest.mark.parametrize("value", [None, "3", True, [3]])
def test_no_seconds(value: float) -> None:
    """What is not a number is a type error that names the parameter."""
    with pytest.raises(ArgumentTypeError, match="timeout must be a number"):
        check_seconds(value, "timeout")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (timedelta(minutes=2), 120.0),
        (1, 1.0),
        (0.5, 0.5),
        (2 * YEAR, 2 * YEAR),
        (math.inf, math.inf),
    ],
)
def test_good_times(value: timedelta | float, seconds: float) -> None:
    """What is not waited for may be longer than a year."""
    found = seconds_of(value, "older_than")
    assert (found, type(found)) == (seconds, float)


@pytest.mark.parametrize("value", [0, -1, timedelta(0), timedelta(seconds=-1), math.nan])
def test_bad_times(value: timedelta | float) -> None:
    """They would mean everything, or nothing."""
    with pytest.raises(ArgumentValueError, match="older_than must be positive"):
        seconds_of(value, "older_than")


@pytest.mark.parametrize("value", [None, "3", True, [3]])
def test_no_times(value: Any) -> None:
    """The error names the parameter, and what it may be."""
    with pytest.raises(ArgumentTypeError, match="older_than must be a timedelta or a number"):
        seconds_of(value, "older_than")
