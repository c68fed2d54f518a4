"""From the start of a process to its first message, and what an import takes."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from tests.benchmarks.figures import Figure, amount, share
from tests.benchmarks.processes import Child, seconds_of
from tests.benchmarks.settings import Settings

_IMPORT = "import buttdial_sync, sys; assert not {'requests', 'cattrs'} & set(sys.modules)"


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the figures."""
    for server in ("fake", "mcp"):
        ours, peer = _first_messages(server, settings.starts)
        yield share("process start to first message", ours, peer, 0.25, unit="ms", server=server)
    bare, ours = _imports(3 * settings.starts)
    yield amount("import buttdial_sync, above bare Python", ours - bare, 20.0, unit="ms")


def _first_messages(server: str, starts: int) -> tuple[float, float]:
    seconds: dict[str, list[float]] = {"ours": [], "sdk": []}
    with Child("servers", server) as running:
        for _ in range(starts):
            for name, values in seconds.items():
                with Child("worker", name, running.hello["url"]) as worker:
                    values.append(worker.seconds_to_start)
    return median(seconds["ours"]) * 1000, median(seconds["sdk"]) * 1000


def _imports(times: int) -> tuple[float, float]:
    seconds: dict[str, list[float]] = {"pass": [], _IMPORT: []}
    for _ in range(times):
        for code, values in seconds.items():
            values.append(seconds_of(code))
    return median(seconds["pass"]) * 1000, median(seconds[_IMPORT]) * 1000
