"""``send-many``: campaigns, what it does to rows of a release without them, and large files."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from buttdial_sync import FailedMessage
from buttdial_sync.cli.file_rows import FileRows
from buttdial_sync.cli.progress import Progress
from buttdial_sync.cli.send_many import store
from buttdial_sync.errors import ConfigError
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.unit.cli.cli_runner import TOKEN, run

ROWS = "to,body\n+14155550123,Hello\n+14155550124,Hello\n"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(tokens=[TOKEN]).listen() as loopback:
        yield loopback


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "outbox.db")


def written(directory: Path, text: str = ROWS, name: str = "people.csv") -> str:
    path = directory / name
    path.write_text(text, "utf-8")
    return str(path)


def sent(server: LoopbackServer) -> int:
    return len(server.fake.delivered)


def test_another_campaign(server: LoopbackServer, tmp_path: Path, db: str) -> None:
    """The same text to the same people stops before anything is sent, unless it is wanted."""
    first, second = written(tmp_path), written(tmp_path, name="friends.csv")
    run("send-many", first, "--db", db, server=server)
    refused = run("send-many", second, "--db", db, server=server)
    assert (refused.exit_code, refused.stdout) == (2, "Campaign friends\n")
    assert "2 of 2 rows have the same recipient and text" in refused.stderr
    assert sent(server) == 2
    renamed = run("send-many", second, "--campaign", "people", "--db", db, server=server)
    assert renamed.exit_code == 0
    assert sent(server) == 2
    for _ in range(2):  # the second time nobody gets it once more
        again = run("send-many", second, "--again", "--db", db, server=server)
        assert again.exit_code == 0
        assert sent(server) == 4
    assert run("send-many", second, "--db", db, server=server).exit_code == 0
    assert sent(server) == 4


def test_a_few_new_people_in_another_campaign(
    server: LoopbackServer, tmp_path: Path, db: str
) -> None:
    """One row that was sent elsewhere stops all: nothing of the file is stored."""
    run("send-many", written(tmp_path), "--db", db, server=server)
    more = written(tmp_path, f"{ROWS}+14155550125,Hello\n", "more.csv")
    refused = run("send-many", more, "--db", db, server=server)
    assert "2 of 3 rows have the same recipient" in refused.stderr
    with SQLiteRepository(db) as repository:
        assert len(repository.list()) == 2


def test_one_text_over_two_channels(server: LoopbackServer, tmp_path: Path, db: str) -> None:
    """Rows of one campaign do not stand in each other's way, also when they come later."""
    rows = "to,body,channel\n+14155550123,Hello,sms\n"
    run("send-many", written(tmp_path, rows), "--db", db, server=server)
    rows += "+14155550123,Hello,whatsapp\n"
    done = run("send-many", written(tmp_path, rows), "--db", db, server=server)
    assert (done.exit_code, done.stderr) == (0, "")
    assert sent(server) == 2


SPACED = "to,body\n+1 (415) 555-0123,Hello\n+14155550123,Hello\n"


def test_one_person_written_in_two_ways(server: LoopbackServer, tmp_path: Path, db: str) -> None:
    """Blanks and brackets do not make another person, not even in another file or campaign."""
    assert run("send-many", written(tmp_path, SPACED), "--db", db, server=server).exit_code == 0
    assert sent(server) == 1
    plain = written(tmp_path, "to,body\n+1.415.555.0123,Hello\n")
    assert run("send-many", plain, "--db", db, server=server).exit_code == 0
    assert sent(server) == 1
    refused = run("send-many", plain, "--campaign", "friends", "--db", db, server=server)
    assert "1 of 1 rows have the same recipient and text" in refused.stderr
    assert sent(server) == 1


def test_one_id_written_in_two_ways(server: LoopbackServer, tmp_path: Path, db: str) -> None:
    """Two rows with one id are one row, if only the blanks of the recipient differ."""
    rows = "id,to,body\na,+1 415 555 0123,Hello\na,+14155550123,Hello\n"
    assert run("send-many", written(tmp_path, rows), "--db", db, server=server).exit_code == 0
    assert sent(server) == 1
    other = written(tmp_path, f"{rows}a,+14155550124,Hello\n")
    refused = run("send-many", other, "--db", db, server=server)
    assert "the id 'a' is used by another row" in refused.stderr
    assert sent(server) == 1


def former_id(row: dict[str, str]) -> str:
    text = json.dumps(row, sort_keys=True, ensure_ascii=False)
    return f"row-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


@pytest.mark.parametrize("status", ["pending", "delivered", "dead"])
def test_rows_of_a_release_without_campaigns(
    server: LoopbackServer, tmp_path: Path, db: str, status: str
) -> None:
    """A run that another release began is continued under its own keys: no message goes twice."""
    row = {"to": "+1 415 555 0123", "body": "Héllo"}
    key = former_id(row)
    with SQLiteRepository(db) as repository:
        repository.add(
            FailedMessage(id=key, recipient=row["to"], body=row["body"], idempotency_key=key)
        )
        if status == "delivered":
            repository.mark_delivered(key, "SM", 0)
        if status == "dead":
            repository.mark_dead(key, 0, "no")
    path = written(tmp_path, f"to,body\n{row['to']},Héllo\n+14155550124,Héllo\n")
    command = ("send-many", path, "--db", db, "--json")
    done = json.loads(run(*command, server=server).stdout)
    assert (done["added"], done["known"], done["campaign"]) == (1, 1, "people")
    keys = [each.idempotency_key for each in server.fake.delivered]
    assert (key in keys, len(keys)) == ((True, 2) if status == "pending" else (False, 1))
    run("send-many", path, "--campaign", "another", "--db", db, server=server)
    assert sent(server) == len(keys)
    run("send-many", path, "--again", "--db", db, server=server)
    assert sent(server) == len(keys) + 1


