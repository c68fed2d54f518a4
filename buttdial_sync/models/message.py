"""A message to a person: its fields, once for sends, rows, CSV columns and command line options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, get_args

import attrs

Channel = Literal["whatsapp", "sms", "email", "line"]
"""The channels of a message."""
CHANNELS: tuple[str, ...] = get_args(Channel)
TargetGender = Literal["male", "female", "unknown"]


def _optional(wire: str, *, help: str | None = None) -> Any:  # noqa: A002 - as click calls it
    return attrs.field(default=None, metadata={"wire": wire, "help": help})


@attrs.frozen(kw_only=True)
class Message:
    """
    A message as ``send_message`` takes it.

    The fields' metadata hold the names on the wire, and a help text for those that are one text:
    these are options on the command line and columns of a CSV file.
    """

    to: str = attrs.field(
        metadata={"wire": "to", "help": "E.164 number, as in +14155550123, or email address."}
    )
    body: str | None = _optional("body", help="The text.")
    channel: Channel = attrs.field(
        default="whatsapp", metadata={"wire": "channel", "help": "How to send it."}
    )
    media_url: str | None = _optional("media", help="URL of a picture, sound or document.")
    sender_sid: str | None = _optional("senderSid", help="Which of the agent's senders to use.")
    sender_name: str | None = _optional("senderName", help="Name shown to the recipient.")
    language: str | None = _optional("language", help="Of the text, as in en.")
    fallback_channels: Sequence[str] | None = _optional("fallbackChannels")
    scheduled_at: datetime | str | None = _optional(
        "scheduledAt", help="When to send it (ISO 8601)."
    )
    thread_id: str | None = _optional("threadId", help="Your own id of the conversation.")
    entity_id: str | None = _optional("entityId", help="Your own id of the subject.")
    reply_msg_id: str | None = _optional(
        "replyMsgId", help="Id of the message that this one answers."
    )
    idempotency_key: str | None = _optional(
        "idempotencyKey",
        help="Sending again with the same key sends only once, if the server honours keys.",
    )
    subject: str | None = _optional("subject", help="Of an email.")
    html: str | None = _optional("html", help="The HTML body of an email.")
    template_id: str | None = _optional("templateId", help="The template to send.")
    template_vars: Mapping[str, str] | None = _optional("templateVars")
    target_gender: TargetGender | None = _optional(
        "targetGender", help="Of the recipient: male, female or unknown."
    )


_OF_A_SEND = {"to", "idempotency_key"}
CONTENT = tuple(each.name for each in attrs.fields(Message) if each.name not in _OF_A_SEND)
"""The fields that a message and a stored row have under the same name."""
HELP: dict[str, str] = {
    each.name: each.metadata["help"] for each in attrs.fields(Message) if each.metadata["help"]
}
"""The fields that one text can hold, as a command line or a CSV file has it, and what they mean."""
