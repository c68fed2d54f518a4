"""What other threads and Ctrl-C do to an agent at any moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from buttdial_sync.procedura import ProceduraAuthError, RemoteAgent
from buttdial_sync.procedura.connection import ProceduraConnection
from buttdial_sync.testing import FakeProceduraServer
from tests.unit.moments import every_line

PATIENCE = 30.0
CREDENTIAL = "user@example.com:pass"


class Store:
    """Keeps one token, and lets something happen before the next reader gets what it has read."""

    def __init__(self) -> None:
        self.token = "tok-stored"
        self.meanwhile: list[Callable[[], object]] = []

    def load(self, url: str, account: str | None, device: str | None) -> str:
        found = self.token
        if self.meanwhile:
            self.meanwhile.pop()()
        return found

    def save(self, url: str, account: str | None, device: str, token: str) -> None:
        self.token = token


@pytest.fixture
def server(procedura_server: FakeProceduraServer) -> FakeProceduraServer:
    procedura_server.module("echo", lambda args: args)
    procedura_server.token_check = "error"
    procedura_server.tokens.add("tok-stored")
    return procedura_server


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def agent(server: FakeProceduraServer, store: Store) -> Iterator[RemoteAgent]:
    with RemoteAgent(server.url, token_store=store) as agent:
        yield agent


def in_another_thread(work: Callable[[], object], seconds: float = PATIENCE) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(seconds)
    return thread


def test_login_while_the_store_is_read(
    server: FakeProceduraServer, store: Store, agent: RemoteAgent
) -> None:
    """The older token that was read does not undo it."""
    store.meanwhile.append(lambda: in_another_thread(lambda: agent.login_password(CREDENTIAL)))
    for _ in range(2):
        agent.run("echo")
    assert [each.token for each in server.requests] == [None, store.token, store.token]


def test_refusal_of_another_call(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """A call never goes without the token, at whatever line it is when another one is refused."""

    def be_refused() -> None:
        with pytest.raises(ProceduraAuthError):
            agent.run("echo")

    def refuse_another() -> None:
        server.tokens.clear()
        in_another_thread(be_refused)
        server.tokens.add("tok-stored")

    agent.run("echo")
    for moment in every_line(RemoteAgent._current_token.__code__, refuse_another):
        with moment:
            agent.run("echo")
    assert {each.token for each in server.requests} == {"tok-stored"}


def test_login_while_the_old_token_is_refused(
    server: FakeProceduraServer, store: Store, agent: RemoteAgent
) -> None:
    """The refusal does not undo it, at whatever line it is noted."""
    logins: list[threading.Thread] = []

    def log_in() -> None:
        # It may have to wait until the refusal is noted.
        logins.append(in_another_thread(lambda: agent.login_password(CREDENTIAL), 0.2))

    for moment in every_line(RemoteAgent._refused.__code__, log_in):
        agent.run("echo")
        server.tokens.clear()
        with moment, pytest.raises(ProceduraAuthError):
            agent.run("echo")
        for login in logins:
            login.join(PATIENCE)
        server.tokens.add(store.token)
        loads = store.meanwhile
        loads[:] = [lambda: pytest.fail("the token of the login was forgotten")] * moment.came
        agent.run("echo")
        loads.clear()
    assert logins


def test_ctrl_c_before_a_stream_is_sent(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """It leaves no stream behind that later ones wait for, at whatever line it comes."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    server.addressing = "no_id"  # one stream starts after the other
    for moment in every_line(ProceduraConnection._sent.__code__, interrupt):
        with moment, suppress(KeyboardInterrupt):
            list(agent.stream("echo"))
        events = list(agent.stream("echo", timeout=PATIENCE))
        assert [event.phase for event in events] == ["started", "finished"]
