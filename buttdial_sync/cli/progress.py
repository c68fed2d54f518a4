"""How far a long command is, told on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TextIO

import click

from buttdial_sync.cli.status_line import STATUS_LINE

_ON_TERMINAL = 0.2
_IN_LOG = 30.0


class Progress(AbstractContextManager["Progress"]):
    """
    Tells how far a command is: on a terminal in one line that changes, else a line now and then.

    Safe to call for each row: what comes too soon is not shown. Not safe to share between threads.

    Args:
        quiet: Tell nothing.
        stream: Where; stderr when None.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._clock = clock
        self._on_terminal = self._stream.isatty()
        # On a terminal from the first moment on; in a log only what lasts is worth a line.
        self._next = clock() + (0.0 if self._on_terminal else _IN_LOG)
        self._held = STATUS_LINE.held()

    def tell(self, doing: str, done: int, total: int | None = None) -> None:
        """
        Say how far it is.

        Args:
            doing: What is done, as in ``"Checking"``.
            done: How much of it.
            total: How much there is, where that is known.
        """
        now = self._clock()
        if self._quiet or now < self._next:
            return
        self._next = now + (_ON_TERMINAL if self._on_terminal else _IN_LOG)
        text = f"{doing}: {done:,} rows" if total is None else f"{doing}: {done:,} of {total:,}"
        if self._on_terminal:
            STATUS_LINE.replace(text, self._stream)
        else:
            click.echo(text, file=self._stream)

    def __enter__(self) -> Progress:
        self._held.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the line, so that the next one begins on an empty one."""
        self._held.__exit__(None, None, None)
