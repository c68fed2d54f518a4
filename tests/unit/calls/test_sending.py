"""A message's fields, its arguments, and the meaning of the server's answer."""

from __future__ import annotations

import re
from typing import Any

import pytest

from buttdial_sync.calls.sending import SEND, arguments_of, check_message, sid_of
from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError, ProtocolError, ToolError
from buttdial_sync.models.message import Message


def message(**fields: Any) -> Message:
    return Message(**{"to": "+1", **fields})


@pytest.mark.parametrize("subject", ["a\nBcc: z@z.example", "a\r\nBcc: z@z.example", "a\r", "\na"])
def test_a_subject_is_a_single_line(subject: str) -> None:
    """What follows a line break could become a header of the mail."""
    with pytest.raises(ArgumentValueError, match="subject must be a single line"):
        check_message(message(body="x", subject=subject))
    check_message(message(body="x", subject="a"))


@pytest.mark.parametrize("name", ["body", "media_url", "html", "template_id"])
def test_something_to_send(name: str) -> None:
    """A text, a picture, a page or a template is enough."""
    check_message(message(**{name: "x"}))
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
