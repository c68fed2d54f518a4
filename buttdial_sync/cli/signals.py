"""SIGTERM and Ctrl-C, for all commands."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from buttdial_sync.errors.exits import INTERRUPTED, TERMINATED
from buttdial_sync.transport.signals import handling, stopped_by_signals


class Signalled(KeyboardInterrupt):
    """
    A signal ended a command, as Ctrl-C does.

    Attributes:
        exit_code: As the program ends.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = TERMINATED if number == signal.SIGTERM else INTERRUPTED


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end a command as Ctrl-C does, so that it closes and says what it has to say."""

    def on_signal(number: int, _: FrameType | None) -> None:
        raise Signalled(number)

    with handling(on_signal, signal.SIGTERM):
        yield


@contextmanager
def finished_first(stop: Callable[[], object], *, repeats: bool = False) -> Iterator[None]:
    """
    After SIGTERM or Ctrl-C, let work that holds leases finish what it has begun; then end.

    A second signal ends the process at once.

    Args:
        stop: Lets it begin nothing more. It runs in a thread of its own.
        repeats: As in :func:`.stopped_by_signals`.

    Raises:
        Signalled: A signal came.
    """
    with stopped_by_signals(stop, repeats=repeats) as came:
        yield
    if came:
        raise Signalled(came[0])
