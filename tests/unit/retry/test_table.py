"""What every table does with a message, seen at the one in memory and the one in SQLite."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import (
    ArgumentTypeError,
    ArgumentValueError,
    ConfigError,
    DeliveryReceipt,
    FailedMessage,
)
from buttdial_sync.retry import MemoryRepository, SQLiteRepository
from buttdial_sync.retry.rows import COLUMNS, arguments_of, as_message, as_row, outbox_schema
from buttdial_sync.retry.table import TableRepository
from buttdial_sync.stores.memory import MemoryStore
from buttdial_sync.stores.schema import Claim, Condition
from buttdial_sync.testing.conformance import SettableClock
from tests.forks import exit_code, forked

Make = Callable[..., TableRepository]


def message(msg_id: str = "a", **fields: Any) -> FailedMessage:
    return FailedMessage(id=msg_id, recipient="+14155550123", body="x", **fields)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, clock: SettableClock) -> Iterator[Make]:
    made: list[SQLiteRepository] = []

    def make(**options: Any) -> TableRepository:
        if request.param == "memory":
            return MemoryRepository(clock=clock, **options)
        made.append(SQLiteRepository(":memory:", clock=clock, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_usual_lease(make: Make, clock: SettableClock) -> None:
    """Five minutes, from the fetching and from the beginning of an attempt."""
    repository = make()
    assert repository.lease == 300
    repository.add(message(attempt_started_at=clock()))
    assert repository.leased() == {"a": clock() + timedelta(seconds=300)}
    for lease in (0, -1, float("nan")):
        with pytest.raises(ArgumentValueError, match="lease"):
            make(lease=lease)


def test_a_lease_of_another_table(make: Make, clock: SettableClock) -> None:
    """A message that was fetched there is due here at once, when it is added."""
    repository = make()
    repository.add(message(leased_until=clock() + timedelta(seconds=60)))
    assert [each.id for each in repository.fetch_due(1)] == ["a"]


def test_tokens_are_not_kept_by_default(make: Make) -> None:
    """Only where the host says so."""
    for options, token in (({}, ""), ({"keep_tokens": True}, "secret")):
        repository = make(**options)
        repository.add(message(agent_token="secret"))
        (row,) = repository.list()
        assert row.agent_token == token


@pytest.mark.parametrize(("length", "kept"), [(1999, 1999), (2000, 2000), (2001, 1999)])
def test_long_errors_are_cut(make: Make, clock: SettableClock, length: int, kept: int) -> None:
    """At two thousand characters, and it shows; whichever way the attempt ended."""
    repository, error = make(), "x" * length
    told = "x" * kept + ("…" if kept < length else "")
    for msg_id in ("retried", "dead", "postponed"):
        repository.add(message(msg_id))
    repository.increment_retry("retried", 0, error, clock())
    repository.mark_dead("dead", 0, error)
    repository.postpone(message("postponed"), 0, error, clock())
    assert {each.last_error for each in repository.list()} == {told}


def test_add_new(make: Make) -> None:
    """Those that are there stay as they are."""
    repository = make()
    repository.add(message(last_error="busy"))
    assert repository.add_new([message("a"), message("b"), message("c")]) == 2
    assert repository.add_new([message("b")]) == 0
    assert repository.add_new([]) == 0
    row = repository.get("a")
    assert row is not None
    assert row.last_error == "busy"
    assert repository.count_pending() == 3


def test_counts(make: Make) -> None:
    """Of each status, also where there is none."""
    repository = make()
    assert repository.count_pending() == 0
    assert repository.stats() == {"pending": 0, "delivered": 0, "dead": 0, "dismissed": 0}
    for msg_id in ("a", "b", "c", "d"):
        repository.add(message(msg_id))
    repository.mark_delivered("a", "SM", 0)
    repository.mark_dead("b", 0, "no")
    assert repository.dismiss("c")
    assert repository.stats() == {"pending": 1, "delivered": 1, "dead": 1, "dismissed": 1}
    assert repository.count_pending() == 1
    assert [each.id for each in repository.list("dead")] == ["b"]


def test_newest_first(make: Make, clock: SettableClock) -> None:
    """By the time, then by the id; fifty at most where nobody says more."""
    repository = make()
    for number in range(51):
        repository.add(message(f"{number:02}"))
    clock.move(1)
    repository.add(message("00-new"))
    listed = [each.id for each in repository.list()]
    assert listed == ["00-new", *(f"{number:02}" for number in range(50, 1, -1))]
    assert len(listed) == 50
    assert [each.id for each in repository.list(limit=2)] == ["00-new", "50"]
    assert [each.id for each in repository.list("pending", 1)] == ["00-new"]
    assert list(repository.list("dead")) == []


def test_a_given_time_is_kept(make: Make, clock: SettableClock) -> None:
    """Of the making and of the next attempt; else it is now."""
    repository = make()
    now, later = clock(), clock() + timedelta(hours=1)
    repository.add(message("a"))
    repository.add(message("b", created_at=later, next_retry_at=later))
    found = {each.id: (each.created_at, each.next_retry_at) for each in repository.list()}
    assert found == {"a": (now, now), "b": (later, later)}


def test_force_retry_gives_one_attempt(make: Make, clock: SettableClock) -> None:
    """One more than were made, or those that are left."""
    repository = make()
    repository.add(message("spent", retry_count=7, max_retries=5))
    repository.add(message("left", retry_count=1, max_retries=5))
    repository.mark_dead("spent", 7, "no")
    clock.move(5)
    assert repository.force_retry("spent")
    assert repository.force_retry("left")
    found = {each.id: each for each in repository.list()}
    assert (found["spent"].max_retries, found["left"].max_retries) == (8, 5)
    assert {each.next_retry_at for each in found.values()} == {clock()}
    assert {each.resolved_at for each in found.values()} == {None}
    assert not repository.force_retry("nobody")


def test_leases_end_to_the_second(make: Make, clock: SettableClock) -> None:
    """The moment at which one ends is free."""
    repository = make(lease=10.0)
    repository.add(message())
    assert len(repository.fetch_due(1)) == 1
    clock.move(9)
    assert not repository.dismiss("a")
    assert repository.fetch_due(1) == []
    assert repository.leased()
    clock.move(1)
    assert repository.leased() == {}
    assert len(repository.fetch_due(1)) == 1
    clock.move(10)
    assert repository.dismiss("a")
    assert repository.leased() == {}


def test_as_many_as_wanted(make: Make, clock: SettableClock) -> None:
    """The oldest due, then the oldest; the rest stays free."""
    repository = make()
    now = clock()
    for msg_id, due, made in (("a", 2, 0), ("b", 1, 1), ("c", 1, 0), ("later", 9, 0)):
        moments = {"next_retry_at": now + timedelta(seconds=due)}
        repository.add(message(msg_id, created_at=now + timedelta(seconds=made), **moments))
    clock.move(8)
    assert [each.id for each in repository.fetch_due(2)] == ["c", "b"]
    assert set(repository.leased()) == {"c", "b"}
    clock.move(1)
    assert [each.id for each in repository.fetch_due(9)] == ["a", "later"]


def test_what_comes_back_is_a_copy() -> None:
    """Nobody changes a row by changing what he got."""
    repository = MemoryRepository()
    repository.add(message())
    row = repository.store.find("a")
    assert row is not None
    row["status"] = "dead"
    repository.store.newest(None, 1)[0]["status"] = "dead"
    now = repository.store.now()
    turn = tuple(repository.store.turns(now))
    (claimed,) = repository.store.claim(
        Claim(now=now, leased_until=now, limit=1, turns=turn, share=1)
    )
    claimed["status"] = "dead"
    assert repository.stats()["pending"] == 1
    assert repository.get("b") is None


def test_an_id_that_is_taken(make: Make) -> None:
    """It is named."""
    repository = make()
    repository.add(message())
    with pytest.raises(ArgumentValueError, match="there is a message with the id 'a'") as raised:
        repository.add(message())
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


class LosesAnswers(MemoryStore):
    """Writes, but what it says to an update gets lost."""

    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        super().update(row_id, changes, condition)
        raise ConnectionError("the connection broke")


def test_a_row_that_cannot_be_read_is_told_if_the_answer_is_lost(
    clock: SettableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is dead, so that nobody would fetch it again; and the others of its batch are sent."""
    repository = TableRepository(LosesAnswers(outbox_schema(), clock))
    moments = {"created_at": clock(), "next_retry_at": clock()}
    repository.store.insert({**as_row(message("bad")), **moments, "template_vars": "{"})
    repository.add(message("good"))
    fetched = {each.id: each.status for each in repository.fetch_due(5)}
    assert fetched == {"bad": "dead", "good": "pending"}
    assert "row bad cannot be read, and could not be given up" in caplog.text
    assert [each.id for each in repository.list("dead")] == ["bad"]


