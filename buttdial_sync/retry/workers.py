"""Threads that do the same work side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable


def work_side_by_side(
    work: Callable[[], None], count: int, *, name: str, on_interrupt: Callable[[], None]
) -> None:
    """
    Do ``work`` in ``count`` threads, and wait for all of them.

    Args:
        work: What each of them does; it handles its own failures.
        count: How many.
        name: What their names begin with.
        on_interrupt: Called when the waiting is interrupted, as by Ctrl-C; it makes them end.
    """
    threads = [
        threading.Thread(target=work, name=f"{name}-{number}", daemon=True)
        for number in range(1, count + 1)
    ]
    for thread in threads:
        thread.start()
    try:
        _join(threads)
    except BaseException:
        on_interrupt()
        _join(threads)
        raise


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
