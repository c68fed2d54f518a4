"""The clock of a database."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

Clock = Callable[[], datetime]

_ASK_AGAIN_AFTER = 60.0
_JUMP = 1.0


class DatabaseClock:
    """
    The time of a database, so that the clocks of several machines need not agree about leases.

    It is asked once a minute; in between this machine's monotonic clock goes on from there. That
    clock may stand still while the machine sleeps. So the database is also asked when this
    machine's time of day has gone another way. Safe to share between threads.

    Args:
        ask: Asks the database for its time (aware).
        monotonic: A monotonic clock, in seconds.
        time_of_day: This machine's clock, in seconds.
    """

    def __init__(
        self,
        ask: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._time_of_day = time_of_day
        self._known: tuple[datetime, float, float] | None = None

    def __call__(self) -> datetime:
        """Return the time."""
        return self.asking(self._ask)

    def asking(self, ask: Clock) -> datetime:
        """Return the time; where the database has to be asked for it, in this way."""
        known = self._known
        if known is None or self._is_outdated(known):
            told = ask()
            # The moment after the answer: a slow one makes this clock late, and a late clock does
            # not take a lease for ended that still runs.
            self._known = known = (told, self._monotonic(), self._time_of_day())
        return known[0] + timedelta(seconds=self._monotonic() - known[1])

    def _is_outdated(self, known: tuple[datetime, float, float]) -> bool:
        _, ticks, time_of_day = known
        passed = self._monotonic() - ticks
        jumped = abs(self._time_of_day() - time_of_day - passed) >= _JUMP
        return jumped or passed >= _ASK_AGAIN_AFTER
