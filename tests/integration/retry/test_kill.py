"""Processes that are killed with SIGKILL, at any step: nothing is lost, nothing is sent twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import pytest

from buttdial_sync import Client, FailedMessage, RetryLoop
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.retry.table import TableRepository
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.integration.retry.victim import KEY, TOKEN, open_repository

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals")]

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 40.0
LEASE = timedelta(seconds=300)
STEPS = ("before add", "after add", "sending", "before settling", "after settling")


def after_the_lease() -> Any:
    return utc_now() + LEASE + timedelta(seconds=60)


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a victim; whatever is left of it at the end is killed."""
    environment = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.retry.victim", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
    ) as victim:
        try:
            yield victim
        finally:
            if victim.poll() is None:
                victim.kill()
                victim.wait(SECONDS)


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def loop(server: LoopbackServer, database: str) -> Iterator[tuple[RetryLoop, TableRepository]]:
    """The survivor: a loop for which every lease of before has run out."""
    repository = open_repository(database, clock=after_the_lease)
    with Client(server.base_url, agent_id="agent-1", agent_token=TOKEN) as client:
        yield RetryLoop(repository, client, clock=after_the_lease, workers=2), repository
    close(repository)


def close(repository: Any) -> None:
    if hasattr(repository, "close"):
        repository.close()
    else:
        repository.store._engine.dispose()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_killed_in_send_message(dialect: Any, step: str, tmp_path: Path) -> None:
    """Wherever the process dies, the row tells the truth and people get the message once."""
    database = str(tmp_path / "outbox.db")
    fake = FakeButtDialServer(dialect=dialect)
    with fake.listen() as server:
        if step == "sending":
            fake.fault("late", tool="comms_send_message")
        with process("outbox", server.base_url, database, step) as victim:
            if step == "sending":
                assert fake.wait_for(lambda: fake.held, SECONDS)
            else:
                assert pipe(victim.stdout).readline() == f"{step}\n"
            victim.send_signal(signal.SIGKILL)
            victim.wait(SECONDS)
        with loop(server, database) as (survivor, repository):
            survivor.drain()
            rows = repository.list()
    bodies = [call.idempotency_key for call in fake.delivered]
    statuses = [row.status for row in rows]
    honoured = dialect == "hosted"
    assert bodies == [KEY] * expected_deliveries(step, honoured=honoured)
    assert statuses == expected_statuses(step, honoured=honoured)
    if statuses == ["dead"]:
        assert "may have been sent" in str(rows[0].last_error)


def expected_deliveries(step: str, *, honoured: bool) -> int:
    if step == "before add":
        return 0
    return 0 if step == "after add" and not honoured else 1


def expected_statuses(step: str, *, honoured: bool) -> list[str]:
    if step == "before add":
        return []
    return ["delivered" if honoured or step == "after settling" else "dead"]


def fill(repository: TableRepository, count: int) -> None:
    messages = [
        FailedMessage(id=f"m{number}", recipient="+1", body=f"m{number}") for number in range(count)
    ]
    create_table = getattr(repository, "create_table", None)
    if create_table is not None:
        create_table()
    assert repository.add_new(messages) == count


def drain_with_a_kill(
    server: LoopbackServer, database: str, processes: int, count: int
) -> list[FailedMessage]:
    """Drain with several processes, one of them killed midway; return the rows at the end."""
    repository = open_repository(database)
    fill(repository, count)
    close(repository)
    first, *others = (process("drain", server.base_url, database) for _ in range(processes))
    with ExitStack() as stack:
        victim = stack.enter_context(first)
        survivors = [stack.enter_context(other) for other in others]
        for each in (victim, *survivors):
            assert pipe(each.stdout).readline() == "ready\n"
        for each in (victim, *survivors):
            pipe(each.stdin).write("\n")
            pipe(each.stdin).flush()
        assert server.fake.wait_for(lambda: len(server.fake.delivered) > count // 4, SECONDS)
        assert victim.poll() is None, "it was through before it could be killed"
        victim.send_signal(signal.SIGKILL)
        done = [int(pipe(each.stdout).readline().split()[1]) for each in survivors]
        assert min(done) > 0, "each process had its share"
    with loop(server, database) as (survivor, repository):
        survivor.drain()
        return list(repository.list(limit=2 * count))


def check(server: LoopbackServer, rows: list[FailedMessage], count: int) -> None:
    sent = Counter(call.body for call in server.fake.delivered)
    assert max(sent.values()) == 1
    assert len(rows) == count
    by_status = Counter(row.status for row in rows)
    if server.fake.dialect == "hosted":
        assert by_status == {"delivered": count}
        assert len(sent) == count
        return
    assert by_status["delivered"] + by_status["dead"] == count
    assert by_status["dead"] <= 2, "one for each thread of the killed process"
    for row in rows:
        told = row.status == "dead" and "may have been sent" in str(row.last_error)
        assert told or (row.status == "delivered" and sent[row.body] == 1), row


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_a_thousand_messages_on_sqlite(dialect: Any, tmp_path: Path) -> None:
    """Two processes, one killed: each message once, or once at most and the row says so."""
    with FakeButtDialServer(dialect=dialect).listen() as server:
        rows = drain_with_a_kill(server, str(tmp_path / "outbox.db"), 2, 1000)
        check(server, rows, 1000)


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_a_thousand_messages_on_postgresql(dialect: Any, postgres_url: str) -> None:
    """Four processes, one killed: each message once, or once at most and the row says so."""
    from sqlalchemy import create_engine, text

    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS buttdial_outbox"))
    engine.dispose()
    with FakeButtDialServer(dialect=dialect).listen() as server:
        rows = drain_with_a_kill(server, postgres_url, 4, 1000)
        check(server, rows, 1000)
