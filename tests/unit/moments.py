"""What happens at a moment that a test chooses: at a line of a function, or at a look-up."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any


class Moment:
    """
    Does something once, just before this thread runs a line of a function.

    Attributes:
        came: Whether the function had so many lines to run.
    """

    def __init__(self, code: CodeType, line: int, work: Callable[[], object]) -> None:
        self.came = False
        self._code = code
        self._left = line
        self._work = work

    def __enter__(self) -> Moment:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        self._left = 0  # a generator that goes on later has it as its tracer still
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is not self._code:
            return None
        if event == "line":
            self._left -= 1
            if not self._left:
                self.came = True
                self._work()
        return self._trace


def every_line(code: CodeType, work: Callable[[], object]) -> Iterator[Moment]:
    """Give a moment for each line that is run, one after the other. Each has to be entered."""
    for line in itertools.count(1):
        moment = Moment(code, line, work)
        yield moment
        if not moment.came:
            assert line > 1, "the function was not run"
            return


class Key(str):
    """A key that does something just before it is looked up, or kept, for the n-th time."""

    __slots__ = ("left", "work")

    def on_lookup(self, number: int, work: Callable[[], object]) -> None:
        self.left, self.work = number, work

    def __hash__(self) -> int:
        self.left -= 1
        if not self.left:
            self.work()
        return super().__hash__()
