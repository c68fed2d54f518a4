"""The program as a process: start, terminals, pipes, signals and the token."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.integration.cli.process import (
    PROGRAM,
    SECONDS,
    environment,
    on_terminal,
    read_until,
    run,
)

FULL = Path("/dev/full")
TOKEN = "agent-token-of-the-tests"
SEND = ("send", "--to", "+14155550123", "--body", "Hello")
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


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(tokens=[TOKEN]).listen() as loopback:
        yield loopback


def settings(server: LoopbackServer) -> dict[str, str]:
    return {"BUTT_DIAL_BASE_URL": server.base_url, "BUTT_DIAL_AGENT_TOKEN": TOKEN}


def test_help_loads_neither_requests_nor_cattrs(tmp_path: Path) -> None:
    """Help is quick: the heavy libraries are loaded by the commands that need them."""
    look = (
        "import sys; from buttdial_sync.cli import main; main(['--help'], standalone_mode=False);"
        "print({'requests', 'cattrs', 'tenacity'} & sys.modules.keys(), file=sys.stderr)"
    )
    done = run(cwd=tmp_path, program=("-c", look))
    assert done.stderr == "set()\n"


def test_json_is_one_object(tmp_path: Path, server: LoopbackServer) -> None:
    """Stdout has the object and nothing else, whether it went well or not."""
    server.fake.fault("status", status=403, body={"error": "Compliance: no consent"})
    for code in (1, 0):
        done = run(*SEND, "--json", cwd=tmp_path, **settings(server))
        assert done.returncode == code
        assert json.loads(done.stdout)["ok"] is (code == 0)
        assert TOKEN not in done.stdout + done.stderr


def test_a_failure_on_an_ascii_terminal(tmp_path: Path, server: LoopbackServer) -> None:
    """What a server says in another script is escaped where the terminal knows only ASCII."""
    server.fake.on_send(error="אין שולח …", remediation="Asigná un número")
    done = run(*SEND, cwd=tmp_path, PYTHONIOENCODING="ascii", **settings(server))
    assert done.returncode == 1
    assert done.stderr.isascii()
    assert "Traceback" not in done.stderr
    assert "  -> Asign\\xe1 un n\\xfamero\n" in done.stderr


def test_verbose_never_shows_the_token() -> None:
    """Also where the server wants the token in the URL, the logs do not have it."""
    with FakeButtDialServer(dialect="open-source", tokens=[TOKEN]).listen() as server:
        done = run(*SEND, "-v", cwd=Path.cwd(), **settings(server))
    assert done.returncode == 0
    assert "comms_send_message" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_reader_of_the_pipe_is_gone(tmp_path: Path, server: LoopbackServer) -> None:
    """``buttdial-sync tools | head`` ends without a traceback."""
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, "tools"],
        cwd=tmp_path,
        env=environment(**settings(server)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(SECONDS) == 0
        assert process.stderr.read() == b""


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("more", [(), ("--json",), ("-v",)], ids=str)
@pytest.mark.parametrize("streams", [("stdout",), ("stderr",), ("stdout", "stderr")], ids=str)
def test_a_message_that_is_sent_to_a_full_disk(
    more: tuple[str, ...], streams: tuple[str, ...], tmp_path: Path, server: LoopbackServer
) -> None:
    """A log that is full does not make the message a failed one, which cron would send again."""
    with FULL.open("wb") as full:
        given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        done = subprocess.run(
            [sys.executable, *PROGRAM, *SEND, *more],
            cwd=tmp_path,
            env=environment(**settings(server)),
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
            **{**given, **dict.fromkeys(streams, full)},
        )
    assert len(server.fake.sent_messages) == 1
    assert done.returncode == 0
    if streams == ("stdout",):
        assert b"Error: the result could not be printed: [Errno 28]" in done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_a_refusal_on_a_full_disk(tmp_path: Path, server: LoopbackServer) -> None:
    """It stays one."""
    server.fake.on_send(error="no consent")
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, *PROGRAM, *SEND, "--json"],
            cwd=tmp_path,
            env=environment(**settings(server)),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=full,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 1


def interrupt(
    args: tuple[str, ...],
    tmp_path: Path,
    server: LoopbackServer,
    tool: bool,
    number: signal.Signals = signal.SIGINT,
) -> tuple[int, str]:
    """Run a command, press Ctrl-C when the server has its request, and return how it ended."""
    process = subprocess.Popen(
        [sys.executable, *_INTERRUPTIBLE, *args],
        cwd=tmp_path,
        env=environment(**settings(server)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with process:
        fake = server.fake
        try:
            assert fake.wait_for(lambda: fake.calls if tool else fake.posts, SECONDS)
            process.send_signal(number)
            _, said = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    return process.returncode, said


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_while_waiting(tmp_path: Path, server: LoopbackServer) -> None:
    """Ctrl-C ends with exit code 130 and without a traceback."""
    server.fake.fault("silence", on="post")
    code, said = interrupt(("ping",), tmp_path, server, tool=False)
    assert (code, said) == (130, "\nInterrupted.\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_sending(
    number: signal.Signals, tmp_path: Path, server: LoopbackServer
) -> None:
    """Ctrl-C or SIGTERM says that it may have been sent, and the key for sending again."""
    server.fake.fault("silence")
    code, said = interrupt(SEND, tmp_path, server, tool=True, number=number)
    assert code == 128 + number
    assert "may have been sent" in said
    assert f"--idempotency-key {server.fake.sent_messages[0].idempotency_key}" in said
    assert "Traceback" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a thing of POSIX")
@pytest.mark.parametrize(
    ("typed", "answer", "code"),
    [
        (f"{TOKEN}\n".encode(), b"answered in", 0),
        (b"\x04", b"Interrupted.", 130),
    ],
    ids=["a token", "end of input"],
)
def test_token_is_asked_for_and_not_echoed(
    tmp_path: Path, server: LoopbackServer, typed: bytes, answer: bytes, code: int
) -> None:
    """On a terminal a missing token is asked for, what is typed is not shown, and one may leave."""
    address = {"BUTT_DIAL_BASE_URL": server.base_url}
    with on_terminal("ping", cwd=tmp_path, **address) as (process, terminal):
        shown = read_until(terminal, b"Agent token")
        os.write(terminal, typed)
        shown += read_until(terminal, answer)
        assert process.wait(SECONDS) == code
    assert TOKEN.encode() not in shown
    assert b"Traceback" not in shown
