"""``send-many`` and ``outbox`` after a process that was killed; wrong tokens, exit codes."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import FailedMessage
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.fakes import failed_logins
from tests.integration.cli.process import PROGRAM, SECONDS, environment, run
from tests.unit.cli.cli_runner import run as run_inside

TOKEN = "agent-token-of-the-tests"
DB = "outbox.db"
COMMAND = ("send-many", "people.csv", "--db", DB, "--workers", "1")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are not killed so there")


@pytest.fixture(autouse=True)
def _file(tmp_path: Path) -> None:
    rows = "".join(f"+1415555012{number},Hello {number},row-{number}\n" for number in range(3))
    (tmp_path / "people.csv").write_text(f"to,body,id\n{rows}", "utf-8")


def settings(server: LoopbackServer, token: str = TOKEN) -> dict[str, str]:
    return {"BUTT_DIAL_BASE_URL": server.base_url, "BUTT_DIAL_AGENT_TOKEN": token}


@contextmanager
def after_a_kill(dialect: Any, directory: Path) -> Iterator[LoopbackServer]:
    """A server that carried out a row for a run that was killed before it had the answer."""
    with FakeButtDialServer(dialect=dialect, tokens=[TOKEN]).listen() as server:
        if dialect == "hosted":
            server.fake.fault("late", tool="comms_send_message")
        else:  # where the command sends over REST
            server.fake.fault("hang", on="rest", delivered=True)
        with subprocess.Popen(
            [sys.executable, *PROGRAM, *COMMAND],
            cwd=directory,
            env=environment(**settings(server)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as victim:
            try:
                assert server.fake.wait_for(lambda: server.fake.delivered, SECONDS)
            finally:
                victim.send_signal(signal.SIGKILL)
                victim.wait(SECONDS)
        yield server


def end_the_leases(directory: Path) -> None:
    """Set the clock of the rows, as it were: what was leased is free."""
    with closing(sqlite3.connect(directory / DB)) as connection, connection:
        connection.execute("UPDATE buttdial_outbox SET leased_until = next_retry_at")


def rows_of(directory: Path) -> dict[str, FailedMessage]:
    with SQLiteRepository(directory / DB) as repository:
        return {row.id: row for row in repository.list()}


def bodies(server: LoopbackServer) -> list[str]:
    return sorted(str(call.body) for call in server.fake.delivered)


@pytest.mark.parametrize("command", [COMMAND, ("outbox", "drain", "--db", DB)], ids=" ".join)
def test_rows_of_a_run_that_was_killed(command: tuple[str, ...], tmp_path: Path) -> None:
    """They are told with the end of their lease and exit code 75; no advice sends one twice."""
    with after_a_kill("open-source", tmp_path) as server:
        done = run(*command, cwd=tmp_path, TZ="UTC", **settings(server))
        assert done.returncode == 75
        held = re.search(r"3 rows are held by a run that died .*until (\d\d:\d\d)", done.stderr)
        assert held
        assert "outbox retry" not in done.stdout + done.stderr
        with SQLiteRepository(tmp_path / DB) as repository:
            last = max(repository.leased().values())
        assert held[1] == f"{(last + timedelta(minutes=1)).astimezone(timezone.utc):%H:%M}"
        assert bodies(server) == ["Hello 0"]


def test_following_the_advice_after_a_kill(tmp_path: Path) -> None:
    """Without keys the row that may have been sent is given up; nobody gets it twice."""
    with after_a_kill("open-source", tmp_path) as server:
        end_the_leases(tmp_path)
        done = run_inside(*COMMAND, server=server, directory=tmp_path)
        assert done.exit_code == 1
        assert "may have been sent" in done.stderr
        again = run_inside(*COMMAND, server=server, directory=tmp_path)
        assert again.exit_code == 1
        assert "1 rows were given up, 1 of them may have been sent" in again.stderr
        refused = run_inside("outbox", "retry", "row-0", "--db", DB, directory=tmp_path)
        assert refused.exit_code == 2
        assert "may have been sent already" in refused.stderr
        run_inside(*COMMAND, server=server, directory=tmp_path)
        assert bodies(server) == ["Hello 0", "Hello 1", "Hello 2"]
        assert rows_of(tmp_path)["row-0"].status == "dead"


def test_a_retry_by_hand_after_a_kill(tmp_path: Path) -> None:
    """The row of a killed run cannot be made due by hand, neither before nor after its lease."""
    with after_a_kill("open-source", tmp_path) as server:
        held = run_inside("outbox", "retry", "row-0", "--db", DB, directory=tmp_path)
        end_the_leases(tmp_path)
        free = run_inside("outbox", "retry", "row-0", "--db", DB, directory=tmp_path)
        assert held.exit_code == free.exit_code == 2
        assert "--even-if-sent" in held.stderr
        assert "--even-if-sent" in free.stderr
        assert run_inside("outbox", "retry", "row-1", "--db", DB, directory=tmp_path).exit_code == 0
        assert bodies(server) == ["Hello 0"]


def test_after_a_kill_with_keys(tmp_path: Path) -> None:
    """A server that honours keys is asked again with the same one: each row once, exit code 0."""
    with after_a_kill("hosted", tmp_path) as server:
        end_the_leases(tmp_path)
        done = run_inside(*COMMAND, server=server, directory=tmp_path)
        assert (done.exit_code, done.stderr) == (0, "")
        assert bodies(server) == ["Hello 0", "Hello 1", "Hello 2"]


@pytest.mark.parametrize("command", [COMMAND, ("outbox", "drain", "--db", DB)], ids=" ".join)
def test_a_wrong_token(command: tuple[str, ...], tmp_path: Path) -> None:
    """It ends as ping does, 1 and the token's remedy, after one failed login."""
    with FakeButtDialServer(tokens=[TOKEN]).listen() as server:
        with SQLiteRepository(tmp_path / DB) as repository:
            repository.add(FailedMessage(id="a", recipient="+14155550123", body="x"))
        wrong = settings(server, "wrong")
        done = run(*command, cwd=tmp_path, **wrong)
        assert failed_logins(server.fake) == 1
        pinged = run("ping", cwd=tmp_path, **wrong)
    assert done.returncode == pinged.returncode == 1
    remedy = pinged.stderr.splitlines()[1]
    assert "token" in remedy
    assert remedy in done.stderr.splitlines()
    assert "later" not in done.stderr


def test_a_missing_token(tmp_path: Path) -> None:
    """Without a token nothing is tried: a usage error that names the variable."""
    with FakeButtDialServer(tokens=[TOKEN]).listen() as server:
        done = run_inside(*COMMAND, directory=tmp_path, BASE_URL=server.base_url)
        assert server.fake.requests == []
    assert done.exit_code == 2
    assert "BUTT_DIAL_AGENT_TOKEN" in done.stderr


def test_a_lease_that_is_over(tmp_path: Path) -> None:
    """An expired lease of yesterday is not called held."""
    with SQLiteRepository(tmp_path / DB, clock=yesterday) as repository:
        repository.add(FailedMessage(id="a", recipient="+14155550123", body="x"))
        repository.fetch_due(1)
    with FakeButtDialServer(tokens=[TOKEN]).listen() as server:
        done = run_inside("outbox", "drain", "--db", DB, server=server, directory=tmp_path)
        assert (done.exit_code, done.stderr) == (0, "")
        assert bodies(server) == ["x"]


def yesterday() -> datetime:
    return datetime.now(timezone.utc) - timedelta(days=1)
