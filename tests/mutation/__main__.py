"""``python -m tests.mutation [module ...]``: change the package, and see whether tests notice."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants_of, round_trip
from tests.mutation.review import PATCHES
from tests.mutation.rooms import CORE, tests_of
from tests.mutation.running import ControlFailedError, Copies, Job, project_copies
from tests.mutation.survivors import accepted

ROOT = Path(__file__).resolve().parents[2]
FLOOR = 90.0


def main() -> int:
    """Run; return 1 when too many survive, 2 when nothing can be told."""
    options = _parser().parse_args()
    try:
        with project_copies(ROOT, options.processes) as copies:
            if options.review:
                return _review(copies, options.floor)
            shares = [_module(path, copies, options) for path in options.modules or CORE]
    except (ControlFailedError, LookupError) as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if min(shares) < options.floor else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="module", help="by default the core")
    parser.add_argument("--sample", type=int, help="so many mutants of each module")
    parser.add_argument("--seed", type=int, default=0, help="which ones, with --sample")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--floor", type=float, default=FLOOR, help="percent that must be killed")
    parser.add_argument("--review", action="store_true", help="only the mutants of a past review")
    parser.add_argument("--list", action="store_true", help="print mutants instead of running them")
    return parser


def _module(path: str, copies: Copies, options: argparse.Namespace) -> float:
    source = (ROOT / path).read_text()
    every, reasons = mutants_of(path, source), accepted()
    chosen = [mutant for mutant in every if mutant.key not in reasons]
    for key in reasons.keys() - {mutant.key for mutant in every}:
        if key[0] == path:
            print(f"survivors.txt: there is no such mutant any more: {key}", file=sys.stderr)
    if options.sample is not None and options.sample < len(chosen):
        picked = random.Random(options.seed).sample(range(len(chosen)), options.sample)
        chosen = [chosen[number] for number in sorted(picked)]
    if options.list:
        print(*chosen, sep="\n")
        return 100.0
    tests = tests_of(path, ROOT)
    limit = copies.limit_of(path, round_trip(source), tests)
    jobs = [Job(path, mutant.text, tests, limit) for mutant in chosen]
    return _report(path, chosen, copies, jobs, f" of {len(every)}")


def _review(copies: Copies, floor: float) -> int:
    """Run the mutants that a review of the tests found by hand."""
    names, jobs, limits = [], [], dict[str, float]()
    for patch in PATCHES:
        source = (ROOT / patch.path).read_text()
        if source.count(patch.old) != 1:
            print(
                f"SKIPPED {patch}: the old text is gone: correct it in review.py", file=sys.stderr
            )
            continue
        tests = tests_of(patch.path, ROOT)
        if patch.path not in limits:
            limits[patch.path] = copies.limit_of(patch.path, source, tests)
        text = source.replace(patch.old, patch.new)
        names.append(patch)
        jobs.append(Job(patch.path, text, tests, limits[patch.path]))
    return 1 if _report("the review", names, copies, jobs, f" of {len(PATCHES)}") < floor else 0


def _report(
    title: str, names: Sequence[object], copies: Copies, jobs: list[Job], total: str
) -> float:
    """Run, print what survives as it is known, and return the share of what was killed."""
    survived = 0
    for name, fate in zip(names, copies.fates(jobs), strict=True):
        if fate == "survived":
            survived += 1
            print(f"  survived  {name}", flush=True)
    share = 100.0 * (len(jobs) - survived) / len(jobs) if jobs else 100.0
    print(
        f"{title}: {len(jobs) - survived} of {len(jobs)} killed ({share:.0f} %){total}", flush=True
    )
    return share


if __name__ == "__main__":
    sys.exit(main())
