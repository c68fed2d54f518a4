"""The client that a process shares."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from buttdial_sync import Client, ClientClosedError, ConfigError, shared_client
from buttdial_sync import shared as module
from buttdial_sync.shared import SharedClients, client_options, close_shared_client
from buttdial_sync.testing import LoopbackServer

URL = "https://h.test"
TOKEN = "tok-s3cret"
SECONDS = 20.0
AT_EXIT = """
import atexit, sys, threading
from buttdial_sync import shared_client
from buttdial_sync.agent import context_of
waits, join = [], threading.Thread.join
def noted(thread, timeout=None):
    waits.append(timeout)
    join(thread, timeout)
threading.Thread.join = noted
def last():
    print("closed" if context_of(client).connection.closed else "open", [s for s in waits if s])
atexit.register(last)
client = shared_client(sys.argv[1], agent_token="tok")
assert client.send_message("+14155550123", "hi").ok
atexit.register(lambda: print("open" if client.ping() else ""))
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made = SharedClients()
    monkeypatch.setattr(module, "_shared", made)
    yield
    for client in made._clients.values():
        client.close()


def test_same_options_same_client() -> None:
    """Whatever their order, and whether they hold dicts and lists."""
    options: dict[str, Any] = {"headers": {"X-A": "1", "X-B": "2"}, "timeout": 5.0}
    first = shared_client(URL, agent_token=TOKEN, **options)
    again = shared_client(
        agent_token=TOKEN, timeout=5.0, headers={"X-B": "2", "X-A": "1"}, base_url=URL
    )
    assert again is first
    assert isinstance(first, Client)
    assert (first.base_url, first.agent_id) == (URL, None)


@pytest.mark.parametrize(
    "other",
    [
        {"agent_token": "tok-2"},
        {"timeout": 6.0},
        {"headers": {"X-A": "2"}},
        {"on_event": print},
        {"base_url": f"{URL}/dial"},
    ],
    ids=str,
)
def test_other_options_another_client(other: dict[str, Any]) -> None:
    """Two that differ in anything do not share."""
    options: dict[str, Any] = {"base_url": URL, "agent_token": TOKEN, "headers": {"X-A": "1"}}
    first = shared_client(**options)
    assert shared_client(**{**options, **other}) is not first
    assert shared_client(**options) is first


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fills in what is not given, and a changed one is another client."""
    with pytest.raises(ConfigError, match="base_url"):
        shared_client()
    monkeypatch.setenv("BUTT_DIAL_BASE_URL", URL)
    monkeypatch.setenv("BUTT_DIAL_AGENT_TOKEN", TOKEN)
    first = shared_client()
    assert shared_client(URL, agent_token=TOKEN) is first
    monkeypatch.setenv("BUTT_DIAL_AGENT_TOKEN", "tok-2")
    assert shared_client() is not first


def test_closed_one_is_replaced() -> None:
    """Who closes it does not take it away from the others for good."""
    with shared_client(URL, agent_token=TOKEN) as first:
        pass
    with pytest.raises(ClientClosedError):
        first.ping()
    second = shared_client(URL, agent_token=TOKEN)
    assert second is not first
    assert shared_client(URL, agent_token=TOKEN) is second


def test_closing_by_options() -> None:
    """As the frameworks do when their settings change; twice does nothing more."""
    options = client_options({"base_url": URL, "agent_token": TOKEN})
    first = shared_client(**options)
    for _ in range(2):
        close_shared_client(options)
        with pytest.raises(ClientClosedError):
            first.ping()
    assert shared_client(**options) is not first


def test_threads_get_one() -> None:
    """Those that ask at the same time as well."""
    together = threading.Barrier(8)

    def get(_: int) -> Client:
        together.wait(SECONDS)
        return shared_client(URL, agent_token=TOKEN)

    with ThreadPoolExecutor(8) as pool:
        assert len({id(client) for client in pool.map(get, range(8))}) == 1


def test_tokens_are_not_shown() -> None:
    """A debugger's or an error page's view of the registry holds none."""
    shared_client(URL, agent_token=TOKEN)
    assert TOKEN not in repr(vars(module._shared))
    assert TOKEN not in repr(client_options({"base_url": URL, "agent_token": TOKEN}))


def test_wrong_options_keep_nothing() -> None:
    """The next call says so again."""
    for _ in range(2):
        with pytest.raises(ConfigError):
            shared_client("ftp://h.test")
    assert module._shared._clients == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forks(loopback_server: LoopbackServer) -> None:
    """A child goes on with it, also one that was forked while another thread made a client."""
    client = shared_client(loopback_server.base_url, agent_token=TOKEN)
    assert client.send_message("+14155550123", "parent").ok
    with module._shared._lock:
        child = os.fork()
        if not child:
            try:
                same = shared_client(loopback_server.base_url, agent_token=TOKEN) is client
                other = shared_client(loopback_server.base_url, agent_token="tok-2")
                sent = client.send_message("+14155550123", "child").ok
                os._exit(0 if same and other is not client and sent else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.send_message("+14155550123", "parent").ok
    assert loopback_server.fake.streams_opened == 2


def test_exit(loopback_server: LoopbackServer) -> None:
    """It is closed without a warning, and nothing is waited for."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_EXIT, loopback_server.base_url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["open", "closed", "[]"]
