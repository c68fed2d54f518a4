"""What waits for the agent outlives the commands: they keep it, or leave it alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from buttdial_sync import SQLiteInbox
from buttdial_sync.cli.waiting import WaitingFile
from buttdial_sync.errors import ConfigError
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.unit.cli.cli_runner import TOKEN, run

OPENING = [("ping",), ("tools",), ("doctor", "--ascii")]
SEND = ("send", "--to", "+14155550123", "--body", "Hello", "--channel", "sms")


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(dialect="open-source", tokens=[TOKEN]).listen() as loopback:
        yield loopback


def texts(path: Path) -> list[str]:
    with SQLiteInbox(path) as inbox:
        return sorted(getattr(stored.event, "text", "") for stored in inbox.list())


def queued(server: LoopbackServer, count: int = 3) -> list[str]:
    for number in range(count):
        server.fake.add_waiting(body=f"m{number:02}", externalId=f"m{number}")
    return [f"m{number:02}" for number in range(count)]


@pytest.mark.parametrize("command", OPENING, ids=" ".join)
def test_what_waits_is_kept(
    command: tuple[str, ...], server: LoopbackServer, tmp_path: Path
) -> None:
    """A command that must open a stream writes it down first, all pages, and says where, once."""
    path, sent = tmp_path / "kept.db", queued(server, 25)
    result = run(*command, "--inbox", str(path), server=server)
    assert result.exit_code == 0
    assert server.fake.lost_waiting == 0
    assert texts(path) == sent
    assert result.stderr.count(f"buttdial-sync inbox handle MODULE:NAME --db {path}") == 1


def test_the_default_file(server: LoopbackServer, tmp_path: Path) -> None:
    """It stands in the working directory, and its path is printed; the next command adds to it."""
    sent = queued(server)
    path = tmp_path / "buttdial-inbox.db"
    assert str(path) in run("ping", server=server, directory=tmp_path).stderr
    assert texts(path) == sent
    server.fake.add_waiting(body="another", externalId="another")
    assert str(path) in run("tools", server=server, directory=tmp_path).stderr
    assert texts(path) == ["another", *sent]


def test_nothing_waits_and_no_file_is_left(server: LoopbackServer, tmp_path: Path) -> None:
    """There is nothing to keep, and nothing to say."""
    result = run("ping", "--inbox", str(tmp_path / "kept.db"), server=server)
    assert (result.exit_code, result.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_a_hosted_server_keeps_its_queue(tmp_path: Path) -> None:
    """Opening a stream there throws nothing away, so nothing is taken."""
    with FakeButtDialServer(tokens=[TOKEN]).listen() as hosted:
        queued(hosted)
        result = run("ping", "--inbox", str(tmp_path / "kept.db"), server=hosted)
        assert (result.exit_code, len(hosted.fake.waiting)) == (0, 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*OPENING, SEND], ids=lambda command: command[0])
def test_a_file_that_cannot_be_written_is_refused(
    command: tuple[str, ...], server: LoopbackServer, tmp_path: Path
) -> None:
    """Before anything is asked of the server."""
    other = tmp_path / "other.db"
    other.write_text("this is not a database, and long enough to be seen as none" * 20, "ascii")
    queued(server)
    for path in (tmp_path / "missing" / "kept.db", other):
        result = run(*command, "--inbox", str(path), server=server)
        assert result.exit_code == 2
        assert str(path) in result.stdout + result.stderr
    assert server.fake.requests == []


def test_the_default_file_is_refused_when_it_is_needed(
    server: LoopbackServer, tmp_path: Path
) -> None:
    """No stream is opened, and nothing is read."""
    (tmp_path / "buttdial-inbox.db").write_text("not a database, by its first bytes" * 20, "ascii")
    queued(server)
    result = run("ping", server=server, directory=tmp_path)
    assert result.exit_code == 2
    assert "  -> Give --inbox PATH" in result.stderr
    assert (server.fake.streams_opened, len(server.fake.waiting)) == (0, 3)


def test_what_cannot_be_written_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has left the server, so nobody else has it; no more is read then."""
    path = tmp_path / "kept.db"
    keeper = WaitingFile(str(path))
    keeper.waiting([WaitingMessage(body="one", raw={"id": "1"})])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE buttdial_inbox")
        connection.execute("CREATE TABLE buttdial_inbox (strange)")
    capsys.readouterr()
    with pytest.raises(ConfigError, match="cannot be written"):
        keeper.waiting([WaitingMessage(body="two", raw={"id": "2", "body": "two"})])
    assert json.loads(capsys.readouterr().err) == {"id": "2", "body": "two"}


@pytest.mark.parametrize(
    "settings",
    [{}, {"TOKEN_IN": "query"}, {"TOKEN_IN": "auto"}, {"SEND_VIA": "auto"}, {"SEND_VIA": "rest"}],
    ids=str,
)
def test_sending_leaves_the_queue_alone(settings: dict[str, str], server: LoopbackServer) -> None:
    """``send`` needs no stream there, wherever the token was said to go."""
    queued(server)
    result = run(*SEND, server=server, directory=None, **settings)
    assert (result.exit_code, result.stderr) == (0, "")
    assert (server.fake.streams_opened, len(server.fake.waiting)) == (0, 3)
    assert [call.body for call in server.fake.delivered] == ["Hello"]


def test_sending_over_the_stream_on_request(server: LoopbackServer, tmp_path: Path) -> None:
    """The setting wins; then what waits is kept first."""
    path, sent = tmp_path / "kept.db", queued(server)
    result = run(*SEND, "--inbox", str(path), server=server, SEND_VIA="stream")
    assert result.exit_code == 0
    assert (server.fake.streams_opened, server.fake.lost_waiting) == (1, 0)
    assert texts(path) == sent


@pytest.mark.parametrize("command", ["send-many", "drain"])
def test_many_messages_leave_the_queue_alone(
    command: str, server: LoopbackServer, tmp_path: Path
) -> None:
    """Their loops send over REST too."""
    rows, db = tmp_path / "rows.csv", tmp_path / "outbox.db"
    rows.write_text("to,body\n+1,one\n+2,two\n", "ascii")
    queued(server)
    words = ["send-many", str(rows), "--db", str(db)]
    if command == "drain":
        assert run(*words, BASE_URL="http://127.0.0.1:1", AGENT_TOKEN="t").exit_code == 3
        with closing(sqlite3.connect(db)) as connection, connection:
            connection.execute("UPDATE buttdial_outbox SET next_retry_at = created_at")
        words = ["outbox", "drain", "--db", str(db)]
    assert run(*words, server=server).exit_code == 0
    assert sorted(str(call.body) for call in server.fake.delivered) == ["one", "two"]
    assert (server.fake.streams_opened, len(server.fake.waiting)) == (0, 3)
