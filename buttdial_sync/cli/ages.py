"""Ages, as people write them: ``30d``, ``12h``, ``90m``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def age_of(text: str) -> timedelta | None:
    """Return the age, or None when the text is not one."""
    found = re.fullmatch(r"(\d{1,6})([dhm])", text)
    if found is None or not int(found[1]):
        return None
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
