"""Fake servers whose threads are slow or stuck: a test finds what it waited for, and ends."""

from __future__ import annotations

import json
import queue
import select
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection

from buttdial_sync import Client
from buttdial_sync.testing import (
    FakeAiloopServer,
    FakeButtDialServer,
    FakeHappyServer,
    FakeProceduraServer,
)
from buttdial_sync.testing.ailoop_hub import (
    AiloopHub,
    FakePrompt,
    JsonObject,
    Socket,
    Subscription,
)
from buttdial_sync.testing.happy_agents import AgentProcess, FakeTurn, TurnCancelled
from buttdial_sync.testing.http_messages import Request
from buttdial_sync.testing.mocked import LiveBody
from tests.unit.testing.fake_wire import Wire

SECONDS = 30.0


def test_a_request_comes_with_its_call(
    fake_server: FakeButtDialServer, butt_dial_client: Client
) -> None:
    """Who has waited for the request finds the call in it."""
    calls_then = []

    class Requests(list[Request]):
        def append(self, request: Request) -> None:
            super().append(request)
            calls_then.append(len(fake_server.calls))

    fake_server.core.log.requests = Requests()
    assert butt_dial_client.send_message("+14155550123", "hi", "sms").ok
    assert calls_then[-1] == 1


def test_stop_in_an_answer() -> None:
    """A function of the test's own stops the server that waits for it."""
    fake = FakeButtDialServer()
    stopped = threading.Event()

    def stop(_: Request) -> None:
        loopback.stop()
        stopped.set()

    fake.on_rest("GET", "/api/v1/stop", stop, public=True)
    with fake.listen() as loopback:
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{loopback.base_url}/api/v1/stop", timeout=SECONDS)
        assert stopped.wait(SECONDS)


def test_a_client_of_the_whole_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next server hears nothing of a session of the last one, however slow its reader."""
    close = LiveBody.close

    def close_late(body: LiveBody) -> None:
        if threading.current_thread() is body.reader:
            threading.Event().wait(0.2)
        close(body)

    monkeypatch.setattr(LiveBody, "close", close_late)
    with Client("https://butt-dial.test", agent_token="t") as client:
        for _ in range(2):
            with FakeButtDialServer(dialect="open-source").mocked() as mocked:
                result = client.send_message("+14155550123", "hi", "sms")
                assert (result.outcome, result.attempts) == ("sent", 1)
                assert len(mocked.fake.sent_messages) == 1


def test_a_thread_of_the_test_that_reads() -> None:
    """Nobody waits for it: it has other things to do."""
    joined = []

    class Reading(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            joined.append(timeout)
            super().join(timeout)

    with FakeButtDialServer().mocked() as mocked:
        wire = Wire(mocked.base_url)
        reading = Reading(target=wire.rest)
        reading.start()
    assert joined == []
    reading.join(SECONDS)
    wire.close()


class SlowProcedura(FakeProceduraServer):
    """Has answered a handshake, and its thread comes to nothing more until ``goes_on``."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        super().__init__()

    def _serve(self, connection: ServerConnection) -> None:
        self.goes_on.wait(SECONDS)
        super()._serve(connection)


def test_a_push_right_after_the_handshake() -> None:
    """Whoever is connected is pushed to."""
    server = SlowProcedura()
    with server, connect(server.url) as client:
        server.push({"status": "hello"})
        server.goes_on.set()
        assert json.loads(client.recv(SECONDS)) == {"status": "hello"}


def test_a_cut_right_after_the_handshake() -> None:
    """Whoever is connected is cut."""
    server = SlowProcedura()
    with server, connect(server.url) as client:
        server.drop_connections()
        server.goes_on.set()
        with pytest.raises(ConnectionClosed):
            client.recv(SECONDS)


def test_connections_that_are_made_at_once() -> None:
    """Each has its own number, whichever thread of the server is first."""
    server = SlowProcedura()
    with server, connect(server.url) as first, connect(server.url) as second:
        server.goes_on.set()
        for client, name in ((first, "1"), (second, "2")):
            client.send(json.dumps({"cmd": "__keepalive", "id": name}))
            assert json.loads(client.recv(SECONDS))["id"] == name
        assert [(each.connection, each.frame["id"]) for each in server.requests] == [
            (1, "1"),
            (2, "2"),
        ]


def test_close_while_a_module_is_stuck() -> None:
    """Nobody waits for a module that may never return."""
    server = FakeProceduraServer()
    began, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    def stuck(_: list[str]) -> None:
        began.set()
        goes_on.wait(SECONDS)
        ended.set()

    server.module("stuck", stuck)
    with connect(server.url) as client:
        client.send(json.dumps({"cmd": "stuck", "id": "1"}))
        assert began.wait(SECONDS)
        server.close()
        assert not ended.is_set()
        goes_on.set()
        assert ended.wait(SECONDS)


def test_close_while_a_client_reads_nothing() -> None:
    """A module that is stuck while it sends is freed."""
    server = FakeProceduraServer()
    server.module("long", lambda _: "x" * 20_000_000)
    with connect(server.url, max_size=None, compression=None) as client:
        client.send(json.dumps({"cmd": "long", "id": "1"}))
        assert json.loads(client.recv(SECONDS))["status"] == "started"
        with client.protocol_mutex:  # its own thread reads no more
            closing = threading.Thread(target=server.close)
            closing.start()
            closing.join(SECONDS)
            assert not closing.is_alive()


