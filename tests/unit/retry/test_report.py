"""What a report counts and says."""

from __future__ import annotations

import gc
from typing import Any

import attrs
import pytest

from buttdial_sync import RetryReport
from buttdial_sync.retry.report import Recorded, Tally


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ({}, "sent"),
        ({"fetched": 3, "delivered": 2, "taken": 1}, "sent"),
        ({"delivered": 1, "retried": 1}, "not_sent"),
        ({"postponed": 1}, "not_sent"),
        ({"errors": 1}, "not_sent"),
        ({"dead": 1, "errors": 1}, "rejected"),
        ({"postponed": 1, "remediation": "give a token"}, "rejected"),
    ],
)
def test_outcome(counts: dict[str, Any], outcome: str) -> None:
    """A person has to act, or it goes on by itself, or all is well."""
    assert RetryReport(**counts).outcome == outcome


def test_an_empty_one() -> None:
    """All counts begin with nothing."""
    report = Tally().report
    assert report == RetryReport()
    assert {type(each) for each in attrs.astuple(report)} == {int, type(None)}
    assert sum(each for each in attrs.astuple(report) if each is not None) == 0


def test_processed() -> None:
    """Only what has a recorded end."""
    report = RetryReport(
        fetched=100, delivered=1, retried=2, dead=4, postponed=8, taken=16, errors=32
    )
    assert report.processed == 15


def test_each_step_is_counted() -> None:
    """Beside the step, a hook that failed is an error."""
    tally = Tally()
    tally.fetched(3)
    tally.fetched(4)
    for step in ("delivered", "retried", "dead", "postponed", "taken", "errors"):
        tally.count(Recorded(step=step))
        tally.count(Recorded(step=step, hook_error="pace failed"))
    assert tally.report == RetryReport(
        fetched=7,
        delivered=2,
        retried=2,
        dead=2,
        postponed=2,
        taken=2,
        errors=8,
        last_error="pace failed",
    )


def test_what_went_wrong_last() -> None:
    """The message's error and the hook's are told together; success does not cover them."""
    tally = Tally()
    tally.count(Recorded(step="retried", error="busy", hook_error="backoff failed"))
    tally.count(Recorded(step="delivered"))
    assert tally.report.last_error == "busy; backoff failed"
    tally.count(Recorded(step="retried", error="closed"))
    assert tally.report.last_error == "closed"


def test_a_remedy_stays() -> None:
    """What a person has to do is covered only by another such thing."""
    tally = Tally()
    tally.count(Recorded(step="postponed", error="refused", remediation="rotate"))
    tally.count(Recorded(step="retried", error="busy"))
    assert (tally.report.last_error, tally.report.remediation) == ("refused", "rotate")
    tally.count(Recorded(step="postponed", error="revoked", remediation="issue a new one"))
    tally.count(Recorded(step="postponed", remediation="without a reason"))
    assert (tally.report.last_error, tally.report.remediation) == ("revoked", "issue a new one")


def test_unsettled_in_a_row() -> None:
    """A recorded end begins the count anew."""
    tally = Tally()
    seen = []
    for step in ("taken", "errors", "postponed", "taken", "delivered", "errors"):
        tally.count(Recorded(step=step))
        seen.append(tally.unsettled_in_a_row)
    assert seen == [1, 2, 0, 1, 0, 1]


def test_progress_that_counts_itself() -> None:
    """A report that is made while the host looks at one comes after it, not inside of it."""
    told: list[int] = []
    inside: list[int] = []

    def progress(report: RetryReport) -> None:
        if report.delivered == 1:
            tally.count(Recorded(step="delivered"))
            inside.extend(told)
        told.append(report.delivered)

    tally = Tally(progress)
    tally.count(Recorded(step="delivered"))
    tally.count(Recorded(step="delivered"))
    assert (told, inside) == ([1, 2, 3], [])


def test_progress_that_fails_covers_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted and logged, and it is told only where nothing else went wrong."""

    def progress(_: RetryReport) -> None:
        raise OSError("no")

    tally = Tally(progress)
    tally.count(Recorded(step="delivered"))
    assert (tally.report.errors, tally.report.last_error) == (1, "progress failed: OSError")
    tally.count(Recorded(step="retried", error="busy"))
    assert (tally.report.errors, tally.report.last_error) == (2, "busy")
    assert caplog.text.count("progress failed") == 2


def test_progress_goes_on_after_the_process_was_told_to_end() -> None:
    """What ends the process passes through; the next report is told all the same."""
    told: list[int] = []

    def progress(report: RetryReport) -> None:
        told.append(report.delivered)
        if len(told) == 1:
            raise KeyboardInterrupt

    tally = Tally(progress)
    with pytest.raises(KeyboardInterrupt):
        tally.count(Recorded(step="delivered"))
    tally.count(Recorded(step="delivered"))
    assert told == [1, 2]


def test_nothing_is_kept_where_nobody_asks() -> None:
    """A long drain without a progress function makes no report for each message."""
    tally = Tally()
    tally.fetched(987_654_321)
    for _ in range(100):
        tally.count(Recorded(step="delivered"))
    report = tally.report
    kept = (each for each in gc.get_objects() if isinstance(each, RetryReport))
    assert [each for each in kept if each.fetched == 987_654_321] == [report]
    assert report.delivered == 100
