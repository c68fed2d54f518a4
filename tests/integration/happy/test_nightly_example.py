"""The nightly job runs as it stands: an agent, a person, and a report that waits if it must."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing import FakeAiloopServer, LoopbackServer
from buttdial_sync.testing.happy_agents import FakeTurn
from buttdial_sync.testing.happy_server import FakeHappyServer

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[2]
EXAMPLE = TESTS.parent / "examples" / "nightly_agent"
SECONDS = 60.0


def agent(turn: FakeTurn) -> None:
    turn.call_tool("Edit", path="setup.cfg")
    answer = turn.ask("Bash", command="make test")
    turn.say("Tested." if answer["approved"] else f"Not tested: {answer['reason']}")


@pytest.fixture
def ailoop() -> Iterator[FakeAiloopServer]:
    with FakeAiloopServer() as server:
        yield server


def run(
    folder: Path, happy: FakeHappyServer, ailoop: FakeAiloopServer, butt_dial: LoopbackServer
) -> subprocess.CompletedProcess[str]:
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    return subprocess.run(
        [sys.executable, "-W", "error", "nightly.py", "machine-1", "/srv/shop", "+14155550123"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(TESTS.parent),
            "HAPPY_SERVER_URL": happy.server_url,
            "HAPPY_TOKEN": happy.token,
            "HAPPY_SECRET": happy.secret_b64,
            "AILOOP_SERVER": ailoop.url,
            "BUTT_DIAL_BASE_URL": butt_dial.base_url,
            "BUTT_DIAL_AGENT_TOKEN": "agent-token",
        },
    )


@pytest.mark.parametrize("approves", [True, False])
def test_a_night(
    happy_server: FakeHappyServer,
    ailoop: FakeAiloopServer,
    loopback_server: LoopbackServer,
    tmp_path: Path,
    approves: bool,
) -> None:
    """The person is asked, the agent goes on either way, and the report says what came of it."""
    happy_server.add_machine("machine-1", agent)
    if approves:
        ailoop.approves()
    else:
        ailoop.denies()
    done = run(tmp_path / "nightly_agent", happy_server, ailoop, loopback_server)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    message = loopback_server.fake.assert_sent_once(to="+14155550123", channel="whatsapp")
    said = "Tested." if approves else "Not tested: Nobody allowed it. Go on without it if you can."
    assert message.body == f"Nightly update of /srv/shop: completed: {said}"
    assert "Edit" in (tmp_path / "nightly_agent" / "nightly.log").read_text("utf-8")
    (session_id,) = happy_server.store.sessions
    assert happy_server.process(session_id).ended


def test_nights_that_go_wrong(
    happy_server: FakeHappyServer,
    ailoop: FakeAiloopServer,
    loopback_server: LoopbackServer,
    tmp_path: Path,
) -> None:
    """A machine that is off is reported; a report that cannot be sent goes out the next night."""
    machine = happy_server.add_machine("machine-1", agent)
    machine.is_offline = True
    loopback_server.stop()
    first = run(tmp_path / "nightly_agent", happy_server, ailoop, loopback_server)
    assert (first.returncode, "the report: not_sent" in first.stderr) == (1, True), first.stderr
    with SQLiteRepository(tmp_path / "nightly_agent" / "outbox.db") as repository:
        (waiting,) = repository.list("pending")
        repository.force_retry(waiting.id)  # a day passes
    loopback_server.start()
    machine.is_offline = False
    ailoop.approves()
    second = run(tmp_path / "nightly_agent", happy_server, ailoop, loopback_server)
    assert second.returncode == 0, second.stderr
    bodies = [str(message.body) for message in loopback_server.fake.delivered]
    assert ["MachineOfflineError" in body for body in bodies] == [True, False]
