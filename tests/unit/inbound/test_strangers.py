"""Whatever a stranger sends: an answer, no exception, and no half a message."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buttdial_sync import (
    AccountVerified,
    DeliveryReceipt,
    InboundHandler,
    InboundMessage,
    MemoryDeliveryLog,
    StatusUpdate,
)
from tests.unit.inbound.test_native import HOSTED, OPEN_SOURCE
from tests.unit.inbound.test_whatsapp import message, payload

CHANNELS = ("whatsapp", "butt-dial", "account", "elsewhere")
ANSWERS = {200, 400, 401, 413, 422}
ACCOUNT = {
    "event": "account.verified",
    "orgId": "o1",
    "teamToken": "t",
    "scopes": ["a"],
    "verifiedAt": "2026-01-02T03:04:05Z",
}
REAL: list[tuple[str, dict[str, Any]]] = [
    ("butt-dial", HOSTED),
    ("butt-dial", OPEN_SOURCE),
    (
        "butt-dial",
        {"messageId": "m", "status": "failed", "errorCode": 1, "timestamp": "1767323045"},
    ),
    ("butt-dial", {"type": "status", "status": "disconnected", "channel": "whatsapp"}),
    ("account", ACCOUNT),
    *(
        ("whatsapp", payload(each, contacts=[{"wa_id": "1", "profile": {"name": "Ann"}}]))
        for each in (
            message("text", text={"body": "Hello"}, context={"id": "wamid.0"}),
            message("image", image={"id": "m1", "mime_type": "a/b", "caption": "x"}),
            message(
                "interactive",
                interactive={"type": "list_reply", "list_reply": {"id": "1", "title": "One"}},
            ),
            message("location", location={"latitude": 1.5, "longitude": 2, "name": "x"}),
            message("contacts", contacts=[{"name": {"formatted_name": "Ann"}}]),
            message("reaction", reaction={"message_id": "wamid.0", "emoji": "👍"}),
            message("button", button={"text": "x", "payload": "y"}),
        )
    ),
    ("whatsapp", payload(statuses=[{"id": "w", "status": "failed", "errors": [{"code": 1}]}])),
]


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


JUNK: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    10**60,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "\ud800",
    "\x00",
    "ä" * 300,
    "0001-01-01T00:00:00+23:59",
    "99999999999",
    "message",
    "account.verified",
    [],
    {},
    [[]],
    [None],
    [{}],
    {"": None},
    {"a": {"b": {"c": []}}},
    deep(30),
    deep(200),
]
junk = st.sampled_from(JUNK) | st.text(max_size=5) | st.integers() | st.floats()
DELETE = object()


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a payload: its container and its key."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from places(item)


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[str, bytes]:
    """A real payload with something wrong at one to three places, any of them."""
    channel, real = draw(st.sampled_from(REAL))
    body = copy.deepcopy(real)
    for _ in range(draw(st.integers(1, 3))):
        where = list(places(body))
        if not where:
            break
        container, key = where[draw(st.integers(0, len(where) - 1))]
        wrong = draw(st.just(DELETE) | junk)
        if wrong is DELETE:
            del container[key]
        else:
            container[key] = copy.deepcopy(wrong)
    encoded = json.dumps(body).encode()
    if draw(st.integers(0, 19)) == 0:
        encoded = encoded[: draw(st.integers(0, len(encoded)))]
    return draw(st.sampled_from((channel, channel, *CHANNELS))), encoded


def check(event: Any) -> None:
    """What a handler gets is whole and of the right types."""
    if isinstance(event, InboundMessage):
        assert event.sender
        assert event.channel
        content = (event.text, event.html, event.subject, event.media_url, event.media_id)
        others = (event.attachments, event.location, event.contacts, event.reacted_to)
        is_known = event.channel != "whatsapp" or event.type in {"text", "image"}
        assert any(content) or any(others) or event.reply_id or not is_known
        for name in ("id", "sender", "channel", "text", "type", "sender_name", "to", "media_url"):
            value = getattr(event, name)
            assert value is None or isinstance(value, str)
            assert value is None or value.encode() is not None
    elif isinstance(event, DeliveryReceipt):
        assert event.message_sid
        assert event.status
    elif isinstance(event, StatusUpdate):
        assert event.kind
    else:
        assert isinstance(event, AccountVerified)
        assert event.org_id
        assert event.team_token
    assert repr(event)


class Forgetful(MemoryDeliveryLog):
    """Knows no repetition, so that each payload reaches the handlers."""

    def claim(self, delivery_id: str, lease: float) -> str:
        return "token"


def make() -> InboundHandler:
    inbound = InboundHandler(
        allow_unsigned=["whatsapp", "butt-dial", "account"],
        max_body_bytes=10_000,
        delivery_log=Forgetful(),
    )
    for register in (
        inbound.on_message,
        inbound.on_delivery_receipt,
        inbound.on_status_update,
        inbound.on_account_verified,
    ):
        register(check)
    return inbound


INBOUND = make()


@given(spoilt())
def test_spoilt_payloads(given_: tuple[str, bytes]) -> None:
    """Payloads that are wrong at any level: never an exception, never half a message."""
    channel, body = given_
    # A handler that found half a message raises, and the answer is 500.
    assert INBOUND.handle(channel, body, {}).status in ANSWERS


@given(
    st.sampled_from(CHANNELS) | st.text(max_size=8),
    st.binary(max_size=200),
    st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3),
)
def test_any_bytes_any_headers(channel: str, body: bytes, headers: dict[str, str]) -> None:
    """Bytes that are no JSON, channels that do not exist, headers with anything in them."""
    assert INBOUND.handle(channel, body, headers).status in ANSWERS
    closed = InboundHandler(whatsapp_webhook_secret="s", account_webhook_secret="s")
    names = ("X-Hub-Signature-256", "X-BD-Signature", "X-BD-Timestamp", "X-BD-Delivery-Id")
    wrong = dict(zip(names, headers.values(), strict=False))
    assert closed.handle(channel, body, wrong).status in {401, 400}


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * 9_000,
        b'{"a":' * 1_800,
        b'{"a":"' + b'\\"' * 4_000,
        b'"' * 9_999,
        b"[" * 4_000 + b"]" * 4_000,
        b"9" * 9_000,
        b"-" + b"9" * 9_000,
        b"1e999999",
        b'{"timestamp":1e999999}',
        b"NaN",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"",
        b"null",
        b"[]",
        b'"x"',
    ],
)
@pytest.mark.parametrize("channel", CHANNELS)
def test_bombs(bomb: bytes, channel: str) -> None:
    """Nesting, huge numbers, byte order marks, nothing at all."""
    assert INBOUND.handle(channel, bomb, {}).status in ANSWERS


def test_brackets_in_texts_are_not_nesting() -> None:
    """A message may hold as many brackets as it likes."""
    got: list[InboundMessage] = []
    inbound = InboundHandler(allow_unsigned=["butt-dial"])
    inbound.on_message(got.append)
    text = '[{"\\' * 1_000
    body = json.dumps({**HOSTED, "body": text}).encode()
    assert inbound.handle("butt-dial", body, {}).status == 200
    assert [message.text for message in got] == [text]
