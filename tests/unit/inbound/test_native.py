"""Butt-Dial's own format, in both dialects."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from buttdial_sync import (
    AccountVerified,
    Attachment,
    DeliveryReceipt,
    InboundHandler,
    InboundMessage,
    StatusUpdate,
    UnreadableEvent,
    WaitingMessage,
)
from buttdial_sync.inbound.native import parse_account, parse_pushed, parse_waiting
from buttdial_sync.models.converter import structure
from buttdial_sync.models.names import snake_case

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
HOSTED = {
    "type": "message",
    "messageId": "m1",
    "channel": "whatsapp",
    "from": "+14155550123",
    "to": "+15550000000",
    "body": "Look",
    "mediaUrl": "https://x/y.jpg",
    "mediaType": "image",
    "mimeType": "image/jpeg",
    "fileName": "y.jpg",
    "attachments": [
        {"filename": "y.jpg", "contentType": "image/jpeg", "size": 9, "url": "https://x"}
    ],
    "isGroup": True,
    "groupId": "g1",
    "groupName": "Friends",
    "isVoiceMessage": True,
    "voiceTranscription": "hi",
    "senderName": "Ann",
    "senderSid": "waha:1",
    "replyTo": "m0",
    "agentName": "Shop",
    "agentId": "agent-1",
    "sessionId": "s1",
    "session": {"id": "s1", "state": "open"},
    "threadId": "t1",
    "timestamp": "2026-01-02T03:04:05Z",
}
OPEN_SOURCE = {
    "agentId": "agent-1",
    "channel": "email",
    "direction": "inbound",
    "from": "ann@example.com",
    "to": "shop@example.com",
    "body": "Hello",
    "mediaUrl": None,
    "mediaType": None,
    "externalId": "e1",
    "agentGender": "female",
    "subject": "An order",
    "html": "<p>Hello</p>",
}
WHOLE = InboundMessage(
    id="m1",
    sender="+14155550123",
    channel="whatsapp",
    text="Look",
    type="image",
    to="+15550000000",
    agent_id="agent-1",
    agent_name="Shop",
    sender_name="Ann",
    sender_sid="waha:1",
    media_url="https://x/y.jpg",
    media_type="image",
    mime_type="image/jpeg",
    file_name="y.jpg",
    attachments=(Attachment(filename="y.jpg", content_type="image/jpeg", size=9, url="https://x"),),
    is_voice_message=True,
    voice_transcription="hi",
    is_group=True,
    group_id="g1",
    group_name="Friends",
    reply_to="m0",
    session_id="s1",
    session={"id": "s1", "state": "open"},
    thread_id="t1",
    received_at=MOMENT,
)


def parse(payload: Any) -> list[Any]:
    return list(InboundHandler().parse(payload))


def snake(value: dict[str, Any]) -> dict[str, Any]:
    return {snake_case(key): item for key, item in value.items()}


def test_hosted() -> None:
    """Every documented field has its place."""
    (event,) = parse(HOSTED)
    assert event == WHOLE
    assert event.raw == HOSTED


def test_snake_case() -> None:
    """The same in snake_case; camelCase wins where both are there."""
    assert parse(snake(HOSTED)) == [WHOLE]
    assert parse({**snake(HOSTED), **HOSTED, "message_id": "other"}) == [WHOLE]


def test_open_source() -> None:
    """The provider's id, and an email's subject and HTML."""
    (event,) = parse(OPEN_SOURCE)
    assert event == InboundMessage(
        id="e1",
        external_id="e1",
        sender="ann@example.com",
        to="shop@example.com",
        channel="email",
        text="Hello",
        agent_id="agent-1",
        agent_gender="female",
        subject="An order",
        html="<p>Hello</p>",
    )


@pytest.mark.parametrize(
    ("mime", "kind"),
    [("image/png", "image"), ("audio/ogg", "audio"), ("application/pdf", "document")],
)
@pytest.mark.parametrize("channel", ["sms", "whatsapp", "line", "voice"])
def test_a_mime_type_for_a_media_type(mime: str, kind: str, channel: str) -> None:
    """One server writes the MIME type where the other writes the kind."""
    media = {"mediaUrl": "https://x/y", "mediaType": mime, "body": "", "channel": channel}
    (event,) = parse({**OPEN_SOURCE, **media})
    assert (event.mime_type, event.media_type, event.type) == (mime, kind, kind)
    assert (event.channel, event.text) == (channel, "")


@pytest.mark.parametrize(
    "mark",
    [
        {"echo": True},
        {"isEcho": True},
        {"is_echo": True},
        {"echo": False, "isEcho": True},
        {"echo": True, "isEcho": False},
        {"isEcho": False, "is_echo": True},
    ],
)
def test_echoes(mark: dict[str, Any]) -> None:
    """Our own messages that come back are nothing to us."""
    assert parse({**HOSTED, **mark}) == []


def test_a_message_with_the_name_of_an_event() -> None:
    """It says that it is a message; without that it may be an account's event, with a token."""
    (event,) = parse({**HOSTED, "event": "message.received"})
    assert isinstance(event, InboundMessage)
    assert parse({**OPEN_SOURCE, "event": "message.received"}) == []
    assert parse({**HOSTED, "event": "message.received", "direction": "outbound"}) == []


