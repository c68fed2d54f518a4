"""Under servers that fork: gunicorn with a preloaded application, Celery's prefork pool."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.fakes import failed_logins
from tests.integration.prefork import answers_of_worker
from tests.ports import free_port

HERE = Path(__file__).parent
PATIENCE = 30.0

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]


@pytest.fixture(params=["hosted", "open-source"])
def server(request: pytest.FixtureRequest) -> Iterator[LoopbackServer]:
    with FakeButtDialServer(dialect=request.param).listen() as loopback:
        loopback.fake.on_tool(
            "comms_send_message", lambda args: {"messageId": f"id-{args['body']}"}
        )
        yield loopback


def environment(server: LoopbackServer, **more: str) -> dict[str, str]:
    root = str(HERE.parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, str(HERE)]),
        "BUTT_DIAL_BASE_URL": server.base_url,
        "BUTT_DIAL_AGENT_TOKEN": "tok",
        **more,
    }


def missing_token_answers(server: LoopbackServer) -> int:
    return sum(
        request.path == "/sse" and "token" not in request.query for request in server.fake.requests
    )


@pytest.mark.parametrize("warm", ["", "1"], ids=["cold parent", "parent with a session"])
def test_gunicorn_with_a_preloaded_client(server: LoopbackServer, warm: str) -> None:
    """Workers and threads share one client object; each answer reaches its own request."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--threads", "4"),
            *("--bind", f"127.0.0.1:{port}", "--log-level", "error", "wsgi_app:application"),
        ],
        env=environment(server, WARM=warm),
    )
    try:
        session_per_thread(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(PATIENCE)
    if server.fake.dialect == "open-source":
        assert missing_token_answers(server) == 1
    assert failed_logins(server.fake) == (1 if server.fake.dialect == "open-source" else 0)


def session_per_thread(url: str, process: subprocess.Popen[bytes]) -> None:
    wait_for_port(url, process)
    wrong: list[str] = []

    def ask(name: int) -> None:
        with requests.Session() as session:
            for number in range(15):
                body = f"{name}-{number}"
                answer = session.get(f"{url}/{body}", timeout=PATIENCE).text
                if answer != f"id-{body}":
                    wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert wrong == []


def wait_for_port(url: str, process: subprocess.Popen[bytes]) -> None:
    host, port = url.removeprefix("http://").split(":")
    pause = threading.Event()
    for _ in range(600):
        assert process.poll() is None, "the server ended"
        with socket.socket() as attempt:
            if attempt.connect_ex((host, int(port))) == 0:
                return
        pause.wait(0.05)
    raise AssertionError("the server does not listen")


def test_celery_prefork(server: LoopbackServer, tmp_path: Path) -> None:
    """Tasks in forked workers use the client that the parent made."""
    for folder in ("queue", "results"):
        (tmp_path / folder).mkdir()
    env = environment(server, CELERY_FOLDER=str(tmp_path))
    asker = [sys.executable, str(HERE / "celery_app.py")]
    answers = answers_of_worker("celery_app", asker, env)
    assert answers.split() == [f"id-{number}" for number in range(20)]
    if server.fake.dialect == "open-source":
        assert missing_token_answers(server) == 1
