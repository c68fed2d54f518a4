"""``manage.py buttdial_send``: send one message."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from buttdial_sync.contrib.commands import send
from buttdial_sync.contrib.django.outside import command_errors
from buttdial_sync.contrib.django.process import get_client
from buttdial_sync.models.message import CHANNELS, HELP

_OPTIONS = [name for name in HELP if name not in {"to", "body", "channel"}]


class Command(BaseCommand):
    """The command."""

    help = "Send a message through Butt-Dial, and say what became of it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("to", help=HELP["to"])
        parser.add_argument("body", help=HELP["body"])
        parser.add_argument("--channel", choices=CHANNELS, default="whatsapp")
        for name in _OPTIONS:
            parser.add_argument(f"--{name.replace('_', '-')}", help=HELP[name])

    def handle(self, *, to: str, body: str, channel: str, **options: Any) -> None:
        """Send it."""
        given = {name: options[name] for name in _OPTIONS}
        with command_errors():
            self.stdout.write(send(get_client(), to, channel, body=body, **given))