def test_an_id_is_the_key_in_every_campaign(
    server: LoopbackServer, tmp_path: Path, db: str
) -> None:
    """Who gives ids decides with them: a renamed file sends nothing again."""
    rows = "to,body,id\n+14155550123,Hello,one\n"
    for name in ("a.csv", "b.csv"):
        done = run("send-many", written(tmp_path, rows, name), "--db", db, server=server)
        assert done.exit_code == 0
    assert [each.idempotency_key for each in server.fake.delivered] == ["one"]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Ten times the rows need no more memory; what is kept is on disk."""

    def peak(count: int) -> int:
        lines = "".join(f"+1415555{number:07},Hello {number}\n" for number in range(count))
        path = written(tmp_path, f"to,body\n{lines}")
        del lines
        tracemalloc.start()
        with FileRows("people", None) as rows:
            rows.read(path, Progress(quiet=True))
            assert sum(map(len, rows.portions(100))) == len(rows) == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10)
    # Threads that earlier tests have left allocate too, at one moment or another.
    least = [min(peak(count) for _ in range(3)) for count in (300, 3_000)]
    assert least[1] < 2 * least[0]


def test_loading_takes_one_transaction_for_a_thousand_rows(
    tmp_path: Path, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,500 rows are written in three transactions."""
    lines = "".join(f"+1415555{number:07},Hello\n" for number in range(2500))
    begun: list[str] = []
    connect = sqlite3.connect

    def counting(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)  # type: ignore[call-overload]
        connection.set_trace_callback(
            lambda text: begun.append(text) if text == "BEGIN IMMEDIATE" else None
        )
        return connection  # type: ignore[no-any-return]

    with SQLiteRepository(db):
        pass
    monkeypatch.setattr(sqlite3, "connect", counting)
    path = written(tmp_path, f"to,body\n{lines}")
    with SQLiteRepository(db) as repository, FileRows("people", None) as rows:
        rows.read(path, Progress(quiet=True))
        assert store(repository, rows, again=False, progress=Progress(quiet=True)) == 2500
    assert len(begun) == 3


def test_no_space_for_the_temporary_file(tmp_path: Path) -> None:
    """It is told as that, with the remedy; nothing is sent yet."""
    lines = "".join(f"+1415555{number:07},Hello\n" for number in range(500))
    path = written(tmp_path, f"to,body\n{lines}")
    with FileRows("people", None) as rows:
        rows._kept.execute("PRAGMA max_page_count = 5")
        with pytest.raises(ConfigError, match="full") as told:
            rows.read(path, Progress(quiet=True))
    assert "TMPDIR" in str(told.value.remediation)


def test_progress_counts_what_was_looked_at(tmp_path: Path, db: str) -> None:
    """Each stage says how far it is, from the first row to the last."""
    lines = "".join(f"+1415555{number:07},Hello\n" for number in range(1500))
    path = written(tmp_path, f"to,body\n{lines}")
    seconds = iter(range(10_000))
    stream = Terminal()
    progress = Progress(stream=stream, clock=lambda: float(next(seconds)))
    with SQLiteRepository(db) as repository, FileRows("people", None) as rows:
        rows.read(path, progress)
        store(repository, rows, again=False, progress=progress)
    told = [line.strip() for line in stream.getvalue().split("\r")]
    assert told[:3] == ["", "Checking: 0 rows", "Checking: 1 rows"]
    assert told[-3:] == ["Checking: 1,500 rows", "Storing: 0 of 1,500", "Storing: 1,000 of 1,500"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal() -> None:
    """The first line comes at once, others not too often, and it is gone at the end."""
    now = [0.0]
    stream = Terminal()
    with Progress(stream=stream, clock=lambda: now[0]) as progress:
        progress.tell("Checking", 0)
        for number in range(5):
            progress.tell("Checking", number)
        now[0] = 1.0
        progress.tell("Sending", 5, 1000)
    assert [line.strip() for line in stream.getvalue().split("\r")] == [
        "",
        "Checking: 0 rows",
        "Sending: 5 of 1,000",
        "",
        "",
    ]


def test_progress_in_a_log() -> None:
    """Short work says nothing; long work has a line every half minute."""
    now = [0.0]
    stream = io.StringIO()
    with Progress(stream=stream, clock=lambda: now[0]) as progress:
        for second in range(70):
            now[0] = float(second)
            progress.tell("Sending", second, 100)
    assert stream.getvalue() == "Sending: 30 of 100\nSending: 60 of 100\n"


def test_progress_that_is_not_wanted() -> None:
    """Nothing is told, not even on a terminal."""
    stream = Terminal()
    with Progress(stream=stream, quiet=True) as progress:
        progress.tell("Sending", 1, 2)
    assert stream.getvalue() == ""
