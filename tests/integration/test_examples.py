"""
The examples run as they stand, against the embedded server.

An example's docstring says how to start it, in a line such as ``python send_one.py +1415 "Hello"``:
that is what runs here, on a copy. What needs more has a test of its own.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from buttdial_sync.testing import LoopbackServer
from tests.fakes import set_tools

TESTS = Path(__file__).parents[1]
EXAMPLES = TESTS.parent / "examples"
COMMAND = re.compile(r"python (\w+\.py.*)$", re.MULTILINE)
SECONDS = 30.0

RUN_HERE = {
    "approval": (4, "nobody answered"),
    "cron": (0, ""),
    "inbound": (0, "2 handled"),
    "many_agents": (0, "Noa: SM"),
    "minimal": (0, "sent as SM"),
    "retry_sqlalchemy": (0, "1 sent, 0 waiting"),
}
"""Each one's exit code, and what it prints."""


class Example:
    """A copy of an example, ready to run."""

    def __init__(self, directory: Path, server: LoopbackServer) -> None:
        self.directory = directory
        self.server = server
        programs = sorted(directory.glob("*.py"))
        docs = "\n".join(
            ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "" for path in programs
        )
        found = COMMAND.search(docs)
        assert found, "no docstring says how to start it"
        self.command = shlex.split(found[1])

    def start(
        self,
        *command: str,
        program: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            program or [sys.executable, "-W", "error", *(command or self.command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env={
                **os.environ,
                "PYTHONPATH": str(TESTS.parent),
                "BUTT_DIAL_BASE_URL": self.server.base_url,
                "BUTT_DIAL_AGENT_TOKEN": "agent-token",
                **environment,
            },
        )

    def run(self, *command: str) -> tuple[int, str, str]:
        return ended(self.start(*command))


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        said, complained = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, said, complained


@pytest.fixture
def example(
    request: pytest.FixtureRequest, loopback_server: LoopbackServer, tmp_path: Path
) -> Example:
    copy = shutil.copytree(EXAMPLES / request.param, tmp_path / request.param)
    return Example(copy, loopback_server)


def only(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", [name], indirect=True)


@pytest.mark.parametrize("example", RUN_HERE, indirect=True)
def test_it_runs(example: Example) -> None:
    """The command of the docstring works as it stands, and without a word of complaint."""
    exit_code, said = RUN_HERE[example.directory.name]
    for _ in range(2):
        example.server.fake.add_waiting()
    command = ["0.5" if each == "600" else each for each in example.command]
    code, output, complaints = example.run(*command)
    assert (code, said in output) == (exit_code, True), output + complaints
    assert "Error" not in complaints


def test_every_example_is_tested() -> None:
    """An example is run here or in a test of its own."""
    texts = [path.read_text("utf-8") for path in TESTS.rglob("test_*.py") if path != Path(__file__)]
    for directory in EXAMPLES.iterdir():
        if directory.is_dir() and not directory.name.startswith((".", "_")):
            named = any(f'"{directory.name}"' in text for text in texts)
            assert directory.name in RUN_HERE or named, f"{directory.name} has no test"


@only("cron")
def test_cron_sends_once(example: Example) -> None:
    """A run sends what no run sent before; what failed is tried again, and told."""
    fake = example.server.fake
    fake.on_send(error="no consent")
    code, _, complaints = example.run()
    assert (code, "2026-03-02-sam: rejected: no consent" in complaints) == (1, True), complaints
    for _ in range(2):
        assert example.run() == (0, "", "")
    assert [message.to for message in fake.delivered] == ["+14155550124", "+14155550123"]


@only("cron")
def test_cron_repeats_no_unknown(example: Example) -> None:
    """A message of which nobody knows whether it was sent is told once, and not sent again."""
    unkeyed = {"name": "comms_send_message", "inputSchema": {"type": "object", "properties": {}}}
    set_tools(example.server.fake, [unkeyed])
    example.server.fake.fault("cut")
    assert example.run()[0] == 3
    assert example.run()[0] == 0
    assert len(example.server.fake.sent_messages) == 2


@only("cron")
def test_cron_stops_when_nobody_answers(example: Example, closed_port: str) -> None:
    """When the server is down one row is tried, not each of them; the next run sends them all."""
    code, _, complaints = ended(example.start(environment={"BUTT_DIAL_BASE_URL": closed_port}))
    assert (code, len(complaints.splitlines())) == (1, 1), complaints
    assert example.run() == (0, "", "")
    assert len(example.server.fake.delivered) == 2


@only("cron")
def test_cron_rows_for_send_many(example: Example) -> None:
    """The command of the docstring takes the same file, and sends each row once."""
    command = [sys.executable, "-m", "buttdial_sync.cli", "send-many", "reminders.csv"]
    for _ in range(2):
        process = example.start(program=[*command, "--db", "outbox.db"])
        code, _, complaints = ended(process)
        assert code == 0, complaints
    assert sorted(str(each.to) for each in example.server.fake.delivered) == [
        "+14155550123",
        "+14155550124",
    ]


@only("many_agents")
def test_agents_speak_for_themselves(example: Example) -> None:
    """Each message goes out with its agent's token; a revoked one does not stop the others."""
    fake = example.server.fake
    fake.revoke("token-of-yossi")
    code, output, _ = example.run()
    assert code == 0
    assert [line.partition(":")[0] for line in output.splitlines()] == ["Maya", "Yossi", "Noa"]
    assert {message.token for message in fake.delivered} == {"token-of-maya", "token-of-noa"}
    assert "token-of" not in output


@only("approval")
@pytest.mark.parametrize(
    ("answer", "exit_code"), [("Approve", 0), ("Reject", 1)], ids=["approve", "reject"]
)
def test_approval(example: Example, answer: str, exit_code: int) -> None:
    """The approver's choice decides; another person's does not, nor does small talk."""
    fake = example.server.fake
    process = example.start()
    assert fake.wait_for(lambda: fake.calls, SECONDS)
    asked = fake.assert_called("comms_whatsapp_action", action="send_buttons", to="+14155550123")
    assert [each["title"] for each in asked.args["buttons"]] == ["Approve", "Reject"]
    said = {"type": "message", "channel": "whatsapp", "from": "+14155550123"}
    fake.push({**said, "messageId": "1", "from": "+1999", "body": "Reject"})
    fake.push({**said, "messageId": "2", "body": "What is that?"})
    fake.push({**said, "messageId": "3", "body": "Approve", "replyTo": "wamid.another"})
    fake.push({**said, "messageId": "4", "body": answer})
    code, output, complaints = ended(process)
    assert (code, output.strip()) == (exit_code, answer.lower()), complaints


@only("inbound")
def test_inbound_listens(example: Example) -> None:
    """It answers what waits and what is pushed, over the way it came, and ends at Ctrl-C."""
    fake = example.server.fake
    fake.add_waiting(body="one")
    process = example.start(example.command[0])
    try:
        assert fake.wait_for(lambda: len(fake.delivered) == 1, SECONDS)
        message = {"type": "message", "messageId": "2", "channel": "whatsapp", "from": "+1"}
        fake.push({**message, "body": "two"})
        assert fake.wait_for(lambda: len(fake.delivered) == 2, SECONDS)
    finally:
        process.send_signal(signal.SIGINT)
    code, output, complaints = ended(process)
    assert (code, output.splitlines()[-1]) == (0, "bye"), complaints
    fake.assert_sent_once(body="You said: one", channel="sms")
    fake.assert_sent_once(body="You said: two", channel="whatsapp", to="+1")
