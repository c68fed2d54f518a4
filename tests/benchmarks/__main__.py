"""``python -m tests.benchmarks [--long] [subject ...]``: measure, and print the table."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version

from tests.benchmarks import crowd, happy, latency, memory, procedura, start, traffic
from tests.benchmarks.figures import Figure, table
from tests.benchmarks.settings import Settings

_SUBJECTS: dict[str, Callable[[Settings], Iterator[Figure]]] = {
    "latency": latency.measure,
    "traffic": traffic.measure,
    "start": start.measure,
    "memory": memory.measure,
    "crowd": crowd.measure,
    "happy": happy.measure,
    "procedura": procedura.measure,
}
_PACKAGES = (
    "buttdial-sync",
    "requests",
    "urllib3",
    "butt-dial-sdk",
    "mcp",
    "uvicorn",
    "happy-engineering-sdk",
    "websockets",
)
_LONG = 100_000


def main() -> int:
    """Measure; return 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="subject", help=", ".join(_SUBJECTS))
    parser.add_argument("--rounds", type=int, default=Settings().rounds)
    parser.add_argument("--long", action="store_true", help=f"memory over {_LONG} calls")
    chosen = parser.parse_args()
    unknown = set(chosen.subjects) - set(_SUBJECTS)
    if unknown:
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    calls = _LONG if chosen.long else Settings().long_calls
    settings = Settings(rounds=chosen.rounds, long_calls=calls)
    figures: list[Figure] = []
    for subject in chosen.subjects or _SUBJECTS:
        sys.stderr.write(f"measuring {subject} ...\n")
        figures += _SUBJECTS[subject](settings)
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    sys.stdout.write(f"Python {platform.python_version()}, {packages}\n\n{table(figures)}\n")
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
