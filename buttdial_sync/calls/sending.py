"""Sending a message: the operation, its arguments, and the meaning of its answer."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, get_type_hints

import attrs

from buttdial_sync.calls.arguments import Check, argument_checker, json_value, plain_text
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ProtocolError,
    error_from_tool_answer,
)
from buttdial_sync.errors.moments import parse_moment
from buttdial_sync.models.message import Message
from buttdial_sync.models.sending import SendResult

_WEB_ADDRESS = re.compile(r"https?://[^\s/]", re.IGNORECASE)
_WIRE_NAMES = {field.name: field.metadata["wire"] for field in attrs.fields(Message)}
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


def check_message(message: Message) -> Message:
    """
    Check the fields of a message against their types.

    Returns:
        The message, with texts in place of what frameworks and datetimes stand for.

    Raises:
        ArgumentTypeError: One has the wrong type.
        ArgumentValueError: One has an invalid value, or there is nothing to send.
    """
    changed: dict[str, Any] = {}
    for name, (check, is_optional) in _checks().items():
        value = getattr(message, name)
        if value is None and is_optional:
            continue
        text = _as_text(value)
        check(text)
        if text is not value:
            changed[name] = text
    if changed:
        message = attrs.evolve(message, **changed)
    _check_single_line("subject", message.subject)
    _check_single_line("sender_name", message.sender_name)
    if message.media_url and not _WEB_ADDRESS.match(message.media_url):
        raise ArgumentValueError(
            "media_url must begin with http:// or https://",
            remediation="Give an address from which the server can fetch the file.",
        )
    if isinstance(message.scheduled_at, str):
        _check_moment(message.scheduled_at)
    if not (message.body or message.media_url or message.html or message.template_id):
        raise ArgumentValueError(
            "there is nothing to send: neither body nor media_url",
            remediation="Give body for a text, media_url for media.",
        )
    return message


def arguments_of(message: Message) -> dict[str, Any]:
    """Return the tool's arguments by their names on the wire, with a key made if there is none."""
    wire = {
        wire_name: json_value(value, name)
        for name, wire_name in _WIRE_NAMES.items()
        if (value := getattr(message, name)) is not None
    }
    if "media" in wire:
        wire["media"] = [wire["media"]]
    if "idempotencyKey" not in wire:
        wire["idempotencyKey"] = str(uuid.uuid4())
    return wire


def sid_of(answer: Any) -> str | None:
    """Return the server's id of a message that it took; its name differs between servers."""
    if not isinstance(answer, Mapping):
        return None
    found = (answer.get(key) for key in _ID_KEYS)
    return next((str(sid) for sid in found if isinstance(sid, (str, int)) and sid), None)


def _check_single_line(name: str, text: str | None) -> None:
    # Where a server writes it into a mail's head as it is, the rest would be headers.
    if text and ("\n" in text or "\r" in text):
        raise ArgumentValueError(f"{name} must be a single line")


def _as_text(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: plain_text(item) for key, item in value.items()}
    return _moment_text(value) if isinstance(value, datetime) else plain_text(value)


def _moment_text(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ArgumentTypeError(
            "scheduled_at must have a time zone",
            remediation="Write datetime.now(timezone.utc), or Django's timezone.now().",
        )
    return moment.isoformat()


def _check_moment(text: str) -> None:
    try:
        parse_moment(text)
    except ValueError:
        raise ArgumentValueError(
            "scheduled_at must be ISO 8601, as in 2026-12-24T18:00:00+01:00",
            remediation="Give a datetime with a time zone.",
        ) from None


@cache
def _checks() -> dict[str, tuple[Check, bool]]:
    """Return the check of each field, and whether it may be left out."""
    hints = get_type_hints(Message)
    return {
        field.name: (
            argument_checker(field.name, hints[field.name], required=field.name == "to"),
            field.default is None,
        )
        for field in attrs.fields(Message)
    }
