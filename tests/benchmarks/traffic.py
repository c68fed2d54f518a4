"""What goes over the wire, as the servers count it, and the threads behind it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.figures import Figure, amount
from tests.benchmarks.processes import Child
from tests.benchmarks.settings import Settings

_SENDS = 30


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the figures."""
    del settings  # a count is the same each time
    for name in ("fake", "mcp"):
        with Child("servers", name) as server:
            ours, peer = (_traffic(server, contender) for contender in ("ours", "sdk"))
        yield amount("requests per send", ours[0], 1, peer=peer[0], server=name)
        yield amount(f"connections for {_SENDS} sends", ours[1], 2, peer=peer[1], server=name)
    yield from _threads()


def _traffic(server: Child, contender: str) -> tuple[float, float]:
    """Return the requests of each further send, and the connections of all sends."""
    before = server.ask("counts")
    with Child("worker", contender, server.hello["url"]) as worker:
        first = server.ask("counts")
        worker.ask("send", _SENDS - 1)
        after = server.ask("counts")
    requests = (after["requests"] - first["requests"]) / (_SENDS - 1)
    return requests, after["connections"] - before["connections"]


def _threads() -> Iterator[Figure]:
    with (
        Child("servers", "fake") as server,
        Child("worker", "ours", server.hello["url"]) as worker,
    ):
        yield amount("threads of a session", worker.ask("threads")["threads"], 1, server="fake")
        server.ask("ping_clients")
        pushed = worker.ask("threads")["threads"]
        yield amount("threads once the server asked something", pushed, 2, server="fake")
