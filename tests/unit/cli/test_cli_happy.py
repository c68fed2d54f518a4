"""The commands about coding agents, against the fake Happy server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from buttdial_sync.cli import main
from buttdial_sync.testing.happy_agents import AgentFailure, FakeMachine, FakeTurn
from buttdial_sync.testing.happy_server import FakeHappyServer
from tests.unit.cli.cli_runner import SEPARATED

PATIENCE = 30.0


@pytest.fixture
def machine(happy_server: FakeHappyServer) -> FakeMachine:
    return happy_server.add_machine()


def run(server: FakeHappyServer, *arguments: str, **environ: str) -> Result:
    env = {
        "HAPPY_SERVER_URL": server.server_url,
        "HAPPY_TOKEN": server.token,
        "HAPPY_SECRET": server.secret_b64,
        "no_proxy": "127.0.0.1",
        **environ,
    }
    return CliRunner(env=env, **SEPARATED).invoke(main, ["happy", *arguments])


def data_of(result: Result) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


def test_lists(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """Machines and sessions, for people and for programs."""
    session_id = happy_server.add_session(machine, summary={"text": "Title"}).session.id
    assert run(happy_server, "machines").stdout == "machine-1  on   laptop\n"
    assert run(happy_server, "sessions").stdout == f"{session_id}  on   /repo  Title\n"
    machines = data_of(run(happy_server, "machines", "--json"))["machines"]
    assert machines[0]["metadata"]["host"] == "laptop"
    sessions = data_of(run(happy_server, "sessions", "--active", "--json"))["sessions"]
    assert [each["id"] for each in sessions] == [session_id]


def test_a_host_without_tls(happy_server: FakeHappyServer) -> None:
    """The token goes there only if the host is named; here a proxy stands in its place."""
    url = "http://happy.example"
    environ = {"HAPPY_SERVER_URL": url, "http_proxy": happy_server.server_url, "no_proxy": ""}
    refused = run(happy_server, "machines", **environ)
    assert "insecure_hosts" in refused.stderr
    assert happy_server.connections == 0
    run(happy_server, "machines", "--insecure-host", "happy.example", **environ)
    assert happy_server.connections > 0


def test_empty_lists(happy_server: FakeHappyServer) -> None:
    """Nothing is said in words."""
    assert run(happy_server, "machines").stdout == "No machines.\n"
    assert run(happy_server, "sessions").stdout == "No sessions.\n"


def test_run(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """The agent's words are the output; what it does is shown beside it."""
    result = run(happy_server, "run", "machine-1", "/repo", "Fix it", "--name", "Fixing")
    assert (result.exit_code, result.stdout) == (0, "Done: Fix it\n")
    assert "AgentText            Done: Fix it" in result.stderr
    session = next(iter(happy_server.store.sessions.values()))
    assert session.cipher.open(session.metadata)["name"] == "Fixing"
    quiet = run(happy_server, "run", "machine-1", "/repo", "x", "--quiet", "--keep", "--json")
    assert quiet.stderr == ""
    assert data_of(quiet)["status"] == "completed"
    assert not happy_server.process(data_of(quiet)["session_id"]).ended


@pytest.mark.parametrize(
    ("agent", "within", "code"),
    [("fails", "30", 1), ("is slow", "0.3", 75), ("asks", "0.3", 75)],
)
def test_exit_codes(
    happy_server: FakeHappyServer, machine: FakeMachine, agent: str, within: str, code: int
) -> None:
    """How the turn ended is the exit code."""
    done = threading.Event()

    def works(turn: FakeTurn) -> None:
        if agent == "fails":
            raise AgentFailure("no")
        if agent == "is slow":
            done.wait(PATIENCE)
        else:
            turn.ask("Bash")

    machine.agent = works
    try:
        result = run(happy_server, "run", "machine-1", "/repo", "x", "--within", within, "--json")
    finally:
        done.set()
    assert result.exit_code == code
    assert data_of(result)["ok"] is False
    assert "happy follow" in result.stderr


@pytest.mark.parametrize("stops", [True, False])
def test_interrupted(
    happy_server: FakeHappyServer,
    machine: FakeMachine,
    monkeypatch: pytest.MonkeyPatch,
    stops: bool,
) -> None:
    """Ctrl-C leaves the session running, unless it was asked to stop it."""
    interrupted = threading.Event()

    def interrupt(*_: Any, **__: Any) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr("buttdial_sync.cli.happy._show", interrupt)
    option = ["--stop-on-interrupt"] if stops else []
    result = run(happy_server, "run", "machine-1", "/repo", "x", *option)
    assert (result.exit_code, interrupted.is_set()) == (130, True)
    (session_id,) = happy_server.store.sessions
    assert happy_server.process(session_id).ended is stops
    assert (f"happy stop {session_id}" in result.stderr) is not stops


