"""Reaching every thread that works for a loop, to stop it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StopSignals:
    """
    The signals that the threads of one loop listen to. Safe to share between threads.

    Args:
        sleep: Sleeps for some seconds; by default until the thread's signal at most.
    """

    def __init__(self, sleep: Callable[[float], object] | None) -> None:
        self._own_sleep = sleep
        self.start_anew()

    def start_anew(self) -> None:
        """In a forked child: nobody listens yet."""
        self._lock = threading.Lock()
        self._signals: list[threading.Event] = []
        self._threads: set[int] = set()
        self._local = threading.local()

    @contextmanager
    def heard(self, signal: threading.Event | None = None) -> Iterator[threading.Event]:
        """Let this thread listen to a signal, a new one unless given, while it works."""
        mine = signal or threading.Event()
        outer: threading.Event | None = getattr(self._local, "signal", None)
        self._local.signal = mine
        with self._lock:
            self._signals.append(mine)
            self._threads.add(threading.get_ident())
        try:
            yield mine
        finally:
            self._local.signal = outer
            with self._lock:
                self._signals.remove(mine)
                if outer is None:
                    self._threads.discard(threading.get_ident())

    def stop_all(self) -> None:
        """Give every signal that is listened to."""
        with self._lock:
            for signal in self._signals:
                signal.set()

    @property
    def is_own_thread(self) -> bool:
        """Whether the calling thread is one of those that work."""
        return threading.get_ident() in self._threads

    def sleep(self, seconds: float) -> None:
        """Sleep, until this thread's signal at most."""
        if self._own_sleep is not None:
            self._own_sleep(seconds)
            return
        signal: threading.Event | None = getattr(self._local, "signal", None)
        if signal is not None:
            signal.wait(seconds)
