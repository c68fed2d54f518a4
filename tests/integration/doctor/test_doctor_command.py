"""The command: what it prints, how it ends, and that it puts the callback URL back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from buttdial_sync.testing import LoopbackServer
from tests.fakes import set_tools
from tests.integration.cli.process import PROGRAM, SECONDS, environment, on_terminal, read_until
from tests.integration.cli.process import run as run_process
from tests.integration.doctor.conftest import TOKEN
from tests.ports import free_port
from tests.unit.cli.cli_runner import run

TO = "+14155550123"
BEFORE = "https://host.example/hooks/butt-dial?key=a-secret-of-the-host"
ME, CALLBACK = "/api/v1/agents/me", "/api/v1/callback-url"
_INTERRUPTIBLE = (
    "-c",
    """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from buttdial_sync.cli import main
main()
""",
)


def doctor(*args: str, server: LoopbackServer | None = None, **variables: str | None) -> Any:
    variables = {"AGENT_TOKEN": TOKEN, **variables} if server else variables
    return run("doctor", *args, server=server, directory=None, **variables)


class Desk:
    """A server's end of the callback URL: it is kept, and posted to when a message is sent."""

    def __init__(self, server: LoopbackServer, before: str | None = BEFORE) -> None:
        self.url = before
        self.history: list[str | None] = []
        self.payloads: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        fake = server.fake
        fake.on_rest("GET", ME, lambda _: {"agentId": "agent-1", "callbackUrl": self.url})
        fake.on_rest("PUT", CALLBACK, self._put)
        fake.on_tool("comms_send_message", self._send)

    def _put(self, request: Any) -> dict[str, Any]:
        self.url = request.json["callbackUrl"]
        self.history.append(self.url)
        return {"success": True}

    def _send(self, _: Any) -> dict[str, Any]:
        self.statuses += [post(str(self.url), payload) for payload in self.payloads]
        return {"messageId": "SM-7"}


def post(url: str, payload: dict[str, Any]) -> int:
    return requests.post(url, json={"channel": "whatsapp", **payload}, timeout=5).status_code


def receiving(port: int, *more: str) -> tuple[str, ...]:
    return ("--to", TO, "--webhook-port", str(port), *more)


def redirecting(port: int, *more: str) -> tuple[str, ...]:
    public = f"http://127.0.0.1:{port}"
    return receiving(port, "--public-url", public, "--set-callback-url", *more)


def test_a_healthy_server(server: LoopbackServer) -> None:
    """A stage a line, then how many passed; without a recipient three are skipped."""
    result = doctor(server=server)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line[:3] for line in lines[:7]] == ["[✓]"] * 4 + ["[○]"] * 3
    assert lines[-1] == "4 of 7 stages passed, 3 skipped."
    assert TOKEN not in result.stdout


def test_a_failure_ends_with_its_exit_code(server: LoopbackServer, closed_port: str) -> None:
    """Configuration is 2, a refusal 1, a server that is not there 3; the remedy follows."""
    for variables, code, remedy in (
        ({"BASE_URL": None}, 2, "BUTT_DIAL_BASE_URL"),
        ({"AGENT_TOKEN": None}, 2, "BUTT_DIAL_AGENT_TOKEN"),
        ({"BASE_URL": "butt-dial.example"}, 2, "[○] Server reachable"),
        ({"AGENT_TOKEN": "a-wrong-one"}, 1, "Check the token"),
        ({"BASE_URL": closed_port}, 3, "Nothing listens there"),
    ):
        result = doctor(server=server, **variables)
        assert result.exit_code == code, variables
        assert remedy in result.stdout
        assert result.stdout.count("\n[") == 6
        assert result.stderr.startswith("Error: the stage ")
        assert "a-wrong-one" not in result.stdout + result.stderr


def test_json(server: LoopbackServer) -> None:
    """One object with the seven stages, also when one failed."""
    answer = json.loads(doctor("--json", "--to", TO, server=server).stdout)
    assert answer["ok"] is True
    assert len(answer["stages"]) == 7
    set_tools(server.fake, ["comms_ping"])
    answer = json.loads(doctor("--json", "--to", TO, server=server).stdout)
    assert answer["ok"] is False
    failed = next(stage for stage in answer["stages"] if stage["status"] == "failed")
    assert failed["fault"] == "tool_missing"
    assert failed["remediation"]


def test_ascii(server: LoopbackServer) -> None:
    """--ascii prints nothing else, whatever the server says."""
    server.fake.on_send(error="אין שולח", remediation="Asigná")
    result = doctor("--ascii", "--to", TO, server=server)
    assert result.stdout.isascii()
    assert "[OK] Config loaded" in result.stdout
    assert "[FAIL] send_message accepted" in result.stdout
    assert "    -> Asign\\xe1" in result.stdout


