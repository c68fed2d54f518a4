"""``manage.py buttdial_ailoop``: hand over the answers to posted questions."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand

from buttdial_sync.contrib.django.conf import NAME, app_settings, imported
from buttdial_sync.contrib.django.outside import command_errors
from buttdial_sync.contrib.django.process import make_ailoop
from buttdial_sync.contrib.django.questions import get_questions
from buttdial_sync.transport.signals import stopped_by_signals


class Command(BaseCommand):
    """The command."""

    help = "Hand over the answers to the questions that were posted to ailoop, each once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "--watch",
            action="store_true",
            help="go on until SIGTERM or Ctrl-C, and hear the terminal and Telegram, too",
        )

    def handle(self, *, watch: bool, **_: Any) -> None:
        """Hand them over."""
        with command_errors():
            path = app_settings().on_answer
            if not path:
                raise ImproperlyConfigured(f"{NAME}['ON_ANSWER'] must name a function")
            handler, questions = imported(path, "ON_ANSWER"), get_questions()
            # A client of its own: after a signal it is closed, and the handler may use the other.
            with make_ailoop() as client, stopped_by_signals(client.close):
                done = client.resume(questions, handler, watch=watch)
            self.stdout.write(
                f"{done.handed_over} handed over, {done.waiting} waiting, {done.failed} failed"
            )
