"""What RemoteAgent does against a real WebSocket server."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync.errors import AuthError, OutcomeUnknownError, ToolError
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.procedura import (
    AckTimeoutError,
    ConnectionLostError,
    Failed,
    FileTokenStore,
    Finished,
    ModuleFailedError,
    ModuleUnknownError,
    ProceduraAuthError,
    ProceduraClosedError,
    ProceduraConfigError,
    ProceduraDeadlineError,
    ProceduraError,
    ProceduraTransportError,
    RemoteAgent,
    ResultTimeoutError,
    Running,
    Started,
)
from buttdial_sync.testing import Addressing, FakeProceduraServer, ModuleFailure, ProceduraFault
from buttdial_sync.transport.deadline import Deadline

CREDENTIAL = "user@example.com:pass"
SOON: Any = {"ack_timeout": 20.0, "final_timeout": 20.0}


def place(args: list[str]) -> Generator[dict[str, Any], None, Any]:
    """A module that tells how far it is."""
    for number in range(2):
        yield {"progress": {"done": number + 1, "total": 2}, "message": "placed"}
    return {"placed": len(args)}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PROCEDURA_TOKEN_FILE", "PROCEDURA_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(procedura_server: FakeProceduraServer) -> FakeProceduraServer:
    procedura_server.module("echo", lambda args: args)
    procedura_server.module("place", place)
    return procedura_server


@pytest.fixture
def agent(server: FakeProceduraServer) -> Iterator[RemoteAgent]:
    with RemoteAgent(server.url, token_store=None) as agent:
        yield agent


def test_request_on_the_wire(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """Exactly four keys; the arguments untouched, without the module's name."""
    args = ["--terse", "--", "", "é", "a b", "--n=1"]
    assert agent.run("echo", args) == args
    list(agent.stream("echo", args))
    sync, streamed = (dict(request.frame) for request in server.requests)
    assert len(str(sync.pop("id"))) == len(str(streamed.pop("id"))) == 8
    assert sync == {"cmd": "echo", "args": args, "mode": "sync"}
    assert streamed == {"cmd": "echo", "args": args, "mode": "async"}


@pytest.mark.parametrize("result", [None, 0, "", [], {"a": [1]}, True])
def test_results(server: FakeProceduraServer, agent: RemoteAgent, result: Any) -> None:
    """Any JSON, also null."""
    server.module("give", lambda _: result)
    assert agent.run("give") == result


