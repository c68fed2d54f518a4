"""``manage.py buttdial_listen``: hand over pushed messages, until SIGTERM or Ctrl-C."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from buttdial_sync.contrib.commands import listen
from buttdial_sync.contrib.django.outside import app_listener, command_errors


class Command(BaseCommand):
    """The command."""

    help = "Hand over what is pushed to the agent, until SIGTERM or Ctrl-C. Run one for an agent."

    def handle(self, *_: Any, **__: Any) -> None:
        """Listen."""
        with command_errors():
            listen(app_listener())