def test_our_own_direction() -> None:
    """Nor are messages that the server says went out."""
    assert parse({**OPEN_SOURCE, "direction": "outbound"}) == []


@pytest.mark.parametrize("status", ["queued", "sent", "delivered", "read", "failed", "undelivered"])
@pytest.mark.parametrize("kind", [{}, {"type": "status"}, {"type": "delivery_receipt"}])
def test_receipts(status: str, kind: dict[str, str]) -> None:
    """A status with a message's id is a receipt."""
    given = {**kind, "messageId": "m1", "status": status, "channel": "sms", "to": "+1"}
    (event,) = parse({**given, "timestamp": 1767323045, "errorCode": 30003})
    assert event == DeliveryReceipt(
        message_sid="m1",
        status=status,
        channel="sms",
        recipient="+1",
        timestamp=MOMENT,
        error_code="30003",
    )


def test_what_a_receipt_says_about_its_message() -> None:
    """The host's own ids and the key, where the server sends them back."""
    ids = {"threadId": "t-1", "entityId": 7, "idempotencyKey": "k-1"}
    for given in (ids, snake(ids)):
        (event,) = parse({"messageId": "m1", "status": "read", **given})
        assert event == DeliveryReceipt(
            message_sid="m1", status="read", thread_id="t-1", entity_id="7", idempotency_key="k-1"
        )


def test_status_update() -> None:
    """News of a channel."""
    (event,) = parse(
        {"type": "status", "status": "disconnected", "channel": "whatsapp", "detail": "logged out"}
    )
    assert event == StatusUpdate(kind="disconnected", channel="whatsapp", detail="logged out")


def test_a_message_with_a_status_is_a_message() -> None:
    """A type wins over a status."""
    (event,) = parse({**HOSTED, "status": "delivered"})
    assert isinstance(event, InboundMessage)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        "x",
        5,
        {},
        {"type": "something-new", "x": 1},
        {"type": "status"},
        {"event": "account.deleted", "from": "x", "channel": "sms", "body": "x"},
        {"entry": []},
        {"entry": {}},
        {"status": "delivered"},
    ],
)
def test_unknown(payload: Any) -> None:
    """What nobody knows is nothing."""
    assert parse(payload) == []


