"""``manage.py buttdial_send``: send one message."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from buttdial_sync.contrib.commands import send
from buttdial_sync.contrib.django.outside import command_errors
from buttdial_sync.contrib.django.process import get_client
from buttdial_sync.models.message import CHANNELS

_OPTIONS = {
    "media_url": "a picture, sound or document",
    "subject": "of an email",
    "idempotency_key": "sending again with the same key sends once, where the server honours it",
}


class Command(BaseCommand):
    """The command."""

    help = "Send a message through Butt-Dial, and say what became of it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("to", help="E.164 number or email address")
        parser.add_argument("body", help="the text")
        parser.add_argument("--channel", choices=CHANNELS, default="whatsapp")
        for name, description in _OPTIONS.items():
            parser.add_argument(f"--{name.replace('_', '-')}", help=description)

    def handle(self, *, to: str, body: str, channel: str, **options: Any) -> None:
        """Send it."""
        given = {name: options[name] for name in _OPTIONS}
        with command_errors():
            self.stdout.write(send(get_client(), to, channel, body=body, **given))
