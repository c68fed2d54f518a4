"""``outbox`` and ``send-many``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from buttdial_sync import FailedMessage
from buttdial_sync.cli.draining import Pace
from buttdial_sync.cli.file_rows import FileRows
from buttdial_sync.cli.progress import Progress
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.unit.cli.cli_runner import TOKEN, run

_LONG_AGO = datetime(2026, 1, 1, tzinfo=timezone.utc)
_NOT_SOON = datetime(2999, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(tokens=[TOKEN, "secret"]).listen() as loopback:
        yield loopback


@pytest.fixture
def db(tmp_path: Path) -> str:
    path = tmp_path / "outbox.db"
    with SQLiteRepository(path, keep_tokens=True) as repository:
        for name in ("a", "b"):
            repository.add(
                FailedMessage(id=name, recipient="+1", body=f"body {name}", agent_token="secret")
            )
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text("to,body,id\n+14155550123,Hello,one\n+14155550124,Hello,two\n", "utf-8")
    return path


def messages_of(path: Path, campaign: str = "people") -> list[FailedMessage]:
    with FileRows(campaign, None) as rows:
        rows.read(str(path), Progress(quiet=True))
        return [row.message for portion in rows.portions(1000) for row in portion]


def test_looking_after_messages(db: str) -> None:
    """list, show, dismiss, retry and stats do what they say, and show no token."""
    assert "a  pending    0/5  whatsapp  +1" in run("outbox", "list", "--db", db).stdout
    assert "body a" in run("outbox", "show", "a", "--db", db).stdout
    assert run("outbox", "dismiss", "a", "--db", db).stdout == "a is dismissed\n"
    assert run("outbox", "retry", "b", "--db", db).exit_code == 0
    shown = run("outbox", "list", "--status", "pending", "--db", db, "--json").stdout
    assert [each["id"] for each in json.loads(shown)["messages"]] == ["b"]
    assert "secret" not in shown
    counts = json.loads(run("outbox", "stats", "--db", db, "--json").stdout)
    assert (counts["pending"], counts["dismissed"]) == (1, 1)


def test_stats(db: str) -> None:
    """A person sees whether messages flow, for whom they wait and why; a script reads it."""
    with SQLiteRepository(db) as repository:
        repository.add(
            FailedMessage(
                id="c",
                recipient="+1",
                body="x",
                agent_id="agent-7",
                last_error="rate\nlimited",
                next_retry_at=datetime(2999, 1, 1, tzinfo=timezone.utc),
            )
        )
        give_up_unknown(db, "a")
    shown = run("outbox", "stats", "--db", db).stdout
    assert shown.startswith("messages flow\npending    2\n")
    assert "in doubt   1 dead ones may have been sent\n" in shown
    assert "  no agent named: 1 wait" in shown
    assert "  agent-7: 1 wait, the first is due 2999-01-01 00:00:00 UTC  rate limited\n" in shown
    told = json.loads(run("outbox", "stats", "--db", db, "--json").stdout)
    assert (told["flow"], told["in_doubt"], told["more_than"]) == ("flowing", 1, [])
    assert [each["agent_id"] for each in told["agents"]] == ["", "agent-7"]


def test_pausing(server: LoopbackServer, db: str) -> None:
    """What is paused is not sent by any process, and stats says so, until it is resumed."""
    paused = run("outbox", "pause", "--reason", "angry customers", "--db", db)
    assert (paused.exit_code, paused.stdout) == (0, "everything is paused\n")
    assert run("outbox", "pause", "--db", db).stdout == "everything was paused already\n"
    run("outbox", "drain", "--db", db, server=server)
    assert server.fake.delivered == []
    assert "paused     everything, since" in run("outbox", "stats", "--db", db).stdout
    run("outbox", "pause", "agent-7", "--db", db)
    told = json.loads(run("outbox", "stats", "--db", db, "--json").stdout)["paused"]
    assert [each["agent_id"] for each in told] == ["agent-7", None]
    assert told[1]["reason"] == "angry customers"
    assert run("outbox", "resume", "--db", db).stdout == "everything is resumed\n"
    assert run("outbox", "resume", "--db", db).stdout == "everything was not paused\n"
    run("outbox", "drain", "--db", db, server=server)
    assert len(server.fake.delivered) == 2


def test_purging(db: str) -> None:
    """What was resolved long ago goes, dead letters only if they are named."""
    with SQLiteRepository(db, clock=lambda: _LONG_AGO) as repository:
        repository.mark_delivered("a", "SM", 0)
        repository.mark_dead("b", 0, "no")
    assert run("outbox", "purge", "--older-than", "30d", "--db", db).stdout == "1 deleted\n"
    options = ("--older-than", "90m", "--status", "dead", "--db", db, "--json")
    assert json.loads(run("outbox", "purge", *options).stdout) == {"ok": True, "deleted": 1}
    for wrong in ("30", "0d", "d", "-1d", "1y", "9999999d"):
        result = run("outbox", "purge", "--older-than", wrong, "--db", db)
        assert (result.exit_code, result.stdout) == (2, ""), wrong
    assert run("outbox", "purge", "--db", db).exit_code == 2


@pytest.mark.parametrize("command", ["show", "retry", "dismiss"])
def test_no_such_message(db: str, command: str) -> None:
    """An id that is not there is a usage error."""
    result = run("outbox", command, "nobody", "--db", db)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no message nobody" in result.stderr


def test_what_cannot_be_changed(db: str) -> None:
    """A dismissed message cannot be revived, and it is said why."""
    run("outbox", "dismiss", "a", "--db", db)
    result = run("outbox", "retry", "a", "--db", db)
    assert result.exit_code == 2
    assert "a is dismissed and cannot be changed" in result.stderr


def test_databases_that_are_none(tmp_path: Path) -> None:
    """A path that is wrong makes no file; an address does not show its password."""
    missing = tmp_path / "missing.db"
    result = run("outbox", "list", "--db", str(missing))
    assert (result.exit_code, missing.exists()) == (2, False)
    result = run("outbox", "list", "--db", "nonsense://user:hidden@host/db")
    assert result.exit_code == 2
    assert "hidden" not in result.stderr
    other = tmp_path / "other.db"
    other.write_text("no database at all, but long enough to be looked at" * 40)
    assert run("outbox", "list", "--db", str(other)).exit_code == 2


def test_drain(server: LoopbackServer, db: str) -> None:
    """drain sends what is due."""
    result = run("outbox", "drain", "--db", db, server=server)
    assert (result.exit_code, result.stdout) == (0, "2 delivered, 0 given up, 0 still pending\n")


def test_drain_that_fails(server: LoopbackServer, db: str) -> None:
    """What is still pending is said, with an exit code of its own."""
    server.fake.on_send(error="busy")
    result = run("outbox", "drain", "--workers", "1", "--db", db, server=server)
    assert result.exit_code == 3
    assert "not everything was sent: busy" in result.stderr


def test_send_many_twice(server: LoopbackServer, table: Path) -> None:
    """Run again, nobody gets it twice; a new row goes out."""
    command = ("send-many", str(table), "--db", str(table.with_name("memory.db")))
    first = run(*command, server=server)
    assert (first.exit_code, first.stderr) == (0, "")
    new = "2 rows are new, 0 are in the outbox already"
    assert first.stdout.startswith(f"Campaign people\n{new}\n2 of 2 rows are delivered\n")
    with table.open("a", encoding="utf-8") as file:
        file.write("+14155550125,Hello,three\n")
    again = json.loads(run(*command, "--json", server=server).stdout)
    assert (again["added"], again["known"], again["ok"]) == (1, 2, True)
    assert sorted(str(each.idempotency_key) for each in server.fake.delivered) == [
        "one",
        "three",
        "two",
    ]


def test_send_many_without_ids(server: LoopbackServer, table: Path) -> None:
    """The key is made of the row; equal rows are one message."""
    table.write_text("to,body\n+1,Hello\n+1,Hello\n+1,Bye\n", "utf-8")
    for _ in range(2):
        run("send-many", str(table), "--db", str(table.with_name("m.db")), server=server)
    assert len(server.fake.delivered) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("to,body\n+1,Hello\n,Hello\n+1,\n", "row 3: to must not be empty; row 4: there is"),
        ("to,channel,body\n+1,pigeon,x\n", "row 2: channel must be one of"),
        ("to,text\n+1,Hello\n", "unknown or repeated columns: 'text'"),
        ("body\nHello\n", "no column to"),
        ("to,body\n+1,Hello,more\n", "row 2 has more cells"),
        ("to,body,id\n+1,Hello,a\n+1,Bye,a\n", "row 3: the id 'a' is used by another row"),
        ('to,body\n+1,"Hello\n', "is not a CSV file"),
    ],
)
def test_send_many_checks_first(
    server: LoopbackServer, table: Path, text: str, reason: str
) -> None:
    """A file with a fault is refused with the rows' numbers, and nothing is sent or written."""
    table.write_text(text, "utf-8")
    memory = table.with_name("m.db")
    result = run("send-many", str(table), "--db", str(memory), server=server)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert (server.fake.requests, memory.exists()) == ([], False)


