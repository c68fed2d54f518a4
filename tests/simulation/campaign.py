"""Many histories, side by side."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from tests.simulation.causes import put_back

_AT_ONCE = 50

Failure = tuple[int, list[str]]


def failures_of(
    seeds: Sequence[int], processes: int, cause: str | None = None
) -> Iterator[list[Failure]]:
    """
    Run the histories of some seeds.

    Args:
        seeds: Which ones.
        processes: How many Python processes share the work.
        cause: The mistake to put back.

    Yields:
        Of each portion of the seeds, in their order, those that broke a promise, and which.
    """
    portions = [seeds[start : start + _AT_ONCE] for start in range(0, len(seeds), _AT_ONCE)]
    # Not forked: a mistake can be put back only where the library is not loaded yet.
    pool = ProcessPoolExecutor(
        processes,
        get_context("spawn"),
        initializer=None if cause is None else partial(put_back, cause),
    )
    try:
        yield from pool.map(run_seeds, portions)
    finally:
        pool.shutdown(cancel_futures=True)


def run_seeds(seeds: Iterable[int]) -> list[Failure]:
    """Run the histories of some seeds, and return those that broke a promise."""
    from tests.simulation.history import simulate  # not before a mistake was put back

    failures: list[Failure] = []
    for seed in seeds:
        try:
            promises = simulate(seed)
        except Exception:  # noqa: BLE001 - the simulation's own; the seed tells where
            promises = [traceback.format_exc()]
        if promises:
            failures.append((seed, promises))
    return failures
