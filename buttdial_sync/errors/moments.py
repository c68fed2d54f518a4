"""Moments in time: the present one, and those that servers write."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_UNIX_SECONDS = re.compile(r"\d{9,11}(\.\d+)?")
# Python 3.10 reads fewer spellings of ISO 8601 than later ones: here all read the same.
_ISO_8601 = re.compile(
    r"(\d{4})(-?)(\d\d)\2(\d\d)"
    r"(?:[Tt ](\d\d)(?:(:?)(\d\d)(?:\6(\d\d)(?:[.,](\d+))?)?)?"
    r"(?:[Zz]|([+-]\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)


def utc_now() -> datetime:
    """Return the current time (aware, UTC)."""
    return datetime.now(timezone.utc)


def as_utc(moment: datetime) -> datetime:
    """
    Return a time in UTC. One without a zone counts as UTC.

    Raises:
        OverflowError: Its year in UTC is not one that Python knows.
    """
    if moment.tzinfo is None:
        return moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc)


def parse_moment(value: object) -> datetime:
    """
    Read a time as the servers write it.

    Args:
        value: ISO 8601 with or without a zone (none means UTC), ``YYYY-MM-DD HH:MM:SS``, or unix
            seconds as a number or as text.

    Returns:
        The aware UTC time.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("not a time")  # noqa: TRY004 - one kind of error for every bad time
    elif not isinstance(value, str) or _UNIX_SECONDS.fullmatch(value):
        moment = _from_unix_seconds(value)
    else:
        moment = _from_iso_8601(value.strip())
    try:
        return as_utc(moment)
    except OverflowError:
        raise ValueError("not a time") from None


def _from_iso_8601(text: str) -> datetime:
    found = _ISO_8601.fullmatch(text)
    if found is None:
        raise ValueError("not a time")
    year, _, month, day, hour, _, minute, second, decimals, zone, zone_minutes = found.groups()
    return datetime.fromisoformat(
        f"{year}-{month}-{day}T{hour or '00'}:{minute or '00'}:{second or '00'}"
        f".{decimals or '':0<6.6}{zone or '+00'}:{zone_minutes or '00'}"
    )


def _from_unix_seconds(value: str | float) -> datetime:
    try:
        return datetime.fromtimestamp(float(value), timezone.utc)
    except (OverflowError, OSError):
        raise ValueError("not a time") from None
