"""Several threads that do the same work, and whose caller waits for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping

from buttdial_sync.transport.signals import wait_for

logger = logging.getLogger("buttdial_sync")


def work_side_by_side(
    work: Callable[[threading.Event], None], count: int, stopping: threading.Event, name: str
) -> None:
    """
    Do ``work`` in ``count`` threads, and wait for all of them.

    In fewer where the system gives no more, and in this one where it gives none. What ends one of
    them, such as ``sys.exit()`` in a hook, makes all of them stop, and is raised here.

    Args:
        work: What each of them does; it handles its own failures.
        count: How many.
        stopping: Makes them end; set when the waiting is interrupted, as by Ctrl-C.
        name: What the threads' names begin with.
    """
    # Not join(): up to Python 3.12 a thread whose join() was interrupted counts as ended.
    ends: dict[threading.Thread, threading.Event] = {}
    raised: list[BaseException] = []

    def run(end: threading.Event) -> None:
        try:
            work(stopping)
        except BaseException as error:  # noqa: BLE001 - threading would say nothing of SystemExit
            raised.append(error)
            stopping.set()
        finally:
            end.set()

    for number in range(1, count + 1):
        end = threading.Event()
        thread = threading.Thread(target=run, args=(end,), name=f"{name}-{number}", daemon=True)
        ends[thread] = end
    try:
        if not _start(ends):
            work(stopping)
        _wait(ends)
    except BaseException:  # Ctrl-C: the threads must not go on without their caller
        stopping.set()
        _wait(ends)
        raise
    if raised:
        raise raised[0]


def _start(threads: Collection[threading.Thread]) -> int:
    """Start threads, and return how many."""
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
    except RuntimeError:
        logger.exception("only %d of %d threads could be started", started, len(threads))
    return started


def _wait(ends: Mapping[threading.Thread, threading.Event]) -> None:
    for thread, end in ends.items():
        if thread.ident is not None:  # one that has not begun yet finds the signal to stop
            wait_for(end.wait)
