"""Starting and asking the processes of a run."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

_ROOT = Path(__file__).parents[2]
_LONGEST_ANSWER = 600.0
_LONGEST_END = 20.0


class Child:
    """
    A process that answers lines of JSON with lines of JSON. Use it as a context manager.

    Args:
        module: Which module of this package it runs.
        *arguments: Its command line.

    Attributes:
        hello: The first line that it said.
        seconds_to_start: From starting the process until that line was here.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            bufsize=0,  # select() below sees nothing of what a buffer holds
        )
        self.hello = self._hear()
        self.seconds_to_start = time.perf_counter() - began

    def ask(self, command: str, *arguments: int) -> dict[str, Any]:
        """Have it do something, and return what it says."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
        return self._hear()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(_LONGEST_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        heard, _, _ = select.select([self._process.stdout], [], [], _LONGEST_ANSWER)
        line = self._process.stdout.readline() if heard else b""
        if not line:
            self._process.kill()
            self._process.wait()
            raise RuntimeError(f"{self._process.args!r} said nothing: look at its messages above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def seconds_of(code: str) -> float:
    """Return how long a whole Python process takes to run ``code``."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=_ROOT, check=True)
    return time.perf_counter() - began
