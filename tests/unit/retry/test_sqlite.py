"""The end of a SQLite repository."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import pytest

from buttdial_sync import ClientClosedError, ConfigError, FailedMessage
from buttdial_sync.retry import SQLiteRepository

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
    """A write of another thread goes on and is kept; later calls are refused."""
    path = tmp_path / "outbox.db"
    repository = SQLiteRepository(path)
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
    with pytest.raises(ClientClosedError):
        repository.count_pending()
    with SQLiteRepository(path) as again:
        assert again.count_pending() == 1


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
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
    assert repository.store._lock.acquire(timeout=0)
    repository.store._lock.release()


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
        repository.store._reset_after_fork()
        is_free = repository.store._lock.acquire(timeout=0)
        go_on.set()
        thread.join(SECONDS)
        assert is_free
        repository.store._lock.release()
        assert repository.count_pending() == 0
