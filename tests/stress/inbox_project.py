"""A Django project that takes messages in, for ``inbox_victim``; its database is an argument."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import django
from django.conf import settings

from buttdial_sync import InboundHandler, Inbox, Listener
from buttdial_sync.errors.moments import utc_now

PREFIX = "django:"
NAME = "tests.stress.inbox_project"  # not __main__, as which it also runs

handler: InboundHandler
"""What the setting ``HANDLER`` names."""


def set_up(database: str, hours: float = 0.0, lease: float = 300.0, **buttdial: Any) -> None:
    """
    Configure the project.

    Args:
        database: ``django:`` and the path of a SQLite file, or the directory of a PostgreSQL
            server's socket.
        hours: So far ahead the clock is; the database's own clock, if it has one, when 0.
        lease: Of inbox and handlers, in seconds.
        **buttdial: More of the setting ``BUTT_DIAL``, in lower case.
    """
    global handler  # noqa: PLW0603 - settings name objects by their paths
    place = database.removeprefix(PREFIX)
    engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": place, "OPTIONS": {"timeout": 30}}
    if not place.endswith(".db"):
        engine = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "postgres",
            "HOST": place,
        }

    def clock() -> datetime:
        return utc_now() + timedelta(hours=hours)

    settings.configure(
        SECRET_KEY="of-the-campaign",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF="buttdial_sync.contrib.django.urls",
        INSTALLED_APPS=["buttdial_sync.contrib.django"],
        DATABASES={"default": engine},
        USE_TZ=True,
        BUTT_DIAL={
            "ALLOW_UNSIGNED": ["butt-dial"],
            "DEFERRED": True,
            "LEASE": lease,
            "INBOX": {"lease": lease, "clock": clock if hours else None},
            "HANDLER": f"{NAME}.handler",
            **{name.upper(): value for name, value in buttdial.items()},
        },
    )
    django.setup()
    from buttdial_sync.contrib.django import DatabaseDeliveryLog, make_handler

    log = DatabaseDeliveryLog(now=clock) if hours else DatabaseDeliveryLog()
    handler = make_handler(delivery_log=log)


def stored() -> Inbox:
    """Return the project's inbox."""
    from buttdial_sync.contrib.django.inbox import get_inbox

    inbox = get_inbox()
    assert inbox is not None
    return inbox


@contextmanager
def host(
    database: str, hours: float, lease: float, **options: Any
) -> Iterator[tuple[InboundHandler, Any, Listener]]:
    """
    Set up the project, as its web workers and its command do.

    Yields:
        The handler, the WSGI application, and the listener, which does not run yet.
    """
    set_up(database, hours, lease, **options)
    from django.core.wsgi import get_wsgi_application

    from buttdial_sync.contrib.django import get_client, get_handler
    from buttdial_sync.contrib.django.outside import app_listener

    application = get_wsgi_application()
    with get_client():
        yield get_handler(), application, app_listener()


if __name__ == "__main__":
    set_up(sys.argv[1])
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
