"""The short campaigns of the outbox: its database restarted, processes stopped, clocks wrong."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import Client, FailedMessage, RetryLoop
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.retry.table import TableRepository
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.integration.retry.postgres import binaries
from tests.integration.retry.test_kill import SECONDS, pipe, process
from tests.integration.retry.victim import TOKEN
from tests.stress.outbox_campaign import Trouble, campaign, database_of, opened

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals"),
]

needs_postgresql = pytest.mark.skipif(
    binaries() is None or find_spec("psycopg") is None, reason="needs PostgreSQL"
)

COUNT = 120


@needs_postgresql
@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_the_database_is_restarted(dialect: Any) -> None:
    """What was sent is recorded as sent, also without keys, and the rest is sent once."""
    trouble = Trouble(restarts=1, down=0.5, lease=120.0, ahead=(0.0, 0.0))
    fake = FakeButtDialServer(dialect=dialect)
    with database_of("postgresql") as database, fake.listen() as server:
        figures = campaign(server, database, COUNT, trouble, random.Random(1))
    assert figures.statuses == {"delivered": COUNT}
    assert figures.executed == COUNT
    assert (figures.twice, figures.dead_but_sent, figures.untrue, figures.lost) == (0, 0, 0, 0)


@contextmanager
def in_flight(server: LoopbackServer, database: str) -> Iterator[Any]:
    """Give a process whose message was sent, and which has no answer yet."""
    with opened(database) as repository:
        getattr(repository, "create_table", lambda: None)()
        repository.add(FailedMessage(id="m", recipient="+1", body="m"))
    server.fake.fault("late", tool="comms_send_message")
    with process("drain", server.base_url, database) as sender:
        assert pipe(sender.stdout).readline() == "ready\n"
        pipe(sender.stdin).write("\n")
        pipe(sender.stdin).flush()
        assert server.fake.wait_for(lambda: server.fake.held, SECONDS)
        yield sender


def drain(server: LoopbackServer, repository: TableRepository, clock: Any) -> None:
    """Be another process, which begins meanwhile."""
    with Client(server.base_url, agent_id="agent-1", agent_token=TOKEN) as client:
        report = RetryLoop(repository, client, clock=clock).drain()
    assert report.errors == 0


def row_of(database: str) -> FailedMessage:
    with opened(database) as repository:
        (row,) = repository.list()
        return row


def an_hour_later() -> datetime:
    return utc_now() + timedelta(hours=1)


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "another clock is ahead"])
@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_a_lease_ends_before_the_answer(dialect: Any, is_stopped: bool, tmp_path: Path) -> None:
    """
    Another process takes the row over, and gives it up or sends it with its key.

    Who wakes up and has the answer records it: the row is delivered, and was sent once.
    """
    database = str(tmp_path / "outbox.db")
    with FakeButtDialServer(dialect=dialect).listen() as server:
        with in_flight(server, database) as sender:
            if is_stopped:
                sender.send_signal(signal.SIGSTOP)
            with SQLiteRepository(database, clock=an_hour_later) as repository:
                drain(server, repository, an_hour_later)
            assert row_of(database).status == ("delivered" if dialect == "hosted" else "dead")
            server.fake.release()
            sender.send_signal(signal.SIGCONT)
            assert pipe(sender.stdout).readline().startswith("delivered")
        row = row_of(database)
        assert (row.status, row.last_error) == ("delivered", None)
        assert len(server.fake.delivered) == 1


@needs_postgresql
@pytest.mark.parametrize("minutes", [-10, 10])
def test_the_clock_of_another_machine(minutes: int) -> None:
    """On PostgreSQL its clock counts for leases: nobody takes over what is being sent."""

    def clock() -> datetime:
        return utc_now() + timedelta(minutes=minutes)

    fake = FakeButtDialServer(dialect="open-source")
    with database_of("postgresql") as database, fake.listen() as server:
        with in_flight(server, database) as sender:
            with opened(database) as repository:
                drain(server, repository, clock)
            assert row_of(database).status == "pending"
            server.fake.release()
            assert pipe(sender.stdout).readline() == "delivered 1\n"
        assert row_of(database).status == "delivered"
        assert len(server.fake.delivered) == 1
