"""Following a session: every update once, in order, over connections that are cut."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

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
from buttdial_sync.testing.http_messages import BrokenConnection, Reply, Request, json_response
from tests.integration.happy.conftest import LeapingClock, client_of

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
    while not client._realtime.is_live:
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


@pytest.mark.parametrize("trouble", ["none", "a read fails", "no live connection"])
def test_messages_that_cross(
    happy_server: FakeHappyServer, process: AgentProcess, trouble: str
) -> None:
    """A message that is stored late is found, though nobody may tell of it again."""
    session = process.session
    happy_server.refuses_sockets = trouble == "no live connection"
    failures = [0]

    def fails(request: Request) -> Reply | None:
        if failures[0] and request.query.get("after_seq") == "1":
            failures[0] -= 1
            return json_response(503, {"error": "busy"})
        return None

    happy_server.faults.append(fails)
    with client_of(happy_server, max_attempts=1) as client:
        updates = client.follow(session.id, after_seq=0, timeout=PATIENCE)
        process.write_event({"t": "text", "text": "1"}, "t")
        assert texts_of(updates, 1) == ["1"]
        late = process.write_event({"t": "text", "text": "2"}, "t")
        session.messages.remove(late)
        process.write_event({"t": "text", "text": "3"}, "t")
        assert texts_of(updates, 1) == ["3"]
        failures[0] = trouble == "a read fails"
        session.messages.insert(1, late)
        body = {"t": "new-message", "sid": session.id, "message": late.as_record()}
        happy_server.store._push("update", body, None)
        assert texts_of(updates, 1) == ["2"]
        process.write_event({"t": "text", "text": "4"}, "t")
        assert texts_of(updates, 1) == ["4"]
    assert failures == [0]


def test_a_turn_whose_end_is_stored_late(
    happy_server: FakeHappyServer, process: AgentProcess
) -> None:
    """Without a live connection too, the turn is over when its end is there."""
    happy_server.refuses_sockets = True
    process.ended = True  # the test writes what the agent would
    session = process.session
    late: list[Any] = []

    def writes(request: Request) -> None:
        if "after_seq" not in request.query:
            return
        if not late:
            process.write_event({"t": "turn-start"}, "t")
            late.append(process.write_event({"t": "turn-end", "status": "completed"}, "t"))
            session.messages.remove(late[0])
            process.write({"role": "user", "content": {"type": "text", "text": "by a person"}})
        elif late[0] not in session.messages and len(late) == 5:
            session.messages.insert(-1, late[0])
        late.append(None)

    happy_server.faults.append(writes)
    with client_of(happy_server) as client:
        assert client.run_prompt(session.id, "go", PATIENCE).status == "completed"
    assert late[0] in session.messages


def test_a_number_that_never_comes(happy_server: FakeHappyServer, process: AgentProcess) -> None:
    """It is looked for only for a while, and holds nothing up."""
    session = process.session
    happy_server.refuses_sockets = True
    clock = LeapingClock()
    with client_of(happy_server, clock=clock) as client:
        updates = client.follow(session.id, after_seq=0, timeout=100_000.0)
        for number in ("1", "3"):
            process.write_event({"t": "text", "text": number}, "t")
            session.seq += 1
        assert texts_of(updates, 2) == ["1", "3"]
        process.write_event({"t": "text", "text": "5"}, "t")
        assert texts_of(updates, 1) == ["5"]
        clock.leap()
        process.write_event({"t": "text", "text": "6"}, "t")
        assert texts_of(updates, 1) == ["6"]
        process.write_event({"t": "text", "text": "7"}, "t")
        assert texts_of(updates, 1) == ["7"]
    looks = [each.query["after_seq"] for each in happy_server.requests if "after_seq" in each.query]
    assert "1" in looks
    assert looks[-1] == "6"


@pytest.mark.parametrize("value", [[], "text", None, 5])
@pytest.mark.parametrize("part", ["metadata", "agent_state"])
def test_a_state_that_is_not_an_object(
    happy_server: FakeHappyServer, client: HappyClient, process: AgentProcess, part: str, value: Any
) -> None:
    """It is said, and what was known stays; nothing ends."""
    session: Any = process.session
    found: list[Any] = []
    name = "metadata" if part == "metadata" else "agentState"
    process.write_event({"t": "text", "text": "go"}, "t")
    for update in client.follow(session.id, after_seq=0, timeout=PATIENCE):
        if isinstance(update, AgentText):
            sealed = session.cipher.seal(value)
            body = {"t": "update-session", "id": session.id, name: {"value": sealed, "version": 9}}
            happy_server.store._push("update", body, None)
        elif isinstance(update, StateChanged) and update.session.unreadable:
            found.append(update.session)
            break
    assert found[0].unreadable == f"the {name} is not an object"
    assert found[0].directory == "/repo"
    assert found[0].agent_state is not None


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
    assert client._realtime._listeners == frozenset()


def test_closing_the_client_ends_it(client: HappyClient, process: AgentProcess) -> None:
    """Who waits for updates is woken by close()."""
    updates = client.follow(process.session.id, after_seq=0)
    closer = threading.Timer(0.2, client.close)
    closer.start()
    with pytest.raises(errors.HappyClosedError):
        next(updates)
    closer.join()
