"""A file with secrets in it: whole, and its owner's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from buttdial_sync.stores.private_file import replace_private_file


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
