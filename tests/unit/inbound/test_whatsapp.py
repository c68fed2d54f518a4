"""What WhatsApp sends."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from buttdial_sync import (
    DeliveryReceipt,
    InboundHandler,
    InboundMessage,
    Location,
    UnreadableEvent,
)

SENDER = "14155550123"
SENT_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SECONDS = str(int(SENT_AT.timestamp()))


def payload(*messages: dict[str, Any], **value: Any) -> dict[str, Any]:
    change = {"field": "messages", "value": {"messages": list(messages), **value}}
    return {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}


def message(kind: str, **content: Any) -> dict[str, Any]:
    return {"id": "wamid.1", "from": SENDER, "timestamp": SECONDS, "type": kind, **content}


def parse(*messages: dict[str, Any], **value: Any) -> list[Any]:
    return InboundHandler().parse(payload(*messages, **value))


def one(kind: str, **content: Any) -> InboundMessage:
    (event,) = parse(message(kind, **content))
    assert isinstance(event, InboundMessage)
    assert (event.id, event.sender, event.channel) == ("wamid.1", SENDER, "whatsapp")
    assert (event.type, event.received_at) == (kind, SENT_AT)
    assert event.raw == message(kind, **content)
    return event


def unreadable(*messages: dict[str, Any]) -> list[str]:
    """Why each of the messages cannot be read."""
    events = parse(*messages)
    assert [event.raw for event in events] == list(messages)
    assert {(type(event), event.id) for event in events} == {(UnreadableEvent, "wamid.1")}
    return [event.reason for event in events]


def test_text() -> None:
    """A text, and what it answers."""
    event = one("text", text={"body": "Hello"}, context={"from": "1", "id": "wamid.0"})
    assert (event.text, event.body, event.reply_to) == ("Hello", "Hello", "wamid.0")


@pytest.mark.parametrize("kind", ["image", "audio", "video", "document", "sticker"])
def test_media(kind: str) -> None:
    """Media have WhatsApp's id, a MIME type, perhaps a caption, a name and an address."""
    event = one(kind, **{kind: {"id": "m1", "mime_type": "a/b", "caption": "Look", "sha256": "x"}})
    assert (event.media_id, event.media_url, event.mime_type) == ("m1", None, "a/b")
    assert (event.media_type, event.text, event.is_voice_message) == (kind, "Look", False)
    event = one(kind, **{kind: {"link": "https://x/y", "filename": "y.pdf"}})
    assert (event.media_url, event.file_name, event.text) == ("https://x/y", "y.pdf", "")


def test_voice() -> None:
    """A voice message says so, and may bring its transcription."""
    event = one("audio", audio={"id": "m1", "voice": True, "voice_transcription": "hi"})
    assert event.is_voice_message
    assert event.voice_transcription == "hi"


@pytest.mark.parametrize("kind", ["button_reply", "list_reply"])
def test_interactive(kind: str) -> None:
    """What was chosen: its title is the text."""
    reply = {"type": kind, kind: {"id": "yes", "title": "Yes, please"}}
    event = one("interactive", interactive=reply)
    assert (event.text, event.reply_id) == ("Yes, please", "yes")


def test_form() -> None:
    """An answer to a form has a body; the rest is in ``raw``."""
    reply = {"type": "nfm_reply", "nfm_reply": {"body": "Sent", "response_json": "{}"}}
    assert one("interactive", interactive=reply).text == "Sent"


def test_button() -> None:
    """A template's button."""
    event = one("button", button={"text": "Stop", "payload": "stop-1"})
    assert (event.text, event.reply_id) == ("Stop", "stop-1")


def test_location() -> None:
    """A place."""
    event = one("location", location={"latitude": 52.5, "longitude": 13, "name": "Berlin"})
    assert event.location == Location(latitude=52.5, longitude=13.0, name="Berlin")
    assert event.text == "Berlin"


def test_a_location_out_of_this_world() -> None:
    """A number too large for a float is no place, and no exception."""
    far = message("location", location={"latitude": 10**400, "longitude": 13})
    assert unreadable(far) == ["a location without coordinates"]


def test_contacts() -> None:
    """Address cards."""
    card = {"name": {"formatted_name": "Ann"}, "phones": [{"phone": "+1"}]}
    event = one("contacts", contacts=[card, {"name": {"formatted_name": "Bob"}}])
    assert event.contacts[0] == card
    assert event.text == "Ann, Bob"