def test_send_many_with_a_changed_row(server: LoopbackServer, table: Path) -> None:
    """An id that stood for another message is refused."""
    command = ("send-many", str(table), "--db", str(table.with_name("m.db")))
    run(*command, server=server)
    table.write_text("to,body,id\n+14155550123,Changed,one\n", "utf-8")
    result = run(*command, server=server)
    assert result.exit_code == 2
    assert "'one' was used before" in result.stderr


def test_pace() -> None:
    """Turns come at the rate that was asked for."""
    slept: list[float] = []
    pace = Pace(4, clock=lambda: 10.0, sleep=slept.append)
    for _ in range(3):
        pace()
    assert slept == [0.25, 0.5]


def test_draining_a_file_that_is_missing(server: LoopbackServer, tmp_path: Path) -> None:
    """A mistyped path is an error, and no empty file is made."""
    path = tmp_path / "typo.db"
    result = run("outbox", "drain", "--db", str(path), server=server)
    assert (result.exit_code, path.exists()) == (2, False)
    assert "there is no file" in result.stderr


def give_up_unknown(db: str, msg_id: str) -> None:
    """Leave a row as a sender does that never heard an answer."""
    with SQLiteRepository(db) as repository:
        assert repository.begin_attempt(msg_id, 1, utc_now())
        repository.mark_dead(msg_id, 1, "outcome unknown", unknown=True)


