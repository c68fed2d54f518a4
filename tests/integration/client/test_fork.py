"""Processes that are forked with a live client in them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from buttdial_sync import Client
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.forks import exit_code, forked

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(params=["hosted", "open-source"])
def server(request: pytest.FixtureRequest) -> Iterator[LoopbackServer]:
    with FakeButtDialServer(dialect=request.param).listen() as loopback:
        loopback.fake.on_tool(
            "comms_send_message", lambda args: {"messageId": f"id-{args['body']}"}
        )
        yield loopback


def send_many(client: Client, name: str, count: int = 20) -> None:
    for number in range(count):
        body = f"{name}-{number}"
        assert client.send_message("+1", body, timeout=20.0).message_sid == f"id-{body}"


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_parent_and_children_get_their_own_answers(server: LoopbackServer) -> None:
    """Four children and the parent send at once; each opens its own session, nothing is swapped."""
    with Client(server.base_url, agent_token="t") as client:
        send_many(client, "before", 1)
        children = [
            forked(lambda name=f"child{number}": send_many(client, name))  # type: ignore[misc]
            for number in range(4)
        ]
        send_many(client, "parent")
        assert [exit_code(child) for child in children] == [0, 0, 0, 0]
        send_many(client, "after", 1)
        assert server.fake.streams_opened == 5
        assert len(server.fake.sent_messages) == 2 + 5 * 20


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_closes_its_client_without_harm(server: LoopbackServer) -> None:
    """close() in a child ends nothing of the parent's, and does not hang."""
    with Client(server.base_url, agent_token="t") as client:
        send_many(client, "before", 1)
        children = [forked(client.close) for _ in range(2)]
        assert [exit_code(child) for child in children] == [0, 0]
        send_many(client, "after", 3)
        assert server.fake.streams_opened == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_where_the_token_goes_is_found_out_once_for_all_children() -> None:
    """Workers forked from one parent that never connected cost one missing-token answer in all."""
    with FakeButtDialServer(dialect="open-source").listen() as server:
        with Client(server.base_url, agent_token="t") as client:
            children = [forked(lambda: assert_ok(client)) for _ in range(4)]
            assert [exit_code(child) for child in children] == [0] * 4
        refused = [r for r in server.fake.requests if r.path == "/sse" and "token" not in r.query]
        assert len(refused) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_what_the_parent_found_out_is_inherited() -> None:
    """A child asks for no stream without the token in the place that the parent found."""
    with FakeButtDialServer(dialect="open-source").listen() as server:
        with Client(server.base_url, agent_token="t") as client:
            assert_ok(client)
            assert exit_code(forked(lambda: assert_ok(client))) == 0
        refused = [r for r in server.fake.requests if r.path == "/sse" and "token" not in r.query]
        assert len(refused) == 1


def assert_ok(client: Client) -> None:
    result = client.send_message("+1", "x", timeout=20.0)
    assert result.ok, result


# uWSGI forks in C. A thread that waits for the interpreter's lock at that moment would block the
# child for a reason that is not ours, so this process forks when all its other threads sleep.
FORKS_IN_C = """
import ctypes, os, sys, threading, time
from pathlib import Path
from buttdial_sync import Client

def others_sleep():
    time.sleep(0.01)  # whoever waits for the interpreter's lock gets it now
    own = threading.get_native_id()
    others = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != own]
    return all((task / "stat").read_text().rpartition(") ")[2][0] == "S" for task in others)

with Client(sys.argv[1], agent_token="agent-token") as client:
    assert client.send_message("+1", "before", timeout=20.0).ok
    while not others_sleep():
        pass
    child = ctypes.PyDLL(None).fork()
    if not child:
        client.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.send_message("+1", "after", timeout=20.0).ok
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc/self/task")
def test_a_child_without_fork_hooks_closes_its_client_without_harm() -> None:
    """close() in the child looks at the process id first."""
    with FakeButtDialServer().listen() as server:
        script = [sys.executable, "-c", FORKS_IN_C, server.base_url]
        subprocess.run(script, check=True, timeout=60)
        assert len(server.fake.sent_messages) == 2
        assert server.fake.streams_opened == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_forked_while_a_stream_is_opened_leaves_it_alone() -> None:
    """What another thread of the parent is opening at the fork stays the parent's."""
    with (
        FakeButtDialServer().listen() as server,
        Client(server.base_url, agent_token="agent-token", timeout=20.0) as client,
    ):
        server.fake.fault("late", on="post")
        results: list[float] = []
        opening = threading.Thread(target=lambda: results.append(client.ping()))
        opening.start()
        assert server.fake.wait_for(lambda: server.fake.held == 1)
        assert exit_code(forked(client.close)) == 0
        server.fake.release()
        opening.join(20.0)
        assert len(results) == 1
        assert server.fake.streams_opened == 1
