"""Django on SQLite, where somebody else is writing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"django:{tmp_path / 'inbox.db'}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "written\n", done.stderr