@pytest.mark.parametrize(
    ("field", "broken"),
    [
        ("template_vars", "{"),
        ("fallback_channels", "5"),
        ("template_vars", '{"a"'),
        ("max_retries", "many"),
        ("priority", "high"),
        ("priority", 1.5),
    ],
)
@pytest.mark.parametrize("is_marked", [False, True])
def test_a_row_that_cannot_be_read(
    make: Make,
    clock: SettableClock,
    field: str,
    broken: Any,
    is_marked: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is given up with the reason; that it may have been sent stays."""
    repository = make()
    started = clock() if is_marked else None
    row = as_row(message("bad", attempt_started_at=started, retry_count=2))
    moments = {"created_at": clock(), "next_retry_at": clock()}
    repository.store.insert({**row, **moments, field: broken})
    repository.add(message("good"))
    bad, good = sorted(repository.fetch_due(5), key=lambda each: each.id)
    assert (good.id, good.unreadable, good.status) == ("good", None, "pending")
    assert (bad.id, bad.status, bad.body) == ("bad", "dead", "x")
    assert getattr(bad, field) == (0 if field in {"max_retries", "priority"} else None)
    assert bad.unreadable is not None
    assert repository.list("dead")[0].unreadable == bad.unreadable
    assert repository.stats()["dead"] == 1
    found = repository.store.find("bad")
    assert found is not None
    assert str(found["last_error"]).startswith("the row cannot be read: ")
    assert (found["attempt_started_at"] is not None) is is_marked
    assert "message bad cannot be read" in caplog.text


class Dismisses(MemoryStore):
    """A store of which a person dismisses rows, a moment before each change."""

    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        super().update(row_id, {"status": "dismissed"}, Condition())
        return super().update(row_id, changes, condition)


def test_a_row_that_cannot_be_read_and_is_dismissed_meanwhile(clock: SettableClock) -> None:
    """It is not handed out, because nobody has to be told of it."""
    repository = TableRepository(Dismisses(outbox_schema(), clock))
    moments = {"created_at": clock(), "next_retry_at": clock()}
    repository.store.insert({**as_row(message("bad")), **moments, "template_vars": "{"})
    repository.add(message("good"))
    assert [each.id for each in repository.fetch_due(5)] == ["good"]


def test_rows_and_messages() -> None:
    """Nothing is lost on the way there and back; what is empty is not text."""
    whole = message(template_vars={"a": "b"}, fallback_channels=("sms", "line"))
    row = as_row(whole)
    assert (row["template_vars"], row["fallback_channels"]) == ('{"a": "b"}', '["sms", "line"]')
    assert row["leased_until"] is None
    assert as_message(row) == whole
    assert as_row(message())["template_vars"] is None
    assert as_message(as_row(message())) == message()
    assert as_message({**row, "template_vars": "", "fallback_channels": ""}) == message()


def test_a_file(tmp_path: Path, clock: SettableClock) -> None:
    """It is made when it is missing, and its times are text that sorts, in UTC."""
    path = tmp_path / "outbox.db"
    with SQLiteRepository(path, clock=clock) as repository:
        repository.add(message())
        assert repr(repository) == f"SQLiteRepository({os.fspath(path)!r})"
    with closing(sqlite3.connect(path)) as connection, connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (due,) = connection.execute("SELECT next_retry_at FROM buttdial_outbox").fetchone()
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        required = {
            name
            for _, name, _, is_required, *_ in connection.execute(
                "PRAGMA table_info(buttdial_outbox)"
            )
            if is_required
        }
    connection.close()
    assert mode == "wal"
    assert due == clock().strftime("%Y-%m-%d %H:%M:%S.%f")
    assert {"buttdial_outbox", "buttdial_outbox_turns", "buttdial_outbox_new"} <= names
    assert required == {
        "recipient", "body", "channel", "status", "created_at", "next_retry_at",
        "retry_count", "max_retries",
    }  # fmt: skip


def test_every_commit_is_on_the_disk(tmp_path: Path) -> None:
    """Also where the machine loses its power."""
    with SQLiteRepository(tmp_path / "outbox.db") as repository:
        (level,) = repository.store._connected().execute("PRAGMA synchronous").fetchone()
        assert level == 2
        (wait,) = repository.store._connected().execute("PRAGMA busy_timeout").fetchone()
        assert wait == 30_000
    with SQLiteRepository(tmp_path / "outbox.db", busy_timeout=1.5) as repository:
        (wait,) = repository.store._connected().execute("PRAGMA busy_timeout").fetchone()
        assert wait == 1500


def test_a_table_of_another_name(clock: SettableClock) -> None:
    """A plain one, for it becomes part of statements."""
    with SQLiteRepository(":memory:", table="mine", clock=clock) as repository:
        repository.add(message())
        assert repository.add_new([message(), message("b")]) == 1
        assert len(repository.fetch_due(5)) == 2
        assert repository.stats()["pending"] == 2
    for name in ("", "a b", "a;b", "a-b", '"a"'):
        with pytest.raises(ArgumentValueError, match="plain name"):
            SQLiteRepository(":memory:", table=name)
    with pytest.raises(ArgumentValueError, match="busy_timeout"):
        SQLiteRepository(":memory:", busy_timeout=0)


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    """The error names it, and says what to do."""
    path = tmp_path / "missing" / "outbox.db"
    with pytest.raises(ConfigError, match=r"outbox\.db cannot be used: ") as raised:
        SQLiteRepository(path)
    assert "directory" in str(raised.value.remediation)
    assert raised.value.__suppress_context__
    path = tmp_path / "text.db"
    path.write_text("this is not a database, and long enough to be seen as one" * 30)
    with pytest.raises(ConfigError, match=r"text\.db cannot be used"):
        SQLiteRepository(path)


def test_within_a_transaction_of_the_host(tmp_path: Path) -> None:
    """The row is there when the host commits; an id that is taken is told."""
    path = tmp_path / "outbox.db"
    with SQLiteRepository(path) as repository:
        host = sqlite3.connect(path)
        repository.within(host).add(message())
        host.rollback()
        assert repository.count_pending() == 0
        repository.within(host).add(message())
        host.commit()
        with pytest.raises(ArgumentValueError, match="with the id 'a'"):
            repository.within(host).add(message())
        host.close()
        assert repository.count_pending() == 1


def test_a_write_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    """Another process can write at once."""
    path = tmp_path / "outbox.db"
    with SQLiteRepository(path) as repository, SQLiteRepository(path) as other:
        repository.add(message())
        with pytest.raises(ArgumentValueError):
            repository.add(message())
        assert not repository.store._connected().in_transaction
        other.add(message("b"))
        assert repository.count_pending() == 2


def test_without_a_store_for_early_receipts(clock: SettableClock) -> None:
    """A receipt that comes before the message's id gets lost, and nothing else."""
    repository = TableRepository(MemoryStore(outbox_schema(), clock))
    repository.add(message())
    assert not repository.record_receipt(DeliveryReceipt(message_sid="SM-1", status="sent"))
    assert repository.mark_delivered("a", "SM-1", 0)
    assert repository.record_receipt(DeliveryReceipt(message_sid="SM-1", status="read"))
    found = repository.get("a")
    assert found is not None
    assert found.receipt_status == "read"


def test_without_a_store_for_pauses(clock: SettableClock) -> None:
    """Nothing is paused, and who wants to pause learns what is missing."""
    repository = TableRepository(MemoryStore(outbox_schema(), clock))
    assert repository.paused() == ()
    for call in (repository.pause, repository.resume):
        with pytest.raises(ConfigError, match="no table for pauses"):
            call("a")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_opens_its_own(tmp_path: Path) -> None:
    """It leaves the parent's connection alone."""
    with SQLiteRepository(tmp_path / "outbox.db") as repository:
        parents = repository.store._connected()
        repository.add(message())

        def in_child() -> None:
            assert repository.store._connected() is not parents
            assert repository.count_pending() == 1

        assert exit_code(forked(in_child)) == 0
        assert repository.store._connected() is parents
        assert repository.count_pending() == 1


def test_what_a_row_is_sent_with() -> None:
    """An empty text is none, and a row without a key gets one from its id."""
    arguments = arguments_of(message(media_url="https://a.example/b.png", idempotency_key="k"))
    assert (arguments["to"], arguments["body"]) == ("+14155550123", "x")
    assert (arguments["media_url"], arguments["idempotency_key"]) == (
        "https://a.example/b.png",
        "k",
    )
    arguments = arguments_of(FailedMessage(id="b", recipient="+1", body=""))
    assert arguments["body"] is None
    assert arguments["idempotency_key"] == "buttdial-sync-b"


@pytest.mark.parametrize(
    ("older_than", "statuses", "error"),
    [
        (0, None, "positive"),
        (-1.0, None, "positive"),
        (float("nan"), None, "positive"),
        (timedelta(0), None, "positive"),
        (1e300, None, "too long"),
        (1, ["pending"], "delivered, dead, dismissed"),
        (1, ["sent"], "delivered, dead, dismissed"),
    ],
)
def test_purging_what_must_stay(
    make: Make, older_than: Any, statuses: list[str] | None, error: str
) -> None:
    """Pending messages cannot be purged, whatever is asked for."""
    repository = make()
    repository.add(message())
    with pytest.raises(ArgumentValueError, match=error):
        repository.purge(older_than, statuses)
    with pytest.raises(ArgumentTypeError):
        repository.purge("30 days")  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError):
        repository.purge(True)
    with pytest.raises(ArgumentTypeError, match="collection"):
        repository.purge(1, "dead")
    assert repository.count_pending() == 1


