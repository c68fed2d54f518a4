"""Turns of agents, priorities, order, expiry, and the pauses of an operator."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models
from django.db.models.functions import Coalesce


class Migration(migrations.Migration):
    """Adds the columns, their indexes and the table of pauses."""

    dependencies: ClassVar[list[Any]] = [("buttdial_sync", "0007_ailoop_questions")]

    operations: ClassVar[list[Any]] = [
        migrations.AddField("outboxmessage", "priority", models.IntegerField(default=0, null=True)),
        migrations.AddField(
            "outboxmessage", "ordering_key", models.CharField(max_length=255, null=True)
        ),
        migrations.AddField("outboxmessage", "expires_at", models.DateTimeField(null=True)),
        migrations.AddField(
            "outboxmessage", "seconds_waited", models.IntegerField(default=0, null=True)
        ),
        migrations.AddField(
            "outboxmessage",
            "unique_key",
            models.CharField(editable=False, max_length=255, null=True),
        ),
        migrations.RemoveIndex("outboxmessage", "buttdial_sync_outbox_due"),
        migrations.AddIndex(
            "outboxmessage",
            models.Index(
                Coalesce("agent_id", models.Value("")),
                Coalesce("priority", models.Value(0)),
                models.F("next_retry_at"),
                models.F("created_at"),
                condition=models.Q(("status", "pending")),
                name="buttdial_sync_outbox_turns",
            ),
        ),
        migrations.AddIndex(
            "outboxmessage",
            models.Index(
                condition=models.Q(("ordering_key__isnull", False), ("status", "pending")),
                fields=["ordering_key", "created_at"],
                name="buttdial_sync_outbox_ordered",
            ),
        ),
        migrations.AddConstraint(
            "outboxmessage",
            models.UniqueConstraint(fields=("unique_key",), name="buttdial_sync_outbox_once"),
        ),
        migrations.CreateModel(
            name="OutboxPause",
            fields=[
                ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("status", models.CharField(max_length=16)),
                ("created_at", models.DateTimeField()),
                ("resolved_at", models.DateTimeField(null=True)),
                ("reason", models.TextField(null=True)),
            ],
            options={
                "verbose_name": "pause of an agent",
                "verbose_name_plural": "pauses of agents",
                "indexes": [
                    models.Index(
                        fields=["status", "created_at", "id"], name="buttdial_sync_pause_listed"
                    )
                ],
            },
        ),
    ]
