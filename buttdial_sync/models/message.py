"""A message to a person: its fields, once for sends, rows, CSV columns and command line options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import attrs

Channel = Literal["whatsapp", "sms", "email", "line"]
CHANNELS: tuple[str, ...] = get_args(Channel)
TargetGender = Literal["male", "female", "unknown"]


@attrs.frozen(kw_only=True)
class Message:
    """A message as ``send_message`` takes it; the metadata hold the names on the wire."""

    to: str = attrs.field(metadata={"wire": "to"})
    body: str | None = attrs.field(default=None, metadata={"wire": "body"})
    channel: Channel = attrs.field(default="whatsapp", metadata={"wire": "channel"})
    media_url: str | None = attrs.field(default=None, metadata={"wire": "media"})
    sender_sid: str | None = attrs.field(default=None, metadata={"wire": "senderSid"})
    sender_name: str | None = attrs.field(default=None, metadata={"wire": "senderName"})
    language: str | None = attrs.field(default=None, metadata={"wire": "language"})
    fallback_channels: Sequence[str] | None = attrs.field(
        default=None, metadata={"wire": "fallbackChannels"}
    )
    scheduled_at: str | None = attrs.field(default=None, metadata={"wire": "scheduledAt"})
    thread_id: str | None = attrs.field(default=None, metadata={"wire": "threadId"})
    entity_id: str | None = attrs.field(default=None, metadata={"wire": "entityId"})
    reply_msg_id: str | None = attrs.field(default=None, metadata={"wire": "replyMsgId"})
    idempotency_key: str | None = attrs.field(default=None, metadata={"wire": "idempotencyKey"})
    subject: str | None = attrs.field(default=None, metadata={"wire": "subject"})
    html: str | None = attrs.field(default=None, metadata={"wire": "html"})
    template_id: str | None = attrs.field(default=None, metadata={"wire": "templateId"})
    template_vars: Mapping[str, str] | None = attrs.field(
        default=None, metadata={"wire": "templateVars"}
    )
    target_gender: TargetGender | None = attrs.field(
        default=None, metadata={"wire": "targetGender"}
    )


_OF_A_SEND = {"to", "idempotency_key"}
CONTENT = tuple(each.name for each in attrs.fields(Message) if each.name not in _OF_A_SEND)
"""The fields that a message and a stored row have under the same name."""
