"""Ctrl-C at a moment that a test chooses."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

import pytest

_needs_kill = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="needs signals that are sent to a thread"
)


def ctrl_c(until: threading.Event) -> None:
    """Interrupt the main thread from another one, once, and wait for what that makes it do."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)
    assert until.wait(30), "Ctrl-C had no effect"


@contextmanager
def waits_of_main_thread(then: Callable[[], object]) -> Iterator[set[float | None]]:
    """
    Give how long the main thread's waits may take, but for those until a thread has started.

    A signal that comes just before such a wait is handled when it has ended.

    Args:
        then: Is called when a wait begins, to let it end.
    """
    waits: set[float | None] = set()
    wait = threading.Condition.wait

    def told(self: threading.Condition, timeout: float | None = None) -> bool:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and sys._getframe(2).f_code is not threading.Thread.start.__code__:
            waits.add(timeout)
            then()
        return wait(self, timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Condition, "wait", told)
        yield waits


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