@pytest.mark.parametrize(
    ("given", "emoji"), [({"emoji": "👍"}, "👍"), ({"emoji": ""}, ""), ({}, "")]
)
def test_reaction(given: dict[str, str], emoji: str) -> None:
    """A reaction to a message of ours; without an emoji it is taken back."""
    event = one("reaction", reaction={"message_id": "wamid.0", **given})
    assert (event.emoji, event.reacted_to) == (emoji, "wamid.0")


def test_other_types() -> None:
    """What WhatsApp's API cannot show, and what is newer than this library, is handed over."""
    assert one("order", order={"catalog_id": "1"}).text == ""
    assert one("unsupported", errors=[{"code": 131051}]).text == ""
    assert one("unknown").text == ""
    assert one("edit", edit={"original_message_id": "wamid.0"}).text == ""


@pytest.mark.parametrize("wrong", [{"caption": 5}, {"link": False}, {"url": {}}])
def test_an_odd_neighbour(wrong: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """A picture whose caption cannot be read is a picture; a warning has the message's id."""
    event = one("image", image={"id": "m1", **wrong})
    assert (event.media_id, event.media_url, event.text) == ("m1", None, "")
    (field,) = wrong
    assert caplog.messages == [f"message 'wamid.1' has parts that cannot be read: ['{field}']"]


def test_names_are_joined() -> None:
    """Each message gets its own sender's name, and our number from the metadata."""
    events = parse(
        {**message("text", text={"body": "a"}), "from": "1"},
        {**message("text", text={"body": "b"}), "from": "2"},
        {**message("text", text={"body": "c"}), "from": "3"},
        contacts=[
            {"wa_id": "2", "profile": {"name": "Bob"}},
            {"wa_id": "1", "profile": {"name": "Ann"}},
        ],
        metadata={"display_phone_number": "15550000000"},
    )
    assert [event.sender_name for event in events] == ["Ann", "Bob", None]
    assert {event.to for event in events} == {"15550000000"}


def test_several_entries_and_changes() -> None:
    """All of them, in their order; a broken one between them does no harm."""
    changes = [
        {"value": {"messages": [{**message("text", text={"body": "x"}), "id": f"wamid.{n}"}]}}
        for n in range(4)
    ]
    body = {
        "entry": [
            {"changes": [changes[0], {"value": None}, changes[1]]},
            None,
            {"changes": "x"},
            {"changes": [{"value": {"messages": [None, 1], "statuses": [1]}}, changes[2]]},
            {"changes": [changes[3]]},
        ]
    }
    assert [e.id for e in InboundHandler().parse(body)] == [  # type: ignore[union-attr]
        f"wamid.{n}" for n in range(4)
    ]


@pytest.mark.parametrize("status", ["sent", "delivered", "read"])
def test_receipts(status: str) -> None:
    """What became of a message of ours."""
    (event,) = parse(
        statuses=[{"id": "wamid.9", "status": status, "timestamp": SECONDS, "recipient_id": "1"}]
    )
    assert event == DeliveryReceipt(
        message_sid="wamid.9",
        status=status,
        channel="whatsapp",
        recipient="1",
        timestamp=SENT_AT,
    )


def test_failed_receipt() -> None:
    """Why it failed: the code as text."""
    errors = [{"code": 131047, "title": "Re-engagement message"}]
    (event,) = parse(statuses=[{"id": "wamid.9", "status": "failed", "errors": errors}])
    assert (event.error_code, event.error) == ("131047", "Re-engagement message")


@pytest.mark.parametrize(
    "half",
    [
        message("text"),
        message("text", text={"body": ""}),
        message("text", text={"body": 5}),
        message("text", text="x"),
        message("image", image={"caption": "x"}),
        message("interactive", interactive={"type": "button_reply"}),
        message("interactive", interactive={"button_reply": {"id": "1"}}),
        message("button", button={}),
        message("location", location={"latitude": "52", "longitude": 13}),
        message("location", location={"latitude": 1, "longitude": float("nan")}),
        message("contacts", contacts=[]),
        message("reaction", reaction={"emoji": "👍"}),
        {**message("text", text={"body": "x"}), "from": None},
        {**message("text", text={"body": "x"}), "id": ""},
        {**message("text", text={"body": "x"}), "type": 5},
    ],
)
def test_half_a_message(half: dict[str, Any]) -> None:
    """What is not whole is no message, and is not dropped; the others beside it are handed over."""
    lacking, event = parse(half, {**message("text", text={"body": "whole"}), "id": "wamid.2"})
    assert isinstance(lacking, UnreadableEvent)
    assert (lacking.channel, lacking.raw) == ("whatsapp", half)
    assert event.id == "wamid.2"


def test_where_it_came_from() -> None:
    """Other servers that write WhatsApp's format add names, groups and our number."""
    given = {"to": "1", "groupId": "g1", "groupName": "Friends", "senderName": "Ann"}
    event = one("text", text={"body": "x"}, **given)
    assert (event.to, event.sender_name) == ("1", "Ann")
    assert (event.is_group, event.group_id, event.group_name) == (True, "g1", "Friends")
    (event,) = parse(
        message("text", text={"body": "x"}, to="1"), metadata={"display_phone_number": "2"}
    )
    assert (event.to, event.is_group) == ("1", False)


@pytest.mark.parametrize(
    ("fields", "contacts", "name"),
    [
        ({}, [], None),
        ({}, [{"wa_id": "+1 415", "profile": {"name": "Ann"}}], "Ann"),
        ({"senderName": "Bob"}, [{"wa_id": "+1 415", "profile": {"name": "Ann"}}], "Bob"),
        ({"senderName": "Bob"}, [{"wa_id": SENDER, "profile": {"name": "Ann"}}], "Ann"),
        ({}, [{"wa_id": "1", "profile": {"name": "A"}}, {"wa_id": "2"}], None),
    ],
)
def test_the_senders_name(fields: dict[str, Any], contacts: list[Any], name: str | None) -> None:
    """By the number; a single contact is the sender's, however the number is written."""
    (event,) = parse(message("text", text={"body": "x"}, **fields), contacts=contacts)
    assert event.sender_name == name


def test_what_half_a_message_lacks(caplog: pytest.LogCaptureFixture) -> None:
    """It is told; a status that is not whole is no message of anybody."""
    assert unreadable(message("text"), message("image", image={})) == [
        "a text message without text",
        "image without an id",
    ]
    for status in ({"id": "w"}, {"status": "read"}, {"id": "w", "status": "deleted"}, {}):
        assert parse(statuses=[status]) == []
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, ""),
        ({"address": "Main Street"}, "Main Street"),
        ({"name": "Shop", "address": "Main Street"}, "Shop"),
        ({"name": ""}, ""),
    ],
)
def test_the_text_of_a_location(place: dict[str, str], text: str) -> None:
    """Its name, else its address."""
    event = one("location", location={"latitude": 0, "longitude": 0, **place})
    assert event.text == text
    assert event.location is not None
    assert (event.location.latitude, event.location.address) == (0.0, place.get("address"))


