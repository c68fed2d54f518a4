"""``manage.py buttdial_retry``: send the due messages of the outbox."""

from __future__ import annotations

import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from buttdial_sync.contrib.commands import CommandFailure
from buttdial_sync.contrib.django.outbox import make_retry_loop
from buttdial_sync.contrib.django.outside import command_errors
from buttdial_sync.errors.exits import exit_code
from buttdial_sync.retry.report import STEPS, RetryReport
from buttdial_sync.transport.signals import stopped_by_signals

_LOOK_AGAIN = 1.0


class Command(BaseCommand):
    """The command."""

    help = "Send what waits in the outbox, until SIGTERM or Ctrl-C. Several may run at once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--once", action="store_true", help="one batch, then end")
        how.add_argument("--drain", action="store_true", help="end when nothing is due")
        parser.add_argument("--interval", type=float, default=60.0, help="seconds between passes")
        parser.add_argument("--workers", type=int, help="threads that send at once")

    def handle(
        self, *, once: bool, drain: bool, interval: float, workers: int | None, **_: Any
    ) -> None:
        """Send."""
        told_to_end = threading.Event()

        def end() -> None:
            told_to_end.set()  # first: a loop that has ended without it is a failure
            loop.stop(0.0)

        with command_errors():
            loop = make_retry_loop(**({} if workers is None else {"workers": workers}))
            with stopped_by_signals(end, repeats=True):
                if once or drain:
                    self._tell(loop.run_once() if once else loop.drain())
                    return
                loop.start(interval, warmup=0.0)
                while not told_to_end.wait(_LOOK_AGAIN):
                    if not loop.running and not told_to_end.is_set():
                        raise CommandFailure("the loop has ended; the log says why", None, 1)
                loop.stop()

    def _tell(self, report: RetryReport) -> None:
        self.stdout.write(", ".join(f"{getattr(report, name)} {name}" for name in STEPS))
        if report.outcome != "sent":
            raise CommandFailure(
                f"not everything was sent: {report.last_error}",
                report.remediation,
                exit_code(report.outcome, None),
            )
