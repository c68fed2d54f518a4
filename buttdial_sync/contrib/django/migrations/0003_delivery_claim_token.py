"""The token of a delivery's claim."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Adds its column."""

    dependencies: ClassVar[list[Any]] = [("buttdial_sync", "0002_outbox")]

    operations: ClassVar[list[Any]] = [
        migrations.AddField(
            model_name="delivery",
            name="claim_token",
            field=models.CharField(max_length=32, null=True),
        ),
    ]