def earlier_release(path: Path, *missing: str) -> None:
    """Write a file as an earlier release did: without some columns, with a message."""
    columns = [name for name in COLUMNS if name not in missing]
    row = {**as_row(message()), "created_at": "2026-01-01", "next_retry_at": "2026-01-01"}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE buttdial_outbox ({', '.join(columns)})")
        places = ", ".join(f":{name}" for name in columns)
        connection.execute(f"INSERT INTO buttdial_outbox VALUES ({places})", row)  # noqa: S608


def test_a_file_of_an_earlier_release(tmp_path: Path, clock: SettableClock) -> None:
    """It gets its column; its messages are fenced, those of an older process that runs on too."""
    path = tmp_path / "outbox.db"
    earlier_release(path, "attempt_number")
    clock.move(1e6)
    for _ in range(2):
        with SQLiteRepository(path, clock=clock, lease=1.0) as repository:
            (found,) = repository.fetch_due(1)
            assert (found.id, found.attempt_number, found.retry_count) == ("a", 0, 0)
        clock.move(2)
    with SQLiteRepository(path, clock=clock, lease=1.0) as repository:
        assert repository.begin_attempt("a", 1, clock(), attempt_number=1)
        assert not repository.begin_attempt("a", 1, clock(), attempt_number=1)
        assert repository.mark_delivered("a", None, 1, attempt_number=1)


