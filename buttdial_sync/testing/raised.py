"""What a test's own function raises inside a fake server, kept until the test can be told."""

from __future__ import annotations

import threading


class RaisedErrors:
    """
    Keeps the first exception of a test's own functions. Safe to share between threads.

    The server's threads cannot raise it in the test, so closing the server does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: BaseException | None = None

    def keep(self, error: BaseException) -> None:
        """Keep an exception, if it is the first."""
        with self._lock:
            self._first = self._first or error

    def raise_first(self) -> None:
        """Raise the exception that was kept, once."""
        with self._lock:
            error, self._first = self._first, None
        if error is not None:
            raise error


def described(error: BaseException) -> str:
    """Describe an exception of a test's own function, for the server's answer."""
    return f"the test's own function raised {type(error).__name__}: {error}"
