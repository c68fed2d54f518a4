"""``python -m tests.mutation [module ...]``: change the package, and see whether tests notice."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import attrs

from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.review import PATCHES
from tests.mutation.rooms import DESELECTED, core, tests_of
from tests.mutation.running import ControlFailedError, Copy, Fate, Reach, project_copies
from tests.mutation.survivors import accepted

ROOT = Path(__file__).resolve().parents[2]
FLOOR = 90.0


def main() -> int:
    """Run; return 1 when too many survive, 2 when nothing can be told."""
    options = _parser().parse_args()
    if options.review:
        modules = options.modules or sorted({patch.path for patch in PATCHES})
        make: Callable[[str, str], Mutants] = _mutants_of_review
    else:
        modules = options.modules or core(ROOT)
        make = partial(_mutants_of_module, options=options)
    try:
        files = {file for path in modules for part in tests_of(path, ROOT) for file in part}
        with project_copies(ROOT, options.processes, sorted(files), modules) as copies:
            shares = _run(modules, make, copies, only_near=options.near)
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
    parser.add_argument("--near", action="store_true", help="only the tests nearest to the module")
    parser.add_argument("--review", action="store_true", help="only the mutants of a past review")
    return parser


@attrs.frozen
class Mutants:
    """The mutants of one module that are run, and what they are called."""

    title: str
    chosen: Sequence[Mutant]


def _mutants_of_module(path: str, source: str, options: argparse.Namespace) -> Mutants:
    every, reasons = mutants_of(path, source), accepted()
    known = {mutant.key for mutant in every}
    for key in sorted(key for key in reasons if key[0] == path and key not in known):
        _say(f"STALE in survivors.txt, there is no such mutant: {key}")
    chosen = [mutant for mutant in every if mutant.key not in reasons]
    title = f"{path} ({len(every)} mutants, {len(every) - len(chosen)} accepted)"
    if options.sample is not None and options.sample < len(chosen):
        picked = random.Random(options.seed).sample(range(len(chosen)), options.sample)
        chosen = [chosen[number] for number in sorted(picked)]
    return Mutants(title, chosen)


def _mutants_of_review(path: str, source: str) -> Mutants:
    """Make the mutants of a module that a review of the tests made by hand."""
    chosen = [patch for patch in PATCHES if patch.path == path and patch.accepted is None]
    for patch in chosen:
        if source.count(patch.old) != 1:
            raise LookupError(f"the old text is gone, give it the text of today: {patch}")
    mutants = []
    for patch in chosen:
        text, line = (
            source.replace(patch.old, patch.new),
            source.count("\n", 0, source.find(patch.old)),
        )
        old, new = patch.old.strip(), patch.new.strip()
        mutants.append(Mutant(path, line + 1, range(0), patch.name, old, new, text))
    return Mutants(f"the review of {path}", mutants)


def _run(
    modules: list[str], make: Callable[[str, str], Mutants], copies: list[Copy], *, only_near: bool
) -> list[float]:
    """Run modules side by side, each in one copy; return the percentages of the killed."""
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def share_of(path: str) -> float:
        copy = free.get()
        try:
            near, rest = tests_of(path, copy.folder)
            reach = copy.reach(path, near, [*([] if only_near else rest), *DESELECTED])
            return _share_killed(make(path, (copy.folder / path).read_text()), copy, reach)
        except (ControlFailedError, LookupError) as error:
            _say(f"{path} tells nothing: {error}")
            return 0.0
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as workers:
        return list(workers.map(share_of, modules))


def _share_killed(mutants: Mutants, copy: Copy, reach: Reach) -> float:
    """Run, say what survives as soon as it is known, and return the percentage of the killed."""
    began = time.monotonic()
    fates: list[Fate] = []
    for mutant in mutants.chosen:
        fates.append(copy.fate(mutant.path, mutant.text, reach.stages(mutant.executed)))
        if fates[-1] == "survived":
            _say(f"  survived  {mutant}")
    killed = len(fates) - fates.count("survived")
    share = 100.0 * killed / len(fates) if fates else 100.0
    _say(
        f"{mutants.title}: {killed} of {len(fates)} killed, {share:.0f} %, "
        f"{fates.count('endless')} by the time limit, in {time.monotonic() - began:.0f} s"
    )
    return share


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
