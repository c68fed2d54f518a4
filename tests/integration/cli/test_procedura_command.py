"""The command ``procedura``: inside of the test, and as a process where that matters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from buttdial_sync.cli import main
from buttdial_sync.testing import FakeProceduraServer, ModuleFailure
from buttdial_sync.transport.deadline import Deadline
from tests.integration.cli.process import PROGRAM, SECONDS, environment, read_until
from tests.unit.cli.cli_runner import SEPARATED

PASSWORD = "pass-secret-1"
ACCOUNT = "user@example.com"
# A test run in the background ignores Ctrl-C, and its children would inherit that.
_INTERRUPTIBLE = (
    "-c",
    """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from buttdial_sync.cli import main
main()
""",
)

Run = Callable[..., Result]
RunProgram = Callable[..., subprocess.CompletedProcess[str]]


def steps(args: list[str]) -> Generator[dict[str, Any], None, Any]:
    yield {"message": "été", "phase": "digging"}
    return args


@pytest.fixture
def server(procedura_server: FakeProceduraServer) -> FakeProceduraServer:
    def fail(_: list[str]) -> None:
        raise ModuleFailure("No glyph here.", code="NO_GLYPH", coord=[1, 2])

    procedura_server.accounts[ACCOUNT] = PASSWORD
    procedura_server.module("echo", lambda args: args)
    procedura_server.module("steps", steps)
    procedura_server.module("fail", fail)
    return procedura_server


@pytest.fixture
def variables(server: FakeProceduraServer, tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PROCEDURA_URL": server.url, "PYTHONIOENCODING": "utf-8"}


@pytest.fixture
def run(variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command inside of the test: starting Python takes longer than all that it does."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str, given: str = "", **more: str) -> Result:
        nothing = dict.fromkeys(name for name in os.environ if name.startswith("PROCEDURA_"))
        env = {**nothing, "no_proxy": "127.0.0.1", **variables, **more}
        done = CliRunner(env=env, **SEPARATED).invoke(main, ["procedura", *args], input=given)
        assert PASSWORD not in done.stdout + done.stderr
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done

    return run


@pytest.fixture
def run_program(variables: dict[str, str], tmp_path: Path) -> RunProgram:
    def run(*args: str, given: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *PROGRAM, "procedura", *args],
            cwd=tmp_path,
            env=environment(**{**variables, **more}),
            input=given,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
        )
        assert PASSWORD not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def test_login_and_then_a_module(
    server: FakeProceduraServer, run_program: RunProgram, tmp_path: Path
) -> None:
    """The token is stored by the one, and used by the other."""
    done = run_program("login", ACCOUNT, "--ttl", "7200", given=f"{PASSWORD}\n")
    assert done.returncode == 2  # standard input is read only if asked
    done = run_program(
        *("login", ACCOUNT, "--password-stdin", "--attach", "--device=bot", "--ttl", "7200"),
        given=f"{PASSWORD}\n",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "status": "ok",
        "account": ACCOUNT,
        "device": "bot",
        "url": server.url,
    }
    assert server.requests[0].args[1:] == ["--attach", "--device=bot", "--ttl=7200"]
    (token,) = server.tokens
    assert token not in done.stdout + done.stderr
    assert (tmp_path / ".procedura" / "token").exists()
    assert run_program("run", "echo").returncode == 0
    assert server.requests[1].token == token


def test_password_of_the_environment(run: Run) -> None:
    """And a wrong one: exit code 1, with the remedy on stderr."""
    assert run("login", ACCOUNT, PROCEDURA_PASSWORD=PASSWORD).exit_code == 0
    done = run("login", ACCOUNT, PROCEDURA_PASSWORD="wrong")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "auth failed: Invalid password" in done.stderr
    assert "  -> Log in again" in done.stderr


def test_password_from_a_prompt(variables: dict[str, str], tmp_path: Path) -> None:
    """On a terminal it is asked for, and not shown."""
    pty = pytest.importorskip("pty", reason="needs a terminal")
    main_end, other_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, "procedura", "login", ACCOUNT],
        cwd=tmp_path,
        env=environment(**variables),
        stdin=other_end,
        stdout=subprocess.PIPE,
        stderr=other_end,
        start_new_session=True,
    )
    os.close(other_end)
    shown = read_until(main_end, b"Password")
    os.write(main_end, f"{PASSWORD}\n".encode())
    said, _ = process.communicate(timeout=SECONDS)
    os.close(main_end)
    assert process.returncode == 0
    assert json.loads(said)["status"] == "ok"
    assert PASSWORD.encode() not in shown


@pytest.mark.parametrize(
    "credential", [f"{ACCOUNT}:{PASSWORD}", "b64:dXNlckBleGFtcGxlLmNvbTpwYXNzLXNlY3JldC0x"]
)
def test_credential_as_published(run: Run, credential: str) -> None:
    """The published program takes the password with the address, or in base64."""
    assert run("login", credential).exit_code == 0


@pytest.mark.parametrize(
    ("given", "args"),
    [
        (["--", "--terse"], ["--terse"]),
        (["--", "a", "--", "b", ""], ["a", "--", "b", ""]),
        (["a", "--", "--url", "x"], ["a", "--url", "x"]),
        (["--ack-timeout", "9", "a", "--", "--ack-timeout", "1"], ["a", "--ack-timeout", "1"]),
        (["--", "--json", "-v", "--help"], ["--json", "-v", "--help"]),
        ([], []),
    ],
)
def test_arguments_of_a_module(
    server: FakeProceduraServer, run: Run, given: list[str], args: list[str]
) -> None:
    """Nothing after ``--`` is lost or read."""
    done = run("run", "echo", *given)
    assert done.exit_code == 0, done.stderr
    assert server.requests[0].args == args


def test_arguments_of_a_stream(server: FakeProceduraServer, run: Run) -> None:
    """The same."""
    assert run("stream", "echo", "a", "--", "--url", "--", "x").exit_code == 0
    assert server.requests[0].args == ["a", "--url", "--", "x"]


@pytest.mark.parametrize("command", [["run", "echo", "--terse"], ["login", ACCOUNT, "--tll", "7"]])
def test_unknown_options(server: FakeProceduraServer, run: Run, command: list[str]) -> None:
    """They are an error, and nothing is sent."""
    done = run(*command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "No such option" in done.stderr
    if command[0] == "run":
        assert "come after --" in done.stderr
    assert server.connections == 0


def test_results(server: FakeProceduraServer, run: Run, run_program: RunProgram) -> None:
    """JSON on stdout and nothing else; what a terminal cannot show is escaped as JSON."""
    awkward = {"text": "été\x1b[0m\u2028\x85", "n": [1, None]}
    server.module("give", lambda _: awkward)
    done = run("run", "give")
    assert json.loads(done.stdout) == awkward
    assert "\x1b" not in done.stdout
    assert "été" in done.stdout
    assert done.stderr == ""
    assert json.loads(run("run", "give", "--json").stdout)["result"] == awkward
    assert json.loads(run_program("run", "give", PYTHONIOENCODING="ascii").stdout) == awkward


def test_stream(run: Run) -> None:
    """One event on a line, with its phase, whatever the module puts in the frame."""
    done = run("stream", "steps", "a")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["phase"] for event in events] == ["started", "running", "finished"]
    assert events[1]["message"] == "été"
    assert events[2]["result"] == ["a"]
    assert done.exit_code == 0


def test_module_that_fails(run: Run) -> None:
    """Exit code 1; the error on stderr; a stream shows the event too."""
    for command in ("run", "stream"):
        done = run(command, "fail")
        assert done.exit_code == 1
        assert "No glyph here. (NO_GLYPH)" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["coord"] == [1, 2]
    told = json.loads(run("run", "fail", "--json").stdout)
    assert (told["ok"], told["error_code"], told["outcome"]) == (False, "NO_GLYPH", "rejected")


@pytest.mark.parametrize(
    ("command", "fault"),
    [("run", "no_ack"), ("run", "silence"), ("run", "drop"), ("stream", "large")],
)
def test_unknown_outcome(server: FakeProceduraServer, run: Run, command: str, fault: Any) -> None:
    """Exit code 3, with the advice to find out first."""
    server.fault(fault)
    timeouts = ("--ack-timeout", "0.2" if fault == "no_ack" else "20", "--final-timeout", "3")
    done = run(command, "echo", *timeouts)
    assert done.exit_code == 3
    assert "before you repeat it" in done.stderr


def test_server_that_is_away(run: Run) -> None:
    """Exit code 3."""
    done = run("--url", "ws://127.0.0.1:9", "run", "echo")
    assert done.exit_code == 3
    assert "Nothing listens there" in done.stderr


@pytest.mark.parametrize("place", ["before", "behind", "both"])
def test_options_before_and_behind_the_command(
    server: FakeProceduraServer, run: Run, place: str
) -> None:
    """As the published program has them, and where people look for them; the last one counts."""
    right = ["--url", server.url, "--token", "tok-1"]
    before = {"before": right, "both": ["--url", "ws://127.0.0.1:9"]}.get(place, [])
    behind = [] if place == "before" else right
    done = run(*before, "run", *behind, "echo", PROCEDURA_URL="ws://127.0.0.1:9")
    assert done.exit_code == 0, done.stderr
    assert server.requests[0].token == "tok-1"


def test_wrong_address(run: Run) -> None:
    """Exit code 2."""
    done = run("--url", "http://x/", "diag")
    assert done.exit_code == 2
    assert "url must" in done.stderr


def test_diag(server: FakeProceduraServer, run: Run) -> None:
    """The round trip, and what the server knows of the two modules."""
    server.module("__diag_ws_metrics", lambda _: {"sockets": 1})
    found = json.loads(run("diag").stdout)
    assert found.pop("seconds") >= 0
    assert found == {"url": server.url, "ws_metrics": {"sockets": 1}, "auth": None}


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("command", ["run", "stream"])
def test_interrupted(
    server: FakeProceduraServer, variables: dict[str, str], tmp_path: Path, command: str
) -> None:
    """Ctrl-C ends it at once with 130, and says that the module may go on."""
    server.fault("silence")
    process = subprocess.Popen(
        [sys.executable, *_INTERRUPTIBLE, "procedura", command, "echo"],
        cwd=tmp_path,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = Deadline(SECONDS)
    while not server.requests:
        limit.check("the request")
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "may go on at the server" in complaints
    assert "Traceback" not in complaints


def test_verbose_shows_no_secret(run: Run) -> None:
    """Requests and connections are told, passwords and tokens are not."""
    done = run("login", "-v", ACCOUNT, "--password-stdin", given=f"{PASSWORD}\n")
    assert done.exit_code == 0
    assert "login_password" in done.stderr
    assert "sess_" not in done.stdout + done.stderr


def test_missing_library(tmp_path: Path, variables: dict[str, str]) -> None:
    """The remedy says what to install, with exit code 2."""
    code = (
        "import sys; sys.modules['websockets'] = None\nfrom buttdial_sync.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "procedura", "run", "m"],
        cwd=tmp_path,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 2
    assert "pip install 'buttdial-sync[procedura]'" in done.stderr
