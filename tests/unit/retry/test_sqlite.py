"""A SQLite repository and its file: opened, shared with another process, forked, closed."""

from __future__ import annotations

import inspect
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest

from buttdial_sync import ClientClosedError, ConfigError, FailedMessage
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.retry.rows import outbox_schema
from buttdial_sync.stores.sqlite import SQLiteStore
from buttdial_sync.transport import fork
from tests.forks import exit_code, forked, is_leaked

SECONDS = 10.0


def test_a_closed_one_says_what_is_closed(tmp_path: Path) -> None:
    """The error is about the repository and its file, not about a client."""
    repository = SQLiteRepository(tmp_path / "outbox.db")
    repository.close()
    repository.close(timeout=0.0)
    with pytest.raises(ClientClosedError, match=r"repository .*outbox\.db is closed") as caught:
        repository.count_pending()
    assert "SQLiteRepository" in str(caught.value.remediation)
    assert "client" not in f"{caught.value} {caught.value.remediation}"


def test_close_does_not_wait_longer_than_it_may(tmp_path: Path) -> None:
    """A write of another thread goes on, is kept, and closes the file; later calls are refused."""
    path = tmp_path / "outbox.db"
    repository = SQLiteRepository(path)
    connection = repository.store._connected()
    writing, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with repository.store.writing() as connection:
            writing.set()
            assert go_on.wait(SECONDS)
            repository.write(connection, FailedMessage(id="a", recipient="+1", body="x"))

    thread = threading.Thread(target=write)
    thread.start()
    assert writing.wait(SECONDS)
    repository.close(timeout=0.0)
    go_on.set()
    thread.join(SECONDS)
    assert_closed(connection)
    with pytest.raises(ClientClosedError):
        repository.count_pending()
    with SQLiteRepository(path) as again:
        assert again.count_pending() == 1


def assert_closed(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_new_file_that_another_process_opens_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite does not wait where another one is about to write into a file without a WAL."""
    path = tmp_path / "outbox.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConfigError, match="database is locked"):
            SQLiteRepository(path, busy_timeout=0.001)
        monkeypatch.setattr(time, "sleep", lambda _: other.rollback())
        with SQLiteRepository(path) as repository:
            assert repository.count_pending() == 0
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_pauses_before_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are short and random, so that two processes do not meet again and again."""
    path, pauses = tmp_path / "outbox.db", list[float]()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                other.rollback()

        monkeypatch.setattr(time, "sleep", sleep)
        monkeypatch.setattr(random, "random", iter([0.0, 1.0]).__next__)
        SQLiteRepository(path, busy_timeout=1).close()
    assert pauses == pytest.approx([0.001, 0.05])


def a_log_that_is_a_directory(path: Path) -> None:
    Path(f"{path}-wal").mkdir()


def another_file(path: Path) -> None:
    path.write_text("Dear diary. " * 100)


def another_table(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE buttdial_outbox (word TEXT)")


def a_view_of_that_name(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        columns = ", ".join(f"NULL AS {column.name}" for column in outbox_schema().columns)
        other.execute(f"CREATE VIEW buttdial_outbox AS SELECT {columns}")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are seen in /proc")
@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (a_log_that_is_a_directory, "disk I/O error"),
        (another_file, "not a database"),
        (another_table, "another table"),
        (a_view_of_that_name, "views may not be indexed"),
    ],
)
def test_a_file_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Path], None], told: str
) -> None:
    """It is told at once, and the file is closed although the exception is kept."""
    path = tmp_path / "outbox.db"
    prepare(path)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waiting does not help"))
    with pytest.raises(ConfigError, match=told) as kept:
        SQLiteRepository(path, busy_timeout=1)
    assert descriptors_of(path) == 0
    assert kept.value.__traceback__, "it still leads to the connection"


def descriptors_of(path: Path) -> int:
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return sum(link.is_symlink() and os.readlink(link) == str(path) for link in links)


def test_what_is_written_survives_a_power_failure(tmp_path: Path) -> None:
    """SQLite waits for the disk at each commit, and thirty seconds for another process."""
    plain = SQLiteStore(tmp_path / "inbox.db", outbox_schema())
    with closing(plain), SQLiteRepository(tmp_path / "outbox.db") as repository:
        for store in (repository.store, plain):
            with store.writing() as connection:
                synchronous = connection.execute("PRAGMA synchronous").fetchone()
                busy_timeout = connection.execute("PRAGMA busy_timeout").fetchone()
            assert (synchronous, busy_timeout) == ((2,), (30_000,))


BY_HAND = "UPDATE buttdial_outbox SET next_retry_at = ? WHERE id = 'a'"


@pytest.fixture
def edited(tmp_path: Path) -> Iterator[tuple[SQLiteRepository, sqlite3.Connection]]:
    """A repository with the messages a and b, and another connection to its file."""
    path = tmp_path / "outbox.db"
    with SQLiteRepository(path) as repository, closing(sqlite3.connect(path)) as connection:
        for msg_id in ("a", "b"):
            repository.add(FailedMessage(id=msg_id, recipient="+1", body="x"))
        yield repository, connection


