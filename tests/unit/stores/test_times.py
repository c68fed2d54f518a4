"""The clock of a database."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from buttdial_sync.stores.times import DatabaseClock

NOON = datetime(2026, 3, 29, 12, tzinfo=timezone.utc)


class Database:
    """A database whose clock is ahead, and how often it was asked."""

    def __init__(self) -> None:
        self.ticks = 100.0
        self.slept = 0.0
        self.ahead = timedelta(minutes=10)
        self.asked = 0
        self.latency = 0.0

    def time(self) -> datetime:
        self.asked += 1
        told = NOON + timedelta(seconds=self.ticks) + self.ahead
        self.ticks += self.latency
        return told

    def monotonic(self) -> float:
        return self.ticks

    def time_of_day(self) -> float:
        return 1_000_000.0 + self.ticks + self.slept

    def clock(self) -> DatabaseClock:
        return DatabaseClock(self.time, self.monotonic, self.time_of_day)


def test_the_databases_clock_is_asked_once_a_minute() -> None:
    """In between the monotonic clock goes on from its answer."""
    database = Database()
    clock = database.clock()
    first = clock()
    assert first == NOON + timedelta(seconds=100) + database.ahead
    database.ticks += 59.5
    assert clock() - first == timedelta(seconds=59.5)
    assert database.asked == 1
    database.ahead = timedelta(0)
    database.ticks += 0.5
    assert clock() == NOON + timedelta(seconds=160)
    assert database.asked == 2


def test_a_slow_answer_makes_the_clock_late_and_never_early() -> None:
    """A late clock ends no lease of another process too soon."""
    database = Database()
    database.latency = 2.0
    clock = database.clock()
    real = NOON + timedelta(seconds=100) + database.ahead
    assert clock() == real
    assert database.ticks == 102.0


@pytest.mark.parametrize("slept", [3600.0, -3600.0, 1.0])
def test_a_machine_that_slept(slept: float) -> None:
    """Its monotonic clock stood still: leases would be written that have ended already."""
    database = Database()
    clock = database.clock()
    clock()
    database.ticks += 1.0
    database.slept, database.ahead = slept, timedelta(seconds=slept)
    assert clock() == NOON + timedelta(seconds=101 + slept)
    assert database.asked == 2
    clock()
    assert database.asked == 2


def test_a_clock_that_is_corrected_a_little() -> None:
    """As NTP does all the time: the database is not asked for that."""
    database = Database()
    clock = database.clock()
    clock()
    database.slept = 0.99
    clock()
    assert database.asked == 1


def test_it_can_be_asked_in_another_way() -> None:
    """In a transaction that is open; not while the answer of before holds."""
    database = Database()
    own_connection = Database()
    clock = DatabaseClock(own_connection.time, database.monotonic, database.time_of_day)
    assert clock.asking(database.time) == clock()
    assert clock.asking(database.time) == clock()
    assert database.asked == 1
    assert own_connection.asked == 0
