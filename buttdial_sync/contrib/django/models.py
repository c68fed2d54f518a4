"""The tables of the app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from django.db import models
from django.db.models.functions import Coalesce

from buttdial_sync.ailoop.questions import QUESTION_STATUSES
from buttdial_sync.inbound.inbox import INBOX_STATUSES
from buttdial_sync.models.failed import FAILED_STATUSES


class Delivery(models.Model):
    """
    Something that came in and was, or is being, handed to a handler.

    Attributes:
        key: The event and the handler.
        leased_until: When the claim ends, unless it is done before.
        done_at: When it was handed over, or None.
        claim_token: Distinguishes the claims of a delivery. None in rows of the release before it:
            workers of both may run at once while a new version is rolled out.
    """

    key = models.CharField(max_length=255, primary_key=True)
    leased_until = models.DateTimeField(db_index=True)
    done_at = models.DateTimeField(null=True)
    claim_token = models.CharField(max_length=32, null=True)

    class Meta:
        """Names for people."""

        verbose_name = "delivery"
        verbose_name_plural = "deliveries"

    def __str__(self) -> str:
        return str(self.key)


def _choices(statuses: Sequence[str]) -> list[tuple[str, str]]:
    return [(status, status) for status in statuses]


class _Row(models.Model):
    """What the rows of all stores have in common."""

    id = models.CharField(max_length=255, primary_key=True)
    status = models.CharField(max_length=16)
    created_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        """A base."""

        abstract = True

    def __str__(self) -> str:
        return str(self.id)


class _Work(_Row):
    """What rows have in common that are worked on, perhaps in several attempts."""

    retry_count = models.IntegerField()
    attempt_number = models.IntegerField()
    last_error = models.TextField(null=True)
    next_retry_at = models.DateTimeField()
    leased_until = models.DateTimeField(null=True)

    class Meta:
        """A base."""

        abstract = True


class OutboxMessage(_Work):
    """
    A message that waits to be sent, or was; the fields are those of ``FailedMessage``.

    Change rows through :class:`~buttdial_sync.contrib.django.repository.DatabaseRepository`.

    Attributes:
        attempt_number, priority, seconds_waited: None in rows of the release before it: workers of
            both may run at once while a new version is rolled out.
        leased_until: Until when others must not fetch it, or None.
        unique_key: Made of the agent and its idempotency key, so that there is one row for both.
    """

    recipient = models.TextField()
    body = models.TextField()
    channel = models.TextField()
    agent_name = models.TextField()
    agent_id = models.TextField(null=True)
    agent_token = models.TextField(editable=False)
    idempotency_key = models.TextField(null=True)
    thread_id = models.TextField(null=True)
    entity_id = models.TextField(null=True)
    reply_msg_id = models.TextField(null=True)
    media_url = models.TextField(null=True)
    subject = models.TextField(null=True)
    html = models.TextField(null=True)
    template_id = models.TextField(null=True)
    template_vars = models.TextField(null=True)
    sender_sid = models.TextField(null=True)
    sender_name = models.TextField(null=True)
    language = models.TextField(null=True)
    fallback_channels = models.TextField(null=True)
    scheduled_at = models.TextField(null=True)
    target_gender = models.TextField(null=True)
    attempt_number = models.IntegerField(null=True, default=0)
    max_retries = models.IntegerField()
    status = models.CharField(max_length=16, choices=_choices(FAILED_STATUSES))
    message_sid = models.TextField(null=True)
    attempt_started_at = models.DateTimeField(null=True)
    receipt_status = models.TextField(null=True)
    receipt_at = models.DateTimeField(null=True)
    receipt_error = models.TextField(null=True)
    priority = models.IntegerField(null=True, default=0)
    ordering_key = models.CharField(max_length=255, null=True)
    expires_at = models.DateTimeField(null=True)
    seconds_waited = models.IntegerField(null=True, default=0)
    unique_key = models.CharField(max_length=255, null=True, editable=False)

    class Meta:
        """Names for people, and what the loop and the admin page look up."""

        verbose_name = "outgoing message"
        verbose_name_plural = "outgoing messages"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                Coalesce("agent_id", models.Value("")),
                Coalesce("priority", models.Value(0)),
                "next_retry_at",
                "created_at",
                condition=models.Q(status="pending"),
                name="buttdial_sync_outbox_turns",
            ),
            models.Index(
                fields=["ordering_key", "created_at"],
                condition=models.Q(status="pending", ordering_key__isnull=False),
                name="buttdial_sync_outbox_ordered",
            ),
            models.Index(fields=["created_at", "id"], name="buttdial_sync_outbox_new"),
            models.Index(fields=["status", "created_at", "id"], name="buttdial_sync_outbox_listed"),
            models.Index(fields=["status", "resolved_at"], name="buttdial_sync_outbox_resolved"),
            models.Index(fields=["message_sid"], name="buttdial_sync_outbox_sid"),
            models.Index(fields=["idempotency_key"], name="buttdial_sync_outbox_key"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["unique_key"], name="buttdial_sync_outbox_once")
        ]

    def __str__(self) -> str:
        return f"{self.channel} to {self.recipient}"


class OutboxReceipt(_Row):
    """
    A receipt that came before the answer that tells its message's id.

    Attributes:
        id: The message's id on the server.
        resolved_at: When it came; it is deleted a day later.
    """

    receipt_status = models.TextField(null=True)
    receipt_at = models.DateTimeField(null=True)
    receipt_error = models.TextField(null=True)

    class Meta:
        """Names for people, and what purging looks up."""

        verbose_name = "early receipt"
        verbose_name_plural = "early receipts"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["status", "resolved_at"], name="buttdial_sync_receipt_resolved"),
        ]

    def __str__(self) -> str:
        return f"{self.receipt_status} of {self.id}"


class OutboxPause(_Row):
    """
    An agent whose messages wait because a person wants it, or waited.

    Change rows through ``pause`` and ``resume`` of
    :class:`~buttdial_sync.contrib.django.repository.DatabaseRepository`.

    Attributes:
        id: ``"agent:"`` and the agent's id, or ``"all"``.
        status: ``"paused"`` or ``"resumed"``.
    """

    reason = models.TextField(null=True)

    class Meta:
        """Names for people, and what the loop looks up."""

        verbose_name = "pause of an agent"
        verbose_name_plural = "pauses of agents"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["status", "created_at", "id"], name="buttdial_sync_pause_listed"),
        ]


class InboxEvent(_Work):
    """
    An event that came in; see :class:`~buttdial_sync.StoredEvent`.

    Change rows through :class:`~buttdial_sync.contrib.django.inbox.DatabaseInbox`.

    Attributes:
        payload: The event, as JSON.
        order_key: What events have in common that are handled in their order, such as the sender.
        leased_until: Until when others must not handle it, or None.
    """

    kind = models.CharField(max_length=255)
    payload = models.TextField()
    order_key = models.CharField(max_length=255)
    channel = models.TextField(null=True)
    sender = models.TextField(null=True)
    agent_id = models.TextField(null=True)
    status = models.CharField(max_length=16, choices=_choices(INBOX_STATUSES))
    first_failed_at = models.DateTimeField(null=True)

    class Meta:
        """Names for people, and what the workers and the admin page look up."""

        verbose_name = "incoming event"
        verbose_name_plural = "incoming events"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["status", "next_retry_at", "created_at"], name="buttdial_sync_inbox_due"
            ),
            models.Index(fields=["created_at", "id"], name="buttdial_sync_inbox_new"),
            models.Index(fields=["status", "created_at", "id"], name="buttdial_sync_inbox_listed"),
            models.Index(fields=["status", "resolved_at"], name="buttdial_sync_inbox_resolved"),
            models.Index(
                fields=["order_key", "status", "created_at"], name="buttdial_sync_inbox_order"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} from {self.sender}" if self.sender else str(self.kind)


class AiloopQuestion(_Work):
    """
    A question to a person for whose answer nobody waits; see :doc:`ailoop`.

    Change rows through :class:`~buttdial_sync.contrib.django.questions.DatabaseQuestions`.

    Attributes:
        prompt: What was asked, as JSON.
        about: What the host gave with it, as JSON.
        expires_at: When there will be no answer any more.
        reply: The answer, as JSON, or None.
        leased_until: Until when others must not hand it over, or None.
    """

    prompt = models.TextField()
    about = models.TextField()
    expires_at = models.DateTimeField()
    reply = models.TextField(null=True)
    status = models.CharField(max_length=16, choices=_choices(QUESTION_STATUSES))

    class Meta:
        """Names for people, and what the workers and the admin page look up."""

        verbose_name = "question to a person"
        verbose_name_plural = "questions to people"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["status", "next_retry_at", "created_at"], name="buttdial_sync_question_due"
            ),
            models.Index(fields=["created_at", "id"], name="buttdial_sync_question_new"),
            models.Index(
                fields=["status", "created_at", "id"], name="buttdial_sync_question_listed"
            ),
            models.Index(fields=["status", "resolved_at"], name="buttdial_sync_question_done"),
        ]