@pytest.mark.parametrize(
    "written",
    ["2026-03-29 01:30:00", "2026-03-29T01:30:00", "2026-03-29 03:30:00+02:00"],
)
def test_a_time_that_a_person_wrote(
    edited: tuple[SQLiteRepository, sqlite3.Connection], written: str
) -> None:
    """As SQLite's own ``datetime('now')`` writes it: in UTC unless it says otherwise."""
    repository, connection = edited
    with connection:
        connection.execute(BY_HAND, (written,))
    found = repository.fetch_due(10)
    assert [message.id for message in found] == ["a", "b"]
    assert found[0].next_retry_at == datetime(2026, 3, 29, 1, 30, tzinfo=timezone.utc)


@pytest.mark.parametrize("written", ["", "1 day ago", "soon", "99999-01-01"])
def test_a_time_that_is_none_keeps_nobody_else_waiting(
    edited: tuple[SQLiteRepository, sqlite3.Connection], written: str
) -> None:
    """Its row is given up and can still be listed; the others of its batch are fetched."""
    repository, connection = edited
    with connection:
        connection.execute(BY_HAND, (written,))
    with pytest.raises(ConfigError, match="next_retry_at is not a time"):
        repository.get("a")
    fetched = {message.id: message.unreadable for message in repository.fetch_due(10)}
    assert fetched == {"a": "TypeError: next_retry_at is not a time", "b": None}
    assert [message.unreadable for message in repository.list("dead")] == [fetched["a"]]
    assert repository.dismiss("a")


def test_a_time_that_is_none_among_later_ones(
    edited: tuple[SQLiteRepository, sqlite3.Connection],
) -> None:
    """A text that sorts after every time is found, while nothing of its agent is due."""
    repository, connection = edited
    assert repository.dismiss("b")
    later = datetime(9999, 12, 31, 23, 59, tzinfo=timezone.utc)
    repository.add(FailedMessage(id="later", recipient="+1", body="x", next_retry_at=later))
    with connection:
        connection.execute(BY_HAND, ("soon",))
    assert repository.figures().counts["pending"].value == 2
    (found,) = repository.fetch_due(10)
    assert (found.id, found.status) == ("a", "dead")
    assert repository.fetch_due(10) == []
    assert repository.count_pending() == 1


def test_close_lets_the_file_go(tmp_path: Path) -> None:
    """Its connection is closed at once where nobody uses it."""
    repository = SQLiteRepository(tmp_path / "outbox.db")
    connection = repository.store._connected()
    repository.close()
    assert_closed(connection)
    assert inspect.signature(SQLiteRepository.close).parameters["timeout"].default == SECONDS
    with ThreadPoolExecutor(1) as another:
        assert another.submit(repository.store._lock.acquire, timeout=0).result(SECONDS)


def test_the_end_of_a_block_closes_it(tmp_path: Path) -> None:
    """All its tables, and so the file."""
    path = tmp_path / "outbox.db"
    with SQLiteRepository(path) as repository:
        assert repository.count_pending() == 0
    with pytest.raises(ClientClosedError):
        repository.count_pending()
    with pytest.raises(ClientClosedError):
        repository.paused()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.parametrize("is_hook_run", [True, False])
def test_a_forked_child_has_a_connection_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_hook_run: bool
) -> None:
    """The inherited one is neither used nor closed there: that would take the parent's locks."""
    with SQLiteRepository(tmp_path / "outbox.db") as repository:
        repository.add(FailedMessage(id="a", recipient="+1", body="x"))
        inherited = repository.store._connected()
        process = os.getpid()
        if not is_hook_run:  # as under uWSGI
            monkeypatch.setattr(fork, "_reset_all", lambda: None)

        def work() -> None:
            if not is_hook_run:
                monkeypatch.undo()
                fork._process = process
            assert repository.count_pending() == 1
            assert repository.store._connected() is not inherited
            assert is_leaked(inherited)

        assert exit_code(forked(work)) == 0
        repository.add(FailedMessage(id="b", recipient="+1", body="x"))
        assert repository.count_pending() == 2


def test_a_forked_child_does_not_wait_for_its_parents_threads(tmp_path: Path) -> None:
    """A lock that one of them held at the fork is never given back there."""
    with SQLiteRepository(tmp_path / "outbox.db") as repository:
        held, go_on = threading.Event(), threading.Event()
        lock = repository.store._lock

        def hold() -> None:
            with lock:
                held.set()
                assert go_on.wait(SECONDS)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(SECONDS)
        inherited = repository.store._connected()
        repository.store._reset_after_fork()
        assert repository.store._connection is None
        assert is_leaked(inherited)
        is_free = repository.store._lock.acquire(timeout=0)
        go_on.set()
        thread.join(SECONDS)
        assert is_free
        repository.store._lock.release()
        assert repository.count_pending() == 0
