"""Sending a message: the operation, its arguments, and the meaning of its answer."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, get_type_hints

import attrs

from buttdial_sync.calls.arguments import check_argument, json_value
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.errors import ArgumentValueError, ProtocolError, error_from_tool_answer
from buttdial_sync.models.message import Message
from buttdial_sync.models.sending import SendResult

_ID_KEYS = ("messageId", "sid", "message_sid", "externalId")


def check_accepted(answer: Any) -> None:
    """
    Accept a confirmation; raise for a refusal, and for anything else.

    Raises:
        ToolError: It is a refusal.
        ProtocolError: It is neither; the message may have been sent.
    """
    if isinstance(answer, Mapping):
        success = answer.get("success")
        if success is not False and (sid_of(answer) or success is True):
            return
        if success is False or answer.get("error") or answer.get("errors"):
            raise error_from_tool_answer(answer)
    raise ProtocolError(
        "the server answered, but neither with a message id nor with an error",
        stage="parse",
        outcome="unknown",
        remediation="Look at raw, and find out whether the message arrived before sending again.",
        body=answer,
    )


SEND = ToolOperation(
    "comms_send_message", SendResult, shared=("to", "body", "channel"), check=check_accepted
)


def check_message(message: Message) -> None:
    """
    Check the fields of a message against their types.

    Raises:
        ArgumentTypeError: One has the wrong type.
        ArgumentValueError: One has an invalid value, or there is nothing to send.
    """
    for field in attrs.fields(Message):
        value = getattr(message, field.name)
        if value is None and field.default is None:
            continue
        check_argument(field.name, value, _hints()[field.name], required=field.name == "to")
    if message.subject and ("\n" in message.subject or "\r" in message.subject):
        # Where a server writes it into a mail's head as it is, the rest would be headers.
        raise ArgumentValueError("subject must be a single line")
    if not (message.body or message.media_url or message.html or message.template_id):
        raise ArgumentValueError(
            "there is nothing to send: neither body nor media_url",
            remediation="Give body for a text, media_url for media.",
        )


def arguments_of(message: Message) -> dict[str, Any]:
    """Return the tool's arguments by their names on the wire, with a key made if there is none."""
    wire = {
        field.metadata["wire"]: json_value(value, field.name)
        for field in attrs.fields(Message)
        if (value := getattr(message, field.name)) is not None
    }
    if "media" in wire:
        wire["media"] = [wire["media"]]
    wire.setdefault("idempotencyKey", str(uuid.uuid4()))
    return wire


def sid_of(answer: Any) -> str | None:
    """Return the server's id of a message that it took; its name differs between servers."""
    if not isinstance(answer, Mapping):
        return None
    found = (answer.get(key) for key in _ID_KEYS)
    return next((str(sid) for sid in found if isinstance(sid, str | int) and sid), None)


@lru_cache(maxsize=1)
def _hints() -> dict[str, Any]:
    return get_type_hints(Message)
