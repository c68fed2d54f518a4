"""What is misspelt or of a wrong type is an error for mypy and for pyright, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import buttdial_sync

pytestmark = pytest.mark.slow

PREAMBLE = """\
import buttdial_sync
from buttdial_sync import AccountsClient, Channel, Client, PhoneCall, RetryLoop, SendResult
from buttdial_sync.contrib.flask import ButtDial
from buttdial_sync.retry import MemoryRepository

row: str = "sms"
store = MemoryRepository()
call, sent = PhoneCall(raw={}), SendResult(outcome="sent")

client = Client("https://butt-dial.test", agent_token="x")
accounts = AccountsClient("https://butt-dial.test", team_token="x")
butt_dial = ButtDial()
"""
WRONG_AND_RIGHT = (
    ("from buttdial_sync import Cleint", "from buttdial_sync import Client"),
    ("from buttdial_sync import ButtDailError", "from buttdial_sync import ButtDialError"),
    (
        "from buttdial_sync.testing import FakeButtDailServer",
        "from buttdial_sync.testing import FakeButtDialServer",
    ),
    (
        "from buttdial_sync.retry import SqliteRepository",
        "from buttdial_sync.retry import SQLiteRepository",
    ),
    ("print(buttdial_sync.sendd)", "print(buttdial_sync.SendResult)"),
    ('client.sendmessage("+1", "x")', 'client.send_message("+1", "x")'),
    ("print(client.wattsapp)", "print(client.whatsapp)"),
    ('client.whatsapp.reakt("m", "x")', 'client.whatsapp.react("m", "x")'),
    ('client.as_agent("t").sendmessage("+1", "x")', 'client.as_agent("t").send_message("+1", "x")'),
    ('butt_dial.client.sendmessage("+1", "x")', 'butt_dial.client.send_message("+1", "x")'),
    ('accounts.list_agent_token("a")', 'accounts.list_agent_tokens("a")'),
    ('Client("https://a.test", timeot=3)', 'Client("https://a.test", timeout=3)'),
    ('Client("https://a.test", timeout="3")', 'Client("https://a.test", timeout=3.0)'),
    ('client.send_message(123, "x")', 'client.send_message("+1", "x", row)'),
    ('client.send_message("+1", "x", chanel="sms")', 'client.send_message("+1", "x", "sms")'),
    ('client.send_message("+1", "x", ("sms", 1))', 'client.send_message("+1", "x", channel=row)'),
    ('client.call_tool("comms_ping", [1])', 'client.call_tool("comms_ping", {"a": 1})'),
    ('client.whatsapp.send_poll("+1", "q", 5)', 'client.whatsapp.send_poll("+1", "q", ["a", "b"])'),
    ("sid: str = call.call_sid", "sid = sent.message_sid"),
    ("print(call.sid)", "sid = call.call_sid"),
    ('wanted: Chanel = "sms"', 'wanted: Channel = "sms"'),
    ("RetryLoop(store)", "RetryLoop(store, client)"),
    # The last one: mypy takes what follows for unreachable, and looks no further.
    (
        'if client.send_message("+1", "x"): print("sent")',
        'if client.send_message("+1", "x").ok: print("sent")',
    ),
)
FIRST = PREAMBLE.count("\n") + 1
EVERY_WRONG_LINE = [("wrong.py", FIRST + index) for index in range(len(WRONG_AND_RIGHT))]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return a directory with a program of the wrong lines and one of the right lines."""
    for index, name in enumerate(("wrong.py", "right.py")):
        lines = (pair[index] for pair in WRONG_AND_RIGHT)
        (tmp_path / name).write_text(PREAMBLE + "\n".join(lines) + "\n")
    return tmp_path


def run(tool: str, *arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-m", tool, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_mypy(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mypy reports each wrong line, and no right one."""
    monkeypatch.setenv("MYPYPATH", str(Path(buttdial_sync.__file__).parents[1]))
    options = ("--config-file=", "--strict", "--warn-unreachable", "--output=json")
    # Mypy would not report our own imports if the package was not found by its source.
    silent = "--disable-error-code=import-untyped"
    told = run("mypy", *options, silent, "--cache-dir=cache", ".", cwd=programs)
    reports = [json.loads(line) for line in told.splitlines()]
    errors = [report for report in reports if report["severity"] == "error"]
    assert sorted((report["file"], report["line"]) for report in errors) == EVERY_WRONG_LINE


def test_pyright(programs: Path) -> None:
    """Pyright reports each wrong line, and no right one."""
    paths = [str(Path(buttdial_sync.__file__).parents[1])]
    config = {"typeCheckingMode": "standard", "extraPaths": paths}
    (programs / "pyrightconfig.json").write_text(json.dumps(config))
    told = run("basedpyright", "--outputjson", cwd=programs)
    reports = json.loads(told)["generalDiagnostics"]
    assert [
        (Path(report["file"]).name, report["range"]["start"]["line"] + 1) for report in reports
    ] == EVERY_WRONG_LINE
