"""The fence of outgoing messages, and the indexes of lists and of purging."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Adds its column and the indexes."""

    dependencies: ClassVar[list[Any]] = [("buttdial_sync", "0003_delivery_claim_token")]

    operations: ClassVar[list[Any]] = [
        migrations.AddField(
            model_name="outboxmessage",
            name="attempt_number",
            field=models.IntegerField(default=0, null=True),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                fields=["status", "created_at", "id"], name="buttdial_sync_outbox_listed"
            ),
        ),
        migrations.AddIndex(
            model_name="outboxmessage",
            index=models.Index(
                fields=["status", "resolved_at"], name="buttdial_sync_outbox_resolved"
            ),
        ),
    ]
