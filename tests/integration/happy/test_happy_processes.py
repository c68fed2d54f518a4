"""Across forks: children, gunicorn with a preloaded application, Celery's prefork pool."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from buttdial_sync.happy.client import HappyClient
from buttdial_sync.testing.happy_agents import FakeMachine
from buttdial_sync.testing.happy_server import FakeHappyServer
from tests.integration.contrib.running import wait_for_port
from tests.integration.prefork import answers_of_worker
from tests.ports import free_port

HERE = Path(__file__).parent
PATIENCE = 30.0

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]


def forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def environment(server: FakeHappyServer, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[2]), str(HERE)]),
        "HAPPY_SERVER_URL": server.server_url,
        "HAPPY_TOKEN": server.token,
        "HAPPY_SECRET": server.secret_b64,
        **more,
    }


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_children_and_their_parent(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """Each forked child opens connections of its own; the parent's go on."""

    def task(name: str) -> None:
        assert client.run_task("machine-1", "/repo", name).text == f"Done: {name}"

    task("before")
    children = [forked(lambda number=number: task(f"child {number}")) for number in range(3)]  # type: ignore[misc]
    task("meanwhile")
    assert [exit_code(child) for child in children] == [0, 0, 0]
    task("after")
    assert happy_server.events.count("connect") == 4


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_closes_its_client_without_harm(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """close() in a child ends nothing of the parent's, and does not hang."""
    client.spawn_session("machine-1", "/repo")
    assert exit_code(forked(client.close)) == 0
    client.spawn_session("machine-1", "/repo")
    assert happy_server.events.count("connect") == 1


@pytest.mark.parametrize("warm", ["", "1"], ids=["cold parent", "parent with a connection"])
def test_gunicorn_with_a_preloaded_client(
    happy_server: FakeHappyServer, machine: FakeMachine, warm: str
) -> None:
    """Workers and threads share one client object; each answer reaches its own request."""
    session_id = happy_server.add_session(machine).session.id
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--threads", "3"),
            *("--bind", f"127.0.0.1:{port}", "--log-level", "error", "happy_wsgi:application"),
        ],
        env=environment(happy_server, WARM=warm, SESSION=session_id),
    )
    try:
        wait_for_port(port, process)
        wrong: list[str] = []

        def ask(name: int) -> None:
            for number in range(3):
                prompt = f"{name}-{number}"
                text = requests.get(f"http://127.0.0.1:{port}/{prompt}", timeout=PATIENCE).text
                if text != f"Done: {prompt}":
                    wrong.append(text)

        threads = [threading.Thread(target=ask, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(4 * PATIENCE)
        assert wrong == []
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_celery_prefork(
    happy_server: FakeHappyServer, machine: FakeMachine, tmp_path: Path
) -> None:
    """Tasks in forked workers use the client that the parent made."""
    for folder in ("queue", "results"):
        (tmp_path / folder).mkdir()
    env = environment(happy_server, CELERY_FOLDER=str(tmp_path))
    asker = [sys.executable, str(HERE / "happy_celery.py")]
    answers = answers_of_worker("happy_celery", asker, env)
    assert answers.splitlines() == [f"Done: {number}" for number in range(6)]