class AddsColumns(sqlite3.Connection):
    """A connection to a file whose missing columns another process adds first."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql.startswith("ALTER TABLE"):
            super().execute(sql)
        return super().execute(sql, *parameters)


class CannotWrite(sqlite3.Connection):
    """A connection to a disk on which nothing can be added."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql.startswith("ALTER TABLE"):
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *parameters)


def test_a_column_that_another_process_adds(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two may open a file of an earlier release at once; any other failure is told."""
    path = tmp_path / "outbox.db"
    earlier_release(path, "attempt_number")
    clock.move(1e6)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=CannotWrite))
    with pytest.raises(ConfigError, match="disk I/O error"):
        SQLiteRepository(path, clock=clock)
    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=AddsColumns))
    with SQLiteRepository(path, clock=clock) as repository:
        assert [each.attempt_number for each in repository.fetch_due(1)] == [0]


def test_a_file_with_another_table(tmp_path: Path) -> None:
    """What a message needs is not added to a table of somebody else's."""
    path = tmp_path / "shop.db"
    earlier_release(path, "recipient", "next_retry_at")
    with pytest.raises(ConfigError, match="it lacks recipient, next_retry_at") as raised:
        SQLiteRepository(path)
    assert "another name" in str(raised.value.remediation)


def test_lists_and_counts_use_an_index(tmp_path: Path) -> None:
    """So that they stay fast among a million messages."""
    with SQLiteRepository(tmp_path / "outbox.db") as repository:
        connection = repository.store._connected()
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        repository.list()
        repository.list("dead")
        repository.count_pending()
        repository.stats()
        repository.purge(1)
        connection.set_trace_callback(None)
        for statement in statements:
            if statement.startswith(("SELECT", "DELETE")):
                plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
                assert any("INDEX buttdial_outbox_" in step for step in plan), (statement, plan)
                assert "USE TEMP B-TREE" not in str(plan), (statement, plan)
        assert len(statements) >= 5


def test_the_columns_of_an_outbox() -> None:
    """Hosts have tables with them: what is short, a number or a time, and what must be there."""
    columns = outbox_schema().columns
    of_kind = {
        kind: {column.name for column in columns if column.kind == kind}
        for kind in ("key", "word", "number", "time")
    }
    assert of_kind == {
        "key": {"id", "ordering_key", "unique_key"},
        "word": {"status"},
        "number": {"retry_count", "max_retries", "attempt_number", "priority", "seconds_waited"},
        "time": {
            *("created_at", "next_retry_at", "resolved_at", "attempt_started_at"),
            *("receipt_at", "expires_at", "leased_until"),
        },
    }
    assert {column.name for column in columns if column.required} == {
        *("id", "status", "recipient", "body", "channel", "retry_count", "max_retries"),
        *("created_at", "next_retry_at"),
    }
