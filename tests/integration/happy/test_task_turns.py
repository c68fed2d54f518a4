"""Turns over real sockets: quick, slow, silent and older agents, and sockets that are cut."""

from __future__ import annotations

import threading
from typing import get_args

import pytest

from buttdial_sync.errors import DeadlineExceededError
from buttdial_sync.happy import errors
from buttdial_sync.happy.client import HappyClient
from buttdial_sync.happy.updates import AgentText, ToolCallStarted, TurnEnded, Update
from buttdial_sync.testing.happy_agents import AgentFailure, AgentProcess, FakeMachine, FakeTurn
from buttdial_sync.testing.happy_server import FakeHappyServer
from buttdial_sync.testing.http_messages import Request
from tests.integration.happy.conftest import client_of
from tests.integration.happy.cutting import PATIENCE, Phase, turns

TURNS = 100
TURNS_PER_PHASE = 25


def test_agents_that_answer_at_once(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """100 of 100, though the turn is over before the sender knows that its message was stored."""
    machine.is_instant = True
    session_id = happy_server.add_session(machine).session.id
    for number in range(TURNS):
        result = client.run_prompt(session_id, f"prompt {number}", PATIENCE)
        assert (result.status, result.text) == ("completed", f"Done: prompt {number}")


def test_a_whole_task(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """A session is started, works, and is stopped; the result has all that was seen of it."""

    def works(turn: FakeTurn) -> None:
        turn.say("Let me think.", thinking=True)
        turn.call_tool("Bash", command="ls")
        turn.say("One file.", usage={"input_tokens": 5, "output_tokens": 2, "service_tier": "x"})
        turn.say("Fixed it.", usage={"input_tokens": 1, "output_tokens": 1})

    machine.agent = works
    seen: list[Update] = []
    sessions: list[str] = []
    with client_of(happy_server) as client:
        result = client.run_task(
            "machine-1",
            "/repo",
            "Fix it",
            name="Fixing",
            on_update=seen.append,
            on_session=sessions.append,
            model="opus",
        )
    assert (result.status, result.ok, result.text) == ("completed", True, "One file.\n\nFixed it.")
    assert result.usage == {"input_tokens": 6, "output_tokens": 3}
    assert sessions == [result.session_id]
    assert [type(update) for update in result.updates if isinstance(update, ToolCallStarted)]
    assert isinstance(seen[-1], TurnEnded)
    assert happy_server.process(result.session_id).ended
    meta = client_meta(happy_server, result.session_id)
    assert (meta["permissionMode"], meta["model"]) == ("yolo", "opus")


def test_a_session_that_cannot_be_stopped(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """What the agent has done is not lost with it."""

    def leaves(turn: FakeTurn) -> None:
        turn.say("Done.")
        machine.is_offline = True

    machine.agent = leaves
    result = client.run_task("machine-1", "/repo", "hello", timeout_seconds=PATIENCE)
    assert (result.status, result.text) == ("completed", "Done.")
    assert isinstance(result.stop_error, errors.MachineOfflineError)


def client_meta(server: FakeHappyServer, session_id: str) -> dict[str, object]:
    session = server.store.sessions[session_id]
    meta: dict[str, object] = session.cipher.open(session.messages[0].sealed)["meta"]
    return meta


@pytest.mark.parametrize("stop", [True, False])
def test_stopping_is_a_choice(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient, stop: bool
) -> None:
    """The session of a task that is over is stopped, unless it should go on."""
    result = client.run_task("machine-1", "/repo", "hello", stop=stop)
    assert happy_server.process(result.session_id).ended is stop


def test_an_agent_that_fails(machine: FakeMachine, client: HappyClient) -> None:
    """The agent's own failure is a result and not an exception."""

    def fails(turn: FakeTurn) -> None:
        raise AgentFailure("out of tokens")

    machine.agent = fails
    result = client.run_task("machine-1", "/repo", "hello")
    assert (result.status, result.ok, result.text) == ("failed", False, "")


@pytest.mark.parametrize("status", ["completed", "timed_out"])
def test_a_slow_agent(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient, status: str
) -> None:
    """What is not over in time is told, and goes on; waiting can be taken up again."""
    go_on = threading.Event()
    machine.agent = lambda turn: go_on.wait(PATIENCE)
    session_id = happy_server.add_session(machine).session.id
    result = client.run_prompt(session_id, "hello", 0.3)
    assert (result.status, result.requests) == ("timed_out", [])
    if status == "timed_out":
        with pytest.raises(errors.TimeoutError) as caught:
            client.wait_for_turn_completion(session_id, 0.2)
        assert isinstance(caught.value, DeadlineExceededError)
        assert caught.value.session_id == session_id
    go_on.set()
    assert client.wait_for_turn_completion(session_id, PATIENCE).status == "completed"
    client.wait_for_idle(session_id, PATIENCE)


@pytest.mark.parametrize("phase", get_args(Phase))
def test_sockets_that_are_cut(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient, phase: Phase
) -> None:
    """No turn is lost, whenever the live connection is cut, and whether or not it comes back."""
    assert turns(happy_server, machine, client, phase, TURNS_PER_PHASE) == []


def test_an_outage_while_waiting(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """A server that is gone for a while costs time, and no turn."""
    session_id = happy_server.add_session(machine).session.id
    failures = [20]

    def fails(request: Request) -> None:
        if request.method == "GET" and happy_server.prompts(session_id) and failures[0]:
            failures[0] -= 1
            raise ConnectionAbortedError  # the connection ends without an answer

    happy_server.faults.append(fails)
    with client_of(happy_server, sleep=lambda _: None) as client:
        result = client.run_prompt(session_id, "hello", PATIENCE)
    assert (result.status, failures) == ("completed", [0])


@pytest.fixture
def process(happy_server: FakeHappyServer, machine: FakeMachine) -> AgentProcess:
    """A session whose agent says nothing by itself: the test writes for it."""
    machine.announces = "nothing"
    machine.agent = lambda turn: None
    return happy_server.add_session(machine)


def event(process: AgentProcess, turn: str | None, kind: str, **fields: object) -> None:
    process.write_event({"t": kind, **fields}, turn)


def test_an_earlier_turn_that_ends_late(client: HappyClient, process: AgentProcess) -> None:
    """The end of the turn before ours does not end ours."""
    session_id = process.session.id
    event(process, "old", "turn-start")
    sent = client.send_message(session_id, "hello")
    event(process, "old", "text", text="late")
    event(process, "old", "turn-end", status="failed")
    event(process, "ours", "turn-start")
    event(process, "ours", "text", text="mine")
    event(process, "ours", "turn-end", status="completed")
    result = client.wait_for_turn_completion(session_id, PATIENCE)
    assert (result.status, result.text) == ("completed", "mine")
    assert all(update.seq is not None and update.seq > sent.seq for update in result.updates)


def test_a_message_into_a_running_turn(client: HappyClient, process: AgentProcess) -> None:
    """If no turn begins after the one that ran, that one took the message in."""
    event(process, "old", "turn-start")
    client.send_message(process.session.id, "and one more thing")
    event(process, "old", "text", text="both done")
    event(process, "old", "turn-end", status="completed")
    result = client.wait_for_turn_completion(process.session.id, PATIENCE)
    assert (result.status, result.text) == ("completed", "both done")


def test_an_outage_proves_nothing(happy_server: FakeHappyServer, process: AgentProcess) -> None:
    """That nothing follows the end of another turn is known only when the server can be asked."""
    session_id = process.session.id
    failures = [0]

    def fails(request: Request) -> None:
        if failures[0]:
            failures[0] -= 1
            raise ConnectionAbortedError  # the connection ends without an answer

    def begin_ours(update: Update) -> None:
        if isinstance(update, TurnEnded) and update.turn == "old":
            failures[0] = 200  # for longer than the turn may take to begin
            event(process, "ours", "turn-start")
            event(process, "ours", "turn-end", status="completed")

    happy_server.faults.append(fails)
    event(process, "old", "turn-start")
    with client_of(happy_server, sleep=lambda _: None) as client:
        client.send_message(session_id, "hello")
        event(process, "old", "turn-end", status="failed")
        result = client.wait_for_turn_completion(session_id, PATIENCE, on_update=begin_ours)
    assert (result.status, failures) == ("completed", [0])


@pytest.mark.parametrize("sends", [True, False])
def test_older_producers(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient, sends: bool
) -> None:
    """An agent that only says that it is ready is understood."""
    machine.announces = "ready"
    session_id = happy_server.add_session(machine).session.id
    if sends:
        assert client.run_prompt(session_id, "hello", PATIENCE).text == "Done: hello"
    else:
        happy_server.process(session_id).write_event({"t": "text", "text": "Hi"}, None)
        happy_server.process(session_id)._announce(
            FakeTurn(happy_server.process(session_id), "", {}), {"t": "turn-end"}
        )
        result = client.wait_for_turn_completion(session_id, PATIENCE)
        assert result.status == "completed"


def test_a_silent_producer(
    happy_server: FakeHappyServer, client: HappyClient, process: AgentProcess
) -> None:
    """Without any word about turns the agent's state decides, and the end is undetermined."""
    process.machine.announces = "nothing"
    process.machine.agent = lambda turn: turn.say("Hi")

    def become_idle(update: Update) -> None:
        if isinstance(update, AgentText):
            happy_server.store.change_agent_state(process.session, lambda state: None)

    result = client.run_prompt(process.session.id, "hello", PATIENCE, on_update=become_idle)
    assert (result.status, result.text) == ("undetermined", "Hi")


def test_an_agent_that_says_that_it_works(
    happy_server: FakeHappyServer, client: HappyClient, process: AgentProcess
) -> None:
    """While it says so, being quiet ends nothing; once it says that it is done, that decides."""
    session_id = process.session.id
    process.machine.announces = "nothing"
    process.machine.agent = lambda turn: turn.say("Hi")
    quiet = threading.Timer(0.6, lambda: happy_server.push_activity(session_id, thinking=False))

    def still_works(update: Update) -> None:
        happy_server.push_activity(session_id, thinking=True)
        if not quiet.is_alive():
            quiet.start()

    try:
        result = client.run_prompt(session_id, "hello", PATIENCE, on_update=still_works)
    finally:
        quiet.cancel()
        quiet.join()
    assert result.status == "undetermined"


def test_an_idle_session(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """Waiting for what is over returns at once, with how it ended."""
    session_id = happy_server.add_session(machine).session.id
    client.wait_for_idle(session_id, PATIENCE)
    assert client.wait_for_turn_completion(session_id, PATIENCE).status == "undetermined"
    client.run_prompt(session_id, "hello", PATIENCE)
    client.wait_for_idle(session_id, PATIENCE)
    assert client.wait_for_turn_completion(session_id, PATIENCE).status == "completed"
    with client_of(happy_server) as another:
        assert another.wait_for_turn_completion(session_id, PATIENCE).status == "completed"
        another.wait_for_idle(session_id, PATIENCE)


def test_what_somebody_else_asked(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """A client that has sent nothing waits for the turn that runs, or is about to begin."""
    begun, go_on = threading.Event(), threading.Event()

    def works(turn: FakeTurn) -> None:
        begun.set()
        go_on.wait(PATIENCE)

    machine.agent = works
    session_id = happy_server.add_session(machine).session.id
    client.send_message(session_id, "hello")
    assert begun.wait(PATIENCE)
    with client_of(happy_server) as another:
        with pytest.raises(errors.TimeoutError):
            another.wait_for_idle(session_id, 0.2)
        go_on.set()
        assert another.wait_for_turn_completion(session_id, PATIENCE).status == "completed"


@pytest.mark.parametrize("how", ["archived", "deleted", "switched off"])
def test_a_session_that_ends_meanwhile(
    happy_server: FakeHappyServer, client: HappyClient, process: AgentProcess, how: str
) -> None:
    """The wait ends with it, and says so."""

    def end(update: Update) -> None:
        if how == "archived":
            process.end()
        elif how == "deleted":
            happy_server.store.delete_session(process.session.id)
        else:
            process.session.active = False
            happy_server.push_activity(process.session.id)

    process.machine.agent = lambda turn: turn.say("Hi")
    result = client.run_prompt(process.session.id, "hello", PATIENCE, on_update=end)
    assert result.status == ("undetermined" if how == "switched off" else "archived")


def test_closing_while_waiting(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """close() from another thread ends the wait."""
    machine.agent = lambda turn: turn.ask("Bash")
    session_id = happy_server.add_session(machine).session.id
    with pytest.raises(errors.HappyClosedError):
        client.run_prompt(session_id, "hello", PATIENCE, on_update=lambda _: client.close())


def test_a_callback_that_raises(machine: FakeMachine, client: HappyClient) -> None:
    """What the host's own code raises ends the wait, and is not changed."""

    def raises(update: Update) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        client.run_task("machine-1", "/repo", "hello", on_update=raises)
