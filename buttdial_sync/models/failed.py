"""A message that has to be sent again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, get_args

import attrs

from buttdial_sync.errors.scrubbing import Secret

FailedStatus = Literal["pending", "delivered", "dead", "dismissed"]
FAILED_STATUSES: tuple[FailedStatus, ...] = get_args(FailedStatus)


@attrs.frozen(kw_only=True)
class FailedMessage:
    """
    A message that waits to be sent, or to be sent again, as a host's repository keeps it.

    Attributes:
        id: The row's id.
        recipient: The recipient.
        body: Its text.
        channel: ``"whatsapp"``, ``"sms"``, ``"email"`` or ``"line"``.
        agent_name: For people who look at the queue.
        agent_id: Which agent sends it.
        agent_token: Its credential. Better left empty and looked up when sending.
        idempotency_key: Made once, used for every attempt. If None, the row's id is used.
        thread_id, entity_id, reply_msg_id: As in ``send_message``.
        media_url, subject, html, template_id, template_vars: As in ``send_message``.
        sender_sid, sender_name, language, fallback_channels, scheduled_at, target_gender: As in
            ``send_message``.
        retry_count: How many attempts were begun, the first one included; it rises when an attempt
            begins, and falls back when one does not count (a limit, a refused token). A host that
            adds a message which it has tried itself decides whether that attempt counts: then 1.
        max_retries: How many attempts there may be in all: the message is given up when the attempt
            fails with which ``retry_count`` reaches it.
        attempt_number: How many attempts were begun at all, those that do not count included. It
            never falls: it is the fence that tells one attempt from another.
        last_error: Why the last attempt failed.
        status: ``"pending"``, ``"delivered"``, ``"dead"`` or ``"dismissed"``.
        message_sid: The server's id of the message, once it is delivered.
        created_at, next_retry_at, resolved_at: Aware times.
        receipt_status: What became of it after it was delivered to the server, as in
            :class:`~buttdial_sync.DeliveryReceipt`; None while there is no receipt.
        receipt_at: When that happened (aware), or when the receipt came.
        receipt_error: Why it failed, in words, or the provider's code.
        priority: Of those of an agent that are due, the ones with the highest are sent first.
        ordering_key: Messages of an agent with the same one are sent one after the other, in the
            order of their ``created_at``: one waits while an earlier one is pending, also when that
            one waits for its next attempt. One that was given up holds up nothing.
        expires_at: When it is too late to send it (aware): then it is given up. None for never.
        seconds_waited: How long it has waited for further attempts in all. Time in which its agent
            or the whole server rested is not included.
        leased_until: Until when it is kept for whoever fetched it (aware), or None.
        attempt_started_at: When an attempt began whose outcome is not known: it is still under way,
            its process died, or its answer was lost.
        unreadable: Why its row cannot be read, as after an edit by hand; None for all others. Such
            a message is a dead letter with what could be read. It is not a column.
    """

    id: str
    recipient: str
    body: str
    channel: str = "whatsapp"
    agent_name: str = ""
    agent_id: str | None = None
    agent_token: str = attrs.field(
        default="", repr=False, converter=attrs.converters.optional(Secret)
    )
    idempotency_key: str | None = None
    thread_id: str | None = None
    entity_id: str | None = None
    reply_msg_id: str | None = None
    media_url: str | None = None
    subject: str | None = None
    html: str | None = None
    template_id: str | None = None
    template_vars: Mapping[str, str] | None = None
    sender_sid: str | None = None
    sender_name: str | None = None
    language: str | None = None
    fallback_channels: tuple[str, ...] | None = None
    scheduled_at: str | None = None
    target_gender: str | None = None
    retry_count: int = 0
    max_retries: int = 5
    last_error: str | None = None
    status: FailedStatus = "pending"
    message_sid: str | None = None
    created_at: datetime | None = None
    next_retry_at: datetime | None = None
    resolved_at: datetime | None = None
    attempt_started_at: datetime | None = None
    attempt_number: int = 0
    receipt_status: str | None = None
    receipt_at: datetime | None = None
    receipt_error: str | None = None
    priority: int = 0
    ordering_key: str | None = None
    expires_at: datetime | None = None
    seconds_waited: int = 0
    leased_until: datetime | None = attrs.field(default=None, eq=False)
    unreadable: str | None = None

    @property
    def attempts(self) -> int:
        """How many attempts were begun, as ``retry_count``, by a name that says what it counts."""
        return self.retry_count
