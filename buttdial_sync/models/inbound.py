"""The events that reach the host: messages, receipts, status updates, verified accounts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

import attrs

Source: TypeAlias = Literal[
    "whatsapp_webhook", "butt_dial_webhook", "account_webhook", "push", "queue"
]
"""How an event reached this process."""


@attrs.frozen(kw_only=True)
class Attachment:
    """
    One of a message's attachments.

    Attributes:
        filename: Its name.
        content_type: Its MIME type.
        size: In bytes.
        url: Its address.
    """

    filename: str | None = None
    content_type: str | None = None
    size: int | None = None
    url: str | None = None
    raw: Any = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Location:
    """
    A place that somebody sent.

    Attributes:
        latitude: In degrees.
        longitude: In degrees.
        name: What it is called.
        address: Where it is.
    """

    latitude: float
    longitude: float
    name: str | None = None
    address: str | None = None
    raw: Any = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class InboundMessage:
    """
    A message from a person, in whichever way it came.

    It has a sender and a content; what the server did not say, or said in a form that it should not
    have, is None and stays in ``raw``. Text is always valid Unicode; ``raw`` is as it came.

    Attributes:
        id: The message's id.
        sender: Who sent it: number, address or handle.
        channel: ``"whatsapp"``, ``"sms"``, ``"email"``, ``"line"``, ``"voice"``, …
        text: Its text, caption, or the title of what was chosen; ``""`` when it has none.
        type: ``"text"``, ``"image"``, ``"audio"``, ``"video"``, ``"document"``, ``"sticker"``,
            ``"location"``, ``"contacts"``, ``"reaction"``, ``"button"``, ``"interactive"``, or what
            the server calls it.
        to: Which of our numbers or addresses it was sent to.
        external_id: The provider's id, where it is given in addition to ``id`` or instead of it.
        agent_id: The agent that it is for.
        agent_name: That agent's name.
        agent_gender: How that agent speaks of itself.
        sender_name: The name that the sender goes by.
        sender_sid: The server's own handle of the sender.
        subject: Of an email.
        html: The HTML body of an email.
        media_url: Address of the picture, sound or document.
        media_id: WhatsApp's id of the media, which its API turns into an address.
        media_type: ``"image"``, ``"audio"``, ``"video"``, ``"document"`` or ``"sticker"``.
        mime_type: As in ``"image/jpeg"``.
        file_name: Of a document.
        attachments: All attachments, where there may be several.
        is_voice_message: Whether it was spoken.
        voice_transcription: What was spoken.
        is_group: Whether it was sent to a group.
        group_id: Which group.
        group_name: The group's name.
        reply_to: The id of the message that this one answers.
        reply_id: The id of the button or row that was chosen.
        emoji: Of a reaction; ``""`` takes one back.
        reacted_to: The id of the message that a reaction is to.
        location: The place that was sent.
        contacts: The address cards that were sent, as they came.
        session_id: The conversation's id on the server.
        session: What the server says about the conversation.
        thread_id: Your own id of the conversation, as given when sending.
        received_at: When it was sent or came (UTC).
        source: How it came: ``"whatsapp_webhook"``, ``"butt_dial_webhook"``, ``"push"`` or
            ``"queue"``; None if the host read it with :meth:`InboundHandler.parse`.
        verified: Whether its origin is proven: by a signature, or because it came over the
            client's own connection to the server.
    """

    id: str | None = None
    sender: str
    channel: str
    text: str = ""
    type: str = "text"
    to: str | None = None
    external_id: str | None = None
    agent_id: str | None = None
    agent_name: str | None = None
    agent_gender: str | None = None
    sender_name: str | None = None
    sender_sid: str | None = None
    subject: str | None = None
    html: str | None = None
    media_url: str | None = None
    media_id: str | None = None
    media_type: str | None = None
    mime_type: str | None = None
    file_name: str | None = None
    attachments: tuple[Attachment, ...] = ()
    is_voice_message: bool = False
    voice_transcription: str | None = None
    is_group: bool = False
    group_id: str | None = None
    group_name: str | None = None
    reply_to: str | None = None
    reply_id: str | None = None
    emoji: str | None = None
    reacted_to: str | None = None
    location: Location | None = None
    contacts: tuple[Mapping[str, Any], ...] = attrs.field(default=(), hash=False)
    session_id: str | None = None
    session: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    thread_id: str | None = None
    received_at: datetime | None = None
    source: Source | None = None
    verified: bool = False
    raw: Any = attrs.field(default=None, eq=False, repr=False)

    @property
    def body(self) -> str:
        """The text, by its name on the wire."""
        return self.text


@attrs.frozen(kw_only=True)
class DeliveryReceipt:
    """
    What became of a message of ours.

    Attributes:
        message_sid: The message's id, as sending it returned it.
        status: ``"queued"``, ``"sent"``, ``"delivered"``, ``"read"``, ``"failed"`` or
            ``"undelivered"``.
        channel: As in ``"whatsapp"``.
        recipient: Whom it was sent to.
        thread_id, entity_id: Your own ids, as given when sending, where the server sends them back.
        idempotency_key: The key that the message went out with, where the server sends it back.
        timestamp: When that happened (UTC).
        error_code: Why it failed, as a code.
        error: Why it failed, in words.
        source: As in :class:`InboundMessage`.
        verified: As in :class:`InboundMessage`.
    """

    message_sid: str
    status: str
    channel: str | None = None
    recipient: str | None = None
    thread_id: str | None = None
    entity_id: str | None = None
    idempotency_key: str | None = None
    timestamp: datetime | None = None
    error_code: str | None = None
    error: str | None = None
    source: Source | None = None
    verified: bool = False
    raw: Any = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class StatusUpdate:
    """
    News that is neither a message nor a receipt, such as a channel that lost its connection.

    Attributes:
        kind: What it is about; ``"outbound_failed"`` is a message of ours that the server had to
            put into the waiting queue.
        detail: The same in words.
        id: The id of the news, or of the message that failed.
        channel: The channel that it is about.
        agent_id: The agent that it is about.
        recipient: Whom a failed message was for.
        text: The text of a failed message.
        timestamp: When it happened (UTC).
        source: As in :class:`InboundMessage`.
        verified: As in :class:`InboundMessage`.
    """

    kind: str
    detail: str | None = None
    id: str | None = None
    channel: str | None = None
    agent_id: str | None = None
    recipient: str | None = None
    text: str | None = None
    timestamp: datetime | None = None
    source: Source | None = None
    verified: bool = False
    raw: Any = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class AccountVerified:
    """
    A workspace's owner has confirmed it; here is the credential.

    Attributes:
        org_id: The workspace.
        team_token: Its credential. Not shown by ``repr``.
        owner_email: The owner's address.
        scopes: What the credential may do.
        verified_at: When it was confirmed (UTC).
        delivery_id: The id of this delivery; the same when it is repeated.
        source: ``"account_webhook"``.
        verified: Whether it was signed.
    """

    org_id: str
    team_token: str = attrs.field(repr=False)
    owner_email: str | None = None
    scopes: tuple[str, ...] = ()
    verified_at: datetime | None = None
    delivery_id: str | None = None
    source: Source | None = None
    verified: bool = False
    raw: Any = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class UnreadableEvent:
    """
    A message or an account event that cannot be handed over as such, because a part is missing.

    A message needs a sender and a content, an account event its workspace and its credential.
    :meth:`InboundHandler.on_unreadable` and a listener's ``on_undelivered`` get it, with all that
    the server sent in ``raw``.

    Attributes:
        reason: What is missing.
        id: The id, where there is one.
        channel: The channel, where there is one.
        agent_id: The agent that it is for, where that is known.
        source: As in :class:`InboundMessage`.
        verified: As in :class:`InboundMessage`.
    """

    reason: str
    id: str | None = None
    channel: str | None = None
    agent_id: str | None = None
    source: Source | None = None
    verified: bool = False
    raw: Any = attrs.field(default=None, eq=False, repr=False)


InboundEvent: TypeAlias = (
    InboundMessage | DeliveryReceipt | StatusUpdate | AccountVerified | UnreadableEvent
)
