"""``manage.py buttdial_doctor``: find the fault."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from buttdial_sync.contrib.commands import doctor
from buttdial_sync.contrib.django.outside import command_errors
from buttdial_sync.contrib.django.process import get_client


class Command(BaseCommand):
    """The command."""

    help = "Find the fault between this project and Butt-Dial, and say what to do about it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--to", help="send a test message there; otherwise nothing is sent")

    def handle(self, *, to: str | None, **_: Any) -> None:
        """Look at each stage."""
        with command_errors():
            doctor(get_client(), to, self.stdout.write)