def test_ascii_by_itself(tmp_path: Path, server: LoopbackServer) -> None:
    """A terminal that cannot show the signs gets the ASCII ones unasked."""
    done = run_process(
        "doctor",
        cwd=tmp_path,
        PYTHONIOENCODING="ascii",
        BUTT_DIAL_BASE_URL=server.base_url,
        BUTT_DIAL_AGENT_TOKEN=TOKEN,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("[OK] Config loaded")


@pytest.mark.parametrize("given", [("--agent-token", TOKEN), (f"--agent-token={TOKEN}",)])
def test_agent_token_takes_no_value(server: LoopbackServer, given: tuple[str, ...]) -> None:
    """Other users of the machine could see it; and the complaint does not repeat it."""
    result = doctor(*given, server=server, AGENT_TOKEN="another")
    assert result.exit_code == 2
    assert "--agent-token takes no value" in result.stderr
    assert TOKEN not in result.stdout + result.stderr
    assert server.fake.requests == []


def test_agent_token_from_a_pipe(tmp_path: Path, server: LoopbackServer) -> None:
    """Without a terminal it is a line of the standard input, which wins over the environment."""
    variables = {"BUTT_DIAL_BASE_URL": server.base_url, "BUTT_DIAL_AGENT_TOKEN": "another"}
    done = subprocess.run(
        [sys.executable, *PROGRAM, "doctor", "--agent-token"],
        cwd=tmp_path,
        env=environment(**variables),
        input=f"{TOKEN}\nmore\n",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0
    assert TOKEN not in done.stdout + done.stderr
    assert {request.bearer for request in server.fake.requests if request.bearer} == {TOKEN}


@pytest.mark.parametrize("args", [("--agent-token",), ("--agent-token", "--ascii")])
def test_agent_token_may_be_asked_for(server: LoopbackServer, args: tuple[str, ...]) -> None:
    """Without a value it is asked for; where there is no terminal the first stage says so."""
    result = doctor(*args, server=server)
    assert result.exit_code == 2
    assert "no agent token" in result.stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--expect-ack",), "--to"),
        (("--expect-ack", "--to", TO), "--webhook-port"),
        (("--webhook-port", "0"), "--to"),
        (("--public-url", "https://a.example"), "--webhook-port"),
        (("--set-callback-url", "--to", TO, "--webhook-port", "0"), "--public-url"),
        (("--webhook-port", "65536", "--to", TO), "65535"),
        (("--receipt-timeout", "0"), "receipt_timeout"),
    ],
)
def test_options_that_make_no_sense(
    server: LoopbackServer, args: tuple[str, ...], says: str
) -> None:
    """A wrong use ends with 2, before anything is sent."""
    result = doctor(*args, server=server)
    assert result.exit_code == 2
    assert says in result.stderr
    assert server.fake.requests == []


def test_all_seven_stages_from_the_command_line(server: LoopbackServer) -> None:
    """With a port and the callback URL, the receipt and the answer arrive at the command."""
    desk, port = Desk(server), free_port()
    desk.payloads = [
        {"type": "status", "messageId": "SM-7", "status": "delivered"},
        {"type": "message", "messageId": "in-1", "from": TO, "body": "I am here"},
    ]
    result = doctor(*redirecting(port, "--expect-ack"), server=server)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "All stages passed."
    assert "received 'I am here'" in result.stdout
    assert desk.statuses == [200, 200]
    ours, before = desk.history
    assert str(ours).startswith(f"http://127.0.0.1:{port}/buttdial-sync-doctor-")
    assert before == BEFORE
    assert "a-secret-of-the-host" not in result.stdout + result.stderr
    assert str(ours).rpartition("/")[2] not in result.stdout + result.stderr


def test_without_the_option_the_callback_url_stays(server: LoopbackServer) -> None:
    """--webhook-port and --public-url alone change nothing, and say what has to be set."""
    desk = Desk(server)
    public = ("--public-url", "https://tunnel.example", "--receipt-timeout", "0.1")
    result = doctor(*receiving(0, *public), server=server)
    assert result.exit_code == 3
    assert "NO_RECEIPT" in result.stdout
    assert "https://tunnel.example/" in result.stderr
    assert desk.history == []
    assert not [each for each in server.fake.requests if each.path in {ME, CALLBACK}]


def test_other_peoples_messages_are_refused(server: LoopbackServer) -> None:
    """While the callback URL leads here, the server keeps what is not for the doctor."""
    desk, port = Desk(server), free_port()
    desk.payloads = [
        {"type": "message", "messageId": "in-1", "from": "+14155550199", "body": "an order"},
        {"type": "message", "messageId": "in-2", "from": TO, "body": "not asked for"},
        {"type": "status", "messageId": "SM-7", "status": "read"},
    ]
    result = doctor(*redirecting(port), server=server)
    assert result.exit_code == 0, result.output
    assert desk.statuses == [503, 503, 200]


