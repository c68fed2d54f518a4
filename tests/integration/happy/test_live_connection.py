"""The live connection: one for all, opened when needed, and calls that end when it is lost."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from buttdial_sync.errors import ClientClosedError
from buttdial_sync.happy import errors
from buttdial_sync.happy.client import HappyClient
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.testing.happy_agents import FakeMachine
from buttdial_sync.testing.happy_server import FakeHappyServer
from buttdial_sync.testing.http_messages import Reply, Request, json_response
from buttdial_sync.transport.http import shared_adapter
from tests.integration.happy.conftest import client_of

PATIENCE = 30.0


def in_threads(count: int, work: Callable[[int], object]) -> list[BaseException]:
    """Run ``work`` in threads; return what they raised."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    return failures


def test_nothing_is_opened_before_it_is_needed(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """REST needs no live connection; calls of machines share one."""
    client.list_sessions()
    client.send_message(happy_server.add_session(machine).session.id, "hello")
    assert happy_server.live_sockets == 0
    for _ in range(5):
        client.spawn_session("machine-1", "/repo")
    assert happy_server.events.count("connect") == 1


def test_threads_share_one(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """Eight threads open one connection, and each gets its own answers."""
    names: dict[str, str] = {}

    def work(thread: int) -> None:
        for number in range(5):
            name = f"/{thread}/{number}"
            names[client.spawn_session("machine-1", name)] = name

    assert in_threads(8, work) == []
    assert happy_server.events.count("connect") == 1
    assert len(names) == 40
    assert {each.id: each.directory for each in client.list_sessions()} == names


def test_a_lost_connection_ends_the_calls_that_wait(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """They end when it is lost, and not when their time has passed; the next call opens another."""
    client.spawn_session("machine-1", "/repo")
    machine.is_silent = True
    cutter = once_called(happy_server, happy_server.cut_sockets)
    with pytest.raises(errors.SpawnOutcomeUnknownError, match="connection was lost"):
        client.spawn_session("machine-1", "/repo", timeout=10 * PATIENCE)
    cutter.join(PATIENCE)
    machine.is_silent = False
    client.spawn_session("machine-1", "/repo")
    assert happy_server.events.count("connect") == 2


def test_closing_ends_the_calls_that_wait(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """close() from another thread ends a call, and its outcome is unknown."""
    client.spawn_session("machine-1", "/repo")
    machine.is_silent = True
    closer = once_called(happy_server, client.close)
    with pytest.raises(errors.SpawnOutcomeUnknownError):
        client.spawn_session("machine-1", "/repo", timeout=10 * PATIENCE)
    closer.join(PATIENCE)
    with pytest.raises(ClientClosedError):
        client.spawn_session("machine-1", "/repo")
    assert _until(lambda: happy_server.live_sockets == 0)


def test_a_connection_that_is_not_let_in(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """Nothing was sent: that is said, and REST works all the same."""
    happy_server.refuses_sockets = True
    with pytest.raises(errors.ConnectionError) as caught:
        client.spawn_session("machine-1", "/repo")
    assert caught.value.outcome == "not_sent"
    assert machine.spawned == []
    assert client.list_machines()


def test_a_proxy_is_for_both(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """Requests and live connection alike go through the client's proxy."""
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))  # nobody listens there
        proxies = {"http": f"http://127.0.0.1:{refusing.getsockname()[1]}"}
        with client_of(happy_server, proxies=proxies, sleep=lambda _: None) as client:
            for call in (client.list_machines, client.check_live_connection):
                with pytest.raises(errors.ConnectionError):
                    call()
    assert happy_server.connections == 0


def test_a_server_below_a_path() -> None:
    """A proxy may serve it under a prefix, which requests and live connection both keep."""
    with FakeHappyServer(base_path="/happy") as server:
        server.add_machine()
        with client_of(server) as client:
            assert client.run_task("machine-1", "/repo", "hello").text == "Done: hello"


def test_a_client_that_is_dropped(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """It says so, and gives its connection back."""
    client = client_of(happy_server)
    client.spawn_session("machine-1", "/repo")
    assert happy_server.live_sockets == 1
    with pytest.warns(ResourceWarning, match="was not closed"):
        del client
    assert _until(lambda: happy_server.live_sockets == 0)


@pytest.mark.filterwarnings("ignore:.* was not closed:ResourceWarning")
def test_a_client_that_is_collected(happy_server: FakeHappyServer) -> None:
    """It waits for no lock: it may be collected in a thread that holds it."""
    clients = [client_of(happy_server)]
    assert clients[0].list_sessions() == []
    collector = threading.Thread(target=clients.clear)
    with shared_adapter()._lock:
        collector.start()
        collector.join(PATIENCE)
        was_done = not collector.is_alive()
    collector.join(PATIENCE)
    assert was_done


def test_watching_from_many_threads(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """Whoever begins to listen while others do is not forgotten."""
    realtime = client._realtime

    def work(thread: int) -> None:
        for _ in range(200):
            with client._watch("session-1", None) as watch:
                assert watch._heard in realtime._listeners

    assert in_threads(8, work) == []
    assert realtime._listeners == frozenset()


def test_signals_are_left_alone(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """The library under us would replace the process's Ctrl-C handler."""
    before = signal.getsignal(signal.SIGINT)
    client.spawn_session("machine-1", "/repo")
    assert signal.getsignal(signal.SIGINT) is before


def test_within_a_running_event_loop(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """A notebook and an async view have a loop in this thread; the client does not mind."""

    async def view() -> tuple[str, str]:
        with client_of(happy_server) as client:
            session_id = client.spawn_session("machine-1", "/repo")
            return session_id, client.run_prompt(session_id, "hello", PATIENCE).text

    session_id, text = asyncio.run(view())
    assert text == "Done: hello"
    assert happy_server.prompts(session_id) == ["hello"]


def test_threads_run_tasks(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """Each of eight tasks at once gets its own agent's words."""
    texts: set[str] = set()

    def work(thread: int) -> None:
        result = client.run_task("machine-1", f"/{thread}", f"task {thread}", "claude", PATIENCE)
        texts.add(result.text)

    assert in_threads(8, work) == []
    assert texts == {f"Done: task {number}" for number in range(8)}


@pytest.mark.parametrize(
    ("answer", "kind", "outcome"),
    [
        (
            {"ok": False, "error": "RPC method not available"},
            errors.MachineOfflineError,
            "not_sent",
        ),
        (
            {"ok": False, "error": "operation has timed out"},
            errors.RpcOutcomeUnknownError,
            "unknown",
        ),
        ({"ok": False, "error": "socket disconnected"}, errors.RpcOutcomeUnknownError, "unknown"),
        ({"ok": False, "error": "something new"}, errors.RpcOutcomeUnknownError, "unknown"),
        ({"ok": False}, errors.RpcOutcomeUnknownError, "unknown"),
        ({}, errors.RpcOutcomeUnknownError, "unknown"),
        ("text", errors.RpcOutcomeUnknownError, "unknown"),
        (None, errors.RpcOutcomeUnknownError, "unknown"),
        ({"ok": True, "result": "AAAA"}, errors.RpcOutcomeUnknownError, "unknown"),
        ({"ok": True, "result": 7}, errors.RpcOutcomeUnknownError, "unknown"),
        ({"ok": True, "result": {"error": "Method not found"}}, errors.RpcNotSupported, "not_sent"),
        ({"ok": True, "result": {"error": "no"}}, errors.StopSessionError, "rejected"),
    ],
)
def test_what_a_call_may_be_answered(
    happy_server: FakeHappyServer,
    machine: FakeMachine,
    client: HappyClient,
    answer: Any,
    kind: type[errors.HappyError],
    outcome: str,
) -> None:
    """Only a clear word proves that nothing was carried out; all else leaves it open."""
    if isinstance(answer, dict) and isinstance(answer.get("result"), dict):
        answer = {**answer, "result": machine.cipher.seal(answer["result"])}
    happy_server._io.on("rpc-call", lambda sid, data: answer)
    with pytest.raises(kind) as caught:
        client.stop_session("session-1", machine_id="machine-1")
    assert type(caught.value) is kind
    assert caught.value.outcome == outcome
    assert caught.value.session_id == "session-1"


def test_events_tell_what_happens(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """Attempts, answers and pauses are told; a callback that raises changes nothing."""
    events: list[ClientEvent] = []

    def told(event: ClientEvent) -> None:
        events.append(event)
        raise KeyError("mine")

    failures = [1]

    def fails_once(request: Request) -> Reply | None:
        if failures[0]:
            failures[0] -= 1
            return json_response(503, {"error": "overloaded"})
        return None

    happy_server.faults.append(fails_once)
    with client_of(happy_server, on_event=told, sleep=lambda _: None) as client:
        client.list_machines()
    assert [(event.kind, event.attempt) for event in events] == [
        ("attempt", 1),
        ("answer", 1),
        ("retry", 1),
        ("attempt", 2),
        ("answer", 2),
    ]
    assert {event.operation for event in events} == {"GET /v1/machines"}
    assert events[1].error == "ServerError"
    assert [event.outcome for event in events][-1] == "sent"


def once_called(server: FakeHappyServer, then: Callable[[], None]) -> threading.Thread:
    """Do something in a thread as soon as the second call has reached the server."""

    def wait() -> None:
        assert _until(lambda: len(server.events) == 3)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def _until(is_so: Callable[[], bool]) -> bool:
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if is_so():
            return True
        pause.wait(0.01)
    return False
