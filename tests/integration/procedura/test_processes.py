"""Processes that are forked with an agent in them: by hand, by gunicorn, by Celery."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from buttdial_sync.procedura import ConnectionLostError, RemoteAgent
from buttdial_sync.testing import FakeProceduraServer
from buttdial_sync.transport.deadline import Deadline
from tests.integration.prefork import answers_of_worker
from tests.ports import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


@pytest.fixture
def server(procedura_server: FakeProceduraServer) -> FakeProceduraServer:
    procedura_server.module("echo", lambda args: args)
    return procedura_server


@pytest.fixture
def agent(server: FakeProceduraServer) -> Iterator[RemoteAgent]:
    with RemoteAgent(server.url, token_store=None) as agent:
        yield agent


def exit_code_of_child(work: Callable[[], None]) -> int:
    """Run work in a forked child; 0 means that it raised nothing."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - a child must never return into pytest
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def call(agent: RemoteAgent, name: str) -> None:
    for number in range(10):
        said = [f"{name}-{number}"]
        assert agent.run("echo", said, final_timeout=20.0) == said
        assert [event.phase for event in agent.stream("echo", said)] == ["started", "finished"]


def test_parent_and_children(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """Each has its own connection; the child closes nothing of the parent's."""

    def work() -> None:
        call(agent, "child")
        agent.close()

    call(agent, "before")
    assert exit_code_of_child(work) == 0
    call(agent, "after")
    assert exit_code_of_child(work) == 0
    call(agent, "at last")
    assert server.connections == 3


def test_fork_in_the_middle_of_a_call(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """The parent's call gets its answer; the child starts anew, whatever was locked."""
    go = threading.Event()
    server.module("wait", lambda args: go.wait(20.0) and args)
    results: list[Any] = []
    waiting = threading.Thread(target=lambda: results.append(agent.run("wait", ["x"])))
    waiting.start()
    limit = Deadline(20.0)
    while not server.requests:
        limit.check("the request")
        time.sleep(0)
    assert exit_code_of_child(lambda: call(agent, "child")) == 0
    go.set()
    waiting.join(20.0)
    assert results == [["x"]]


def test_fork_in_the_middle_of_a_stream(server: FakeProceduraServer, agent: RemoteAgent) -> None:
    """The stream goes on in the parent, and says in the child that it is not the child's."""
    go = threading.Event()

    def slow(_: list[str]) -> Generator[dict[str, Any], None, str]:
        yield {"n": 1}
        go.wait(20.0)
        return "done"

    server.module("slow", slow)
    stream = iter(agent.stream("slow"))
    next(stream)

    def work() -> None:
        with pytest.raises(ConnectionLostError):
            list(stream)
        call(agent, "child")

    assert exit_code_of_child(work) == 0
    go.set()
    assert [event.phase for event in stream] == ["running", "finished"]


APP = """
import os
from buttdial_sync.procedura import RemoteAgent

agent = RemoteAgent(os.environ["WORLD"], token_store=None)
agent.run("echo", ["preloaded"])

def app(environ, start_response):
    said = [environ["QUERY_STRING"]]
    body = repr((os.getpid(), agent.run("echo", said) == said)).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""


def test_gunicorn_preload(server: FakeProceduraServer, tmp_path: Any) -> None:
    """The master has a connection; each worker makes its own."""

    import requests

    (tmp_path / "world_app.py").write_text(APP)
    port = free_port()
    command = [
        *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--threads", "2"),
        *("--bind", f"127.0.0.1:{port}", "--chdir", str(tmp_path), "world_app:app"),
    ]
    environment = {**os.environ, "WORLD": server.url, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        limit = Deadline(60.0)
        pids: set[int] = set()
        while len(pids) < 2:
            limit.check("both workers")
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/?x", timeout=20.0)
            except requests.ConnectionError:
                time.sleep(0.05)
                continue
            pid, is_right = eval(answer.text)  # noqa: S307 - our own app's
            assert is_right
            pids.add(pid)
    finally:
        process.terminate()
        process.wait(20.0)
    assert server.connections >= 3


TASKS = """
import os
from celery import Celery
from buttdial_sync.procedura import RemoteAgent

agent = RemoteAgent(os.environ["WORLD"], token_store=None)
agent.run("echo", ["imported"])
app = Celery("world_tasks", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.broker_transport_options = {
    "data_folder_in": os.environ["FOLDER"] + "/queue",
    "data_folder_out": os.environ["FOLDER"] + "/queue",
    "control_folder": os.environ["FOLDER"] + "/control",
}

@app.task
def echo(text):
    return [os.getpid(), agent.run("echo", [text])]
"""


def test_celery_prefork(server: FakeProceduraServer, tmp_path: Any) -> None:
    """The parent has a connection; each prefork worker makes its own."""
    (tmp_path / "world_tasks.py").write_text(TASKS)
    for name in ("queue", "results"):
        (tmp_path / name).mkdir()
    environment = {
        **os.environ,
        "WORLD": server.url,
        "PYTHONPATH": str(tmp_path),
        "BROKER": "filesystem://",
        "BACKEND": f"file://{tmp_path / 'results'}",
        "FOLDER": str(tmp_path),
    }
    ask = (
        "from celery import group\n"
        "from world_tasks import echo\n"
        "results = group(echo.s(str(n)) for n in range(8)).apply_async()\n"
        "print('queued', flush=True)\n"
        "print(*(said for _, (said,) in results.get(timeout=90)))\n"
    )
    asker = [sys.executable, "-W", "ignore", "-c", ask]
    answers = answers_of_worker("world_tasks", asker, environment, tmp_path)
    assert answers.split() == [str(n) for n in range(8)]
    assert {request.args[0] for request in server.requests} >= {str(n) for n in range(8)}
