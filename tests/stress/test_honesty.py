"""The short campaign: what is said of a message is true, whatever goes wrong on the way."""

from __future__ import annotations

from collections import Counter

import pytest

from buttdial_sync.testing.dialects import DialectName
from tests.stress.honesty import Campaign, Report, lies

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_honesty(dialect: DialectName) -> None:
    """Every message has a report, and none is a lie."""
    reports, executed = Campaign("short", dialect, threads=8, longest=0.5).run(240)
    assert len({report.body for report in reports}) == 240
    assert lies(reports, executed) == []


def test_lies_are_found() -> None:
    """Each kind of lie shows; the truth does not."""
    reports = [
        Report("sent", "sent", "id-sent", 0.0),
        Report("lost", "unknown", None, 0.0),
        Report("maybe", "unknown", None, 0.0),
        Report("no", "rejected", None, 0.0),
        Report("failed but sent", "not_sent", None, 0.0),
        Report("refused but sent", "rejected", None, 0.0),
        Report("never sent", "sent", "id-never sent", 0.0),
        Report("twice", "unknown", None, 0.0),
        Report("swapped", "sent", "id-sent", 0.0),
    ]
    executed = Counter(
        {
            "sent": 1,
            "maybe": 1,
            "failed but sent": 1,
            "refused but sent": 1,
            "twice": 2,
            "swapped": 1,
            "a stranger": 1,
        }
    )
    assert [line.partition(":")[0] for line in lies(reports, executed)] == [
        "failed but sent",
        "refused but sent",
        "never sent",
        "twice",
        "swapped",
        "a stranger",
    ]
