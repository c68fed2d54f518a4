"""``manage.py buttdial_retry``: send what waits in the outbox."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from buttdial_sync.contrib.django.outbox import make_retry_loop
from buttdial_sync.contrib.django.outside import command_errors
from buttdial_sync.retry.loop import RetryLoop
from buttdial_sync.retry.report import RetryReport

_FAILED = 3
_SECONDS_TO_END = 60.0


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
        with command_errors():
            loop = make_retry_loop(**({} if workers is None else {"workers": workers}))
            with _stopped_by_signals(loop) as told:
                if once or drain:
                    self._tell(loop.run_once() if once else loop.drain())
                    return
                loop.start(interval, warmup=0.0)
                told.wait()
                loop.stop(_SECONDS_TO_END)

    def _tell(self, report: RetryReport) -> None:
        counts = ("delivered", "retried", "dead", "postponed", "taken", "errors")
        told = ", ".join(f"{getattr(report, name)} {name}" for name in counts)
        self.stdout.write(told)
        if report.errors:
            raise CommandError(f"a part failed: {report.last_error}", returncode=_FAILED)


@contextmanager
def _stopped_by_signals(loop: RetryLoop) -> Iterator[threading.Event]:
    """Stop the loop when told to; the event that is yielded is set then."""
    told = threading.Event()

    def end() -> None:
        loop.stop(0.0)
        told.set()

    # A signal may come while this thread holds the locks that ending needs.
    def on_signal(*_: object) -> None:
        threading.Thread(target=end, name="buttdial-sync-stop").start()

    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = {each: signal.signal(each, on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for each, previous in before.items():
            signal.signal(each, previous)
