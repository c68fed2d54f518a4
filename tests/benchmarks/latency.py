"""What a message takes, one after the other: time, and processor time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from random import Random
from statistics import median

from tests.benchmarks.figures import Figure, share, times_better
from tests.benchmarks.processes import Child
from tests.benchmarks.settings import Settings

# The slow peer sends fewer in each of its turns, so that turns are about equally long.
_A_TURN = {"ours": 20, "floor": 20, "lean floor": 20, "wire": 20, "mcp": 20, "sdk": 2}

Milliseconds = dict[str, float]


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the figures, of each server."""
    for server in ("fake", "mcp"):
        yield from _figures(server, *_milliseconds(server, settings.rounds))


def _figures(server: str, wall: Milliseconds, cpu: Milliseconds) -> Iterator[Figure]:
    def faster(what: str, ours: float, peer: float, target: float) -> Figure:
        return times_better(what, ours, peer, target, unit="ms", server=server)

    def at_most(what: str, ours: float, peer: float, target: float) -> Figure:
        return share(what, ours, peer, target, unit="ms", server=server)

    ours, mcp, wire = wall["ours"], wall["mcp"], wall["wire"]
    yield faster("a send, to butt-dial-sdk", ours, wall["sdk"], 15.0)
    yield faster("a send, to mcp's held session", ours, mcp, 1.5)
    yield faster("the same, less the bare wire", ours - wire, mcp - wire, 1.5)
    yield at_most("processor time, to mcp's held session", cpu["ours"], cpu["mcp"], 0.35)
    yield at_most("a send, to the floor", ours, wall["floor"], 1.0)
    yield at_most("the same, floor with trust_env off", ours, wall["lean floor"], 1.0)


def _milliseconds(server: str, rounds: int) -> tuple[Milliseconds, Milliseconds]:
    walls: dict[str, list[float]] = {name: [] for name in _A_TURN}
    cpus: dict[str, list[float]] = {name: [] for name in _A_TURN}
    with ExitStack() as stack:
        url = stack.enter_context(Child("servers", server)).hello["url"]
        workers = {name: stack.enter_context(Child("worker", name, url)) for name in _A_TURN}
        random = Random(0)
        for _ in range(rounds):
            # Whoever always followed the same peer would wait for the server to clean up after it.
            for name, worker in random.sample(list(workers.items()), len(workers)):
                # The turn before was another process's: let the caches fill again.
                worker.ask("send", max(1, _A_TURN[name] // 3))
                took = worker.ask("send", _A_TURN[name])
                walls[name].append(took["wall"] * 1000)
                cpus[name].append(took["cpu"] * 1000)
    return (
        {name: median(values) for name, values in walls.items()},
        {name: median(values) for name, values in cpus.items()},
    )
