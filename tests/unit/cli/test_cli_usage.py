"""Wrong usage, for people and for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync.errors.exits import EXIT_CODES
from buttdial_sync.retry.sqlite import SQLiteRepository
from buttdial_sync.testing import FakeButtDialServer
from tests.unit.cli.cli_runner import TOKEN, run

ERRORS_PAGE = Path(__file__).parents[3] / "docs" / "errors.rst"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("send", "--json"), "--to"),
        (("nonsense", "--json"), "No such command 'nonsense'"),
        (("outbox", "nonsense", "--json"), "No such command 'nonsense'"),
        (
            ("send", "--to", "+1", "--body", "x", "--channel", "fax", "--json"),
            "'fax' is not one of",
        ),
        (("outbox", "list", "--json", "--statuz", "dead"), "--status"),
        (("--json", "ping"), "--json"),
        (("doctor", "--json", "--expect-ack"), "--webhook-port"),
        (("errors", "RateLimtError", "--json"), "RateLimitError"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_usage_as_json(args: tuple[str, ...], words: str) -> None:
    """One object with the names that all failures have; people read stderr as ever."""
    result = run(*args)
    told: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == 2
    assert told["ok"] is False
    assert words in told["error"]
    assert told["remediation"].endswith(" --help.")
    assert words in result.stderr
    assert "Usage: " in result.stderr


@pytest.mark.parametrize("args", [("send",), ("nonsense",), ("errors", "NOPE")])
def test_wrong_usage_for_people(args: tuple[str, ...]) -> None:
    """Nothing is on stdout."""
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


@pytest.mark.parametrize("command", ["show", "retry", "dismiss"])
def test_an_unknown_id_as_json(command: str, tmp_path: Path) -> None:
    """The object says what is wrong, as that of any other failure."""
    db = str(tmp_path / "o.db")
    SQLiteRepository(db).close()
    result = run("outbox", command, "zzz", "--db", db, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "ok": False,
        "id": "zzz",
        "status": None,
        "error": "there is no message zzz",
        "remediation": "See outbox list.",
    }


def test_exit_codes_have_one_place() -> None:
    """The page has the codes of ``--help``, in the same words."""
    in_help = dict(re.findall(r"^ +(\d+) +(.+)$", EXIT_CODES, re.M))
    page = ERRORS_PAGE.read_text("utf-8")
    table = page[page.index("Exit codes\n") :]
    assert dict(re.findall(r"^(\d+) +(.+)$", table, re.M)) == in_help
    shown = run("outbox", "drain", "--help").stdout
    assert all(f"  {code}" in shown for code in in_help)


def test_send_many_gives_rows_a_channel(tmp_path: Path) -> None:
    """A row's own channel wins; the key is that of a row with the same channel in it."""
    plain, full = tmp_path / "people.csv", tmp_path / "full.csv"
    plain.write_text("to,body,channel\n+14155550123,Hello,\nsam@example.com,Hello,email\n")
    full.write_text("to,body,channel\n+14155550123,Hello,sms\nsam@example.com,Hello,email\n")
    db = str(tmp_path / "o.db")
    with FakeButtDialServer(tokens=[TOKEN]).listen() as server:
        first = run("send-many", str(plain), "--db", db, "--channel", "sms", server=server)
        again = run("send-many", str(full), "--db", db, "--campaign", "people", server=server)
        assert (first.exit_code, again.exit_code) == (0, 0), first.stderr + again.stderr
        sent = [(call.to, call.channel) for call in server.fake.sent_messages]
    assert sorted(sent) == [("+14155550123", "sms"), ("sam@example.com", "email")]
