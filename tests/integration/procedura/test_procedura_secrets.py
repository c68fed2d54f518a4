"""No token in what is raised: not in its text, nor in the local variables of a frame of ours."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync.errors import ConfigError
from buttdial_sync.procedura import FileTokenStore, ProceduraError, RemoteAgent, tokens
from buttdial_sync.testing import FakeProceduraServer
from tests.leaks import leaks_of

TOKEN = "procedura-token-that-nobody-may-see"
OTHER = "token-of-another-account"
HOSTS_OWN = "what-the-host-has-in-its-environment"
URL = "ws://127.0.0.1:9"


@pytest.fixture
def store(tmp_path: Path) -> FileTokenStore:
    made = FileTokenStore(tmp_path / "token")
    made.save(URL, "other@example.com", "cli", OTHER)
    return made


@pytest.mark.parametrize(
    "wrong", [{"url": "http://x"}, {"connect_timeout": 0}, {"max_size": 0}, {"pin_sha256": "x"}]
)
def test_constructor_that_raises(wrong: dict[str, Any]) -> None:
    """Whichever argument is wrong, and wherever the others come from."""
    environ = {"PROCEDURA_URL": URL, "DATABASE_URL": HOSTS_OWN}
    with pytest.raises(ProceduraError) as caught:
        RemoteAgent(**{"url": URL, "token": TOKEN, **wrong})
    assert leaks_of(caught.value, TOKEN) == []
    with pytest.raises(ProceduraError) as caught:
        RemoteAgent.from_env(environ, token=TOKEN, **wrong)
    assert leaks_of(caught.value, TOKEN, HOSTS_OWN) == []


def test_login_that_cannot_be_stored(procedura_server: FakeProceduraServer) -> None:
    """The new token is nobody's but the agent's."""

    class FullStore:
        def load(self, url: str, account: str | None, device: str | None) -> str | None:
            return None

        def save(self, url: str, account: str | None, device: str, token: str) -> None:
            raise ConfigError("the disk is full")

    agent = RemoteAgent(procedura_server.url, token_store=FullStore())
    procedura_server.module("login_password", lambda _: {"session_token": TOKEN})
    with agent, pytest.raises(ProceduraError, match="full") as caught:
        agent.login_password("user@example.com:pass-word-secret")
    assert leaks_of(caught.value, TOKEN, "pass-word-secret") == []


def test_file_that_cannot_be_written(
    store: FileTokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens of other accounts were just read."""

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tokens, "replace_private_file", full)
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        store.save(URL, "me@example.com", "cli", TOKEN)
    assert leaks_of(caught.value, TOKEN, OTHER) == []


@pytest.mark.parametrize("broken", [{"url": URL}, {"url": URL, "token": TOKEN}, TOKEN, [TOKEN]])
def test_file_with_a_broken_entry(store: FileTokenStore, broken: object) -> None:
    """The others in it are whole."""
    content = json.loads(store.path.read_text("utf-8"))
    content["tokens"].append(broken)
    store.path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ConfigError, match="not a file of tokens") as caught:
        store.load(URL, None, None)
    assert leaks_of(caught.value, TOKEN, OTHER) == []
    with pytest.raises(ConfigError, match="not a file of tokens") as caught:
        store.save(URL, "me@example.com", "cli", TOKEN)
    assert leaks_of(caught.value, TOKEN, OTHER) == []


def test_file_that_is_cut_off(store: FileTokenStore) -> None:
    """What is left of it is not shown."""
    store.path.write_text(store.path.read_text("utf-8")[:-5], "utf-8")
    with pytest.raises(ConfigError, match="not a file of tokens") as caught:
        store.load(URL, None, None)
    assert leaks_of(caught.value, OTHER) == []


def test_url_with_a_token() -> None:
    """It is used as given, and not shown."""
    agent = RemoteAgent(f"wss://world.example/?token={TOKEN}&x=1", token_store=None)
    assert agent.url.endswith(f"{TOKEN}&x=1")
    assert "world.example" in repr(agent)
    assert TOKEN not in repr(agent)


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy])
def test_agent_cannot_be_copied(how: Callable[[object], object]) -> None:
    """A copy that is collected would cut the connections of the original."""
    with pytest.raises(TypeError, match="make one in each process"):
        how(RemoteAgent(URL, token=TOKEN, token_store=None))
