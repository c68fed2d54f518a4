"""
The retry loop: ``python -m tests.benchmarks.retry``.

A drain of due rows against the published retry worker, both over a repository in memory and the
same server, in turn; and the processor time of a row in a table of 100 to 100,000 rows.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from buttdial_sync import Client, FailedMessage, RetryLoop
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.retry import MemoryRepository, SQLiteRepository
from tests.benchmarks.contender import BODY, CHANNEL, TO, TOKEN
from tests.benchmarks.figures import Figure, amount, table, times_better
from tests.benchmarks.processes import Child

_ROUNDS = 5
_ROWS = 300
_PEER_ROWS = 15  # each costs the same: a stream and a handshake of its own
_WORKERS = 8
_SIZES = (100, 1_000, 10_000, 100_000)
_DUE = 100
_LATER = timedelta(days=30)


def measure() -> Iterator[Figure]:
    """Yield the figures."""
    with Child("servers", "fake") as server:
        url = server.hello["url"]
        _ours(url), _theirs(url)  # to load the modules, and fill the caches
        rounds = [(_ours(url), _theirs(url)) for _ in range(_ROUNDS)]
        rounds.sort(key=lambda pair: pair[1] / pair[0])
        for which, (ours, theirs) in (("worst", rounds[0]), ("median", rounds[_ROUNDS // 2])):
            what = f"a due row, {_WORKERS} workers, the {which} of {_ROUNDS} rounds"
            yield times_better(what, ours, theirs, 40.0, unit="ms", server="fake")
        # In turn, and the least of each: whatever else the machine does only adds to them.
        costs = [{size: _cost(url, size) for size in _SIZES} for _ in range(_ROUNDS)]
    least = {size: min(each[size] for each in costs) for size in _SIZES}
    for size, cost in least.items():
        what = f"processor time of a row of SQLite among {size}"
        yield amount(what, cost, 1.5 * least[_SIZES[0]], unit="ms")


def _message(number: int, due: datetime) -> FailedMessage:
    return FailedMessage(
        id=f"m{number}",
        recipient=TO,
        body=BODY,
        channel=CHANNEL,
        created_at=due,
        next_retry_at=due,
    )


def _ours(url: str) -> float:
    repository = MemoryRepository()
    now = utc_now()
    for number in range(_ROWS):
        repository.add(_message(number, now))
    with Client(url, agent_token=TOKEN) as client:
        loop = RetryLoop(repository, client, workers=_WORKERS)
        return _milliseconds(loop, _ROWS, time.perf_counter)


def _cost(url: str, size: int) -> float:
    """Return what a due row costs among others that are delivered or due later."""
    now = utc_now()
    with tempfile.TemporaryDirectory() as directory, Client(url, agent_token=TOKEN) as client:
        path = Path(directory) / "outbox.db"
        due = [_message(number, now) for number in range(_DUE)]
        later = (_message(number, now + _LATER) for number in range(_DUE, size))
        # Closing it moves the log into the file, which is not what is measured.
        with SQLiteRepository(path) as repository:
            repository.add_new([*due, *later])
        with SQLiteRepository(path) as repository:
            # The disk of a shared machine takes as long as it likes.
            return _milliseconds(RetryLoop(repository, client), _DUE, time.process_time)


def _milliseconds(loop: RetryLoop, rows: int, clock: Callable[[], float]) -> float:
    began = clock()
    report = loop.drain()
    assert report.delivered == rows, report
    return (clock() - began) * 1000 / rows


def _theirs(url: str) -> float:
    retry, models = import_module("buttdial.retry"), import_module("buttdial.models")
    agent = import_module("buttdial").Agent(url, agent_id="benchmark", agent_token=TOKEN)
    due = [
        models.FailedMessage(id=f"m{number}", recipient=TO, body=BODY, channel=CHANNEL)
        for number in range(_PEER_ROWS)
    ]

    class Repository:
        delivered = 0

        async def fetch_due(self, limit: int) -> list[Any]:
            batch = due[:limit]
            del due[:limit]
            return batch

        async def mark_delivered(self, *_: Any) -> None:
            self.delivered += 1

    async def drain() -> None:
        worker = retry.RetryWorker(repository, agent)
        while await worker.run_once():
            pass

    repository = Repository()
    began = time.perf_counter()
    asyncio.run(drain())
    assert repository.delivered == _PEER_ROWS
    return (time.perf_counter() - began) * 1000 / _PEER_ROWS


if __name__ == "__main__":
    figures = list(measure())
    sys.stdout.write(f"{table(figures)}\n")
    sys.exit(0 if all(figure.met for figure in figures) else 1)