def test_only_the_secret_path_is_served(server: LoopbackServer) -> None:
    """Whoever does not know the path that was registered is refused."""
    desk, port = Desk(server), free_port()
    statuses: list[int] = []
    original = desk._send

    def send(args: Any) -> dict[str, Any]:
        statuses.append(post(f"http://127.0.0.1:{port}/", {"messageId": "SM-7", "status": "read"}))
        return original(args)

    server.fake.on_tool("comms_send_message", send)
    result = doctor(*redirecting(port, "--receipt-timeout", "0.1"), server=server)
    assert result.exit_code == 3
    assert statuses == [404]
    assert desk.history[-1] == BEFORE


def test_no_callback_url_to_put_back(server: LoopbackServer) -> None:
    """Where there is none, nothing is changed and the reason is told."""
    desk = Desk(server, before=None)
    result = doctor(*redirecting(free_port()), server=server)
    assert result.exit_code == 2
    assert "no callback URL" in result.stderr
    assert desk.history == []
    assert server.fake.sent_messages == []


def test_nothing_is_changed_at_an_ill_server(server: LoopbackServer) -> None:
    """The callback URL is touched only when a message could be sent."""
    desk = Desk(server)
    set_tools(server.fake, ["comms_ping"])
    assert doctor(*redirecting(free_port()), server=server).exit_code == 1
    assert desk.history == []


def test_putting_it_back_is_tried_again(server: LoopbackServer) -> None:
    """A lost answer to the change back is asked for again."""
    desk = Desk(server)

    def send(_: Any) -> dict[str, Any]:
        server.fake.fault("reset", on="rest", count=2, delivered=False)
        return {"messageId": "SM-7"}

    server.fake.on_tool("comms_send_message", send)
    doctor(*redirecting(free_port(), "--receipt-timeout", "0.1"), server=server)
    assert desk.history[-1] == BEFORE


def test_it_cannot_be_put_back(server: LoopbackServer) -> None:
    """Then what it was is told, without its query, and the program fails."""
    Desk(server)

    def send(_: Any) -> dict[str, Any]:
        server.fake.fault("status", on="rest", count=9, status=403, body={"error": "no"})
        return {"messageId": "SM-7"}

    server.fake.on_tool("comms_send_message", send)
    result = doctor(*redirecting(free_port(), "--receipt-timeout", "0.1"), server=server)
    assert result.exit_code == 1
    assert "could not be restored" in result.stderr
    assert "https://host.example/hooks/butt-dial?" in result.stderr
    assert "a-secret-of-the-host" not in result.stderr


def test_the_port_is_taken(server: LoopbackServer) -> None:
    """A port that cannot be had is told before anything is sent."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = doctor(*receiving(taken.getsockname()[1]), server=server)
    assert result.exit_code == 2
    assert "--webhook-port" in result.stderr
    assert server.fake.requests == []


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_puts_the_callback_url_back(tmp_path: Path, server: LoopbackServer) -> None:
    """Also a diagnosis that is interrupted while it waits leaves the agent as it was."""
    desk, fake = Desk(server), server.fake
    variables = {"BUTT_DIAL_BASE_URL": server.base_url, "BUTT_DIAL_AGENT_TOKEN": TOKEN}
    process = subprocess.Popen(
        [sys.executable, *_INTERRUPTIBLE, "doctor", *redirecting(free_port())],
        cwd=tmp_path,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with process:
        try:
            assert fake.wait_for(lambda: fake.calls, SECONDS)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert desk.history[-1] == BEFORE
    assert len(desk.history) == 2


def test_help_is_offline(tmp_path: Path) -> None:
    """The guide, the examples and the errors load neither requests nor cattrs."""
    for args in (["guide"], ["example", "list"], ["errors"]):
        look = (
            f"import sys; from buttdial_sync.cli import main; main({args}, standalone_mode=False);"
            "print({'requests', 'cattrs', 'tenacity'} & sys.modules.keys(), file=sys.stderr)"
        )
        done = run_process(cwd=tmp_path, program=("-c", look))
        assert done.stderr == "set()\n", args


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a thing of POSIX")
def test_agent_token_is_asked_for_on_a_terminal(tmp_path: Path, server: LoopbackServer) -> None:
    """--agent-token without a value asks, wins over the environment, and does not show it."""
    variables = {"BUTT_DIAL_BASE_URL": server.base_url, "BUTT_DIAL_AGENT_TOKEN": "another"}
    command = ("doctor", "--agent-token")
    with on_terminal(*command, cwd=tmp_path, **variables) as (process, terminal):
        shown = read_until(terminal, b"Agent token")
        os.write(terminal, f"{TOKEN}\n".encode())
        shown += read_until(terminal, b"3 skipped.")
        assert process.wait(SECONDS) == 0
    assert TOKEN.encode() not in shown
