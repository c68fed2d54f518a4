"""The inbox."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models

_STATUSES = ("pending", "handled", "dead", "dismissed")


class Migration(migrations.Migration):
    """Creates its table."""

    dependencies: ClassVar[list[Any]] = [("buttdial_sync", "0005_receipts")]

    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="InboxEvent",
            fields=[
                ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("kind", models.CharField(max_length=255)),
                ("payload", models.TextField()),
                ("order_key", models.CharField(max_length=255)),
                ("channel", models.TextField(null=True)),
                ("sender", models.TextField(null=True)),
                ("agent_id", models.TextField(null=True)),
                (
                    "status",
                    models.CharField(max_length=16, choices=[(each, each) for each in _STATUSES]),
                ),
                ("retry_count", models.IntegerField()),
                ("attempt_number", models.IntegerField()),
                ("last_error", models.TextField(null=True)),
                ("created_at", models.DateTimeField()),
                ("next_retry_at", models.DateTimeField()),
                ("resolved_at", models.DateTimeField(null=True)),
                ("first_failed_at", models.DateTimeField(null=True)),
                ("leased_until", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "incoming event",
                "verbose_name_plural": "incoming events",
                "indexes": [
                    models.Index(
                        fields=["status", "next_retry_at", "created_at"],
                        name="buttdial_sync_inbox_due",
                    ),
                    models.Index(fields=["created_at", "id"], name="buttdial_sync_inbox_new"),
                    models.Index(
                        fields=["status", "created_at", "id"], name="buttdial_sync_inbox_listed"
                    ),
                    models.Index(
                        fields=["status", "resolved_at"], name="buttdial_sync_inbox_resolved"
                    ),
                    models.Index(
                        fields=["order_key", "status", "created_at"],
                        name="buttdial_sync_inbox_order",
                    ),
                ],
            },
        ),
    ]
