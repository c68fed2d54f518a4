"""Django on SQLite, where somebody else is writing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.contrib.claims import EXPECTED
from tests.integration.contrib.running import ROOT

PROGRAM = """
import sqlite3
import sys

from tests.stress import inbox_project

inbox_project.set_up(sys.argv[1])

from django.core.management import call_command
from django.db import connection

from buttdial_sync.inbound.native import parse_native

call_command("migrate", verbosity=0)
message = {"type": "message", "messageId": "1", "channel": "sms", "from": "+1", "body": "hi"}
other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
other.execute("BEGIN IMMEDIATE")

def let_go(execute, sql, *arguments):
    # SQLite waits for the lock at the first statement of a transaction if that one writes: here the
    # wait is over at once. A statement that reads comes too early, and the next one then fails.
    if sql.startswith("UPDATE"):
        other.execute("COMMIT")
    return execute(sql, *arguments)

with connection.execute_wrapper(let_go):
    assert inbox_project.stored().write(parse_native(message)) == 1
print("written")
"""


def test_writing_waits_for_another_writer(tmp_path: Path) -> None:
    """A page that was read from the server is not thrown back because a row is being handled."""
    done = run("-c", PROGRAM, f"django:{tmp_path / 'inbox.db'}")
    assert done.stdout == "written\n", done.stderr


def test_claims_of_many_at_once(tmp_path: Path) -> None:
    """Of several workers one gets each claim; late ones change nothing but that it was done."""
    done = run("-m", "tests.integration.contrib.claims", str(tmp_path / "claims.db"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == EXPECTED


HANDLING = """
import os
import signal
import sys
from datetime import timedelta

from tests.integration.contrib.bare_project import set_up_django, sqlite

path, seconds_later, dies = sys.argv[1], float(sys.argv[2]), sys.argv[3]
set_up_django(sqlite(path))

from django.utils import timezone

from buttdial_sync import InboundHandler
from buttdial_sync.contrib.django import DatabaseDeliveryLog

def die_at(moment):
    if dies == moment:
        os.kill(os.getpid(), signal.SIGKILL)

def handle(message):
    print("handled", flush=True)
    die_at("while handling")

log = DatabaseDeliveryLog(now=lambda: timezone.now() + timedelta(seconds=seconds_later))
inbound = InboundHandler(delivery_log=log, allow_unsigned=["butt-dial"], lease=1000.0)
inbound.on_message(handle)
body = b'{"messageId": "1", "from": "+14155550123", "body": "Hello", "channel": "sms"}'
answer = inbound.handle("butt-dial", body, {})
die_at("before answering")
print(answer.status)
"""


def handled(path: Path, *, seconds_later: float, dies: str = "never") -> list[str]:
    done = run("-c", HANDLING, str(path), str(seconds_later), dies)
    assert done.returncode == (0 if dies == "never" else -signal.SIGKILL), done.stderr
    return done.stdout.split()


def test_killed_while_a_handler_ran(tmp_path: Path) -> None:
    """It was claimed before: nobody gets it until the lease ends, and then one worker does."""
    path = tmp_path / "killed.db"
    assert handled(path, seconds_later=0.0, dies="while handling") == ["handled"]
    assert handled(path, seconds_later=0.0) == ["500"]
    assert handled(path, seconds_later=2000.0) == ["handled", "200"]


def test_killed_before_the_answer(tmp_path: Path) -> None:
    """It was marked done as soon as the handler had ended: it is not handled twice."""
    path = tmp_path / "killed.db"
    assert handled(path, seconds_later=0.0, dies="before answering") == ["handled"]
    assert handled(path, seconds_later=2000.0) == ["200"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
