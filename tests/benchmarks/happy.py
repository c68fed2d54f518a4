"""Coding agents through Happy: lists, messages and connections, to the published SDK."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from statistics import median
from typing import Any

from buttdial_sync.happy.client import HappyClient
from tests.benchmarks.figures import Figure, amount, times_better
from tests.benchmarks.processes import Child
from tests.benchmarks.settings import Settings

SECRET = bytes(range(32))
TOKEN = "benchmark"
SESSION = "session-00001"
_SENDS = 100
_PEERS_SENDS = 10
_ROUNDS = 10

Call = Callable[[Any], object]


def _list(client: Any) -> object:
    return client.list_sessions()


def _send(client: Any) -> object:
    return client.send_message(SESSION, "hello")


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the figures."""
    # Not installed where the types are checked.
    published = import_module("happy_sdk").SyncHappyClient
    with Child("servers", "happy") as server:
        arguments: dict[str, Any] = {
            "token": TOKEN,
            "secret_b64": base64.b64encode(SECRET).decode(),
        }
        peer = published(server_url=server.hello["url"], **arguments)
        with HappyClient(server.hello["url"], **arguments) as ours:
            opened = _connections(server, ours, _SENDS)
            peers = _connections(server, peer, _PEERS_SENDS) * (_SENDS // _PEERS_SENDS)
            yield amount("happy: connections of 100 sends", opened, 2.0, peer=peers, server="happy")
            rounds = min(settings.rounds, _ROUNDS)
            for name, call, target in (
                ("list_sessions, 100 sessions", _list, 3.0),
                ("send_message", _send, 5.0),
            ):
                fast, slow = _milliseconds(call, ours, peer, rounds)
                yield times_better(f"happy: {name}", fast, slow, target, unit="ms", server="happy")


def _connections(server: Child, client: Any, sends: int) -> int:
    before = server.ask("counts")["connections"]
    for _ in range(sends):
        _send(client)
    return int(server.ask("counts")["connections"] - before)


def _milliseconds(call: Call, ours: Any, peer: Any, rounds: int) -> tuple[float, float]:
    took: dict[int, list[float]] = {0: [], 1: []}
    for number in range(rounds + 1):
        for which, client in enumerate((ours, peer)):
            began = time.perf_counter()
            call(client)
            if number:  # the first round fills the caches
                took[which].append((time.perf_counter() - began) * 1000)
    return median(took[0]), median(took[1])
