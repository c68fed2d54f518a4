"""Times as the servers write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from buttdial_sync.errors.moments import parse_moment, utc_now

UTC = timezone.utc
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECONDS = 1_767_323_045


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        (MOMENT, MOMENT),
        (MOMENT.replace(tzinfo=None), MOMENT),
        (MOMENT.astimezone(timezone(timedelta(hours=2))), MOMENT),
        ("2026-01-02T03:04:05Z", MOMENT),
        ("2026-01-02T03:04:05z", MOMENT),
        (" 2026-01-02 03:04:05 ", MOMENT),
        ("2026-01-02T05:04:05+02:00", MOMENT),
        ("2026-01-02T03:04:05.5Z", MOMENT.replace(microsecond=500_000)),
        ("2026-01-02T03:04:05.123456789", MOMENT.replace(microsecond=123_456)),
        (SECONDS, MOMENT),
        (SECONDS + 0.5, MOMENT.replace(microsecond=500_000)),
        (str(SECONDS), MOMENT),
        (f"{SECONDS}.5", MOMENT.replace(microsecond=500_000)),
        ("100000000", datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        ("10000000000", datetime(2286, 11, 20, 17, 46, 40, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_what_is_a_time(written: Any, moment: datetime) -> None:
    """The answer is aware and in UTC, whatever was written."""
    found = parse_moment(written)
    assert found == moment
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "written",
    [
        None,
        True,
        [SECONDS],
        "",
        "soon",
        "2026-13-01T00:00:00Z",
        "Z2026-01-02T03:04:05",
        "99999999999999",
        1e20,
        float("nan"),
        "9999-12-31T23:59:59-12:00",
    ],
)
def test_what_is_not_a_time(written: Any) -> None:
    """There is one kind of error for all of it, also where the calendar ends."""
    with pytest.raises(ValueError, match=r"not a time|Invalid|invalid|month|convert"):
        parse_moment(written)


@pytest.mark.parametrize("written", [None, True, 1e20, "9999-12-31T23:59:59-12:00"])
def test_the_reason_has_no_value(written: Any) -> None:
    """What cannot be a time is told in the same words, without a cause."""
    with pytest.raises(ValueError, match=r"^not a time$") as raised:
        parse_moment(written)
    assert raised.value.__cause__ is None


def test_now_is_aware() -> None:
    """So that it can be compared with what the servers write."""
    assert utc_now().tzinfo is UTC
