"""
One contender in a process of its own: ``python -m tests.benchmarks.worker NAME URL``.

It sends one message, says so, and then does what its standard input says, a JSON list a line:
``["send", 20]``. It answers each with a JSON object. It imports next to nothing of its own, because
what it imports counts as the contender's memory and start.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.benchmarks.contender import Contender

_HOMES = {
    "ours": ("ours", "Ours"),
    "sdk": ("peers", "Sdk"),
    "mcp": ("peers", "HeldSession"),
    "floor": ("floor", "Floor"),
    "lean floor": ("floor", "FloorWithoutEnvironment"),
    "wire": ("wire", "Wire"),
}
_MEMORY = "/proc/self/smaps_rollup"


class Worker:
    """The commands."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender

    def send(self, count: int) -> dict[str, float]:
        """Return what a message took: seconds of the clock, and of the processor."""
        began, used = time.perf_counter(), time.process_time()
        self._contender.send(count)
        wall, cpu = time.perf_counter() - began, time.process_time() - used
        return {"wall": wall / count, "cpu": cpu / count}

    def crowd(self, size: int, each: int) -> dict[str, float]:
        """Return how many messages a second went out."""
        began = time.perf_counter()
        self._contender.crowd(size, each)
        return {"rate": size * each / (time.perf_counter() - began)}

    def memory(self) -> dict[str, float]:
        """Return the resident memory, and what of it no other process shares, in MiB."""
        sizes: dict[str, float] = {}
        with open(_MEMORY, encoding="ascii") as lines:
            next(lines)
            for line in lines:
                name, size, _ = line.split()
                sizes[name.rstrip(":")] = int(size) / 1024
        return {"rss": sizes["Rss"], "private": sizes["Private_Clean"] + sizes["Private_Dirty"]}

    def threads(self) -> dict[str, float]:
        """Return how many threads there are beside the main one."""
        return {"threads": threading.active_count() - 1}


def main(name: str, base_url: str) -> None:
    """Send one message, and then what is asked for."""
    module, class_name = _HOMES[name]
    contender: Contender = getattr(import_module(f"tests.benchmarks.{module}"), class_name)(
        base_url
    )
    contender.send(1)
    _say({})
    worker = Worker(contender)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        _say(getattr(worker, command)(*arguments))
    contender.close()


def _say(answer: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
