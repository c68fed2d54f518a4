"""How a diagnosis is told, and which fault is which."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import buttdial_sync
from buttdial_sync import (
    AuthLockedOutError,
    ButtDialError,
    ConfigError,
    DoctorReport,
    DoctorStage,
    errors,
)
from buttdial_sync.doctor import FAULTS, STAGES, failed_configuration
from buttdial_sync.doctor.clocks import in_words, skew_of
from buttdial_sync.doctor.received import is_from
from buttdial_sync.doctor.remediation import WITHOUT_ADVICE, detail_of, fault_of, remediation_of
from buttdial_sync.models.inbound import InboundMessage

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)


def test_a_stage_is_one_line_and_its_remedy_the_next() -> None:
    """The lines are those of the published tool."""
    stage = DoctorStage(
        name="SSE handshake", status="failed", detail="no", remediation="Mend it.", seconds=0.142
    )
    assert list(stage.lines()) == ["[✗] SSE handshake (142ms) — no", "    → Mend it."]
    assert list(stage.lines(ascii_only=True)) == [
        "[FAIL] SSE handshake (142ms) -- no",
        "    -> Mend it.",
    ]


@pytest.mark.parametrize(
    ("status", "sign", "plain"),
    [("ok", "✓", "OK"), ("failed", "✗", "FAIL"), ("skipped", "○", "SKIP")],
)
def test_signs(status: str, sign: str, plain: str) -> None:
    """Each status has its sign, and one for terminals that know only ASCII."""
    stage = DoctorStage(name="n", status=status)  # type: ignore[arg-type]
    assert list(stage.lines()) == [f"[{sign}] n"]
    assert list(stage.lines(ascii_only=True)) == [f"[{plain}] n"]
    assert [stage.ok, stage.failed, stage.skipped].count(True) == 1


def test_skipped_stages_do_not_spoil_a_report() -> None:
    """A report is ok when nothing failed."""
    passed = DoctorStage(name="a", status="ok")
    skipped = DoctorStage(name="b", status="skipped", detail="why")
    failed = DoctorStage(name="c", status="failed")
    assert DoctorReport(stages=(passed, skipped)).ok
    report = DoctorReport(stages=(passed, failed, skipped))
    assert not report.ok
    assert report.failure is failed
    assert report.summary() == "[✓] a\n[✗] c\n[○] b — why"


def test_a_client_that_cannot_be_made_fails_the_first_stage() -> None:
    """The other six are skipped, with the reason."""
    report = failed_configuration(ConfigError("no base_url", remediation="Give one."))
    assert tuple(stage.name for stage in report.stages) == STAGES
    assert report.failure is report.stages[0]
    assert report.stages[0].remediation == "Give one."
    assert {stage.status for stage in report.stages[1:]} == {"skipped"}


def test_there_are_23_faults_with_a_remedy_each() -> None:
    """No fault is without advice, and no name stands twice."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) == 23
    assert all(fault.remedy != WITHOUT_ADVICE and fault.title for fault in FAULTS)


def test_the_page_lists_every_fault() -> None:
    """The documentation names each fault, and no other."""
    page = Path(str(buttdial_sync.__file__)).parents[1] / "docs" / "diagnosing.rst"
    text = page.read_text("utf-8")
    for fault in FAULTS:
        assert f"``{fault.name}``" in text, fault.name


def test_every_error_of_a_class_gets_advice() -> None:
    """Whatever a stage fails with, the report says what to do."""
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, ButtDialError):
            assert remediation_of(kind("it failed")), name


def test_the_servers_own_advice_wins() -> None:
    """What the server says is not replaced by the table."""
    error = errors.RateLimitError("Too many requests", remediation="Call us.")
    assert remediation_of(error) == "Call us."
    found = fault_of(error)
    assert found is not None
    assert found.name == "limiter"


def test_an_unknown_outcome_is_told_with_the_fault() -> None:
    """A send without an answer says both what is slow and that it may have been sent."""
    error = errors.DeadlineExceededError(
        "no answer in time",
        code="TIMEOUT",
        outcome="unknown",
        remediation=errors.OutcomeUnknownError.remedy,
    )
    advice = remediation_of(error)
    assert "Raise timeout" in advice
    assert "before you repeat it" in advice


def test_a_detail_has_the_code_and_the_time() -> None:
    """What went wrong, the server's code for it, and when to try again."""
    error = errors.RateLimitError("slow down", code="RATE_LIMITED", retry_after=7.0)
    assert detail_of(error) == "slow down (RATE_LIMITED); try again in 7 s"


def test_a_lockout_names_its_end() -> None:
    """The time is shown with its zone, once."""
    error = AuthLockedOutError("locked", locked_until=NOON, retry_after=60.0)
    assert detail_of(error) == "locked (AUTH_LOCKED_OUT); locked out until 2026-01-02 12:00:00 UTC"


def test_failed_logins_that_are_left_are_told() -> None:
    """Whoever is near a lockout reads it."""
    error = errors.AuthInvalidTokenError("wrong", remaining_attempts=2)
    assert detail_of(error) == "wrong (AUTH_INVALID_TOKEN); 2 more failed logins until a lockout"


def test_a_detail_is_one_line() -> None:
    """A server's line breaks cannot forge a stage."""
    assert detail_of(ButtDialError("a\n[✓] b\r\n")) == "a [✓] b"


@pytest.mark.parametrize(
    ("sender", "address", "same"),
    [
        ("14155550123", "+14155550123", True),
        ("whatsapp:+14155550123", "+1 415 555-0123", True),
        ("+14155550124", "+14155550123", False),
        ("Ann <Ann@A.example>", "ann@a.example", True),
        ("U4af4980629", "U4af4980629", True),
        ("", "+14155550123", False),
    ],
)
def test_senders_are_recognised_in_all_spellings(sender: str, address: str, same: bool) -> None:
    """A number may come without its plus, an address with a name."""
    assert is_from(InboundMessage(sender=sender, channel="x"), address) is same


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        ("Fri, 02 Jan 2026 11:50:00 GMT", 600.0),
        ("Fri, 02 Jan 2026 12:00:30 -0000", -30.0),
        ("Fri, 02 Jan 2026 13:00:00 +0100", 0.0),
        ("", None),
        ("yesterday", None),
    ],
)
def test_skew(date: str, skew: float | None) -> None:
    """The Date header is read in any zone; a missing or broken one says nothing."""
    assert skew_of({"date": date} if date else {}, NOON) == skew


def test_skew_in_words() -> None:
    """A person is told how far off the clock is, and which way."""
    assert in_words(90.0) == "this machine's clock is 90 s ahead of the server's"
    assert in_words(-timedelta(hours=1).total_seconds()) == (
        "this machine's clock is 60 min behind the server's"
    )
