"""What all databases that know SQL have in common."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from buttdial_sync.stores.sql import as_text, as_time, portions

NOON = datetime(2026, 3, 29, 12, tzinfo=timezone.utc)


def test_text_sorts_as_times_do() -> None:
    """In UTC, with all digits; anything else stays as it is."""
    east = timezone(timedelta(hours=9))
    assert as_text(NOON) == "2026-03-29 12:00:00.000000"
    assert as_text(NOON.astimezone(east)) == as_text(NOON)
    assert as_time(as_text(NOON)) == NOON
    assert as_text("soon") == "soon"
    assert as_text(None) is None


@pytest.mark.parametrize("written", ["", "soon", None, 7, "9999-12-31 23:59:59-01:00"])
def test_what_is_not_a_time_stays(written: object) -> None:
    """Also a time that no calendar has in UTC."""
    assert as_time(written) == written


def test_portions() -> None:
    """All of them, in their order, and none that is empty."""
    assert list(portions("abcde", 2)) == ["ab", "cd", "e"]
    assert list(portions("abcd", 2)) == ["ab", "cd"]
    assert list(portions("", 2)) == []
