"""Where tokens are kept, and to whom they are given."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from buttdial_sync.errors import ConfigError
from buttdial_sync.procedura.tokens import DEFAULT_URL, FileTokenStore, _alone
from buttdial_sync.transport.deadline import Deadline
from tests.forks import exit_code, forked

if sys.platform != "win32":
    import fcntl

URL = "wss://world.example/"
OTHER = "wss://other.example/"
PATIENCE = 30.0

needs_modes = pytest.mark.skipif(os.name != "posix", reason="needs POSIX file modes")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PROCEDURA_TOKEN_FILE", raising=False)
    monkeypatch.delenv("PROCEDURA_URL", raising=False)
    return tmp_path / ".procedura" / "token"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@needs_modes
def test_only_the_owner_can_read_it(path: Path) -> None:
    """Whatever the umask says, also if the published client made the directory."""
    path.parent.mkdir(mode=0o755)
    path.write_text("old")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        FileTokenStore().save(URL, "a@x", "cli", "tok")
    finally:
        os.umask(before)
    assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)
    assert {mode_of(each) for each in path.parent.iterdir()} == {0o600}


@needs_modes
def test_directory_of_a_named_file_is_left_as_it_is(tmp_path: Path) -> None:
    """It is the host's; one that is missing is made for the owner only."""
    tmp_path.chmod(0o755)
    FileTokenStore(tmp_path / "token").save(URL, None, "cli", "tok")
    FileTokenStore(tmp_path / "new" / "token").save(URL, None, "cli", "tok")
    assert (mode_of(tmp_path), mode_of(tmp_path / "new")) == (0o755, 0o700)


def test_tokens_by_server_account_and_device(path: Path) -> None:
    """None stands for any; of several the one saved last is given."""
    store = FileTokenStore()
    store.save(URL, "a@x", "cli", "a-cli")
    store.save(URL, "a@x", "bot", "a-bot")
    store.save(URL, "b@x", "cli", "b-cli")
    store.save(OTHER, "a@x", "cli", "other")
    assert store.load(URL, None, None) == "b-cli"
    assert store.load(URL, "a@x", None) == "a-bot"
    assert store.load(URL, "a@x", "cli") == "a-cli"
    assert store.load(OTHER, None, "cli") == "other"
    assert store.load(OTHER, "b@x", None) is None
    assert store.load("ws://world.example/", None, None) is None
    store.save(URL, "a@x", "cli", "a-cli-2")
    assert store.load(URL, "a@x", "cli") == "a-cli-2"
    assert len(json.loads(path.read_text())["tokens"]) == 4


def test_file_of_the_environment_is_looked_up_when_used(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published client looks only once, at import."""
    store = FileTokenStore()
    store.save(URL, None, "cli", "home")
    monkeypatch.setenv("PROCEDURA_TOKEN_FILE", str(tmp_path / "named"))
    assert store.load(URL, None, None) is None
    store.save(URL, None, "cli", "named")
    assert store.load(URL, None, None) == "named"
    monkeypatch.delenv("PROCEDURA_TOKEN_FILE")
    assert store.load(URL, None, None) == "home"
    assert path.exists()


@pytest.mark.parametrize("named", ["", URL])
def test_file_of_the_published_client(
    path: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its one token goes to the one server that it can be for, and to no other."""
    path.parent.mkdir()
    path.write_text("sess_old\n")
    path.chmod(0o600)
    monkeypatch.setenv("PROCEDURA_URL", named)
    store = FileTokenStore()
    mine, others = (URL, DEFAULT_URL) if named else (DEFAULT_URL, URL)
    assert store.load(mine, "any@x", "any") == "sess_old"
    assert store.load(others, None, None) is None
    store.save(URL, "a@x", "cli", "new")
    assert store.load(DEFAULT_URL, None, None) is None
    assert "sess_old" not in path.read_text()


def test_empty_and_missing_files(path: Path) -> None:
    """They hold no token."""
    store = FileTokenStore()
    assert store.load(URL, None, None) is None
    path.parent.mkdir()
    path.write_text(" \n")
    assert store.load(DEFAULT_URL, None, None) is None


@pytest.mark.parametrize("text", ["{", '{"tokens": 1}', '{"tokens": [{}]}', "{}"])
def test_files_of_another_kind(path: Path, text: str) -> None:
    """They are neither used nor overwritten, and their content is not told."""
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError, match="not a file of tokens"):
        FileTokenStore().load(URL, None, None)
    with pytest.raises(ConfigError, match="not a file of tokens"):
        FileTokenStore().save(URL, None, "cli", "t")
    assert path.read_text() == text


def test_directory_instead_of_a_file(path: Path) -> None:
    """It is told which file it is, and nothing is left behind."""
    path.mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        FileTokenStore().load(URL, None, None)
    with pytest.raises(ConfigError):
        FileTokenStore().save(URL, None, "cli", "tok-secret")
    assert [each.name for each in path.parent.iterdir() if each.is_file()] == ["token.lock"]


@needs_modes
def test_file_that_others_can_read(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is used, with a warning that names no token."""
    path.parent.mkdir()
    path.write_text("sess_old")
    path.chmod(0o644)
    assert FileTokenStore().load(DEFAULT_URL, None, None) == "sess_old"
    assert "chmod 600" in caplog.text
    assert "sess_old" not in caplog.text


def test_logins_at_once_lose_no_token(path: Path) -> None:
    """Each reads, adds its own and writes, one after the other."""
    threads = [
        threading.Thread(target=FileTokenStore().save, args=(URL, f"a{n}", "cli", f"t{n}"))
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.exists()
    for number in range(20):
        assert FileTokenStore().load(URL, f"a{number}", None) == f"t{number}"


def test_token_is_not_shown(path: Path) -> None:
    """Not in a debug page either."""
    store = FileTokenStore()
    store.save(URL, None, "cli", "tok-secret")
    assert path.exists()
    assert "tok-secret" not in repr(store.load(URL, None, None)) + repr(store._read())


@needs_modes
def test_process_that_keeps_the_lock(path: Path) -> None:
    """One that was stopped holds nobody up for longer than a known time, and its name is told."""
    store = FileTokenStore(lock_timeout=0.1)
    store.save(URL, None, "cli", "old")
    with open(path.with_name("token.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"another process has kept .*token locked"):
            store.save(URL, None, "cli", "new")
    assert store.load(URL, None, None) == "old"
    store.save(URL, None, "cli", "new")
    assert store.load(URL, None, None) == "new"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_while_the_file_is_written(path: Path) -> None:
    """The child has the lock's descriptor for as long as it lives, and holds nobody up."""
    path.parent.mkdir()
    reading, writing = os.pipe()
    with _alone(path, Deadline(PATIENCE)):
        child = forked(lambda: os.read(reading, 1))
    try:
        FileTokenStore(lock_timeout=0.1).save(URL, None, "cli", "new")
    finally:
        os.write(writing, b"!")
        assert exit_code(child) == 0
        os.close(reading)
        os.close(writing)
    assert FileTokenStore().load(URL, None, None) == "new"


def test_lock_timeout() -> None:
    """It is a number of seconds."""
    with pytest.raises(ConfigError, match="lock_timeout"):
        FileTokenStore(lock_timeout=0)
