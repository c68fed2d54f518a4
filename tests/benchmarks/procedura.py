"""A call of Procedura on a kept connection: against a bare loop, and against connecting anew."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from buttdial_sync.procedura import RemoteAgent
from tests.benchmarks.figures import Figure, times_better
from tests.benchmarks.settings import Settings

_CALLS = 40
_CALLS_ANEW = 10
_WARM_UP = 5
_OF_A_BARE_LOOP = 1.3
_OF_CONNECTING_ANEW = 5.0


def _answer(connection: ServerConnection) -> None:
    for text in connection:
        request = json.loads(text)
        connection.send(json.dumps({"id": request["id"], "status": "ack"}))
        result = {"id": request["id"], "status": "finished", "result": {"placed": 2}}
        connection.send(json.dumps(result))


def _bare_call(connection: ClientConnection, number: int) -> None:
    frame = {"id": f"{number:08x}", "cmd": "place", "args": ["--n", "2"], "mode": "sync"}
    connection.send(json.dumps(frame))
    while json.loads(connection.recv(timeout=30.0))["status"] != "finished":
        pass


@contextmanager
def _server() -> Iterator[str]:
    """Run a server of ``websockets.sync`` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.procedura"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def measure(settings: Settings) -> Iterator[Figure]:
    """Let the three take turns, in a new random order each round."""
    with ExitStack() as stack:
        url = stack.enter_context(_server())
        bare = stack.enter_context(connect(url, proxy=None))
        agent = stack.enter_context(RemoteAgent(url, token_store=None))

        def anew(number: int) -> None:
            with connect(url, proxy=None) as connection:
                _bare_call(connection, number)

        contenders: dict[str, tuple[Callable[[int], object], int]] = {
            "ours": (lambda _: agent.run("place", ["--n", "2"]), _CALLS),
            "bare": (lambda number: _bare_call(bare, number), _CALLS),
            "anew": (anew, _CALLS_ANEW),
        }
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(settings.rounds):
            for name in random.sample(list(contenders), len(contenders)):
                call, count = contenders[name]
                seconds[name].append(_seconds_of(call, count))
    ours, bare_loop, connecting = (
        statistics.median(seconds[name]) * 1e3 for name in ("ours", "bare", "anew")
    )
    yield Figure(
        what="procedura: a call, against a bare loop of websockets.sync",
        ours=ours,
        peer=bare_loop,
        unit="ms",
        result=ours / bare_loop,
        target=_OF_A_BARE_LOOP,
    )
    yield times_better(
        "procedura: a call, against connecting anew",
        ours,
        connecting,
        _OF_CONNECTING_ANEW,
        unit="ms",
    )


def _seconds_of(call: Callable[[int], object], count: int) -> float:
    for number in range(_WARM_UP):
        call(number)
    started = time.perf_counter()
    for number in range(count):
        call(number)
    return (time.perf_counter() - started) / count


if __name__ == "__main__":
    with serve(_answer, "127.0.0.1", 0) as server:
        sys.stdout.write(f"{server.socket.getsockname()[1]}\n")
        sys.stdout.flush()
        server.serve_forever()
