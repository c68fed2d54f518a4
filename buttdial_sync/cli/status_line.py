"""What a command waits for, told on a terminal once it takes longer than two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TextIO

import click

_BEFORE_TELLING = 2.0
_BETWEEN = 1.0


class _StatusLine:
    """
    The last line of the terminal, which other output has to replace. Safe to share between threads.

    Attributes:
        doing: What the command does now.
    """

    def __init__(self) -> None:
        self.doing = ""
        self._lock = threading.RLock()
        self._stream: TextIO | None = None
        self._width = 0
        self._holds = 0

    def show(self, text: str, stream: TextIO) -> None:
        """Show a text in place of the last one, unless something else has the line."""
        with self._lock:
            if not self._holds:
                self.replace(text, stream)

    def replace(self, text: str, stream: TextIO) -> None:
        """Show a text in place of the last one; for what holds the line."""
        with self._lock:
            click.echo(f"\r{text:<{self._width}}", file=stream, nl=False)
            self._stream, self._width = stream, len(text)

    def clear(self) -> None:
        """Remove the text, so that what comes next begins on an empty line."""
        with self._lock:
            if self._width and self._stream is not None:
                click.echo(f"\r{'':<{self._width}}\r", file=self._stream, nl=False)
            self._stream, self._width = None, 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Leave the line to the block: a prompt, or a count that says more."""
        with self._lock:
            self.clear()
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self.clear()
                self._holds -= 1


STATUS_LINE = _StatusLine()


def can_ask() -> bool:
    """Whether there is a terminal, and so a person."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str, **options: Any) -> str:
    """
    Ask a person on stderr, in a line that nothing overwrites.

    Args:
        question: What to ask for.
        **options: As for ``click.prompt``.
    """
    with STATUS_LINE.held():
        typed: str = click.prompt(question, err=True, **options)
    return typed


class ElapsedTime(AbstractContextManager[None]):
    """
    Says what a command does and for how long, from its third second on. On a terminal only.

    Args:
        doing: What it does; :data:`STATUS_LINE` may say it more exactly meanwhile.
        quiet: Say nothing.
        stream: The terminal; stderr when None.
        clock: A monotonic clock, in seconds.
        wait: Waits so many seconds; true if the command ended meanwhile. For tests.
    """

    def __init__(
        self,
        doing: str,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._doing = doing
        self._stream = stream or sys.stderr
        self._clock = clock
        self._ended = threading.Event()
        self._wait = wait or self._ended.wait
        self._thread: threading.Thread | None = None
        if not quiet and self._stream.isatty():
            self._thread = threading.Thread(
                target=self._tell, name="buttdial-sync-elapsed", daemon=True
            )

    def __enter__(self) -> None:
        STATUS_LINE.doing = self._doing
        if self._thread is not None:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        STATUS_LINE.clear()

    def _tell(self) -> None:
        began = self._clock()
        pause = _BEFORE_TELLING
        while not self._wait(pause):
            STATUS_LINE.show(f"{STATUS_LINE.doing}: {self._clock() - began:.0f} s", self._stream)
            pause = _BETWEEN
