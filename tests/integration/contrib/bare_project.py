"""A Django project of nothing but the app, in this process."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

Database = dict[str, Any]


def sqlite(path: str) -> Database:
    """Return Django's settings for a SQLite file."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {"timeout": 60},
    }


def postgresql(host: str, **more: object) -> Database:
    """
    Return Django's settings for a PostgreSQL of the tests.

    Args:
        host: Where it is: a host, or the folder of its socket.
        **more: Further settings of the database.
    """
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": host,
        **more,
    }


def set_up_django(database: Database) -> None:
    """Configure Django in this process, and make the tables."""
    settings.configure(
        INSTALLED_APPS=["buttdial_sync.contrib.django"],
        USE_TZ=True,
        DATABASES={"default": database},
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
