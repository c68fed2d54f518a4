"""What a result is in an ``if``: a yes or no, a list, neither, or a mistake."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import attrs
import pytest

import buttdial_sync
from buttdial_sync import (
    AbandonedOrg,
    AgentToken,
    AgentTokens,
    CommChannel,
    CommChannels,
    ConfirmedPhone,
    ConsentState,
    DoctorReport,
    DoctorStage,
    Membership,
    Memberships,
    OtpVerification,
    SendResult,
    SessionList,
    ToolResult,
    TrustState,
    VerificationSent,
    VerificationStatus,
    Voices,
    WaitingMessage,
    WaitingMessages,
)
from buttdial_sync.errors import Outcome

ID = "1"
YES = (
    OtpVerification(valid=True),
    ConsentState(has_consent=True),
    TrustState(trusted=True),
    ConfirmedPhone(ok=True),
    VerificationSent(verification_sent=True),
    VerificationStatus(status="verified"),
    AbandonedOrg(deleted=True),
    DoctorReport(
        stages=(DoctorStage(name="a", status="ok"), DoctorStage(name="b", status="skipped"))
    ),
)
NO = (
    OtpVerification(valid=False, reason="expired"),
    ConsentState(has_consent=False, contact="+14155550123"),
    ConsentState(status="granted"),
    TrustState(status="none"),
    ConfirmedPhone(ok=False, phone_hint="23"),
    ConfirmedPhone(),
    VerificationSent(verification_sent=False),
    VerificationSent(),
    VerificationStatus(status="pending"),
    AbandonedOrg(deleted=False, org_id=ID),
    AbandonedOrg(),
    DoctorReport(
        stages=(DoctorStage(name="a", status="ok"), DoctorStage(name="b", status="failed"))
    ),
)
LISTS: tuple[tuple[type[Any], str, object], ...] = (
    (AgentTokens, "tokens", AgentToken()),
    (CommChannels, "records", CommChannel(id=ID)),
    (Memberships, "memberships", Membership(org_id=ID)),
    (SessionList, "sessions", ToolResult({"id": 1})),
    (Voices, "voices", ToolResult({"id": 1})),
    (WaitingMessages, "messages", WaitingMessage()),
)
RECORDS = {
    "AccountVerified",
    "AgentCredentials",
    "AgentInfo",
    "CommChannel",
    "DeliveryReceipt",
    "InboundMessage",
    "Registration",
    "RotatedToken",
    "StatusUpdate",
    "TeamCredentials",
    "UnreadableEvent",
}
"""What has a field that is a yes or no, but is about more than that: always true."""


@pytest.mark.parametrize("result", YES, ids=lambda result: type(result).__name__)
def test_a_yes_is_true(result: object) -> None:
    """What says yes is true."""
    assert bool(result) is True


@pytest.mark.parametrize("result", NO, ids=lambda result: type(result).__name__)
def test_anything_else_is_false(result: object) -> None:
    """A no is false, and so is an answer that does not say."""
    assert bool(result) is False


def test_yes_or_no_is_decided_for_every_result() -> None:
    """A result with a field that is a yes or no is one of those above, or listed as a record."""
    decided = {type(result).__name__ for result in (*YES, *NO)} | RECORDS
    published = {name: getattr(buttdial_sync, name) for name in dir(buttdial_sync)}
    asking = {
        name
        for name, kind in published.items()
        if attrs.has(kind) and {bool, bool | None} & set(get_type_hints(kind).values())
    }
    assert asking - decided == {"SendResult", "ToolResult"}  # a mistake to ask, and a mapping


@pytest.mark.parametrize(("kind", "field", "item"), LISTS)
def test_a_list_has_a_length(kind: type[Any], field: str, item: object) -> None:
    """A result that is a list can be counted and iterated over, and is false when empty."""
    two, none = kind(**{field: [item, item]}), kind(raw={"count": 1})
    assert (len(two), list(two), bool(two)) == (2, [item, item], True)
    assert (len(none), list(none), bool(none)) == (0, [], False)


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_a_send_result_is_not_a_yes_or_no(outcome: Outcome) -> None:
    """Its truth would hide one of three states, so asking for it is a mistake that says so."""
    with pytest.raises(TypeError, match=r"ok, failed or unknown"):
        bool(SendResult(outcome=outcome))
