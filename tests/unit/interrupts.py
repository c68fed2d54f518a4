"""Ctrl-C at a moment that a test chooses."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any

import pytest

_needs_kill = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="needs signals that are sent to a thread"
)


def ctrl_c(until: threading.Event) -> None:
    """
    Interrupt the main thread from another one, and wait for what that makes it do.

    A signal that comes just before the main thread waits for a lock does not wake it: so it is sent
    until it had an effect.
    """
    main = threading.main_thread().ident
    assert main is not None
    for _ in range(600):
        signal.pthread_kill(main, signal.SIGINT)
        if until.wait(0.05):
            return
    raise AssertionError("Ctrl-C had no effect")


def interruptible(test: Callable[[], None]) -> Callable[[], None]:
    """Let the first Ctrl-C raise KeyboardInterrupt in a test, however the tests were started."""

    @wraps(test)
    def run() -> None:
        was_raised = False

        def raise_once(_number: int, _frame: FrameType | None) -> None:
            nonlocal was_raised
            if not was_raised:
                was_raised = True
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, raise_once)
        try:
            test()
        finally:
            signal.signal(signal.SIGINT, before)

    return _needs_kill(run)


class InterruptedRelease(threading.Condition):
    """Ctrl-C comes when it is released for the first time."""

    came = False

    def __exit__(self, *raised: Any) -> None:  # noqa: PYI036 - as the class says
        super().__exit__(*raised)
        if not self.came:
            self.came = True
            raise KeyboardInterrupt