def test_retry_of_what_may_have_been_sent(server: LoopbackServer, db: str) -> None:
    """It is refused with the reason and the way round; nothing is sent until that is taken."""
    give_up_unknown(db, "a")
    result = run("outbox", "retry", "a", "--db", db)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "a may have been sent already" in result.stderr
    assert "--even-if-sent" in result.stderr
    run("outbox", "drain", "--db", db, server=server)
    assert [call.body for call in server.fake.delivered] == ["body b"]
    result = run("outbox", "retry", "a", "--even-if-sent", "--db", db)
    assert (result.exit_code, result.stdout) == (0, "a is due now\n")
    with SQLiteRepository(db) as repository:
        row = repository.get("a")
        assert row is not None
        assert row.attempt_started_at is None
    run("outbox", "drain", "--db", db, server=server)
    assert [call.body for call in server.fake.delivered] == ["body b", "body a"]


def test_drain_of_rows_that_another_holds(server: LoopbackServer, db: str) -> None:
    """Rows that are leased are neither sent nor passed over in silence."""
    with SQLiteRepository(db) as repository:
        repository.fetch_due(1)
        until = next(iter(repository.leased().values()))
    result = run("outbox", "drain", "--json", "--db", db, server=server)
    assert result.exit_code == 75
    assert re.search(r"1 rows are held by a run that died .* until \d\d:\d\d", result.stderr)
    told = json.loads(result.stdout)
    assert (told["ok"], told["held"], told["held_until"]) == (False, 1, until.isoformat())


@pytest.mark.parametrize("agent", [None, "agent-9"])
def test_what_is_paused(server: LoopbackServer, table: Path, agent: str | None) -> None:
    """``drain`` and ``send-many`` say that due messages wait for a person; not of later ones."""
    memory = str(table.with_name("m.db"))
    command = ("send-many", str(table), "--db", memory)
    with SQLiteRepository(memory) as repository:
        repository.pause(agent)
    told = run(*command, server=server, AGENT_ID="agent-9")
    assert told.exit_code == 75
    assert "2 rows of agent-9 wait, because they are paused" in told.stderr
    told = run("outbox", "drain", "--db", memory, server=server)
    assert told.exit_code == 75
    assert "messages of agent-9 wait, because they are paused\n  -> See outbox stats" in told.stderr
    assert server.fake.delivered == []
    with SQLiteRepository(memory) as repository:
        repository.resume(agent)
        repository.pause("other")
        repository.add(FailedMessage(id="x", recipient="+1", body="x", next_retry_at=_NOT_SOON))
    assert run(*command, server=server, AGENT_ID="agent-9").exit_code == 0
    with SQLiteRepository(memory) as repository:
        repository.pause(None)
    assert run("outbox", "drain", "--db", memory, server=server).exit_code == 0


def test_drain_with_a_refused_token(db: str) -> None:
    """It ends as send and ping do: refused, with what to do about the token."""
    with FakeButtDialServer(tokens=["another"]).listen() as server:
        result = run("outbox", "drain", "--db", db, server=server)
    assert result.exit_code == 1
    assert "Check the token" in result.stderr
    assert "Run it again" not in result.stderr


