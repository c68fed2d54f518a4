"""What a watch finds that comes late, or while it reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from buttdial_sync.happy.client import HappyClient
from buttdial_sync.happy.errors import HappyError
from buttdial_sync.happy.live_socket import Listener
from buttdial_sync.happy.updates import SessionEnded, Update
from buttdial_sync.happy.watching import SessionWatch
from buttdial_sync.testing.happy_agents import AgentProcess
from buttdial_sync.testing.happy_server import FakeHappyServer
from buttdial_sync.testing.http_messages import Request, json_response
from buttdial_sync.transport.deadline import Deadline

PATIENCE = 30.0


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


class Pushing:
    """A live connection over which only the test pushes."""

    is_live = True

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def stop_listening(self, listener: Listener) -> None:
        self._listeners.remove(listener)

    def push(self, kind: str, session_id: str) -> None:
        for each in self._listeners:
            each("update", {"body": {"t": kind, "sid": session_id}})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live() -> Any:
    return Pushing()


@pytest.fixture
def process(happy_server: FakeHappyServer) -> AgentProcess:
    return happy_server.add_session(happy_server.add_machine())


@pytest.fixture
def watch(
    happy_server: FakeHappyServer, process: AgentProcess, clock: Clock, live: Any
) -> Iterator[SessionWatch]:
    with HappyClient(
        happy_server.server_url,
        token=happy_server.token,
        secret_b64=happy_server.secret_b64,
        clock=clock,
    ) as client:
        parts = (client._connection, client._records, live)
        with SessionWatch(*parts, process.session.id, 0, poll_interval=2.0) as watch:
            yield watch


def polled(watch: SessionWatch) -> list[Update]:
    return watch.poll(Deadline(PATIENCE))


@pytest.mark.parametrize("seconds", [1.0, 59.0, 61.0, 3_600.0])
def test_a_message_that_crossed_before_a_pause_of_the_host(
    watch: SessionWatch, process: AgentProcess, clock: Clock, live: Pushing, seconds: float
) -> None:
    """The server stored it after the one of the next number. It is given after any pause, once."""
    session = process.session
    _, late, _ = (process.write_event({"t": "text", "text": each}, "t") for each in "123")
    session.messages.remove(late)
    assert [update.seq for update in polled(watch)] == [1, 3]
    session.messages.insert(1, late)
    live.push("new-message", session.id)
    clock.now += seconds
    assert [update.seq for update in polled(watch)] == [2]
    process.write_event({"t": "text", "text": "4"}, "t")
    clock.now += seconds
    live.push("new-message", session.id)
    assert [update.seq for update in polled(watch)] == [4]


def test_a_deletion_that_is_pushed_while_the_state_is_read(
    happy_server: FakeHappyServer, watch: SessionWatch, process: AgentProcess, live: Pushing
) -> None:
    """The answer has the session still: it is read again at once."""
    session = process.session

    def push(request: Request) -> None:
        if "messages" not in request.path:
            live.push("delete-session", session.id)

    happy_server.faults.append(push)
    assert polled(watch) == []
    happy_server.faults.clear()
    happy_server.store.delete_session(session.id)
    assert [type(update) for update in polled(watch)] == [SessionEnded]


def test_a_state_that_could_not_be_read(
    happy_server: FakeHappyServer, watch: SessionWatch, process: AgentProcess, live: Pushing
) -> None:
    """The next look reads it again."""
    session = process.session
    assert polled(watch) == []
    live.push("delete-session", session.id)
    happy_server.store.delete_session(session.id)
    happy_server.faults.append(lambda _: json_response(400, {"error": "wrong"}))
    with pytest.raises(HappyError):
        polled(watch)
    happy_server.faults.clear()
    assert [type(update) for update in polled(watch)] == [SessionEnded]
