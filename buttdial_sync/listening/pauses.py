"""The pauses before an event is handed over again."""

from __future__ import annotations

WHILE_BUSY = 1.0
"""The pause in seconds while another thread or process handles an event."""

_FIRST = 0.5
_MOST_DOUBLINGS = 30


def exponential(longest: float, number: int) -> float:
    """Return the ``number``-th pause in seconds, from 0: each is twice the one before."""
    return min(longest, _FIRST * 2.0 ** min(number, _MOST_DOUBLINGS))
