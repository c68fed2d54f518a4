"""The second thread of a session: answers the server's requests and delivers what it pushes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

logger = logging.getLogger("buttdial_sync.session")

_WAITING_AT_MOST = 10_000

Errand = Callable[[], None]


class Courier:
    """
    Runs errands in order, in one daemon thread that starts with the first of them.

    The thread that reads the stream may neither send nor run a host's code: a callback that calls
    the client would wait for an answer that only its own thread can read.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._errands: SimpleQueue[Errand | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._refused = 0

    def submit(self, errand: Errand) -> bool:
        """Queue an errand; return False when the courier stopped or its queue is full."""
        with self._lock:
            if self._stopped:
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        if self._errands.qsize() >= _WAITING_AT_MOST:
            self._refused += 1
            logger.error(
                "%d pushed messages dropped: the callbacks are slower than what comes in",
                self._refused,
            )
            return False
        self._errands.put(errand)
        return True

    def finish(self) -> None:
        """End the thread when all that is queued is done. Never waits."""
        self._errands.put(None)

    def stop(self) -> None:
        """Drop what is queued and end the thread after the errand that runs now. Never waits."""
        self._stopped = True
        self._errands.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the thread's end, unless this is that thread."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _run(self) -> None:
        while (errand := self._errands.get()) is not None and not self._stopped:
            _run_safely(errand)


def _run_safely(errand: Errand) -> None:
    try:
        errand()
    except Exception:
        logger.exception("a callback failed")