def test_send(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """A message is stored, or waited for."""
    session_id = happy_server.add_session(machine).session.id
    assert run(happy_server, "send", session_id, "hello").stdout == "stored as message 1\n"
    another_id = happy_server.add_session(machine).session.id  # the first still has its turn
    waited = run(happy_server, "send", another_id, "and now", "--wait", "--quiet")
    assert waited.stdout == "Done: and now\n"
    assert run(happy_server, "send", "nowhere", "hello").exit_code == 1


def test_follow(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """What happened and happens, in lines or in objects."""
    process = happy_server.add_session(machine)
    process.write_event({"t": "text", "text": "one\ntwo"}, "t")
    arguments = ("follow", process.session.id, "--after-seq", "0", "--within", "2")
    process.end()
    result = run(happy_server, *arguments)
    assert result.stdout.splitlines() == [
        "AgentText            one two",
        "SessionEnded         archived",
    ]
    lines = [
        json.loads(line) for line in run(happy_server, *arguments, "--json").stdout.splitlines()
    ]
    assert [line.get("update") for line in lines] == ["AgentText", "SessionEnded", None]
    assert lines[-1] == {"ok": True, "updates": 2}


def test_approve(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """The only request needs no name; of several one has to be named."""
    answers: list[Any] = []
    machine.agent = lambda turn: answers.append(turn.ask("Bash", command="ls"))
    process = happy_server.add_session(machine)
    assert run(happy_server, "approve", process.session.id, "--show").exit_code == 0
    assert run(happy_server, "approve", process.session.id).exit_code == 1
    for deny in (False, True):
        run(happy_server, "send", process.session.id, "x")
        wait_for_request(happy_server, process.session.id)
        shown = run(happy_server, "approve", process.session.id, "--show").stdout
        assert "Bash  {'command': 'ls'}" in shown
        more = ["--deny", "--reason", "no"] if deny else []
        result = run(happy_server, "approve", process.session.id, *more)
        assert result.stdout == f"Bash: {'denied' if deny else 'approved'}\n"
    wait_until(lambda: len(answers) == 2)  # the agent gets its answer after the command ended
    assert [answer["approved"] for answer in answers] == [True, False]


def wait_until(is_true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if is_true():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")


def wait_for_request(server: FakeHappyServer, session_id: str) -> None:
    session = server.store.sessions[session_id]

    def is_asking() -> bool:
        state = session.agent_state
        return bool(state and session.cipher.open(state)["requests"])

    wait_until(is_asking)


def test_stop(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """A session is ended on its machine."""
    process = happy_server.add_session(machine)
    assert run(happy_server, "stop", process.session.id).exit_code == 0
    assert process.ended


def test_doctor(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """What is right is said, and what is not has an exit code."""
    result = run(happy_server, "doctor")
    assert result.exit_code == 0
    assert "connected: laptop" in result.stdout
    wrong = run(happy_server, "doctor", "--json", HAPPY_SECRET="A" * 43 + "=")
    assert (wrong.exit_code, data_of(wrong)["unreadable"]) == (1, 1)
    refused = run(happy_server, "doctor", HAPPY_TOKEN="another")
    assert refused.exit_code == 1
    happy_server.refuses_sockets = True
    assert run(happy_server, "doctor").exit_code == 3


def test_key_file(happy_server: FakeHappyServer, machine: FakeMachine, tmp_path: Path) -> None:
    """A key file is named, or missing credentials are told before anything is sent."""
    file = tmp_path / "agent.key"
    content = {"token": happy_server.token, "secret": happy_server.secret_b64}
    file.write_text(json.dumps(content), "utf-8")
    none = {"HAPPY_TOKEN": "", "HAPPY_SECRET": "", "HAPPY_HOME_DIR": str(tmp_path / "nowhere")}
    assert run(happy_server, "machines", "--key-file", str(file), **none).exit_code == 0
    missing = run(happy_server, "machines", **none)
    assert (missing.exit_code, "HAPPY_TOKEN" in missing.stderr) == (2, True)
    assert run(happy_server, "machines", HAPPY_SERVER_URL="").exit_code == 2
