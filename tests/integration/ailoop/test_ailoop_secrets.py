"""No token in what is raised: not in its text, nor in the local variables of a frame of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from buttdial_sync.ailoop import AiloopClient, AiloopError
from tests.leaks import leaks_of

TOKEN = "ailoop-token-that-nobody-may-see"
HOSTS_OWN = "what-the-host-has-in-its-environment"

WRONG: Mapping[str, Mapping[str, Any]] = {
    "url": {"server_url": "ftp://localhost"},
    "channel": {"channel": "system"},
    "unencrypted": {"server_url": "http://ailoop.example"},
    "timeout": {"timeout": 0},
    "connect_timeout": {"connect_timeout": 0},
    "accept_timeout": {"accept_timeout": -1},
    "max_attempts": {"max_attempts": 0},
}


@pytest.mark.parametrize("name", list(WRONG))
def test_constructor_that_raises(name: str) -> None:
    """Whichever argument is wrong."""
    with pytest.raises(AiloopError) as caught:
        AiloopClient(**{"server_url": "http://localhost:9", "token": TOKEN, **WRONG[name]})
    assert leaks_of(caught.value, TOKEN) == []


@pytest.mark.parametrize("name", list(WRONG))
@pytest.mark.parametrize("given", ["mapping", "os.environ", "override"])
def test_environment(name: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the token, nor the rest of the environment."""
    environ = {
        "AILOOP_SERVER": "http://localhost:9",
        "AILOOP_TOKEN": TOKEN,
        "DATABASE_URL": HOSTS_OWN,
    }
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    calls: dict[str, Callable[..., AiloopClient]] = {
        "mapping": lambda **wrong: AiloopClient.from_env(environ, **wrong),
        "os.environ": AiloopClient.from_env,
        "override": lambda **wrong: AiloopClient.from_env({}, token=TOKEN, **wrong),
    }
    with pytest.raises(AiloopError) as caught:
        calls[given](**{"server_url": "http://localhost:9", **WRONG[name]})
    assert leaks_of(caught.value, TOKEN, HOSTS_OWN) == []


@pytest.mark.parametrize("how", ["channels", "ask", "say"])
def test_calls(how: str) -> None:
    """To a server that is not there."""
    with AiloopClient("http://127.0.0.1:9", token=TOKEN, max_attempts=1) as client:
        calls: dict[str, Callable[[], object]] = {
            "channels": client.channels,
            "ask": lambda: client.ask("Which?", ["a", "b"]),
            "say": lambda: client.say("hello"),
        }
        with pytest.raises(AiloopError) as caught:
            calls[how]()
    assert leaks_of(caught.value, TOKEN) == []
