"""A client under pytest-socket: with ``responses`` it needs no socket."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from buttdial_sync import Client
from buttdial_sync.testing import FakeButtDialServer


class GuardedSocket(socket.socket):
    """What pytest-socket puts in the place of ``socket.socket``."""

    def __new__(cls, *args: Any, **kwargs: Any) -> GuardedSocket:
        raise RuntimeError("A test tried to use socket.socket.")


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_no_socket_is_made(dialect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the constructor nor a call by way of ``responses`` makes one."""
    monkeypatch.setattr(socket, "socket", GuardedSocket)
    with (
        FakeButtDialServer(dialect=dialect).mocked("https://guarded.test"),
        Client("https://guarded.test", agent_token="t") as client,
    ):
        assert client.send_message("+14155550123", "hello").ok
