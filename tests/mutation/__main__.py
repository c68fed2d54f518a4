"""``python -m tests.mutation [module ...]``: change the package, and see whether tests notice."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.mutants import mutants_of, round_trip
from tests.mutation.review import PATCHES, Patch
from tests.mutation.rooms import core, tests_of
from tests.mutation.running import ControlFailedError, Copies, Job, Stage, project_copies
from tests.mutation.survivors import accepted

ROOT = Path(__file__).resolve().parents[2]
FLOOR = 90.0


def main() -> int:
    """Run; return 1 when too many survive, 2 when nothing can be told."""
    options = _parser().parse_args()
    modules = options.modules or core(ROOT)
    if options.review:
        modules = sorted({patch.path for patch in PATCHES})
    try:
        tests = {each for path in modules for stage in tests_of(path, ROOT) for each in stage}
        paths = sorted(each for each in tests if not each.startswith("-"))
        with project_copies(ROOT, options.processes, paths) as copies:
            if options.review:
                shares = [_review(copies)]
            else:
                shares = [_module(path, copies, options) for path in modules]
    except (ControlFailedError, LookupError) as error:
        _say(str(error))
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
    return parser


def _module(path: str, copies: Copies, options: argparse.Namespace) -> float:
    source = (ROOT / path).read_text()
    every, reasons = mutants_of(path, source), accepted()
    known = {mutant.key for mutant in every}
    for key in sorted(key for key in reasons if key[0] == path and key not in known):
        _say(f"STALE in survivors.txt, there is no such mutant: {key}")
    chosen = [mutant for mutant in every if mutant.key not in reasons]
    left_out = len(every) - len(chosen)
    if options.sample is not None and options.sample < len(chosen):
        picked = random.Random(options.seed).sample(range(len(chosen)), options.sample)
        chosen = [chosen[number] for number in sorted(picked)]
    stages = copies.control(path, round_trip(source), tests_of(path, ROOT))
    jobs = [Job(path, mutant.text, stages) for mutant in chosen]
    return _share_killed(
        f"{path} ({len(every)} mutants, {left_out} accepted)", chosen, copies, jobs
    )


def _review(copies: Copies) -> float:
    """Run the mutants that a review of the tests made by hand."""
    patches: list[Patch] = []
    jobs: list[Job] = []
    stages: dict[str, list[Stage]] = {}
    for patch in PATCHES:
        source = (ROOT / patch.path).read_text()
        if patch.accepted is not None:
            continue
        if source.count(patch.old) != 1:
            _say(f"SKIPPED, the old text is gone, give it the text of today: {patch}")
            continue
        if patch.path not in stages:
            stages[patch.path] = copies.control(patch.path, source, tests_of(patch.path, ROOT))
        text = source.replace(patch.old, patch.new)
        patches.append(patch)
        jobs.append(Job(patch.path, text, stages[patch.path]))
    return _share_killed(f"the review ({len(PATCHES)} mutants)", patches, copies, jobs)


def _share_killed(title: str, names: Sequence[object], copies: Copies, jobs: list[Job]) -> float:
    """Run, say what survives as soon as it is known, and return the percentage of the killed."""
    survived = 0
    for name, fate in zip(names, copies.fates(jobs), strict=True):
        if fate == "survived":
            survived += 1
            _say(f"  survived  {name}")
    killed = len(jobs) - survived
    share = 100.0 * killed / len(jobs) if jobs else 100.0
    _say(f"{title}: {killed} of {len(jobs)} killed, {share:.0f} %")
    return share


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
