"""What became of delivered messages, and receipts that came before their messages' ids."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Adds the columns, their indexes and the table."""

    dependencies: ClassVar[list[Any]] = [("buttdial_sync", "0004_attempt_number")]

    operations: ClassVar[list[Any]] = [
        migrations.AddField("outboxmessage", "receipt_status", models.TextField(null=True)),
        migrations.AddField("outboxmessage", "receipt_at", models.DateTimeField(null=True)),
        migrations.AddField("outboxmessage", "receipt_error", models.TextField(null=True)),
        migrations.AddIndex(
            "outboxmessage", models.Index(fields=["message_sid"], name="buttdial_sync_outbox_sid")
        ),
        migrations.AddIndex(
            "outboxmessage",
            models.Index(fields=["idempotency_key"], name="buttdial_sync_outbox_key"),
        ),
        migrations.CreateModel(
            name="OutboxReceipt",
            fields=[
                ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("status", models.CharField(max_length=16)),
                ("created_at", models.DateTimeField()),
                ("resolved_at", models.DateTimeField(null=True)),
                ("receipt_status", models.TextField(null=True)),
                ("receipt_at", models.DateTimeField(null=True)),
                ("receipt_error", models.TextField(null=True)),
            ],
            options={
                "verbose_name": "early receipt",
                "verbose_name_plural": "early receipts",
                "indexes": [
                    models.Index(
                        fields=["status", "resolved_at"], name="buttdial_sync_receipt_resolved"
                    )
                ],
            },
        ),
    ]
