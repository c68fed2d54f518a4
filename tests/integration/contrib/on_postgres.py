"""A Django project of nothing but the app, on a PostgreSQL of the tests."""

from __future__ import annotations

import django
from django.conf import settings


def set_up_django(host: str, **more: object) -> None:
    """
    Configure Django in this process, and make the tables.

    Args:
        host: Where PostgreSQL is: a host, or the folder of its socket.
        **more: Further settings of the database.
    """
    settings.configure(
        INSTALLED_APPS=["buttdial_sync.contrib.django"],
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postgres",
                "USER": "postgres",
                "HOST": host,
                **more,
            }
        },
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
