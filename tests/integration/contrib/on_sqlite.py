"""A Django project of nothing but the app, on a SQLite file."""

from __future__ import annotations

import django
from django.conf import settings


def set_up_django(path: str) -> None:
    """Configure Django in this process, and make the tables."""
    settings.configure(
        INSTALLED_APPS=["buttdial_sync.contrib.django"],
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": path,
                "OPTIONS": {"timeout": 60},
            }
        },
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
