"""Following a session: every update once, in order, over connections that are cut."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

from buttdial_sync.happy import errors
from buttdial_sync.happy.client import HappyClient
from buttdial_sync.happy.updates import (
    AgentReady,
    AgentText,
    PermissionRequested,
    RawUpdate,
    ServiceText,
    SessionEnded,
    StateChanged,
    ToolCallEnded,
    ToolCallStarted,
    TurnEnded,
    TurnStarted,
    Update,
    UserText,
)
from buttdial_sync.testing.happy_agents import AgentProcess, FakeMachine, FakeTurn
from buttdial_sync.testing.happy_server import FakeHappyServer
from buttdial_sync.testing.http_messages import BrokenConnection, Reply, Request
from tests.integration.happy.conftest import client_of

PATIENCE = 30.0
WRITTEN = 200


@pytest.fixture
def process(happy_server: FakeHappyServer, machine: FakeMachine) -> AgentProcess:
    return happy_server.add_session(machine)


def texts_of(updates: Iterator[Update], count: int) -> list[str]:
    """The next texts of an agent; what else comes is left out."""
    found = (update.text for update in updates if isinstance(update, AgentText))
    return [next(found) for _ in range(count)]


def test_what_is_there_and_what_comes(client: HappyClient, process: AgentProcess) -> None:
    """It begins where it is told, and goes on live."""
    first = process.write_event({"t": "text", "text": "0"}, "t")
    process.write_event({"t": "text", "text": "1"}, "t")
    updates = client.follow(process.session.id, after_seq=first.seq, timeout=PATIENCE)
    assert texts_of(updates, 1) == ["1"]
    process.write_event({"t": "text", "text": "2"}, "t")
    assert texts_of(updates, 1) == ["2"]


def test_only_what_is_new(client: HappyClient, process: AgentProcess) -> None:
    """Without a number it begins with what comes after the call."""
    process.write_event({"t": "text", "text": "old"}, "t")
    updates = client.follow(process.session.id, timeout=PATIENCE)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.extend(texts_of(updates, 1)))
    reader.start()
    while not client._wiring.realtime.is_live:
        threading.Event().wait(0.01)
    process.write_event({"t": "text", "text": "new"}, "t")
    reader.join(PATIENCE)
    assert found == ["new"]


@pytest.mark.parametrize("seed", range(3))
def test_no_gap_and_nothing_twice(
    happy_server: FakeHappyServer, process: AgentProcess, seed: int
) -> None:
    """Cuts, refused connections and lost answers in between change nothing."""
    source = random.Random(seed)

    def trouble(request: Request) -> Reply | None:
        return BrokenConnection("reset") if source.random() < 0.1 else None

    def write() -> None:
        for number in range(WRITTEN):
            process.write_event({"t": "text", "text": str(number)}, "t")
            if source.random() < 0.05:
                happy_server.cut_sockets()
            happy_server.refuses_sockets = source.random() < 0.3

    happy_server.faults.append(trouble)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        with client_of(happy_server, sleep=lambda _: None) as client:
            updates = client.follow(process.session.id, after_seq=0, timeout=2 * PATIENCE)
            assert texts_of(updates, WRITTEN) == [str(number) for number in range(WRITTEN)]
    finally:
        writer.join(PATIENCE)


def test_messages_that_cross(
    happy_server: FakeHappyServer, client: HappyClient, process: AgentProcess
) -> None:
    """A message that is stored after one with a higher number is not passed over."""
    session, store = process.session, happy_server.store
    updates = client.follow(session.id, after_seq=0, timeout=PATIENCE)
    process.write_event({"t": "text", "text": "1"}, "t")
    assert texts_of(updates, 1) == ["1"]
    late = process.write_event({"t": "text", "text": "2"}, "t")
    session.messages.remove(late)
    process.write_event({"t": "text", "text": "3"}, "t")
    assert texts_of(updates, 1) == ["3"]
    session.messages.insert(1, late)
    body = {"t": "new-message", "sid": session.id, "message": late.as_record()}
    store._push("update", body, None)
    assert texts_of(updates, 1) == ["2"]
    process.write_event({"t": "text", "text": "4"}, "t")
    assert texts_of(updates, 1) == ["4"]


def test_every_kind(
    happy_server: FakeHappyServer, client: HappyClient, machine: FakeMachine
) -> None:
    """Each shape has its type; unknown ones are raw and lose nothing."""

    def works(turn: FakeTurn) -> None:
        turn.say("hm", thinking=True)
        turn.call_tool("Bash", command="ls")
        turn.write({"t": "service", "text": "compacting"})
        turn.write({"t": "something-new", "x": 1})
        turn.ask("Bash", command="rm")

    machine.agent = works
    process = happy_server.add_session(machine)
    process.write({"role": "agent", "content": {"type": "event", "data": {"type": "ready"}}})
    process.write({"role": "agent", "content": {"type": "output", "data": {}}})
    process.write(["not", "an", "object"])
    client.send_message(process.session.id, "hello")
    seen: list[Update] = []
    for update in client.follow(process.session.id, after_seq=0, timeout=PATIENCE):
        seen.append(update)
        if isinstance(update, PermissionRequested):
            client.approve(process.session.id, update.request.id)
        if isinstance(update, TurnEnded):
            client.kill_session(process.session.id)
    kinds = [type(update) for update in seen if update.seq is not None]
    assert kinds == [
        AgentReady,
        RawUpdate,
        RawUpdate,
        UserText,
        TurnStarted,
        AgentText,
        ToolCallStarted,
        ToolCallEnded,
        ServiceText,
        RawUpdate,
        TurnEnded,
    ]
    assert [update.seq for update in seen if update.seq is not None] == list(range(1, 12))
    states = [type(update) for update in seen if update.seq is None]
    assert states.count(PermissionRequested) == 1
    assert StateChanged in states
    assert seen[-1] == SessionEnded(session_id=process.session.id, how="archived")
    raw = [update for update in seen if isinstance(update, RawUpdate)]
    assert raw[1].raw == ["not", "an", "object"]
    assert raw[2].raw["content"]["ev"] == {"t": "something-new", "x": 1}


def test_it_ends_with_its_time(client: HappyClient, process: AgentProcess) -> None:
    """A time that has passed ends it without an error."""
    assert list(client.follow(process.session.id, after_seq=0, timeout=0.2)) == []


def test_a_deleted_session(
    happy_server: FakeHappyServer, client: HappyClient, process: AgentProcess
) -> None:
    """It ends with the session, and a session that never was is an error."""
    process.write_event({"t": "text", "text": "1"}, "t")
    updates = client.follow(process.session.id, after_seq=0, timeout=PATIENCE)
    assert texts_of(updates, 1) == ["1"]
    happy_server.store.delete_session(process.session.id)
    assert [type(update) for update in updates] == [SessionEnded]
    with pytest.raises(errors.SessionNotFound):
        next(client.follow(process.session.id))


def test_listeners_do_not_pile_up(client: HappyClient, process: AgentProcess) -> None:
    """A generator that is closed leaves nothing behind."""
    process.write_event({"t": "text", "text": "1"}, "t")
    for _ in range(5):
        updates = client.follow(process.session.id, after_seq=0, timeout=PATIENCE)
        next(updates)
        updates.close()  # type: ignore[attr-defined]
    assert client._wiring.realtime._listeners == frozenset()


def test_closing_the_client_ends_it(client: HappyClient, process: AgentProcess) -> None:
    """Who waits for updates is woken by close()."""
    updates = client.follow(process.session.id, after_seq=0)
    closer = threading.Timer(0.2, client.close)
    closer.start()
    with pytest.raises(errors.HappyClosedError):
        next(updates)
    closer.join()