def test_hundred_calls_on_one_connection(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """Streams and snapshots share it."""
    for number in range(100):
        assert agent.run("echo", [str(number)]) == [str(number)]
    assert agent.worldstate_snapshot(terse=True) == {"meta": {"version": 3}, "terse": True}
    assert "entities" in agent.worldstate_snapshot()
    assert len(list(agent.stream("place"))) == 4
    assert agent.keepalive()
    assert server.connections == 1


@pytest.mark.parametrize("addressing", ["id", "job_id", "both", "id_is_job", "no_id"])
def test_stream(server: FakeProceduraServer, agent: RemoteAgent, addressing: Addressing) -> None:
    """Started, running with what the server put in it, finished; under each published name."""
    server.addressing = addressing
    for stream in (agent.stream, agent.run_async_stream):
        first, *running, last = stream("place", ["a"])
        assert isinstance(first, Started)
        assert first.job_id is not None
        assert [
            event.data["progress"]["done"] for event in running if isinstance(event, Running)
        ] == [1, 2]
        assert isinstance(last, Finished)
        assert last.result == {"placed": 1}


def test_module_that_fails(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """Code, message and every other field are kept, and the connection too."""

    def fail(_: list[str]) -> None:
        raise ModuleFailure("No glyph_prompt found.", code="NO_GLYPH", coord=[1, 2, 0])

    server.module("glyph", fail)
    with pytest.raises(ModuleFailedError) as caught:
        agent.run("glyph")
    error = caught.value
    assert isinstance(error, ToolError)
    assert (str(error), error.code, error.module) == ("No glyph_prompt found.", "NO_GLYPH", "glyph")
    assert error.details["coord"] == [1, 2, 0]
    *_, last = agent.stream("glyph")
    assert isinstance(last, Failed)
    assert last.error.code == "NO_GLYPH"
    assert server.connections == 1


def test_immediate_error(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """It ends a call and a stream at once, without an acknowledgement before it."""
    with pytest.raises(ModuleUnknownError):
        agent.run("nothing")
    (only,) = agent.stream("nothing")
    assert isinstance(only, Failed)
    assert isinstance(only.error, ModuleUnknownError)
    assert server.connections == 1


def test_login(server: FakeProceduraServer, tmp_path: Path) -> None:
    """The token is used from then on, over a connection of its own, and stored."""
    with RemoteAgent(server.url, token_store=FileTokenStore()) as agent:
        login = agent.login_password(CREDENTIAL, replace=False, device="bot", ttl=7200)
        assert (login.account, login.device) == ("user@example.com", "bot")
        assert login.raw["ttl"] == 7200
        agent.run("echo")
        assert login.session_token not in repr(login) + repr(agent)
    assert server.requests[0].args == [CREDENTIAL, "--attach", "--device=bot", "--ttl=7200"]
    assert [request.token for request in server.requests] == [None, login.session_token]
    assert (tmp_path / ".procedura" / "token").exists()
    with RemoteAgent(server.url, token_store=FileTokenStore()) as agent:
        agent.run("echo")
        agent.login_password(f"b64:{base64.b64encode(CREDENTIAL.encode()).decode()}")
    assert server.requests[2].token == login.session_token
    assert server.requests[3].token is None  # a login sends no stored token


def test_login_refused(agent: RemoteAgent) -> None:
    """It is an AuthError, which does not show the password."""
    with pytest.raises(ProceduraAuthError) as caught:
        agent.login_password("user@example.com:wrong-secret")
    assert isinstance(caught.value, AuthError)
    assert caught.value.outcome == "rejected"
    assert "wrong-secret" not in shown(caught.value, caught.tb)


@pytest.mark.parametrize("result", [None, "sess", {}, {"session_token": ""}, {"session_token": 1}])
def test_login_without_a_token(
    server: FakeProceduraServer, agent: RemoteAgent, result: Any
) -> None:
    """It is not taken for a login."""
    server.module("login_password", lambda _: result)
    with pytest.raises(ProceduraError, match="without a session_token"):
        agent.login_password(CREDENTIAL)


@pytest.mark.parametrize(
    ("credential", "account"),
    [
        (CREDENTIAL, "user@example.com"),
        (base64.b64encode(CREDENTIAL.encode()).decode(), "user@example.com"),
        ("bm8gY29sb24=", None),
        ("not base64!", None),
        ("b64:dXNlcjpwYXNz\u00fc", None),
        ("n\u00f6colon", None),
    ],
)
def test_account_of_a_login(
    server: FakeProceduraServer, agent: RemoteAgent, credential: str, account: str | None
) -> None:
    """As the credential says it, if the server says nothing."""
    server.module("login_password", lambda _: {"session_token": "t"})
    assert agent.login_password(credential).account == account


def test_token_goes_to_no_other_server(server: FakeProceduraServer) -> None:
    """A stored one belongs to the server that gave it."""
    with RemoteAgent(server.url, token_store=FileTokenStore()) as agent:
        agent.login_password(CREDENTIAL)
    with (
        FakeProceduraServer() as other,
        RemoteAgent(other.url, token_store=FileTokenStore()) as agent,
    ):
        agent.worldstate_snapshot()
        assert other.requests[0].token is None


def test_password_travels_encrypted() -> None:
    """Over ws:// to this machine only, unless the host is named."""
    agent = RemoteAgent("ws://world.example/", token_store=None)
    with agent, pytest.raises(ProceduraConfigError, match="unencrypted"):
        agent.login_password(CREDENTIAL)


def await_the_cut(agent: RemoteAgent) -> None:
    """Return when the agent has noticed that its connection is gone."""
    slots = agent._connection._pool._slots.values()
    limit = Deadline(20.0)
    while any(slot.session is not None and slot.session.usable for slot in slots):
        limit.check("the end of the connection")
        time.sleep(0)


@pytest.mark.parametrize("check", ["error", "http401", "close4401"])
def test_refused_token(server: FakeProceduraServer, check: Any) -> None:
    """However a server refuses it. A stored one is read again by the next call."""
    server.token_check = check
    store = FileTokenStore()
    with (
        RemoteAgent(server.url, token_store=store) as agent,
        RemoteAgent(server.url, token_store=store) as other,
    ):
        other.login_password(CREDENTIAL)
        agent.run("echo")
        server.tokens.clear()
        server.stop()  # the upgrade of the next connection is the first that is refused
        server.start()
        await_the_cut(agent)
        for call in (lambda: agent.run("echo"), lambda: list(agent.stream("echo"))):
            with pytest.raises(ProceduraAuthError):
                call()
        other.login_password(CREDENTIAL)
        assert agent.run("echo", ["back"]) == ["back"]


def test_given_token(server: FakeProceduraServer) -> None:
    """It is sent as header and subprotocol; no store is asked."""
    with RemoteAgent(server.url, token="tok-1", token_store=FileTokenStore()) as agent:
        agent.run("echo")
    headers = {name.lower(): value for name, value in server.upgrades[0].items()}
    assert headers["authorization"] == "Bearer tok-1"
    assert headers["sec-websocket-protocol"] == "tok-1"


def test_own_store(server: FakeProceduraServer, tmp_path: Path) -> None:
    """A host keeps tokens where it wants."""
    kept: list[Any] = []

    class Store:
        def load(self, url: str, account: str | None, device: str | None) -> str | None:
            kept.append(("load", url, account, device))
            return "from-store"

        def save(self, url: str, account: str | None, device: str, token: str) -> None:
            kept.append(("save", url, account, device))

    with RemoteAgent(server.url, account="a@x", token_store=Store()) as agent:
        agent.run("echo")
        agent.login_password(CREDENTIAL)
    assert server.requests[0].token == "from-store"
    assert kept == [
        ("load", server.url, "a@x", None),
        ("save", server.url, "user@example.com", "cli"),
    ]
    assert not (tmp_path / ".procedura").exists()


def test_diag(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """What the server does not know is None."""
    server.module("__diag_auth", lambda _: {"account": "a"})
    found = agent.diag()
    assert (found.ws_metrics, found.auth, found.url) == (None, {"account": "a"}, server.url)
    assert found.seconds >= 0


def test_keepalive_that_the_server_does_not_know(
    server: FakeProceduraServer, agent: RemoteAgent
) -> None:
    """It is told, and no error."""
    del server._modules["__keepalive"]
    assert agent.keepalive() is False


def test_from_env(server: FakeProceduraServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL of the environment, else that of the published client."""
    assert RemoteAgent.from_env().url == "ws://127.0.0.1:8765"
    monkeypatch.setenv("PROCEDURA_URL", f" {server.url} ")
    with RemoteAgent.from_env(token_store=None) as agent:
        assert agent.run("echo") == []
    assert RemoteAgent.from_env({}, url="ws://x/").url == "ws://x/"


def await_requests(server: FakeProceduraServer, count: int) -> None:
    """Return when the server has so many."""
    limit = Deadline(20.0)
    while len(server.requests) < count:
        limit.check("requests")
        time.sleep(0)


def test_close(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """Idempotent; later calls say so."""
    agent.run("echo")
    agent.close()
    agent.close()
    with pytest.raises(ProceduraClosedError):
        agent.run("echo")
    with pytest.raises(ProceduraClosedError):
        next(iter(agent.stream("echo")))
    assert server.connections == 1


def test_close_during_a_call(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """The call ends at once, as unknown."""
    server.fault("silence")
    errors: list[ProceduraError] = []

    def run() -> None:
        try:
            agent.run("echo", **SOON)
        except ProceduraError as error:
            errors.append(error)

    running = threading.Thread(target=run)
    running.start()
    await_requests(server, 1)
    agent.close()
    running.join(20.0)
    assert [(type(error), error.outcome) for error in errors] == [(ProceduraClosedError, "unknown")]


def test_closed_generator_frees_everything(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """The call is forgotten, and its late frames with it; the connection stays."""
    go = threading.Event()

    def slow(_: list[str]) -> Iterator[dict[str, Any]]:
        yield {"n": 1}
        go.wait(20.0)
        yield {"n": 2}

    server.module("slow", slow)
    stream = agent.stream("slow")
    assert isinstance(next(iter(stream)), Started)
    stream.close()  # type: ignore[attr-defined]
    with agent._connection._pool.session("", Deadline(20.0)) as websocket:
        assert websocket.receiver.count == 0
        go.set()
        assert agent.run("echo", ["on"]) == ["on"]
        assert websocket.receiver._parked_count == 0
    assert server.connections == 1


@pytest.mark.parametrize("fault", ["drop", "close", "garbage", "not_an_object", "large"])
@pytest.mark.parametrize("streams", [False, True])
def test_connection_lost_during_a_call(
    server: FakeProceduraServer, agent: RemoteAgent, fault: ProceduraFault, streams: bool
) -> None:
    """It is told at once, not sent again, and the next call has a new connection."""
    server.fault(fault)
    call: Callable[[], Any] = lambda: agent.run("echo", ["x"])  # noqa: E731 - one of two
    if streams:
        call = lambda: list(agent.stream("echo", ["x"]))  # noqa: E731
    with pytest.raises(ConnectionLostError) as caught:
        call()
    assert isinstance(caught.value, OutcomeUnknownError)
    assert caught.value.outcome == "unknown"
    assert "before you repeat it" in str(caught.value.remediation)
    assert len(server.requests) == 1
    assert agent.run("echo", ["again"]) == ["again"]
    assert server.connections == 2


def test_everybody_is_told_of_a_lost_connection(
    server: FakeProceduraServer, agent: RemoteAgent
) -> None:
    """Also those whose calls have nothing to do with it."""
    server.fault("silence", count=8)
    errors: list[ProceduraError] = []

    def run() -> None:
        try:
            agent.run("echo", **SOON)
        except ProceduraError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    await_requests(server, 8)
    server.push([1, 2, 3])
    for thread in threads:
        thread.join(20.0)
    assert {type(error) for error in errors} == {ConnectionLostError}
    assert len(set(map(id, errors))) == 8


@pytest.mark.parametrize(
    ("fault", "kind", "timeouts"),
    [
        ("no_ack", AckTimeoutError, {"ack_timeout": 0.05, "final_timeout": 20.0}),
        ("silence", ResultTimeoutError, {"ack_timeout": 20.0, "final_timeout": 0.3}),
    ],
)
def test_no_answer_in_time(
    server: FakeProceduraServer,
    agent: RemoteAgent,
    fault: ProceduraFault,
    kind: type[ProceduraError],
    timeouts: Any,
) -> None:
    """The outcome is unknown; the connection goes on."""
    agent.run("echo")
    server.fault(fault)
    with pytest.raises(kind) as caught:
        agent.run("echo", **timeouts)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, OutcomeUnknownError)
    assert agent.run("echo") == []
    assert server.connections == 1


@pytest.mark.parametrize(
    ("fault", "kind", "timeouts"),
    [
        ("no_ack", AckTimeoutError, {"ack_timeout": 0.05}),
        ("silence", ResultTimeoutError, {"event_timeout": 0.3}),
        ("silence", ResultTimeoutError, {"timeout": 0.3}),
    ],
)
def test_no_event_in_time(
    server: FakeProceduraServer,
    agent: RemoteAgent,
    fault: ProceduraFault,
    kind: type[ProceduraError],
    timeouts: Any,
) -> None:
    """One limit for the first event, one for each, one for all."""
    agent.run("echo")
    server.fault(fault)
    with pytest.raises(kind):
        list(agent.stream("place", **timeouts))
    assert len(list(agent.stream("place"))) == 4


@pytest.mark.parametrize("status", [500, 503, 404])
def test_upgrade_refused(server: FakeProceduraServer, agent: RemoteAgent, status: int) -> None:
    """Nothing was sent; the next call tries again."""
    server.fault("http", code=status)
    with pytest.raises(ProceduraTransportError) as caught:
        agent.run("echo")
    assert (caught.value.status_code, caught.value.outcome) == (status, "not_sent")
    assert agent.run("echo") == []


def test_server_that_is_away(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """Nothing was sent; when it is back, calls go on."""
    agent.run("echo")
    server.stop()
    outcomes = set()
    for _ in range(3):
        with pytest.raises(ProceduraTransportError) as caught:
            agent.run("echo", **SOON)
        outcomes.add((caught.value.code, caught.value.outcome))
    assert ("REFUSED", "not_sent") in outcomes
    server.start()
    assert agent.run("echo") == []


def test_deadline_before_anything_is_sent(server: FakeProceduraServer) -> None:
    """It is not an unknown outcome."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        agent = RemoteAgent(url, token_store=None)
        with agent, pytest.raises(ProceduraDeadlineError) as caught:
            agent.run("echo", final_timeout=0.1)
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert caught.value.outcome == "not_sent"
    assert server.connections == 0


@pytest.mark.parametrize(
    ("module", "args"), [("", []), (None, []), ("m", "text"), ("m", [1]), ("m", None)]
)
def test_wrong_arguments(agent: RemoteAgent, module: Any, args: Any) -> None:
    """They are told before anything is sent; a stream does not wait for its first event."""
    for call in (agent.run, agent.stream):
        with pytest.raises(ProceduraConfigError):
            call(module, args)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://x/"},
        {"connect_timeout": 0},
        {"max_size": 0},
        {"ping_interval": -1},
        {"pin_sha256": "0" * 64},
        {"url": "wss://x/", "pin_sha256": "short"},
    ],
)
def test_wrong_options(options: Any) -> None:
    """The same."""
    with pytest.raises(ProceduraConfigError):
        RemoteAgent(**options)


def test_events_of_the_client(server: FakeProceduraServer) -> None:
    """Attempt, connection and answer, without arguments; a callback that raises changes nothing."""
    events: list[ClientEvent] = []

    def on_event(event: ClientEvent) -> None:
        events.append(event)
        raise RuntimeError("the host's own")

    with RemoteAgent(server.url, token_store=None, on_event=on_event) as agent:
        agent.run("echo", ["secret-argument"])
        with pytest.raises(ModuleUnknownError):
            agent.run("nothing")
    told = [(event.kind, event.operation, event.outcome, event.error) for event in events]
    assert told == [
        ("attempt", "echo", None, None),
        ("connect", "websocket", None, None),
        ("answer", "echo", "sent", None),
        ("attempt", "nothing", None, None),
        ("answer", "nothing", "rejected", "ModuleUnknownError"),
    ]
    assert "secret-argument" not in repr(events)


def test_running_event_loop(agent: RemoteAgent) -> None:
    """A notebook has one in each cell's thread."""

    async def cell() -> Any:
        return agent.run("echo", ["cell"]), [type(event) for event in agent.stream("place")]

    result, kinds = asyncio.run(cell())
    assert result == ["cell"]
    assert kinds == [Started, Running, Running, Finished]


def test_agent_that_was_not_closed(server: FakeProceduraServer) -> None:
    """It warns, and ends its connection."""
    agent = RemoteAgent(server.url, token_store=None)
    agent.run("echo")
    with pytest.warns(ResourceWarning, match="was not closed"):
        del agent


def test_nothing_on_disk_in_web_applications(server: FakeProceduraServer, tmp_path: Path) -> None:
    """A process that has loaded Django or Flask keeps no token unless it is asked to."""
    code = """
import sys
{}
from buttdial_sync.procedura import FileTokenStore, RemoteAgent
for store in ({{}}, {{"token_store": FileTokenStore()}}):
    with RemoteAgent(sys.argv[1], **store) as agent:
        agent.login_password("user@example.com:pass")
    import pathlib
    print((pathlib.Path.home() / ".procedura" / "token").exists())
"""
    for first, expected in (("flask", "False True"), ("django", "False True"), ("", "True True")):
        done = subprocess.run(
            [sys.executable, "-c", code.format(first and f"import {first}"), server.url],
            capture_output=True,
            text=True,
            check=True,
            env={"HOME": str(tmp_path / (first or "plain")), "PATH": ""},
        )
        assert done.stdout.split() == expected.split()


def test_missing_library() -> None:
    """The errors can be had without it; the agent says what to install."""
    code = (
        "import sys; sys.modules['websockets'] = None\n"
        "from buttdial_sync.procedura import ProceduraError, FileTokenStore\n"
        "from buttdial_sync.procedura import RemoteAgent"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'buttdial-sync[procedura]'" in done.stderr


def shown(error: BaseException, traceback: Any) -> str:
    """What a debug page shows of an error: its text, its chain, the variables of our frames."""
    seen = [str(error), repr(error.__cause__), repr(vars(error))]
    while traceback is not None:
        if "buttdial_sync" in traceback.tb_frame.f_code.co_filename:
            seen += [repr(value) for value in traceback.tb_frame.f_locals.values()]
        traceback = traceback.tb_next
    return "\n".join(seen)


@pytest.mark.parametrize("fault", ["drop", "no_ack", "close"])
@pytest.mark.parametrize("how", ["login", "run", "stream"])
def test_no_secret_in_an_error(
    server: FakeProceduraServer, fault: ProceduraFault, how: str
) -> None:
    """Neither password nor token, in no frame of ours."""
    server.fault(fault)
    calls: dict[str, Callable[[RemoteAgent], Any]] = {
        "login": lambda agent: agent.login_password("a@x:pass-secret-1", ack_timeout=0.2),
        "run": lambda agent: agent.run("echo", ack_timeout=0.2),
        "stream": lambda agent: list(agent.stream("echo", ack_timeout=0.2)),
    }
    agent = RemoteAgent(server.url, token="tok-secret-1", token_store=None)
    with agent, pytest.raises(ProceduraError) as caught:
        calls[how](agent)
    assert "secret-1" not in shown(caught.value, caught.tb)