@pytest.mark.parametrize("lacking", ["latitude", "longitude"])
def test_half_a_location(lacking: str) -> None:
    """Both are needed."""
    place = {"latitude": 1, "longitude": 1, lacking: None}
    assert unreadable(message("location", location=place)) == ["a location without coordinates"]


@pytest.mark.parametrize(
    ("button", "text", "reply_id"),
    [({"text": "Stop"}, "Stop", None), ({"payload": "stop-1"}, "", "stop-1")],
)
def test_half_a_button(button: dict[str, str], text: str, reply_id: str | None) -> None:
    """Its text or its payload is enough."""
    event = one("button", button=button)
    assert (event.text, event.reply_id) == (text, reply_id)


@pytest.mark.parametrize("media", [{"id": "m1"}, {"url": "https://x/y"}])
def test_the_least_of_a_medium(media: dict[str, str]) -> None:
    """An id or an address; a caption is not needed."""
    event = one("audio", audio={**media, "transcription": "hi"})
    assert (event.text, event.voice_transcription) == ("", "hi")


def test_replies_without_a_title() -> None:
    """The body, then the name; or nothing."""
    for reply, text in (({"body": "b", "name": "n"}, "b"), ({"name": "n"}, "n"), ({"id": "1"}, "")):
        event = one("interactive", interactive={"type": "x", "x": reply})
        assert (event.text, event.reply_id) == (text, reply.get("id"))


def test_contacts_without_a_name() -> None:
    """They are contacts all the same."""
    event = one("contacts", contacts=[{}, {"name": {"formatted_name": "Bob"}}, {"name": {}}])
    assert (event.text, len(event.contacts)) == ("Bob", 3)


def test_the_first_error_of_a_receipt() -> None:
    """Its title, else its message."""
    errors = [{"code": 1, "message": "no"}, {"code": 2, "title": "never"}]
    (event,) = parse(statuses=[{"id": "w", "status": "failed", "errors": errors}])
    assert (event.error_code, event.error) == ("1", "no")
