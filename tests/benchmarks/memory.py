"""Memory at rest, and whether it stays."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.figures import Figure, amount, share
from tests.benchmarks.processes import Child
from tests.benchmarks.settings import Settings

_A_PIECE = 1000
_GROWTH_ALLOWED = 1.0  # MiB: an allocator takes memory by the arena


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the figures."""
    with Child("servers", "fake") as server:
        url = server.hello["url"]
        with Child("worker", "ours", url) as worker:
            ours = worker.ask("memory")
        with Child("worker", "sdk", url) as worker:
            peer = worker.ask("memory")
        for what, key in (("memory at rest", "rss"), ("memory at rest, not shared", "private")):
            yield share(what, ours[key], peer[key], 0.5, unit="MiB", server="fake")
        yield amount(
            f"growth over {settings.long_calls} calls",
            _growth(server, settings.long_calls),
            _GROWTH_ALLOWED,
            unit="MiB",
            server="fake",
        )


def _growth(server: Child, calls: int) -> float:
    """Return what the process grew by, from the first tenth of the calls to the last call."""
    with Child("worker", "ours", server.hello["url"]) as worker:
        warm = 0.0
        for done in range(0, calls, _A_PIECE):
            if not warm and done >= calls / 10:
                warm = worker.ask("memory")["rss"]
            worker.ask("send", min(_A_PIECE, calls - done))
            server.ask("forget")
        grown: float = worker.ask("memory")["rss"] - warm
        return grown
