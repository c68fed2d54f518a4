"""What an error leaves alive: nothing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from buttdial_sync.procedura import ProceduraError, RemoteAgent
from buttdial_sync.testing import FakeProceduraServer


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def fail(agent: RemoteAgent) -> None:
    """Make calls that fail in each way."""
    calls: tuple[Callable[[], object], ...] = (
        lambda: agent.run("nothing"),
        lambda: list(agent.stream("nothing")),
        lambda: agent.login_password("user@example.com:wrong"),
        lambda: agent.run(""),
        lambda: agent.run("echo", final_timeout=0.05),
        lambda: agent.run("echo"),
    )
    for call in calls:
        with suppress(ProceduraError):
            call()


@pytest.mark.parametrize("url", [None, "ws://127.0.0.1:9"])
def test_agent_after_errors(procedura_server: FakeProceduraServer, url: str | None) -> None:
    """An agent whose calls failed is freed when the last reference goes."""
    procedura_server.fault("silence", module="echo")
    procedura_server.fault("drop", module="echo")
    procedura_server.module("echo", lambda args: args)
    agent = RemoteAgent(url or procedura_server.url, token_store=None)
    fail(agent)
    agent.close()
    gone: list[weakref.ref[Any]] = [weakref.ref(agent), weakref.ref(agent._connection)]
    del agent
    assert [each() for each in gone] == [None, None]
