"""``manage.py buttdial_purge``: delete messages that were resolved long ago."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand

from buttdial_sync.contrib.django.conf import app_settings
from buttdial_sync.contrib.django.inbox import DatabaseInbox, get_inbox
from buttdial_sync.contrib.django.outbox import get_repository
from buttdial_sync.contrib.django.outside import command_errors
from buttdial_sync.contrib.django.questions import get_questions


class Command(BaseCommand):
    """The command."""

    help = "Delete what was delivered, handled, answered or dismissed long ago. Dead letters stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "--days", type=float, help="older than so many days; else BUTT_DIAL['RETENTION_DAYS']"
        )
        parser.add_argument("--dead", action="store_true", help="dead letters too")

    def handle(self, *, days: float | None, dead: bool, **_: Any) -> None:
        """Delete."""
        more = ("dead",) if dead else ()
        with command_errors():
            age = timedelta(days=app_settings().retention_days if days is None else days)
            sent = get_repository().purge(age, ("delivered", "dismissed", *more))
            received = (get_inbox() or DatabaseInbox()).purge(age, ("handled", "dismissed", *more))
            asked = get_questions().purge(age, ("handed_over", "dismissed", *more))
        self.stdout.write(
            f"{sent} outgoing messages, {asked} questions and {received} incoming events deleted"
        )
