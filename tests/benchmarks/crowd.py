"""Thirty-two at once."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from tests.benchmarks.figures import Figure
from tests.benchmarks.processes import Child
from tests.benchmarks.settings import Settings

_SIZE = 32
_EACH = {"ours": 20, "sdk": 2}


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the figures, of each server."""
    for name in ("fake", "mcp"):
        with Child("servers", name) as server:
            ours, peer = _rates(server, settings.starts)
        yield Figure(
            what=f"sends per second, {_SIZE} at once",
            server=name,
            ours=ours,
            peer=peer,
            unit="/s",
            result=ours / peer,
            target=10.0,
            at_least=True,
        )


def _rates(server: Child, rounds: int) -> tuple[float, float]:
    url = server.hello["url"]
    rates: dict[str, list[float]] = {"ours": [], "sdk": []}
    with Child("worker", "ours", url) as ours, Child("worker", "sdk", url) as sdk:
        for _ in range(rounds):
            for name, worker in (("ours", ours), ("sdk", sdk)):
                rates[name].append(worker.ask("crowd", _SIZE, _EACH[name])["rate"])
    return median(rates["ours"]), median(rates["sdk"])