class TellingLock:
    """A lock that tells when a thread has to wait for it."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.waits.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def ask(process: AgentProcess, heard: queue.SimpleQueue[object]) -> None:
    try:
        heard.put(process.ask("Bash", {}, threading.Event()))
    except TurnCancelled as error:
        heard.put(error)


@pytest.mark.parametrize("end", [AgentProcess.abort, AgentProcess.end, AgentProcess.leave])
def test_a_permission_that_is_asked_for_after_the_end(end: Callable[[AgentProcess], None]) -> None:
    """A turn that was ended just before gets no answer."""
    heard: queue.SimpleQueue[object] = queue.SimpleQueue()

    def agent(turn: FakeTurn) -> None:
        end(server.process(turn.session_id))
        try:
            heard.put(turn.ask("Bash"))
        except TurnCancelled as error:
            heard.put(error)

    with FakeHappyServer() as server:
        process = server.add_session(server.add_machine(agent=agent))
        sealed = process.session.cipher.seal({"role": "user", "content": {"text": "go"}})
        process.take(server.store.add_message(process.session, sealed, None)[0])
        assert isinstance(heard.get(timeout=SECONDS), TurnCancelled)


def test_an_abort_while_a_permission_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is there when the abort looks for it."""
    with FakeHappyServer() as server:
        process = server.add_session()
        process._lock = lock = TellingLock()  # type: ignore[assignment]
        errors: list[BaseException] = []
        change = server.store.change_agent_state

        def abort() -> None:
            try:
                process.abort()
            except BaseException as error:  # noqa: BLE001 - the test's own thread shows it
                errors.append(error)
            lock.waits.set()

        aborting = threading.Thread(target=abort)

        def change_meanwhile(*args: Any) -> None:
            if not aborting.ident:
                aborting.start()
                lock.waits.wait(SECONDS)
            change(*args)

        monkeypatch.setattr(server.store, "change_agent_state", change_meanwhile)
        heard: queue.SimpleQueue[object] = queue.SimpleQueue()
        asking = threading.Thread(target=ask, args=(process, heard))
        asking.start()
        asking.join(SECONDS)
        aborting.join(SECONDS)
        assert not errors
        assert isinstance(heard.get(timeout=SECONDS), TurnCancelled)
        state = process.session.cipher.open(str(process.session.agent_state))
        assert state["requests"] == {}
        assert [each["status"] for each in state["completedRequests"].values()] == ["canceled"]


def test_a_session_that_is_started_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server closes all the same."""
    server = FakeHappyServer()
    process = server.add_session()
    leave = process.leave

    def leave_meanwhile() -> None:
        server.add_session()
        leave()

    monkeypatch.setattr(process, "leave", leave_meanwhile)
    server.close()
    host, port = server.server_url.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), SECONDS)


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def test_an_ailoop_client_is_known_before_it_is_answered() -> None:
    """Whatever is done to the connections after its handshake is done to it."""
    answered_before = []

    class Sockets(dict[Socket, Subscription]):
        def __setitem__(self, each: Socket, subscription: Subscription) -> None:
            answered_before.append(bool(select.select([client], [], [], 0)[0]))
            super().__setitem__(each, subscription)

    with (
        FakeAiloopServer() as server,
        socket.create_connection(("127.0.0.1", server.port), SECONDS) as client,
    ):
        server.hub.sockets = Sockets()
        client.sendall(UPGRADE)
        answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 101 ")
        server.drop_sockets()
        while client.recv(65536):
            pass
    assert answered_before == [False]


class Agent:
    """A connection of the hub's, without a socket."""

    def __init__(self, hub: AiloopHub) -> None:
        self.heard: list[JsonObject] = []
        self._hub = hub
        hub.sockets[self] = Subscription()

    def ask(self, action: str) -> None:
        prompt = {
            "id": str(uuid.uuid4()),
            "channel": "public",
            "sender_type": "AGENT",
            "content": {"type": "authorization", "action": action, "timeout_seconds": 600},
            "timestamp": "2026-01-02T03:04:05Z",
        }
        self._hub.receive(self, prompt)

    def deliver(self, message: JsonObject) -> None:
        self.heard.append(message)

    def send_text(self, text: str) -> None: ...

    def ping(self) -> Callable[[], bool]:
        return lambda: True

    def cut(self) -> None: ...


def test_a_prompt_that_was_asked_is_shown() -> None:
    """It can be answered at once, and so can the next one, whatever the hub's thread does."""
    hub = AiloopHub("decision")
    agent = Agent(hub)
    agent.ask("one")
    agent.ask("two")
    for prompt in hub.asked:
        prompt.approve(at="terminal")
    answers = [each["content"].get("response_type") for each in agent.heard]
    assert answers == [None, None, "authorization_approved", "authorization_approved"]


def test_a_reaction_is_for_each_prompt_that_is_shown_from_then_on() -> None:
    """Also if it is over before the hub's thread comes to it."""
    hub = AiloopHub("decision")
    agent = Agent(hub)
    seen: queue.SimpleQueue[FakePrompt] = queue.SimpleQueue()
    agent.ask("before")
    hub.reaction = seen.put
    hub.asked[0].approve()
    agent.ask("after")
    hub.asked[1].approve()
    hub.start()
    assert seen.get(timeout=SECONDS) is hub.asked[1]
    hub.stop()
    assert seen.empty()


def test_the_prompt_that_was_waited_for() -> None:
    """What a quick person does to it meanwhile changes nothing."""

    class Server(FakeAiloopServer):
        def wait_until(self, condition: Callable[[], bool], seconds: float = SECONDS) -> None:
            super().wait_until(condition, seconds)
            quick = threading.Thread(target=self.settle)
            quick.start()
            quick.join(SECONDS)

        def settle(self) -> None:
            if self.hub.changed.acquire(blocking=False):
                self.asked[0].expire()
                self.hub.changed.release()

    with Server() as server:
        agent = Agent(server.hub)
        agent.ask("one")
        agent.ask("two")
        assert server.next_prompt() is server.asked[0]
