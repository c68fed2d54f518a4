"""Whether this machine's clock and the server's agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

Now = Callable[[], datetime]

TOLERANCE_SECONDS = 60.0
"""The narrowest window in which the server accepts a signed request."""


def skew_of(headers: Mapping[str, str], now: datetime) -> float | None:
    """
    Return how far this machine's clock is ahead of the server's.

    Args:
        headers: The server's answer; its ``Date`` is looked at.
        now: The time on this machine, aware.

    Returns:
        In seconds, negative when it is behind; None when the server does not say.
    """
    try:
        said = parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):
        return None
    moment = said if said.tzinfo else said.replace(tzinfo=timezone.utc)
    return (now - moment).total_seconds()


def in_words(skew: float) -> str:
    """Return a skew as a person would say it."""
    way = "ahead of" if skew > 0 else "behind"
    seconds = abs(skew)
    amount = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f"this machine's clock is {amount} {way} the server's"
