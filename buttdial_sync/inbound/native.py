"""Butt-Dial's own format, in both dialects: webhooks, pushed messages, the waiting queue."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import attrs

from buttdial_sync.errors.scrubbing import Secret, masked_items
from buttdial_sync.inbound.reading import (
    UNKNOWN,
    Fields,
    MalformedError,
    Origin,
    first,
    flag,
    identifier,
    mapping,
    moment,
    text,
    whole_number,
    wrong_texts,
)
from buttdial_sync.models.inbound import (
    AccountVerified,
    Attachment,
    DeliveryReceipt,
    InboundEvent,
    InboundMessage,
    StatusUpdate,
    UnreadableEvent,
)
from buttdial_sync.models.inbox import WaitingMessage

logger = logging.getLogger("buttdial_sync.inbound")

ACCOUNT_VERIFIED = "account.verified"
OUTBOUND_FAILED = "outbound_failed"
STATUSES = frozenset({"queued", "sent", "delivered", "read", "failed", "undelivered"})
_NO_MESSAGE = frozenset({"status", "status_update", "receipt", "delivery_receipt"})
_ECHO = ("echo", "isEcho")
_DEFAULT_CHANNEL = "sms"
_MOST_ATTACHMENTS = 100
_QUEUE: Origin = {"source": "queue", "verified": True}
_PUSH: Origin = {"source": "push", "verified": True}


def parse_native(payload: Fields, origin: Origin = UNKNOWN) -> list[InboundEvent]:
    """
    Read a payload in Butt-Dial's own format, but for account events.

    Returns:
        The event; nothing for echoes of our own messages and for what is unknown. A message without
        sender or content is an :class:`~buttdial_sync.UnreadableEvent`.
    """
    if flag(payload, *_ECHO):
        return []
    try:
        event = _event(payload, origin)
    except MalformedError as error:
        event = UnreadableEvent(
            reason=str(error),
            id=_id_of(payload),
            channel=text(payload, "channel"),
            agent_id=identifier(payload, "agentId"),
            raw=payload,
            **origin,
        )
    if isinstance(event, InboundMessage):
        _warn_of_unreadable_parts(payload, event.id)
    return [] if event is None else [event]


def is_ours(payload: Fields) -> bool:
    """Whether a payload tells of a message of our own, so that nothing came in."""
    return flag(payload, *_ECHO) or text(payload, "direction") == "outbound"


def parse_pushed(payload: Fields, agent_id: str | None = None) -> list[InboundEvent]:
    """
    Read what was pushed over the client's own session; see :func:`parse_native`.

    Args:
        payload: The payload.
        agent_id: The agent whose session it is, for payloads that do not name it.
    """
    named = {"agentId": agent_id, **payload} if agent_id else payload
    return [attrs.evolve(event, raw=payload) for event in parse_native(named, _PUSH)]


def parse_account(
    payload: Fields, delivery_id: str | None = None, origin: Origin = UNKNOWN
) -> list[InboundEvent]:
    """Read an account event whose sender is known; nothing for those that are unknown."""
    if payload.get("event") != ACCOUNT_VERIFIED:
        return []
    org_id, token = identifier(payload, "orgId"), text(payload, "teamToken")
    if not org_id or not token:
        reason = f"{ACCOUNT_VERIFIED} without its workspace or its token"
        return [
            UnreadableEvent(
                reason=reason,
                id=delivery_id,
                raw=masked_items(payload),
                **origin,
            )
        ]
    scopes = first(payload, ("scopes",))
    known_scopes = scopes if isinstance(scopes, list) else []
    return [
        AccountVerified(
            org_id=org_id,
            team_token=Secret(token),
            owner_email=text(payload, "ownerEmail"),
            scopes=tuple(scope for scope in known_scopes if isinstance(scope, str)),
            verified_at=moment(payload, "verifiedAt"),
            delivery_id=delivery_id,
            raw=payload,
            **origin,
        )
    ]


def parse_waiting(waiting: WaitingMessage) -> list[InboundEvent]:
    """
    Read an item of the waiting queue.

    Returns:
        The event; a message of ours that failed is a :class:`~buttdial_sync.StatusUpdate`.
    """
    if waiting.direction == "outbound":
        return [_failed_outbound(waiting)]
    # What else the server says about it, such as an email's subject, is only in the raw item.
    raw = waiting.raw if isinstance(waiting.raw, Mapping) else {}
    fields = {
        "from": waiting.from_,
        "to": waiting.to,
        "body": waiting.body,
        "mediaUrl": waiting.media_url,
        "channel": waiting.channel,
        "agentId": waiting.agent_id,
        "createdAt": waiting.created_at,
        "externalId": waiting.external_id,
        **raw,
        "type": "message",
        # Pushes carry the provider's id only; items of the queue carry the queue's id too. The
        # provider's comes first, so that a message that was pushed and waited is known again.
        "messageId": waiting.external_id or waiting.id,
    }
    return [attrs.evolve(event, raw=waiting.raw) for event in parse_native(fields, _QUEUE)]


def _failed_outbound(waiting: WaitingMessage) -> StatusUpdate:
    details = waiting.error_details
    return StatusUpdate(
        kind=OUTBOUND_FAILED,
        detail=details if isinstance(details, str) else waiting.reason,
        id=waiting.external_id or waiting.id,
        channel=waiting.channel,
        agent_id=waiting.agent_id,
        recipient=waiting.to,
        text=waiting.body,
        timestamp=waiting.created_at,
        raw=waiting.raw,
        **_QUEUE,
    )


def _event(payload: Fields, origin: Origin) -> InboundEvent | None:
    kind, status = text(payload, "type"), text(payload, "status")
    message_sid = identifier(payload, "messageId", "messageSid", "id")
    # Receipts come under several types, and messages may have a status too: both must fit.
    if kind != "message" and status in STATUSES and message_sid:
        return _receipt(payload, message_sid, status, origin)
    if kind in _NO_MESSAGE:
        return _status_update(payload, status, origin)
    if is_ours(payload):
        return None
    if kind == "message":
        return _message(payload, origin)
    # Account events have credentials in them: they are read from signed webhooks only.
    has_sender = first(payload, ("from", "sender")) is not None
    return _message(payload, origin) if has_sender and text(payload, "event") is None else None


def _receipt(payload: Fields, message_sid: str, status: str, origin: Origin) -> DeliveryReceipt:
    return DeliveryReceipt(
        message_sid=message_sid,
        status=status,
        channel=text(payload, "channel"),
        recipient=identifier(payload, "to", "recipient"),
        thread_id=identifier(payload, "threadId"),
        entity_id=identifier(payload, "entityId"),
        idempotency_key=text(payload, "idempotencyKey"),
        timestamp=moment(payload, "timestamp"),
        error_code=identifier(payload, "errorCode", "code"),
        error=text(payload, "error", "errorMessage", "detail"),
        raw=payload,
        **origin,
    )


def _status_update(payload: Fields, status: str | None, origin: Origin) -> StatusUpdate | None:
    kind = text(payload, "kind", "event") or status
    if not kind:
        return None
    return StatusUpdate(
        kind=kind,
        detail=text(payload, "detail", "message", "reason", "error"),
        id=identifier(payload, "id"),
        channel=text(payload, "channel"),
        agent_id=identifier(payload, "agentId"),
        timestamp=moment(payload, "timestamp"),
        raw=payload,
        **origin,
    )


def _message(payload: Fields, origin: Origin) -> InboundMessage:
    sender = identifier(payload, "from", "sender")
    if not sender:
        raise MalformedError("it has no sender")
    body, html = text(payload, "body", "text"), text(payload, "html")
    subject, url = text(payload, "subject"), text(payload, "mediaUrl")
    attachments = _attachments(payload)
    transcription = _transcription(payload)
    if not (body or html or subject or url or attachments or transcription):
        raise MalformedError("it has no content")
    media_type, mime_type = _media_types(payload)
    group_id = identifier(payload, "groupId")
    return InboundMessage(
        id=_id_of(payload),
        sender=sender,
        channel=text(payload, "channel") or _DEFAULT_CHANNEL,
        text=body or "",
        # The waiting queue has the address of a picture or a document, but not its type.
        type=(media_type or "media") if url else "text",
        to=identifier(payload, "to"),
        external_id=identifier(payload, "externalId"),
        agent_id=identifier(payload, "agentId"),
        agent_name=text(payload, "agentName"),
        agent_gender=text(payload, "agentGender"),
        sender_name=text(payload, "senderName"),
        sender_sid=identifier(payload, "senderSid"),
        subject=subject,
        html=html,
        media_url=url,
        media_type=media_type,
        mime_type=mime_type,
        file_name=text(payload, "fileName"),
        attachments=attachments,
        is_voice_message=flag(payload, "isVoiceMessage"),
        voice_transcription=transcription,
        is_group=flag(payload, "isGroup") or group_id is not None,
        group_id=group_id,
        group_name=text(payload, "groupName"),
        reply_to=identifier(payload, "replyTo"),
        session_id=identifier(payload, "sessionId"),
        session=mapping(payload, "session") or None,
        thread_id=identifier(payload, "threadId"),
        received_at=moment(payload, "timestamp", "createdAt"),
        raw=payload,
        **origin,
    )


def _media_types(payload: Fields) -> tuple[str | None, str | None]:
    """Return what kind of media it is, and its MIME type; one server sends the latter for both."""
    media_type, mime_type = text(payload, "mediaType"), text(payload, "mimeType")
    if media_type and "/" in media_type:
        mime_type = mime_type or media_type
        family = media_type.partition("/")[0].lower()
        media_type = family if family in {"image", "audio", "video"} else "document"
    return media_type or None, mime_type or None


def _transcription(payload: Fields) -> str | None:
    details = mapping(payload, "voiceTranscription")
    return text(details, "text") if details else text(payload, "voiceTranscription")


def _attachments(payload: Fields) -> tuple[Attachment, ...]:
    items = first(payload, ("attachments",))
    return tuple(
        Attachment(
            filename=text(item, "filename", "fileName"),
            content_type=text(item, "contentType"),
            size=whole_number(item, "size"),
            url=text(item, "url"),
            raw=item,
        )
        for item in (items[:_MOST_ATTACHMENTS] if isinstance(items, list) else ())
        if isinstance(item, Mapping)
    )


def _warn_of_unreadable_parts(payload: Fields, message_id: str | None) -> None:
    wrong = wrong_texts(payload, "channel", "body", "text", "html", "subject", "mediaUrl")
    items = first(payload, ("attachments",))
    if items is not None and not (
        isinstance(items, list)
        and len(items) <= _MOST_ATTACHMENTS
        and all(isinstance(item, Mapping) for item in items)
    ):
        wrong.append("attachments")
    if wrong:
        logger.warning("message %.80r has parts that cannot be read: %s", message_id, wrong)


def _id_of(payload: Fields) -> str | None:
    return identifier(payload, "messageId", "id", "externalId")
