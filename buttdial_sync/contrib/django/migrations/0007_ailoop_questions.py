"""The questions of ailoop."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models

_STATUSES = ("pending", "handed_over", "dead", "dismissed")


class Migration(migrations.Migration):
    """Creates their table."""

    dependencies: ClassVar[list[Any]] = [("buttdial_sync", "0006_inbox")]

    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="AiloopQuestion",
            fields=[
                ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("prompt", models.TextField()),
                ("about", models.TextField()),
                ("expires_at", models.DateTimeField()),
                ("reply", models.TextField(null=True)),
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
                ("leased_until", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "question to a person",
                "verbose_name_plural": "questions to people",
                "indexes": [
                    models.Index(
                        fields=["status", "next_retry_at", "created_at"],
                        name="buttdial_sync_question_due",
                    ),
                    models.Index(fields=["created_at", "id"], name="buttdial_sync_question_new"),
                    models.Index(
                        fields=["status", "created_at", "id"], name="buttdial_sync_question_listed"
                    ),
                    models.Index(
                        fields=["status", "resolved_at"], name="buttdial_sync_question_done"
                    ),
                ],
            },
        ),
    ]
