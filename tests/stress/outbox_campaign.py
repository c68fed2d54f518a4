"""
Processes that drain one outbox while its database is restarted, they are stopped, clocks are wrong.

``python -m tests.stress.outbox_campaign --dialect open-source --restarts 4 --stops 6`` prints what
became of 1,500 messages on PostgreSQL, and what the server did with them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from buttdial_sync import Client, FailedMessage, RetryLoop
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.retry.table import TableRepository
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.integration.retry import postgres
from tests.integration.retry.test_kill import close, pipe
from tests.integration.retry.victim import TOKEN, open_repository

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0


@attrs.frozen(kw_only=True)
class Trouble:
    """
    What happens while the processes work.

    Attributes:
        restarts: How often PostgreSQL is restarted.
        down: For how many seconds each time.
        stops: How often a process is stopped as by SIGSTOP, and continued after its lease.
        ahead: The clocks of the processes, in seconds; there are as many processes.
        lease: In seconds; the client waits half of it for an answer.
    """

    restarts: int = 0
    down: float = 2.0
    stops: int = 0
    ahead: Sequence[float] = (0.0, 0.0, 0.0, 0.0)
    lease: float = 20.0


@attrs.frozen(kw_only=True)
class Figures:
    """
    What became of the messages.

    Attributes:
        statuses: How many rows have each status.
        executed: How many messages the server sent.
        twice: How many of them more than once.
        dead_but_sent: Rows that are dead although the server sent the message.
        untrue: Rows that are delivered although the server did not send the message.
        lost: Messages without a row.
        known: How many deliveries the processes counted.
        repeated: Requests that the server knew by their key.
        seconds: How long it took.
    """

    statuses: dict[str, int]
    executed: int
    twice: int
    dead_but_sent: int
    untrue: int
    lost: int
    known: int
    repeated: int
    seconds: float


@contextmanager
def victim(url: str, database: str, lease: float, ahead: float) -> Iterator[subprocess.Popen[str]]:
    """Run a process that drains."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stress.outbox_victim", url, database, str(lease), str(ahead)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait(PATIENCE)


def campaign(
    server: LoopbackServer, database: str, count: int, trouble: Trouble, dice: random.Random
) -> Figures:
    """Send messages while there is trouble, settle what it left behind, and count."""
    began = time.monotonic()
    with opened(database) as repository:
        create_table = getattr(repository, "create_table", lambda: None)
        create_table()
        names = [f"m{number}" for number in range(count)]
        rows = [FailedMessage(id=name, recipient="+1", body=name) for name in names]
        assert repository.add_new(rows) == count
    with ExitStack() as stack:
        processes = [
            stack.enter_context(victim(server.base_url, database, trouble.lease, ahead))
            for ahead in trouble.ahead
        ]
        for process in processes:
            assert pipe(process.stdout).readline() == "ready\n"
        for process in processes:
            pipe(process.stdin).write("\n")
            pipe(process.stdin).flush()
        _make_trouble(server, database, processes, count, trouble, dice)
        known = sum(int(process.communicate(timeout=PATIENCE)[0]) for process in processes)
    with opened(database, clock=after_all_leases) as repository:
        with Client(server.base_url, agent_id="agent-1", agent_token=TOKEN) as client:
            RetryLoop(repository, client, clock=after_all_leases).drain()
        return _figures(server, repository, count, known, time.monotonic() - began)


def after_all_leases() -> datetime:
    """Tell a time at which what the processes left behind is free."""
    return utc_now() + timedelta(hours=1)


@contextmanager
def opened(database: str, **options: Any) -> Iterator[TableRepository]:
    """Open the outbox; its connections are closed after the block."""
    repository = open_repository(database, **options)
    try:
        yield repository
    finally:
        close(repository)


def _make_trouble(
    server: LoopbackServer,
    database: str,
    processes: Sequence[subprocess.Popen[str]],
    count: int,
    trouble: Trouble,
    dice: random.Random,
) -> None:
    """Strike when a part of the messages is sent, again and again."""
    strikes = ["restart"] * trouble.restarts + ["stop"] * trouble.stops
    dice.shuffle(strikes)
    pause = threading.Event()
    for number, strike in enumerate(strikes, 1):
        wanted = count * number // (len(strikes) + 1)
        assert server.fake.wait_for(lambda: len(server.fake.delivered) >= wanted, PATIENCE)  # noqa: B023
        if strike == "restart":
            with postgres.stopped(database):
                pause.wait(trouble.down)
            continue
        process = dice.choice(processes)
        process.send_signal(signal.SIGSTOP)
        pause.wait(trouble.lease * 1.2)
        process.send_signal(signal.SIGCONT)


def _figures(
    server: LoopbackServer, repository: TableRepository, count: int, known: int, seconds: float
) -> Figures:
    sent = Counter(call.body for call in server.fake.delivered)
    rows = repository.list(limit=2 * count)
    return Figures(
        statuses=dict(Counter(row.status for row in rows)),
        executed=len(sent),
        twice=sum(each > 1 for each in sent.values()),
        dead_but_sent=sum(row.status == "dead" and row.body in sent for row in rows),
        untrue=sum(row.status == "delivered" and row.body not in sent for row in rows),
        lost=count - len(rows),
        known=known,
        repeated=len(server.fake.sent_messages) - sum(sent.values()),
        seconds=round(seconds, 1),
    )


@contextmanager
def database_of(store: str) -> Iterator[str]:
    """Make an empty database; it is deleted, or its server ended, after the block."""
    if store == "postgresql":
        with postgres.running() as address:
            yield address
        return
    with tempfile.TemporaryDirectory() as folder:
        yield f"{folder}/outbox.db"


def main() -> int:
    """Run a campaign; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1500)
    parser.add_argument("--dialect", default="open-source")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--restarts", type=int, default=0)
    parser.add_argument("--down", type=float, default=2.0)
    parser.add_argument("--stops", type=int, default=0)
    parser.add_argument("--lease", type=float, default=20.0)
    parser.add_argument("--ahead", type=float, nargs="+", default=(0.0, 0.0, 0.0, 0.0))
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    trouble = Trouble(
        restarts=given.restarts,
        down=given.down,
        stops=given.stops,
        ahead=given.ahead,
        lease=given.lease,
    )
    fake = FakeButtDialServer(dialect=given.dialect)
    pause = threading.Event()

    def send(arguments: Any) -> dict[str, str]:
        pause.wait(given.latency)
        return {"messageId": f"id-{arguments['body']}"}

    fake.on_tool("comms_send_message", send)
    with database_of(given.store) as database, fake.listen() as server:
        figures = campaign(server, database, given.messages, trouble, random.Random(given.seed))
    sys.stdout.write(json.dumps(attrs.asdict(figures), indent=2) + "\n")
    # Who is stopped for longer than it waits for an answer may never know it.
    forgotten = 0 if given.stops else figures.dead_but_sent
    return int(bool(figures.twice or figures.untrue or figures.lost or forgotten))


if __name__ == "__main__":
    sys.exit(main())
