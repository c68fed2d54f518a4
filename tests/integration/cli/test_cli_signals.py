"""Commands that hold leases end in good order after SIGTERM or Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import FailedMessage, InboundMessage, SQLiteInbox
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing import FakeButtDialServer
from tests.integration.cli.process import SECONDS, environment
from tests.integration.inbound.listening import wait_until

TOKEN = "agent-token-of-the-tests"
DB = "outbox.db"
# A test run in the background ignores Ctrl-C, and its children would inherit that.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from buttdial_sync.cli import main
main()
"""
# The second message's turn comes after hours.
SLOWLY = ("--rate", "0.0001")
HANDLER = """
import os, signal, threading
from buttdial_sync import InboundHandler

handler = InboundHandler()

@handler.on_message
def handle(message):
    os.kill(os.getpid(), signal.SIGTERM)
    for thread in threading.enumerate():
        if thread.name == "buttdial-sync-stop":
            thread.join()
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent so there")


def start(*args: str, cwd: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *args],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("number", "command", "workers"),
    [
        (signal.SIGTERM, "drain", "4"),
        (signal.SIGTERM, "send-many", "1"),
        (signal.SIGINT, "drain", "1"),
    ],
)
def test_what_is_being_sent_is_finished(
    number: signal.Signals, command: str, workers: str, tmp_path: Path
) -> None:
    """What the server has is recorded, the rest is put back without a lease, pace or not."""
    processes: list[subprocess.Popen[str]] = []

    def send(_: Any) -> dict[str, str]:
        processes[0].send_signal(number)
        return {"messageId": "SM-1"}

    args: tuple[str, ...] = ("outbox", "drain")
    if command == "send-many":
        rows = "".join(f"+141555501{n},Hello\n" for n in range(10, 30))
        (tmp_path / "people.csv").write_text(f"to,body\n{rows}", "utf-8")
        args = ("send-many", "people.csv")
    else:
        with SQLiteRepository(tmp_path / DB) as repository:
            for n in range(20):
                repository.add(FailedMessage(id=f"m-{n}", recipient="+14155550123", body="Hello"))
    with FakeButtDialServer(tokens=[TOKEN]).listen() as server:
        server.fake.on_tool("comms_send_message", send)
        settings = {"BUTT_DIAL_BASE_URL": server.base_url, "BUTT_DIAL_AGENT_TOKEN": TOKEN}
        with start(
            *args, *SLOWLY, "--db", DB, "--workers", workers, cwd=tmp_path, **settings
        ) as process:
            processes.append(process)
            try:
                said = process.communicate(timeout=SECONDS)[1]
            finally:
                process.kill()
    assert (process.returncode, said) == (128 + number, "\nInterrupted.\n")
    with SQLiteRepository(tmp_path / DB) as repository:
        found = repository.list()
        assert repository.leased() == {}
    assert sorted(row.status for row in found) == ["delivered", *["pending"] * 19]
    assert [row for row in found if row.attempt_started_at is not None] == []


def test_a_pace_is_not_waited_for(tmp_path: Path) -> None:
    """A signal that comes between two messages ends the sleep before the second."""
    with SQLiteRepository(tmp_path / DB) as repository:
        for n in range(2):
            repository.add(FailedMessage(id=f"m-{n}", recipient="+14155550123", body="Hello"))
    with FakeButtDialServer(tokens=[TOKEN]).listen() as server:
        settings = {"BUTT_DIAL_BASE_URL": server.base_url, "BUTT_DIAL_AGENT_TOKEN": TOKEN}
        args = ("outbox", "drain", *SLOWLY, "--db", DB, "--workers", "1")
        with start(*args, cwd=tmp_path, **settings) as process:
            try:
                with SQLiteRepository(tmp_path / DB) as repository:
                    wait_until(lambda: repository.count_pending() == 1)
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=SECONDS)
            finally:
                process.kill()
    assert process.returncode == 143
    with SQLiteRepository(tmp_path / DB) as repository:
        assert (repository.count_pending(), repository.leased()) == (1, {})


def test_the_event_that_is_handled_is_finished(tmp_path: Path) -> None:
    """``inbox handle`` records it, and takes no other one."""
    (tmp_path / "shop.py").write_text(HANDLER, "utf-8")
    with SQLiteInbox(tmp_path / "inbox.db") as inbox:
        inbox.write([InboundMessage(id=n, sender=f"+{n}", channel="sms") for n in "12"])
    with start("inbox", "handle", "shop:handler", "--db", "inbox.db", cwd=tmp_path) as process:
        try:
            said = process.communicate(timeout=SECONDS)[1]
        finally:
            process.kill()
    assert (process.returncode, said) == (143, "\nInterrupted.\n")
    with SQLiteInbox(tmp_path / "inbox.db") as inbox:
        assert (inbox.stats()["handled"], inbox.stats()["pending"]) == (1, 1)
        assert inbox.leased() == {}
