"""``python -m tests.simulation``: many histories, or one with its trace."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.simulation.campaign import failures_of
from tests.simulation.causes import CAUSES, ROOT, put_back

_SHOWN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run histories; return 1 if one of them broke a promise."""
    given = _parser().parse_args(arguments)
    if given.causes:
        return _find_causes(given)
    if given.replay is not None:
        return _replay(given.replay, given.cause)
    return _run(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--first", action="store_true", help="end with the first broken promise")
    parser.add_argument("--cause", choices=CAUSES, help="with this mistake put back")
    parser.add_argument("--causes", action="store_true", help="each known mistake must be found")
    parser.add_argument("--replay", metavar="SEED", type=int, help="one history, with its trace")
    return parser


def _run(given: argparse.Namespace) -> int:
    began = time.monotonic()
    seeds = range(given.seed, given.seed + given.histories)
    broken = 0
    looked_for = "" if given.cause is None else CAUSES[given.cause].breaks
    for failures in failures_of(seeds, given.processes, given.cause):
        for seed, promises in failures:
            broken += 1
            if broken <= _SHOWN or given.first:
                cause = "" if given.cause is None else f" --cause {given.cause!r}"
                _say(f"seed {seed}: {'; '.join(promises)}")
                _say(f"    python -m tests.simulation --replay {seed}{cause}")
            if given.first and any(each.startswith(looked_for) for each in promises):
                return 1
    _say(f"{given.histories} histories, {broken} broken, {time.monotonic() - began:.0f} s")
    return int(broken > 0 and not given.first)


def _replay(seed: int, cause: str | None) -> int:
    if cause is not None:
        put_back(cause)
    from tests.simulation.history import simulate  # not before a mistake was put back

    promises = simulate(seed, _say)
    for promise in promises:
        _say(f"BROKEN: {promise}")
    return int(bool(promises))


def _find_causes(given: argparse.Namespace) -> int:
    """Look for each known mistake; return 1 if one is not found."""
    missed = 0
    for cause in CAUSES:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "tests.simulation", "--first", "--cause", cause),
                *("--histories", str(given.histories), "--seed", str(given.seed)),
                *("--processes", str(given.processes)),
            ],
            check=False,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        is_found = run.returncode == 1 and run.stdout.startswith("seed ")
        missed += not is_found
        _say(f"{'found ' if is_found else 'MISSED'}  {cause}")
        _say(f"{run.stdout}{run.stderr}".rstrip())
    return int(missed > 0)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
