"""Sending a message, and saying what became of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, get_type_hints

import attrs

from buttdial_sync.errors import (
    ArgumentNotSupported,
    ArgumentTypeError,
    ArgumentValueError,
    AuthError,
    ButtDialError,
    ChannelError,
    ClientClosedError,
    OutcomeUnknownError,
    ProtocolError,
    error_from_tool_answer,
)
from buttdial_sync.models.sending import Channel, SendResult
from buttdial_sync.tools.arguments import check_argument, with_line_feeds
from buttdial_sync.tools.caller import AgentCaller
from buttdial_sync.tools.operations import attempt_operation, naming_agent
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.secrets import scrub_all

SEND_TOOL = "comms_send_message"
Gender = Literal["male", "female", "unknown"]

_ID_KEYS = ("messageId", "sid", "message_sid", "externalId")
_RAISED = (AuthError, ClientClosedError, ArgumentTypeError, ArgumentNotSupported)


@attrs.frozen(kw_only=True)
class OutgoingMessage:
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
    target_gender: Gender | None = attrs.field(default=None, metadata={"wire": "targetGender"})

    def check(self) -> None:
        """
        Check the fields against their types.

        Raises:
            ArgumentTypeError: One has the wrong type.
            ArgumentValueError: One has a value that it cannot have, or there is nothing to send.
        """
        for field in attrs.fields(OutgoingMessage):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            check_argument(field.name, value, _hints()[field.name], required=field.name == "to")
        if not (self.body or self.media_url or self.html or self.template_id):
            raise ArgumentValueError(
                "there is nothing to send: neither body nor media_url",
                remediation="Give body for a text, media_url for media.",
            )

    def arguments(self) -> dict[str, Any]:
        """Return the tool's arguments, by their names on the wire."""
        wire = {
            field.metadata["wire"]: _on_the_wire(getattr(self, field.name))
            for field in attrs.fields(OutgoingMessage)
            if getattr(self, field.name) is not None
        }
        if "media" in wire:
            wire["media"] = [wire["media"]]
        wire.setdefault("idempotencyKey", str(uuid.uuid4()))
        return wire


class Sender:
    """Sends messages. Safe to share between threads."""

    def __init__(self, caller: AgentCaller) -> None:
        self._caller = caller

    def send(
        self, message: OutgoingMessage, *, agent_token: str | None, timeout: float | None
    ) -> SendResult:
        """Send a message; see :meth:`buttdial_sync.Client.send_message`."""
        delivery = _Delivery(self._caller)
        token = self._caller.token(agent_token)
        try:
            return delivery.carry_out(message, token, timeout)
        except _RAISED:
            raise
        except ButtDialError as error:
            return _result_of(error, delivery)


class _Delivery:
    """One message on its way: its key and its attempts."""

    def __init__(self, caller: AgentCaller) -> None:
        self._caller = caller
        self.key: str | None = None
        self.attempts = 0

    def carry_out(self, message: OutgoingMessage, token: str, timeout: float | None) -> SendResult:
        message.check()
        deadline = self._caller.runtime.deadline(timeout)
        arguments = message.arguments()
        self.key = arguments["idempotencyKey"]
        answer = naming_agent(
            self._caller,
            token,
            lambda: self._caller.runtime.run(
                SEND_TOOL,
                lambda: self._attempt(arguments, token, deadline),
                deadline,
                may_repeat_unknown=lambda: self._caller.honours_key(
                    SEND_TOOL, arguments, token, deadline
                ),
            ),
        )
        return SendResult(
            outcome="sent",
            message_sid=_sid(answer),
            idempotency_key=self.key,
            attempts=self.attempts,
            raw=answer,
        )

    def _attempt(self, arguments: Mapping[str, Any], token: str, deadline: Deadline) -> Any:
        self.attempts += 1
        answer = attempt_operation(self._caller, SEND_TOOL, arguments, token, deadline)
        _check_accepted(answer, token)
        return answer


@lru_cache(maxsize=1)
def _hints() -> dict[str, Any]:
    return get_type_hints(OutgoingMessage)


def _on_the_wire(value: Any) -> Any:
    if isinstance(value, str):
        return with_line_feeds(value)
    if isinstance(value, Mapping):
        return {key: _on_the_wire(item) for key, item in value.items()}
    return list(value) if isinstance(value, Sequence) else value


def _sid(answer: Any) -> str | None:
    if not isinstance(answer, Mapping):
        return None
    found = (answer.get(key) for key in _ID_KEYS)
    return next((str(sid) for sid in found if isinstance(sid, str | int) and sid), None)


def _check_accepted(answer: Any, token: str) -> None:
    """
    Tell a yes from a no, and both from something else.

    Raises:
        ToolError: It is a no.
        ProtocolError: It is neither; the message may have been sent.
    """
    if isinstance(answer, Mapping):
        success = answer.get("success")
        if success is not False and (_sid(answer) or success is True):
            return
        if success is False or answer.get("error") or answer.get("errors"):
            raise error_from_tool_answer(scrub_all(answer, [token]))
    raise ProtocolError(
        "the server answered, but neither with a message id nor with an error",
        stage="parse",
        outcome="unknown",
        remediation="Look at raw, and find out whether the message arrived before sending again.",
        body=answer,
    )


def _result_of(error: ButtDialError, delivery: _Delivery) -> SendResult:
    return SendResult(
        outcome=error.outcome,
        error=str(error),
        error_type=type(error).__name__,
        error_code=error.code,
        error_channel=error.channel if isinstance(error, ChannelError) else None,
        stage_failed=error.stage,
        remediation=OutcomeUnknownError.remedy if error.outcome == "unknown" else error.remediation,
        retry_after=error.retry_after,
        idempotency_key=delivery.key,
        attempts=delivery.attempts,
        raw=error.body,
    )
