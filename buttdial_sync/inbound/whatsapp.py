"""The webhooks of WhatsApp's own API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from buttdial_sync.inbound.reading import (
    UNKNOWN,
    Fields,
    MalformedError,
    Origin,
    flag,
    identifier,
    mapping,
    mappings,
    moment,
    number,
    text,
    wrong_texts,
)
from buttdial_sync.models.inbound import (
    DeliveryReceipt,
    InboundMessage,
    Location,
    UnreadableEvent,
)

logger = logging.getLogger("buttdial_sync.inbound")

CHANNEL = "whatsapp"
Names: TypeAlias = Mapping[str | None, str | None]
Parsed: TypeAlias = InboundMessage | DeliveryReceipt | UnreadableEvent

STATUSES = frozenset({"sent", "delivered", "read", "failed"})
MEDIA = frozenset({"image", "audio", "video", "document", "sticker"})


def looks_like_whatsapp(payload: Fields) -> bool:
    """Whether a payload has the shape of WhatsApp's."""
    return isinstance(payload.get("entry"), list)


def parse_whatsapp(payload: Fields, origin: Origin = UNKNOWN) -> list[Parsed]:
    """
    Read a payload: several entries, several changes, messages and receipts.

    Returns:
        The events in their order. A message that lacks a part is an
        :class:`~buttdial_sync.UnreadableEvent`.
    """
    return [
        event
        for entry in mappings(payload, "entry")
        for change in mappings(entry, "changes")
        for event in _events_of(mapping(change, "value"), origin)
    ]


def _events_of(value: Fields, origin: Origin) -> Iterator[Parsed]:
    names = {
        identifier(contact, "wa_id"): text(mapping(contact, "profile"), "name")
        for contact in mappings(value, "contacts")
    }
    our_number = text(mapping(value, "metadata"), "display_phone_number")
    for data in mappings(value, "messages"):
        try:
            event: Parsed = _message(data, names, our_number, origin)
        except MalformedError as error:
            event_id = identifier(data, "id")
            event = UnreadableEvent(
                reason=str(error), id=event_id, channel=CHANNEL, raw=data, **origin
            )
        yield event
    for data in mappings(value, "statuses"):
        receipt = _receipt(data, origin)
        if receipt is not None:
            yield receipt


def _message(data: Fields, names: Names, our_number: str | None, origin: Origin) -> InboundMessage:
    message_id, sender, kind = identifier(data, "id"), identifier(data, "from"), text(data, "type")
    if not message_id or not sender or not kind:
        raise MalformedError("it has no id, no sender or no type")
    group_id = identifier(data, "groupId")
    # The contact's id may be written in another way than the sender's number.
    only_name = next(iter(names.values())) if len(names) == 1 else None
    return InboundMessage(
        id=message_id,
        sender=sender,
        channel=CHANNEL,
        type=kind,
        to=identifier(data, "to") or our_number,
        sender_name=names.get(sender) or text(data, "senderName") or only_name,
        is_group=group_id is not None,
        group_id=group_id,
        group_name=text(data, "groupName"),
        reply_to=identifier(mapping(data, "context"), "id"),
        received_at=moment(data, "timestamp"),
        raw=data,
        **origin,
        **_content(data, kind),
    )


def _content(data: Fields, kind: str) -> dict[str, Any]:
    if kind in MEDIA:
        media = mapping(data, kind)
        wrong = wrong_texts(media, "link", "url", "caption")
        if wrong:
            logger.warning("message %.80r has parts that cannot be read: %s", data.get("id"), wrong)
        return _media(media, kind)
    # "unsupported" and "unknown" stand for what WhatsApp's API cannot show; of types that are newer
    # than this module, raw has the content.
    read = _CONTENTS.get(kind)
    return {} if read is None else read(data)


def _text(data: Fields) -> dict[str, Any]:
    body = text(mapping(data, "text"), "body")
    if not body:
        raise MalformedError("a text message without text")
    return {"text": body}


def _media(media: Fields, kind: str) -> dict[str, Any]:
    media_id, url = identifier(media, "id"), text(media, "link", "url")
    if not media_id and not url:
        raise MalformedError(f"{kind} without an id")
    transcription = text(media, "voiceTranscription", "transcription")
    return {
        "text": text(media, "caption") or "",
        "media_id": media_id,
        "media_url": url,
        "media_type": kind,
        "mime_type": text(media, "mimeType"),
        "file_name": text(media, "filename", "fileName"),
        "is_voice_message": flag(media, "voice"),
        "voice_transcription": transcription,
    }


def _interactive(data: Fields) -> dict[str, Any]:
    interactive = mapping(data, "interactive")
    reply = mapping(interactive, text(interactive, "type") or "")
    if not reply:
        raise MalformedError("an interactive reply without a reply")
    return {
        "text": text(reply, "title", "body", "name") or "",
        "reply_id": identifier(reply, "id"),
    }


def _button(data: Fields) -> dict[str, Any]:
    button = mapping(data, "button")
    title, payload = text(button, "text"), identifier(button, "payload")
    if not title and not payload:
        raise MalformedError("a button without a text")
    return {"text": title or "", "reply_id": payload}


def _location(data: Fields) -> dict[str, Any]:
    place = mapping(data, "location")
    latitude, longitude = number(place, "latitude"), number(place, "longitude")
    if latitude is None or longitude is None:
        raise MalformedError("a location without coordinates")
    location = Location(
        latitude=latitude,
        longitude=longitude,
        name=text(place, "name"),
        address=text(place, "address"),
        raw=place,
    )
    return {"location": location, "text": location.name or location.address or ""}


def _contacts(data: Fields) -> dict[str, Any]:
    cards = tuple(mappings(data, "contacts"))
    if not cards:
        raise MalformedError("contacts without a contact")
    names = (text(mapping(card, "name"), "formatted_name") for card in cards)
    return {"contacts": cards, "text": ", ".join(name for name in names if name)}


def _reaction(data: Fields) -> dict[str, Any]:
    reaction = mapping(data, "reaction")
    target = identifier(reaction, "message_id")
    if not target:
        raise MalformedError("a reaction without a message")
    emoji = text(reaction, "emoji") or ""
    return {"emoji": emoji, "text": emoji, "reacted_to": target}


_CONTENTS: dict[str, Callable[[Fields], dict[str, Any]]] = {
    "text": _text,
    "interactive": _interactive,
    "button": _button,
    "location": _location,
    "contacts": _contacts,
    "reaction": _reaction,
}


def _receipt(data: Fields, origin: Origin) -> DeliveryReceipt | None:
    message_sid, status = identifier(data, "id"), text(data, "status")
    if not message_sid or status not in STATUSES:
        logger.debug("a WhatsApp status was ignored")
        return None
    error = next(mappings(data, "errors"), {})
    return DeliveryReceipt(
        message_sid=message_sid,
        status=status,
        channel=CHANNEL,
        recipient=identifier(data, "recipient_id"),
        timestamp=moment(data, "timestamp"),
        error_code=identifier(error, "code"),
        error=text(error, "title", "message"),
        raw=data,
        **origin,
    )
