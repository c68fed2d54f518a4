"""The outgoing messages."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models

_STATUSES = ("pending", "delivered", "dead", "dismissed")
_NEEDED = ("recipient", "body", "channel", "agent_name")
_OPTIONAL = (
    "idempotency_key",
    "thread_id",
    "entity_id",
    "reply_msg_id",
    "media_url",
    "subject",
    "html",
    "template_id",
    "template_vars",
    "sender_sid",
    "sender_name",
    "language",
    "fallback_channels",
    "scheduled_at",
    "target_gender",
)
_OPTIONAL_TIMES = ("resolved_at", "attempt_started_at", "leased_until")


class Migration(migrations.Migration):
    """Creates their table."""

    dependencies: ClassVar[list[Any]] = [("buttdial_sync", "0001_initial")]

    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                *((name, models.TextField()) for name in _NEEDED),
                ("agent_id", models.TextField(null=True)),
                ("agent_token", models.TextField(editable=False)),
                *((name, models.TextField(null=True)) for name in _OPTIONAL),
                ("retry_count", models.IntegerField()),
                ("max_retries", models.IntegerField()),
                ("last_error", models.TextField(null=True)),
                (
                    "status",
                    models.CharField(max_length=16, choices=[(each, each) for each in _STATUSES]),
                ),
                ("message_sid", models.TextField(null=True)),
                ("created_at", models.DateTimeField()),
                ("next_retry_at", models.DateTimeField()),
                *((name, models.DateTimeField(null=True)) for name in _OPTIONAL_TIMES),
            ],
            options={
                "verbose_name": "outgoing message",
                "verbose_name_plural": "outgoing messages",
                "indexes": [
                    models.Index(
                        fields=["status", "next_retry_at", "created_at"],
                        name="buttdial_sync_outbox_due",
                    ),
                    models.Index(fields=["created_at", "id"], name="buttdial_sync_outbox_new"),
                ],
            },
        ),
    ]
