"""The end of a SQLite repository."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from buttdial_sync import ClientClosedError, FailedMessage
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
        with repository._writing() as connection:
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


def test_close_lets_the_file_go(tmp_path: Path) -> None:
    """Its connection is closed at once where nobody uses it."""
    repository = SQLiteRepository(tmp_path / "outbox.db")
    connection = repository._connected()
    repository.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
    assert repository._lock.acquire(timeout=0)
    repository._lock.release()


def test_a_forked_child_does_not_wait_for_its_parents_threads(tmp_path: Path) -> None:
    """A lock that one of them held at the fork is never given back there."""
    with SQLiteRepository(tmp_path / "outbox.db") as repository:
        held, go_on = threading.Event(), threading.Event()
        lock = repository._lock

        def hold() -> None:
            with lock:
                held.set()
                assert go_on.wait(SECONDS)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(SECONDS)
        repository._reset_after_fork()
        is_free = repository._lock.acquire(timeout=0)
        go_on.set()
        thread.join(SECONDS)
        assert is_free
        repository._lock.release()
        assert repository.count_pending() == 0
