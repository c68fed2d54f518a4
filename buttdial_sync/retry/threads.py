"""The threads that work for one loop, and stopping them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from buttdial_sync.transport.fork import reset_if_forked
from buttdial_sync.transport.signals import wait_for


class StopSignals:
    """
    The signals that the threads of one loop listen to. Safe to share between threads.

    Args:
        sleep: Sleeps for some seconds; by default until the thread's signal at most.
    """

    def __init__(self, sleep: Callable[[float], object] | None) -> None:
        self._own_sleep = sleep
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """In a forked child: nobody listens yet."""
        self._changed = threading.Condition()
        self._listened: list[threading.Event] = []
        self._local = threading.local()

    @contextmanager
    def listening(self, signal: threading.Event | None = None) -> Iterator[threading.Event]:
        """Let this thread listen to a signal, a new one unless given, while it works."""
        reset_if_forked()
        mine = signal or threading.Event()
        outer = self._signal
        self._local.signal = mine
        # A hook may fork: the child must not look for its signal in a list that is new.
        listened = self._listened
        with self._changed:
            listened.append(mine)
        try:
            yield mine
        finally:
            # In this order: a signal handler in between must not wait for its own thread.
            with self._changed:
                listened.remove(mine)
                self._changed.notify_all()
            self._local.signal = outer

    def give(self) -> Collection[threading.Event]:
        """Give every signal that is listened to, and return them."""
        with self._changed:
            given = tuple(self._listened)
        for signal in given:
            signal.set()
        return given

    def wait_until_unheard(self, signals: Collection[threading.Event], timeout: float) -> bool:
        """Wait until no thread listens to one of these any more; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(signal not in self._listened for signal in signals), timeout
            )

    @property
    def is_given(self) -> bool:
        """Whether the signal that the calling thread listens to was given."""
        signal = self._signal
        return signal is not None and signal.is_set()

    @property
    def is_own_thread(self) -> bool:
        """Whether the calling thread is one of those that listen."""
        return self._signal is not None

    def sleep(self, seconds: float) -> None:
        """Sleep, until this thread's signal at most."""
        if self._own_sleep is not None:
            self._own_sleep(seconds)
        elif self._signal is not None:
            wait_for(self._signal.wait, seconds)

    @property
    def _signal(self) -> threading.Event | None:
        return getattr(self._local, "signal", None)
