"""How often the listeners of a process may ask one server for what waits."""

from __future__ import annotations

import threading

from buttdial_sync.transport.fork import reset_after_fork

_MINUTE = 60.0
_LONGEST_INTERVAL = 300.0
_RECOVERY = 0.9


class RequestBudget:
    """
    The turns of all listeners of a process at one server. Safe to share between threads.

    Turns are evenly spaced, and given in the order in which they are asked for: so a hundred agents
    at one address get as many requests in all as one, and each of them gets its turn.

    Args:
        per_minute: How many turns there are in a minute.
    """

    def __init__(self, per_minute: float) -> None:
        self._shortest = _MINUTE / per_minute
        self._interval = self._shortest
        self._next = 0.0
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a new lock."""
        self._lock = threading.Lock()

    def next_turn(self, now: float) -> float:
        """
        Take the next free turn.

        Args:
            now: The time, by a monotonic clock in seconds.

        Returns:
            When it is: now, or later.
        """
        with self._lock:
            turn = max(now, self._next)
            self._next = turn + self._interval
            return turn

    def succeeded(self) -> None:
        """Let the turns come closer again after a limit."""
        with self._lock:
            self._interval = max(self._shortest, self._interval * _RECOVERY)

    def limited(self, now: float, retry_after: float | None) -> None:
        """
        Double the time between turns: the server has a limit.

        Args:
            now: The time.
            retry_after: What the server asks for, in seconds.
        """
        with self._lock:
            self._interval = min(self._interval * 2, _LONGEST_INTERVAL)
            self._next = max(self._next, now + max(self._interval, retry_after or 0.0))


_budgets: dict[tuple[str, float], RequestBudget] = {}


def budget_of(origin: str, per_minute: float) -> RequestBudget:
    """Return the budget that all listeners of this process share for an origin."""
    return _budgets.setdefault((origin, per_minute), RequestBudget(per_minute))


def forget_request_budgets() -> None:
    """Forget them all: for tests."""
    _budgets.clear()
