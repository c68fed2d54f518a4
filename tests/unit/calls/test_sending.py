"""A message's fields, its arguments, and the meaning of the server's answer."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest

from buttdial_sync.calls.sending import SEND, arguments_of, check_message, sid_of
from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError, ProtocolError, ToolError
from buttdial_sync.models.message import Message


def message(**fields: Any) -> Message:
    return Message(**{"to": "+1", **fields})


@pytest.mark.parametrize("text", ["a\nBcc: z@z.example", "a\r\nBcc: z@z.example", "a\r", "\na"])
@pytest.mark.parametrize("name", ["subject", "sender_name"])
def test_what_stands_in_the_head_of_a_mail_is_a_single_line(name: str, text: str) -> None:
    """What follows a line break could become a header of the mail."""
    with pytest.raises(ArgumentValueError, match=f"{name} must be a single line"):
        check_message(message(**{"body": "x", name: text}))
    check_message(message(**{"body": "x", name: "a"}))


@pytest.mark.parametrize("name", ["body", "media_url", "html", "template_id"])
def test_something_to_send(name: str) -> None:
    """A text, a picture, a page or a template is enough."""
    check_message(message(**{name: "https://a.example/x" if name == "media_url" else "x"}))
    with pytest.raises(ArgumentValueError, match="nothing to send"):
        check_message(message(**{name: "" if name != "template_id" else None}))


def test_fields_that_must_be_there() -> None:
    """Where there is a default that is not None, or none at all, None is a wrong type."""
    for name in ("to", "channel"):
        with pytest.raises(ArgumentTypeError, match=f"^{name} must be"):
            check_message(message(**{"body": "x", name: None}))
    with pytest.raises(ArgumentValueError, match=r"^to must not be empty"):
        check_message(message(to=" ", body="x"))


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("channel", "fax", ArgumentValueError),
        ("thread_id", "", ArgumentValueError),
        ("idempotency_key", "", ArgumentValueError),
        ("idempotency_key", " \t", ArgumentValueError),
        ("body", 5, ArgumentTypeError),
        ("fallback_channels", "sms", ArgumentTypeError),
        ("template_vars", {"a": 1}, ArgumentTypeError),
        ("target_gender", "x", ArgumentValueError),
    ],
)
def test_wrong_fields(field: str, value: object, kind: type[Exception]) -> None:
    """Each field is checked against its type, and named."""
    with pytest.raises(kind, match=f"^{field} must"):
        check_message(message(**{"body": "x", field: value}))


def test_arguments() -> None:
    """Fields have their names on the wire; what is None is left out; media is a list."""
    given = message(body="a\r\n", media_url="https://h/x.png", idempotency_key="k")
    assert arguments_of(given) == {
        "to": "+1",
        "body": "a\n",
        "channel": "whatsapp",
        "media": ["https://h/x.png"],
        "idempotencyKey": "k",
    }


def test_every_message_has_a_key() -> None:
    """Where none is given one is made, another for each message."""
    keys = {arguments_of(message(body="x"))["idempotencyKey"] for _ in range(2)}
    assert len(keys) == 2
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f-]{27}", key) for key in keys)
    with pytest.raises(ArgumentTypeError, match="template_vars"):
        arguments_of(message(template_vars={"a": object()}))


@pytest.mark.parametrize(
    ("answer", "sid"),
    [
        ({"messageId": "m1", "sid": "s1"}, "m1"),
        ({"sid": "s1", "externalId": "e1"}, "s1"),
        ({"message_sid": 5}, "5"),
        ({"messageId": "", "sid": 0, "message_sid": None, "externalId": "e1"}, "e1"),
        ({"messageId": {"a": 1}, "sid": ["x"], "externalId": "e1"}, "e1"),
        ({"messageId": ""}, None),
        ({}, None),
        ("m1", None),
        (None, None),
    ],
    ids=repr,
)
def test_ids(answer: Any, sid: str | None) -> None:
    """The id is the first text or number under one of its names."""
    assert sid_of(answer) == sid


@pytest.mark.parametrize("answer", [{"messageId": "m1"}, {"success": True}, {"sid": 5, "x": 1}])
def test_yes(answer: Any) -> None:
    """An id or an explicit success is a yes."""
    assert SEND.check is not None
    SEND.check(answer)


@pytest.mark.parametrize(
    "answer",
    [
        {"success": False},
        {"success": False, "messageId": "m1"},
        {"error": "no"},
        {"errors": ["no"]},
        {"success": None, "error": "no"},
    ],
    ids=repr,
)
def test_no(answer: Any) -> None:
    """An explicit failure is a no, also with an id; so is an error without one."""
    assert SEND.check is not None
    with pytest.raises(ToolError) as caught:
        SEND.check(answer)
    assert caught.value.outcome == "rejected"


@pytest.mark.parametrize("answer", [{}, {"error": ""}, {"success": "yes"}, "ok", None, [], 5])
def test_neither(answer: Any) -> None:
    """Whatever else it is, the message may have been sent."""
    assert SEND.check is not None
    with pytest.raises(ProtocolError, match="neither with a message id") as caught:
        SEND.check(answer)
    assert caught.value.outcome == "unknown"
    assert caught.value.stage == "parse"
    assert "before sending again" in str(caught.value.remediation)


@pytest.mark.parametrize(
    "address", ["picture.png", "/media/picture.png", "ftp://a.example/x", "https://", "file:///x"]
)
def test_a_picture_has_a_web_address(address: str) -> None:
    """The server fetches it, so that a path of this machine says nothing to it."""
    with pytest.raises(ArgumentValueError, match=r"^media_url must begin with http"):
        check_message(message(media_url=address))
    check_message(message(media_url="HTTP://a.example/x"))


def test_when_to_send() -> None:
    """An aware datetime becomes its text; a text must be one that says a moment."""
    moment = datetime(2026, 12, 24, 18, tzinfo=timezone(timedelta(hours=1)))
    scheduled = message(body="x", scheduled_at=moment)
    assert arguments_of(check_message(scheduled))["scheduledAt"] == "2026-12-24T18:00:00+01:00"
    for text in ("2026-12-24T18:00:00Z", "2026-12-24 18:00"):
        check_message(message(body="x", scheduled_at=text))
    with pytest.raises(ArgumentValueError, match=r"^scheduled_at must be ISO 8601"):
        check_message(message(body="x", scheduled_at="tomorrow"))
    with pytest.raises(ArgumentTypeError, match="time zone"):
        check_message(message(body="x", scheduled_at=datetime(2026, 12, 24, 18)))


class Wording(Enum):
    """A host's texts."""

    GREETING = "Hello"
    NUMBER = 5


def test_what_frameworks_use_for_texts() -> None:
    """Enums, decimals and lazy translations are taken as the texts that they stand for."""
    from django.utils.functional import lazystr

    taken = message(
        to=lazystr("+1"),
        body=Wording.GREETING,
        channel=lazystr("sms"),
        subject=Decimal("9.90"),
        template_vars={"price": Decimal("9.90"), "name": lazystr("Ann")},
    )
    wire = arguments_of(check_message(taken))
    assert (wire["to"], wire["body"], wire["channel"]) == ("+1", "Hello", "sms")
    assert (wire["subject"], wire["templateVars"]) == ("9.90", {"price": "9.90", "name": "Ann"})
    with pytest.raises(ArgumentTypeError, match=r"^body must be str or None, not int"):
        check_message(message(body=Wording.NUMBER))
