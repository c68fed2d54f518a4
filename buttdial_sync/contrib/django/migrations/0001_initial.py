"""The delivery log."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Creates its table."""

    initial = True

    dependencies: ClassVar[list[Any]] = []

    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("key", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("leased_until", models.DateTimeField(db_index=True)),
                ("done_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "delivery",
                "verbose_name_plural": "deliveries",
            },
        ),
    ]
