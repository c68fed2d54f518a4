"""Drains an outbox of Django's on PostgreSQL at PORT: ``django_drain.py URL``."""

from __future__ import annotations

import json
import os
import sys

import django
from django.conf import settings

from buttdial_sync import Client, FailedMessage, RetryLoop


def main(url: str) -> dict[str, int]:
    """Write COUNT messages and send them."""
    settings.configure(
        INSTALLED_APPS=["buttdial_sync.contrib.django"],
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postgres",
                "USER": "postgres",
                "HOST": "127.0.0.1",
                "PORT": os.environ["PORT"],
                "DISABLE_SERVER_SIDE_CURSORS": True,
            }
        },
    )
    django.setup()
    from django.core.management import call_command
    from django.db import connections

    from buttdial_sync.contrib.django.repository import DatabaseRepository

    call_command("migrate", verbosity=0)
    repository = DatabaseRepository()
    names = [f"m{number}" for number in range(int(os.environ["COUNT"]))]
    repository.add_new([FailedMessage(id=name, recipient="+1", body=name) for name in names])
    with Client(url, agent_token="tok") as client:
        report = RetryLoop(repository, client, workers=4, batch_size=5).drain()
    connections.close_all()
    return {"delivered": report.delivered, "errors": report.errors}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
