"""A file with secrets in it: whole, and its owner's."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from buttdial_sync import SQLiteDeliveryLog, SQLiteInbox
from buttdial_sync.models.inbound import InboundMessage
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.stores.private_file import create_private_file, replace_private_file


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Without it, a test would pass where the user's own files are private anyway."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("open_umask")
def test_a_file_is_created_once(tmp_path: Path) -> None:
    """A new one is its owner's; one that is there is not even opened: that would end its locks."""
    path = tmp_path / "rows.db"
    create_private_file(str(path))
    assert (mode(path), path.read_bytes()) == (0o600, b"")
    path.write_text("rows")
    path.chmod(0o040)
    create_private_file(str(path))
    assert mode(path) == 0o040
    path.chmod(0o600)
    assert path.read_text() == "rows"
    with pytest.raises(FileNotFoundError):
        create_private_file(str(tmp_path / "nowhere" / "rows.db"))


@pytest.mark.usefixtures("open_umask")
def test_the_files_of_the_stores(tmp_path: Path) -> None:
    """Texts and tokens in SQLite's files, and in those beside them, are their owner's."""
    message = InboundMessage(id="1", sender="+14155550123", channel="sms", text="a private word")
    with (
        SQLiteInbox(tmp_path / "inbox.db") as inbox,
        SQLiteRepository(tmp_path / "outbox.db"),
        SQLiteDeliveryLog(tmp_path / "deliveries.db"),
    ):
        inbox.write([message])
        files = list(tmp_path.iterdir())
        assert tmp_path / "inbox.db-wal" in files
        assert {mode(path) for path in files} == {0o600}


@pytest.mark.usefixtures("open_umask")
def test_a_database_that_is_there(tmp_path: Path) -> None:
    """Its owner may have given it to a group: that stays."""
    path = tmp_path / "inbox.db"
    path.touch()
    path.chmod(0o660)
    with SQLiteInbox(path):
        assert mode(path) == 0o660


def test_a_database_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes no file."""
    monkeypatch.chdir(tmp_path)
    with SQLiteInbox(":memory:"):
        assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is on the disk before it takes the old one's place; only its owner reads it."""
    path = tmp_path / "tokens.json"
    path.write_text("old")
    path.chmod(0o644)
    on_disk: list[tuple[int, str]] = []

    def fsync(descriptor: int) -> None:
        on_disk.append((os.fstat(descriptor).st_size, path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    replace_private_file(path, "a secret")
    assert on_disk == [(len("a secret"), "old")]
    assert path.read_text() == "a secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails(tmp_path: Path) -> None:
    """The old file stays, and no half of the new one."""
    path = tmp_path / "tokens.json"
    replace_private_file(path, "old")
    with pytest.raises(UnicodeEncodeError):
        replace_private_file(path, "half a character: \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
