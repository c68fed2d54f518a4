"""Ending in good order after SIGTERM or Ctrl-C."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_EXIT_CODE_OF_SIGNALS = 128
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LONGEST_WAIT = 1.0
_STOP_AGAIN = 0.1


def wait_for(wait: Callable[[float | None], bool], seconds: float | None = None) -> bool:
    """
    Wait for something, in the main thread in short pieces.

    A signal does not wake the main thread if it comes just before a wait begins: its handler runs
    when the wait has ended, and may be what sets the event. Other threads get no signals.

    Args:
        wait: Waits for so many seconds and returns whether it has happened, as ``Event.wait``.
        seconds: For how long, at most; by default without an end.

    Returns:
        Whether it has happened.
    """
    if threading.current_thread() is not threading.main_thread():
        return wait(seconds)
    left = math.inf if seconds is None else seconds
    while not wait(min(left, _LONGEST_WAIT)):
        left -= _LONGEST_WAIT
        if left <= 0:
            return False
    return True


@contextmanager
def stopped_by_signals(
    stop: Callable[[], object],
    is_running: Callable[[], bool] = lambda: True,
    *,
    repeats: bool = False,
) -> Iterator[list[int]]:
    """
    Stop something after SIGTERM or Ctrl-C.

    After a second signal, or while there is nothing to stop, the process ends at once. Outside of
    the main thread, which alone gets signals, nothing changes.

    Args:
        stop: Stops it. It runs in a thread of its own.
        is_running: Whether there is something to stop.
        repeats: Whether to stop it again and again until the block has ended: for what does not
            know of a stop that came before it began.

    Yields:
        The signals that came: none or one.

    Raises:
        SystemExit: A second signal came.
    """
    came: list[int] = []
    ended = threading.Event()

    def stop_it() -> None:
        stop()
        while repeats and not ended.wait(_STOP_AGAIN):
            stop()

    def on_signal(number: int, _: FrameType | None) -> None:
        if came or not is_running():
            sys.exit(_EXIT_CODE_OF_SIGNALS + number)
        came.append(number)
        # A signal may arrive while this thread holds a lock that stop() needs.
        threading.Thread(target=stop_it, name="buttdial-sync-stop").start()

    with handling(on_signal, *_SIGNALS):
        try:
            yield came
        finally:
            ended.set()


@contextmanager
def handling(
    handler: Callable[[int, FrameType | None], object] | signal.Handlers, *numbers: signal.Signals
) -> Iterator[None]:
    """
    Handle signals until the block ends, and then as before.

    Outside of the main thread, which alone gets signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