def test_send_many_of_rows_that_were_dismissed(server: LoopbackServer, table: Path) -> None:
    """What somebody gave up is said to be given up, and not called dead."""
    memory = str(table.with_name("m.db"))
    with SQLiteRepository(memory) as repository:
        repository.add_new(messages_of(table))
        repository.dismiss("one")
        # A row that is not of this file, and that another run holds, changes nothing.
        repository.add(FailedMessage(id="x", recipient="+1", body="x", next_retry_at=_LONG_AGO))
        assert [message.id for message in repository.fetch_due(1)] == ["x"]
    result = run("send-many", str(table), "--db", memory, server=server)
    assert result.exit_code == 2
    assert "1 rows were dismissed" in result.stderr


def test_send_many_of_a_key_that_another_message_has(server: LoopbackServer, table: Path) -> None:
    """The row is named that was not sent; the others are."""
    memory = str(table.with_name("m.db"))
    with SQLiteRepository(memory) as repository:
        repository.add(
            FailedMessage(id="x", recipient="+1", body="x", idempotency_key="one", status="dead")
        )
    result = run("send-many", str(table), "--db", memory, server=server)
    assert result.exit_code == 2
    assert "1 rows were not sent, because their ids are keys of other messages" in result.stderr
    assert "in this outbox: one\n  -> Give these rows other ids" in result.stderr
    assert [call.idempotency_key for call in server.fake.delivered] == ["two"]


def test_send_many_of_rows_dismissed_in_doubt(server: LoopbackServer, table: Path) -> None:
    """A new id would send it again, so the doubt is told; no retry is offered."""
    memory = str(table.with_name("m.db"))
    with SQLiteRepository(memory) as repository:
        repository.add_new(messages_of(table))
        give_up_unknown(memory, "one")
        repository.dismiss("one")
    result = run("send-many", str(table), "--db", memory, server=server)
    assert "1 rows were dismissed, 1 of them may have been sent" in result.stderr
    result = run("outbox", "retry", "one", "--db", memory)
    assert "one is dismissed and cannot be changed" in result.stderr


def test_send_many_of_rows_that_wait(server: LoopbackServer, table: Path) -> None:
    """Rows between two attempts have to wait, and it is said how long and why."""
    command = ("send-many", str(table), "--db", str(table.with_name("m.db")))
    server.fake.on_send(error="busy")
    assert run(*command, "--workers", "1", server=server).exit_code == 3
    result = run(*command, server=server)
    assert result.exit_code == 75
    assert re.search(r"1 rows wait, the last until [-0-9]+ \d\d:\d\d: busy", result.stderr)


def test_retry_of_all_dead_ones(db: str) -> None:
    """The count is printed, a dry run changes nothing, and the doubtful ones are told."""
    with SQLiteRepository(db) as repository:
        repository.mark_dead("b", 0, "connection refused")
    give_up_unknown(db, "a")
    all_dead = ("outbox", "retry", "--status", "dead", "--db", db)
    told = "1 would be due now\n1 may have been sent and are left out; see --even-if-sent\n"
    assert run(*all_dead, "--dry-run").stdout == told
    assert run(*all_dead, "--error-like", "nothing").stdout.startswith("0 are due now\n")
    assert run(*all_dead, "--agent", "agent-2").stdout == "0 are due now\n"
    assert run(*all_dead, "--since", "1h", "--not-unknown").stdout.startswith("1 are due now\n")
    told = json.loads(run(*all_dead, "--even-if-sent", "--json").stdout)
    assert told == {"ok": True, "changed": 1, "left_out": 0, "dry_run": False}
    pending = ("outbox", "dismiss", "--status", "pending", "--db", db)
    assert run(*pending, "--since", "2999-01-01T00:00").stdout == "0 are dismissed\n"
    assert run(*pending).stdout == "2 are dismissed\n"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("a", "--status", "dead"),
        ("a", "--dry-run"),
        ("a", "--agent", ""),
        ("--since", "1h"),
        ("--status", "delivered"),
        ("--status", "dead", "--since", "yesterday"),
        ("--status", "dead", "--since", "999999d"),
        ("--status", "dead", "--since", "0001-01-01T00:00:00+14:00"),
    ],
    ids=" ".join,
)
def test_one_or_many(db: str, options: tuple[str, ...]) -> None:
    """An id and filters exclude each other; nothing is changed by a mistyped command."""
    for command in ("retry", "dismiss"):
        assert run("outbox", command, *options, "--db", db).exit_code == 2
    assert json.loads(run("outbox", "stats", "--db", db, "--json").stdout)["pending"] == 2
