"""Pauses that grow."""

from __future__ import annotations

_FIRST = 0.5
_MOST_DOUBLINGS = 30


def exponential(longest: float, number: int) -> float:
    """Return the ``number``-th pause in seconds, from 0: each is twice the one before."""
    return min(longest, _FIRST * 2.0 ** min(number, _MOST_DOUBLINGS))
