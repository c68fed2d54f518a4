"""``inbox``."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from buttdial_sync import InboundHandler, InboundMessage, SQLiteInbox
from buttdial_sync.errors.moments import utc_now
from tests.unit.cli.cli_runner import run

handler = InboundHandler()
got: list[str] = []
failing = InboundHandler()


@handler.on_message
def keep(message: InboundMessage) -> None:
    got.append(message.text)


@failing.on_message
def fail(_: InboundMessage) -> None:
    raise OSError("the host's database is down")


@pytest.fixture
def db(tmp_path: Path) -> str:
    path = tmp_path / "inbox.db"
    with SQLiteInbox(path) as inbox:
        inbox.write(
            [
                InboundMessage(id=name, sender=f"+{name}", channel="sms", text=f"text {name}")
                for name in ("a", "b")
            ]
        )
    return str(path)


def ids(db: str) -> dict[str, str]:
    with SQLiteInbox(db) as inbox:
        return {str(stored.sender): stored.id for stored in inbox.list()}


def test_looking_after_events(db: str) -> None:
    """list, show, dismiss, retry, stats and purge do what they say."""
    known = ids(db)
    listed = run("inbox", "list", "--db", db).stdout
    assert f"{known['+a']}  pending    0  +a  text a" in listed
    shown = json.loads(run("inbox", "show", known["+a"], "--db", db, "--json").stdout)
    assert shown["event"]["event"]["text"] == "text a"
    assert run("inbox", "retry", known["+a"], "--db", db).stdout.endswith("is due now\n")
    assert run("inbox", "dismiss", known["+a"], "--db", db).stdout.endswith("is dismissed\n")
    for command in ("retry", "dismiss"):
        assert run("inbox", command, known["+a"], "--db", db).exit_code == 2
    assert run("inbox", "show", "nobody", "--db", db).exit_code == 2
    counts = json.loads(run("inbox", "stats", "--db", db, "--json").stdout)
    assert (counts["pending"], counts["dismissed"]) == (1, 1)
    assert run("inbox", "purge", "--older-than", "1d", "--db", db).stdout == "0 deleted\n"
    assert run("inbox", "list", "--status", "dead", "--db", db).stdout == "No events.\n"


def test_handing_over(db: str) -> None:
    """The handler of a module gets what is due; what fails is told by the exit code."""
    got.clear()
    result = run("inbox", "handle", f"{__name__}:failing", "--db", db)
    assert (result.exit_code, result.stdout) == (75, "0 handed over, 2 pending, 0 dead\n")
    with SQLiteInbox(db) as inbox:
        for stored in inbox.list():
            assert inbox.force_retry(stored.id)
    result = run("inbox", "handle", f"{__name__}:handler", "--workers", "2", "--db", db)
    assert (result.exit_code, result.stdout) == (0, "2 handed over, 0 pending, 0 dead\n")
    assert sorted(got) == ["text a", "text b"]


def test_events_that_are_given_up(db: str) -> None:
    """The run that gives them up fails, so that cron tells it; what was dead before counts not."""
    long_ago = utc_now() - timedelta(hours=1)
    with SQLiteInbox(db) as inbox:
        first, second = inbox.take(), inbox.take()
        assert first is not None
        assert second is not None
        assert inbox.mark_dead(first, "before")
        assert inbox.keep(second, "failed", long_ago, long_ago)
    result = run("inbox", "handle", f"{__name__}:failing", "--db", db, "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert (data["ok"], data["given_up"], data["dead"]) == (False, 1, 2)
    assert data["error"].startswith("1 given up")
    again = run("inbox", "handle", f"{__name__}:failing", "--db", db, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["ok"] is True


@pytest.mark.parametrize("text", ["import os\nos.environ['NOT_SET']", "1 / 0", "a b"])
def test_a_module_that_fails(text: str, db: str, tmp_path: Path) -> None:
    """Its error is told as wrong usage, whatever it is."""
    (tmp_path / "failing_module.py").write_text(text)
    result = run(
        "inbox", "handle", "failing_module:handler", "--db", db, "--json", directory=tmp_path
    )
    assert result.exit_code == 2
    assert "failing_module cannot be imported: " in json.loads(result.stdout)["error"]


@pytest.mark.parametrize("wrong", ["nowhere.at.all:x", f"{__name__}:got", __name__, ":x"])
def test_a_handler_that_is_none(db: str, wrong: str) -> None:
    """It is a usage error, and nothing is handed over."""
    assert run("inbox", "handle", wrong, "--db", db).exit_code == 2
    with SQLiteInbox(db) as inbox:
        assert inbox.count_pending() == 2


def test_a_path_that_is_wrong_makes_no_file(tmp_path: Path) -> None:
    """SQLite would make an empty one."""
    missing = tmp_path / "missing.db"
    assert run("inbox", "list", "--db", str(missing)).exit_code == 2
    assert not missing.exists()


def test_an_address_for_sqlalchemy(tmp_path: Path) -> None:
    """An inbox in any database of the host's."""
    pytest.importorskip("sqlalchemy")
    url = f"sqlite:///{tmp_path / 'inbox.db'}"
    assert run("inbox", "list", "--db", url).stdout == "No events.\n"