@pytest.mark.parametrize(
    ("wrong", "attribute", "value"),
    [
        ({"subject": 7}, "subject", None),
        ({"html": {}}, "html", None),
        ({"mediaUrl": False}, "media_url", None),
        ({"mediaUrl": ["x"]}, "media_url", None),
        ({"body": 5}, "text", ""),
        ({"channel": 5}, "channel", "sms"),
        ({"attachments": "x"}, "attachments", ()),
        ({"attachments": {"url": "x"}}, "attachments", ()),
        ({"attachments": ["https://x"]}, "attachments", ()),
        ({"attachments": [1, {"url": "y"}]}, "attachments", (Attachment(url="y"),)),
    ],
)
def test_an_odd_neighbour(
    wrong: dict[str, Any], attribute: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    """A message with one unreadable field is handed over without it; a warning has the id."""
    (event,) = parse({**HOSTED, **wrong})
    assert isinstance(event, InboundMessage)
    assert getattr(event, attribute) == value
    assert event.sender_name == "Ann"
    (field,) = wrong
    assert caplog.messages == [f"message 'm1' has parts that cannot be read: ['{field}']"]


def test_a_good_message_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Whether fields are there, empty or missing."""
    parse(HOSTED)
    parse({**HOSTED, "subject": None, "html": ""})
    parse({**HOSTED, "attachments": []})
    parse({"type": "message", "from": "+1", "body": "x"})
    assert caplog.messages == []


@pytest.mark.parametrize("channel", [{}, {"channel": None}, {"channel": ""}])
def test_without_a_channel_it_is_sms(channel: dict[str, Any]) -> None:
    """As the published SDK reads it."""
    (event,) = parse({"type": "message", "from": "+1", "body": "x", **channel})
    assert (event.channel, event.text) == ("sms", "x")


def test_a_hundred_attachments(caplog: pytest.LogCaptureFixture) -> None:
    """More are left out: each costs time, and a stranger can write thousands of them."""
    many = [{"url": str(number)} for number in range(101)]
    assert len(parse({**HOSTED, "attachments": many[:100]})[0].attachments) == 100
    assert caplog.messages == []
    (event,) = parse({**HOSTED, "attachments": many})
    assert [each.url for each in event.attachments] == [str(number) for number in range(100)]
    assert len(event.raw["attachments"]) == 101
    assert "'attachments'" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"from": None}, "it has no sender"),
        ({"from": ""}, "it has no sender"),
        ({"from": []}, "it has no sender"),
        (
            dict.fromkeys(("body", "mediaUrl", "attachments", "voiceTranscription")),
            "it has no content",
        ),
        (
            {"body": 5, "mediaUrl": 5, "attachments": 5, "voiceTranscription": 5},
            "it has no content",
        ),
    ],
)
def test_half_a_message(wrong: dict[str, Any], reason: str) -> None:
    """Without a sender or a content it is no message, but somebody has to get it."""
    (event,) = parse({**HOSTED, **wrong})
    assert event == UnreadableEvent(reason=reason, id="m1", channel="whatsapp", agent_id="agent-1")
    assert event.raw == {**HOSTED, **wrong}


@pytest.mark.parametrize(
    ("field", "attribute", "absent"),
    [
        ("senderName", "sender_name", None),
        ("timestamp", "received_at", None),
        ("isVoiceMessage", "is_voice_message", False),
        ("session", "session", None),
        ("threadId", "thread_id", None),
        ("mimeType", "mime_type", None),
    ],
)
@pytest.mark.parametrize("value", [None, [], {}, 1e400, "\ud800", [[1]]])
def test_wrong_trimmings(field: str, attribute: str, absent: object, value: object) -> None:
    """What surrounds a message may be wrong: it is left out, and the message comes."""
    (event,) = parse({**HOSTED, field: value})
    got = getattr(event, attribute)
    assert got == absent or got == "\ufffd"
    assert event.text == "Look"


def test_half_of_a_character() -> None:
    """Text that a server cut in the middle of an emoji can be encoded all the same."""
    (event,) = parse({**HOSTED, "body": "cut \ud83d", "senderName": "\udc00"})
    assert event.text == "cut \ufffd"
    assert event.sender_name == "\ufffd"


def test_a_character_that_a_database_refuses() -> None:
    """PostgreSQL takes no NUL, so a stranger could stop the handlers with one."""
    (event,) = parse({**HOSTED, "body": "a\0b", "senderName": "\0"})
    assert event.text == "a\ufffdb"
    assert event.sender_name == "\ufffd"


def test_transcription_as_an_object() -> None:
    """One server wraps it."""
    (event,) = parse({**HOSTED, "voiceTranscription": {"text": "hi", "language": "en"}})
    assert event.voice_transcription == "hi"


def test_a_voice_message_of_which_there_is_only_a_transcription() -> None:
    """What was spoken is a content."""
    spoken = {"from": "+1", "channel": "whatsapp", "voiceTranscription": "hi"}
    (event,) = parse({"type": "message", "messageId": "m1", "isVoiceMessage": True, **spoken})
    assert (event.text, event.voice_transcription) == ("", "hi")


def test_a_receipt_by_message_sid() -> None:
    """A receipt may name its message as sending it did."""
    (event,) = parse({"type": "delivery_receipt", "messageSid": "SM1", "status": "delivered"})
    assert event == DeliveryReceipt(message_sid="SM1", status="delivered")


def test_account_verified_hides_its_token() -> None:
    """The credential is not shown, and is needed."""
    payload = {
        "event": "account.verified",
        "orgId": "o1",
        "ownerEmail": "a@b.c",
        "teamToken": "a-secret",
        "scopes": ["x", 5],
        "verifiedAt": "2026-01-02T03:04:05Z",
    }
    (event,) = parse(payload)
    assert event == AccountVerified(
        org_id="o1",
        team_token="a-secret",
        owner_email="a@b.c",
        scopes=("x",),
        verified_at=MOMENT,
    )
    assert "a-secret" not in repr(event)
    for lacking in ({"teamToken": None}, {"orgId": ""}):
        (event,) = parse({**payload, **lacking})
        assert isinstance(event, UnreadableEvent)
        assert "a-secret" not in repr(event)


def waiting(**fields: Any) -> WaitingMessage:
    return structure(
        {"id": 7, "createdAt": "2026-01-02 03:04:05", **fields}, WaitingMessage, source=""
    )


def test_waiting() -> None:
    """An item has the provider's id if it can, and the time at which it came."""
    item = waiting(channel="email", **{"from": "a@b.c"}, body="x", subject="s", externalId="e1")
    (event,) = parse_waiting(item)
    assert isinstance(event, InboundMessage)
    assert (event.id, event.received_at, event.subject) == ("e1", MOMENT, "s")
    assert event.raw == item.raw
    assert (event.source, event.verified) == ("queue", True)
    (event,) = parse_waiting(waiting(channel="sms", **{"from": "+1"}, body="x"))
    assert isinstance(event, InboundMessage)
    assert event.id == "7"


def test_waiting_made_by_hand() -> None:
    """An item without the server's own JSON is read by its fields."""
    (event,) = parse_waiting(WaitingMessage(id="1", channel="sms", from_="+1", body="x"))
    assert isinstance(event, InboundMessage)
    assert (event.sender, event.text, event.id) == ("+1", "x", "1")


def test_waiting_outbound() -> None:
    """A message of ours that failed is news."""
    item = waiting(channel="sms", direction="outbound", to="+1", body="x", reason="provider down")
    assert parse_waiting(item) == [
        StatusUpdate(
            kind="outbound_failed",
            detail="provider down",
            id="7",
            channel="sms",
            recipient="+1",
            text="x",
            timestamp=MOMENT,
            source="queue",
            verified=True,
        )
    ]


def test_half_a_waiting_message() -> None:
    """It is not on the server any more, so it is not dropped."""
    for item, reason in (
        (waiting(channel="sms", body="x"), "it has no sender"),
        (waiting(channel="sms", **{"from": "+1"}), "it has no content"),
    ):
        (event,) = parse_waiting(item)
        assert event == UnreadableEvent(
            reason=reason, id="7", channel="sms", source="queue", verified=True
        )
        assert event.raw == item.raw


def test_a_picture_that_waited() -> None:
    """The queue has its address, but not its type."""
    item = waiting(channel="sms", **{"from": "+1"}, body="", mediaUrl="https://x/y")
    (event,) = parse_waiting(item)
    assert isinstance(event, InboundMessage)
    assert (event.type, event.media_type, event.media_url) == ("media", None, "https://x/y")


def test_pushed() -> None:
    """What comes on the client's own stream is as good as signed."""
    for payload in (HOSTED, {"messageId": "m1", "status": "read"}, {"from": "+1"}):
        (event,) = parse_pushed(payload)
        assert (event.source, event.verified) == ("push", True)


def test_the_agent_of_a_push() -> None:
    """Where a push does not name it, it is the one whose session it is."""
    for payload, agent in (({"from": "+1", "body": "x"}, "mine"), (HOSTED, "agent-1")):
        (event,) = parse_pushed(payload, "mine")
        assert isinstance(event, InboundMessage)
        assert (event.agent_id, event.raw) == (agent, payload)


@pytest.mark.parametrize(
    "only",
    [
        {"body": "x"},
        {"text": "x"},
        {"html": "<p>x</p>"},
        {"subject": "x"},
        {"mediaUrl": "https://x/y"},
        {"attachments": [{"filename": "y"}]},
        {"voiceTranscription": "x"},
    ],
)
def test_one_content_is_enough(only: dict[str, Any]) -> None:
    """Whatever it is; without any it is no message, and that is told."""
    (event,) = parse({"from": "+1", "channel": "email", **only})
    assert isinstance(event, InboundMessage)


@pytest.mark.parametrize(
    ("media", "kind", "mime", "type_"),
    [
        ({"mediaType": "image"}, "image", None, "image"),
        ({"mediaType": "IMAGE/PNG"}, "image", "IMAGE/PNG", "image"),
        ({"mediaType": "video/mp4", "mimeType": "video/x"}, "video", "video/x", "video"),
        ({"mediaType": "text/plain"}, "document", "text/plain", "document"),
        ({"mediaType": "", "mimeType": ""}, None, None, "media"),
        ({"mimeType": "image/png"}, None, "image/png", "media"),
    ],
)
def test_media_types(media: dict[str, Any], kind: object, mime: object, type_: str) -> None:
    """The kind and the MIME type, whichever of them a server writes; empty is none."""
    given = {"from": "+1", "channel": "sms", "mediaUrl": "https://x/y", "body": "x", **media}
    (event,) = parse(given)
    assert (event.media_type, event.mime_type, event.type) == (kind, mime, type_)
    (event,) = parse({**given, "mediaUrl": None})
    assert event.type == "text"


@pytest.mark.parametrize(
    ("fields", "is_group"),
    [({}, False), ({"isGroup": True}, True), ({"groupId": "g"}, True), ({"isGroup": False}, False)],
)
def test_groups(fields: dict[str, Any], is_group: bool) -> None:
    """A group's id is enough."""
    (event,) = parse({"from": "+1", "channel": "sms", "body": "x", **fields})
    assert event.is_group is is_group


def test_an_account_event_without_its_token() -> None:
    """Somebody has to get it; one that nobody knows is nothing."""
    assert parse_account({"event": "account.deleted", "orgId": "o", "teamToken": "t"}) == []
    for lacking in ({"orgId": "o"}, {"teamToken": "t"}):
        (unreadable,) = parse_account({"event": "account.verified", **lacking}, "d1")
        assert unreadable == UnreadableEvent(
            reason="account.verified without its workspace or its token", id="d1"
        )
    (event,) = parse_account(
        {"event": "account.verified", "orgId": 7, "teamToken": "t", "scopes": "x"}, "d1"
    )
    assert event == AccountVerified(org_id="7", team_token="t", delivery_id="d1")


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        ({"type": "status", "kind": "a", "event": "b", "status": "c"}, "a"),
        ({"type": "status_update", "event": "b", "status": "c"}, "b"),
        ({"type": "receipt", "status": "c"}, "c"),
        ({"type": "delivery_receipt", "status": "delivered"}, "delivered"),
    ],
)
def test_what_news_is_about(payload: dict[str, Any], kind: str) -> None:
    """The most exact name comes first."""
    (event,) = parse(
        {**payload, "id": "s1", "agentId": "a", "timestamp": 1767323045, "detail": "d"}
    )
    if kind == "delivered":
        assert event == DeliveryReceipt(message_sid="s1", status=kind, timestamp=MOMENT, error="d")
    else:
        assert event == StatusUpdate(kind=kind, id="s1", agent_id="a", timestamp=MOMENT, detail="d")


@pytest.mark.parametrize(
    ("details", "detail"),
    [("in words", "in words"), ({"code": 1}, "provider down"), (None, "provider down")],
)
def test_why_an_outbound_message_failed(details: object, detail: str) -> None:
    """The details where they are words, else the reason; known by the provider's id."""
    item = waiting(
        channel="sms",
        direction="outbound",
        to="+1",
        agentId="a",
        externalId="e1",
        reason="provider down",
        errorDetails=details,
    )
    (event,) = parse_waiting(item)
    assert isinstance(event, StatusUpdate)
    assert (event.detail, event.id, event.agent_id, event.raw) == (detail, "e1", "a", item.raw)


def test_waiting_with_another_type() -> None:
    """What waits is a message, whatever else the server says about it."""
    item = waiting(channel="sms", **{"from": "+1"}, body="x", type="receipt", status="delivered")
    (event,) = parse_waiting(item)
    assert isinstance(event, InboundMessage)
