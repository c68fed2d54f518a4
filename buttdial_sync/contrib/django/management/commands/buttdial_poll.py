"""``manage.py buttdial_poll``: hand over the messages that wait, once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from buttdial_sync.contrib.commands import poll
from buttdial_sync.contrib.django.outside import app_listener, command_errors


class Command(BaseCommand):
    """The command."""

    help = "Hand over the messages that wait for the agent, once: for cron."

    def handle(self, *_: Any, **__: Any) -> None:
        """Poll."""
        with command_errors():
            self.stdout.write(poll(app_listener()))
