"""The ``responses`` face of the fake server."""

from __future__ import annotations

import gc
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
import sseclient
import urllib3
from requests.adapters import HTTPAdapter

from buttdial_sync import Client, ConfigError
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.http_messages import Reply, Request
from buttdial_sync.transport.addresses import connection_guard
from tests.fakes import add_fault, open_streams
from tests.unit.testing.fake_wire import HEADERS, Wire

HOST_URL = "https://host.example/x"


def refusal(url: str) -> requests.ConnectionError:
    with pytest.raises(requests.ConnectionError) as caught:
        requests.get(url, headers=HEADERS, timeout=5)
    return caught.value


def test_uninstall_wakes_a_blocked_reader() -> None:
    """No thread that reads a stream outlives the mock."""
    fake = FakeButtDialServer()
    ended: queue.Queue[list[bytes]] = queue.Queue()
    with fake.mocked() as mocked:
        wire = Wire(mocked.base_url)
        thread = threading.Thread(target=lambda: ended.put(wire.rest()))
        thread.start()
    assert ended.get(timeout=5) == []
    thread.join(5)
    assert open_streams(fake) == 0
    wire.close()


def test_an_earlier_fake_is_freed() -> None:
    """What was asked of it can be read after it; the next one begins anew, and keeps it no more."""
    fake = FakeButtDialServer()
    with fake.mocked() as mocked:
        Wire(mocked.base_url).close()
    assert len(responses.calls) == 1
    gone = weakref.ref(fake)
    del fake, mocked
    with FakeButtDialServer().mocked():
        assert len(responses.calls) == 0
        gc.collect()
        assert gone() is None


def test_a_mock_that_runs_keeps_its_calls() -> None:
    """A fake that is installed inside of a host's mock takes nothing of it away."""
    with responses.mock:
        responses.mock.get(HOST_URL, json={})
        requests.get(HOST_URL, timeout=5)
        with FakeButtDialServer().mocked():
            assert len(responses.calls) == 1


def test_closing_the_response_wakes_its_reader() -> None:
    """A client that closes its stream is gone for the server, and its reader sees the end."""
    fake = FakeButtDialServer()
    with fake.mocked() as mocked:
        wire = Wire(mocked.base_url)
        body: Any = wire.raw._fp
        ended: queue.Queue[bytes] = queue.Queue()
        thread = threading.Thread(target=lambda: ended.put(body.read1(10)))
        thread.start()
        wire.close()
        assert ended.get(timeout=5) == b""
        thread.join(5)
        assert open_streams(fake) == 0


def test_a_message_travels() -> None:
    """The handshake, a send and a REST call work without a socket."""
    fake = FakeButtDialServer(dialect="open-source")
    with fake.mocked() as mocked, Wire(mocked.base_url, query=True) as wire:
        assert wire.greet().send(channel="sms")["channel"] == "sms"
        fake.add_waiting()
        url = f"{mocked.base_url}/api/v1/waiting-messages"
        assert requests.get(url, headers=HEADERS, timeout=5).json()["count"] == 1
        assert fake.sent_messages[0].token == "t"
        assert fake.connections == 0


def test_sseclient_reads_the_stream() -> None:
    """The event-stream parser that the library uses reads it live, by way of ``read1``."""
    fake = FakeButtDialServer()
    with fake.mocked() as mocked, Wire(mocked.base_url) as wire:
        fake.push({"body": "hi"})
        chunks = iter(lambda: wire.raw.read1(65536), b"")
        event = next(sseclient.SSEClient(chunks).events())
        assert event.event == "message"
        assert '"hi"' in event.data


def test_refused_connection_looks_like_one() -> None:
    """``refuse`` is what requests raises when nobody listens."""
    fake = FakeButtDialServer()
    fake.fault("refuse", on="rest")
    with fake.mocked() as mocked:
        error = refusal(f"{mocked.base_url}/x?token=t")
    reason = error.args[0].reason
    assert isinstance(reason, urllib3.exceptions.NewConnectionError)
    assert error.__cause__ is reason
    assert "token=t" in str(error)
    assert not fake.requests


def test_reset_and_hang() -> None:
    """A reset is a ``ConnectionError`` after sending; a hang times out without waiting."""
    fake = FakeButtDialServer()
    with fake.mocked() as mocked:
        fake.fault("reset", on="rest")
        assert isinstance(refusal(f"{mocked.base_url}/x").args[0], urllib3.exceptions.ProtocolError)
        fake.fault("hang", on="rest")
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{mocked.base_url}/x", timeout=5)
        add_fault(fake, "drip", on="rest")
        with pytest.raises(RuntimeError, match="listen"):
            requests.get(f"{mocked.base_url}/x", timeout=5)


def test_mock_runs_only_as_long_as_it_is_needed() -> None:
    """What was started is stopped again, and nothing stays registered."""
    send = HTTPAdapter.send
    fake = FakeButtDialServer()
    assert fake.install() == fake.install() == "https://butt-dial.test"
    assert HTTPAdapter.send is not send
    fake.uninstall()
    fake.uninstall()
    assert HTTPAdapter.send is send
    assert responses.mock.registered() == []


@responses.activate
def test_host_that_is_active_already_stays_active() -> None:
    """In a host's ``@responses.activate`` the host's responses work before, in and after ours."""
    responses.get(HOST_URL, json={"before": True})
    fake = FakeButtDialServer()
    with fake.mocked() as mocked, Wire(mocked.base_url) as wire:
        responses.get("https://host.example/y", json={"within": True})
        assert wire.greet().send()["messageId"]
        assert requests.get(HOST_URL, timeout=5).json() == {"before": True}
    assert requests.get("https://host.example/y", timeout=5).json() == {"within": True}
    assert "Connection refused by Responses" in str(refusal(mocked.base_url))


def test_host_may_begin_and_end_within() -> None:
    """A host's ``@responses.activate`` inside ours sees the fake server; uninstall copes after."""
    send = HTTPAdapter.send
    fake = FakeButtDialServer()
    base_url = fake.install()

    @responses.activate
    def hosts_test() -> None:
        responses.get(HOST_URL, json={})
        assert requests.get(HOST_URL, timeout=5).ok
        assert requests.get(f"{base_url}/sse", timeout=5).status_code == 401

    hosts_test()
    fake.uninstall()
    assert HTTPAdapter.send is send


def test_host_overrides_one_url_of_ours() -> None:
    """What the host registers for a URL of ours wins, and ours survive it."""
    fake = FakeButtDialServer()
    with responses.mock, fake.mocked() as mocked:
        url = f"{mocked.base_url}/api/v1/waiting-messages"
        assert requests.get(url, headers=HEADERS, timeout=5).json()["count"] == 0
        responses.get(url, json={"mine": True})
        for _ in range(2):
            assert requests.get(url, headers=HEADERS, timeout=5).json() == {"mine": True}
        with Wire(mocked.base_url) as wire:
            assert wire.greet().send()["messageId"]


def test_two_servers_need_two_origins() -> None:
    """A second fake server at the same origin is an error; at another it is not."""
    with FakeButtDialServer().mocked(), FakeButtDialServer().mocked("https://b.test") as second:
        with pytest.raises(RuntimeError, match="another fake server"):
            FakeButtDialServer().install()
        assert requests.get(f"{second.base_url}/sse", timeout=5).status_code == 401


@pytest.mark.parametrize("undo", [responses.activate(lambda: None), responses.reset])
def test_install_repairs_what_the_host_has_undone(undo: Callable[[], None]) -> None:
    """A fake of a whole class goes on in the next test, if that one installs it, too."""
    fake = FakeButtDialServer()
    base_url = fake.install()
    try:
        undo()
        assert fake.install() == base_url
        with Wire(base_url) as wire:
            assert wire.greet().send()["messageId"]
    finally:
        fake.uninstall()
    assert responses.mock.registered() == []


@pytest.mark.butt_dial_network
def test_nothing_leaves_while_the_mock_is_gone() -> None:
    """A client that finds no mock any more is told so, and does not go to a real server."""
    fake = FakeButtDialServer()
    fake.install("*")
    try:
        responses.activate(lambda: None)()
        with (
            Client("http://192.0.2.1", agent_token="t", max_attempts=1) as client,
            pytest.raises(ConfigError, match="a test tried to connect to") as caught,
        ):
            client.ping()
    finally:
        fake.uninstall()
    assert "responses.activate" in str(caught.value.remediation)
    assert connection_guard.reasons == {}


def test_the_mock_ends_with_the_last_fake() -> None:
    """Who started it need not be who is there last."""
    send = HTTPAdapter.send
    first, second = FakeButtDialServer(), FakeButtDialServer()
    first.install("https://a.test")
    second.install("https://b.test")
    first.uninstall()
    try:
        assert requests.get("https://b.test/sse", timeout=5).status_code == 401
        assert "Connection refused by Responses" in str(refusal("https://a.test/sse"))
    finally:
        second.uninstall()
    assert HTTPAdapter.send is send


@responses.activate(assert_all_requests_are_fired=True)
def test_a_fake_need_not_be_asked() -> None:
    """A host that wants all its own responses used does not mean the fake's."""
    fake = FakeButtDialServer()
    fake.install()
    responses.mock.stop()  # it raises if one was not used
    fake.uninstall()


def test_a_stream_that_is_opened_meanwhile_ends() -> None:
    """A fake that is uninstalled while it answers leaves no reader behind."""
    fake = FakeButtDialServer()
    mocked = fake.mocked()
    mocked.install()
    opened = fake.core.handle

    def uninstalled_meanwhile(request: Request) -> Reply:
        reply = opened(request)
        mocked.uninstall()
        return reply

    fake.core.handle = uninstalled_meanwhile  # type: ignore[method-assign]
    response = requests.get(f"{mocked.base_url}/sse", headers=HEADERS, stream=True, timeout=5)
    assert open_streams(fake) == 0
    assert response.raw.read(4096).startswith(b"event: endpoint")
    assert response.raw.read(4096) == b""


def test_fixtures(tmp_path: Path) -> None:
    """The plugin's fixtures give an installed server and a listening one."""
    (tmp_path / "test_host.py").write_text(
        "import requests, sys\n"
        "def test_one(fake_server):\n"
        "    assert requests.get('https://butt-dial.test/sse').status_code == 401\n"
        "    assert len(fake_server.requests) == 1\n"
        "def test_two(loopback_server):\n"
        "    assert requests.get(loopback_server.base_url + '/sse').status_code == 401\n"
        "    assert loopback_server.fake.connections == 1\n"
    )
    plugin = ["-p", "buttdial_sync.testing.plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=Path(__file__).parents[3],
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_plugin_loads_no_http_library() -> None:
    """Every pytest run of a host imports the plugin, so it has to be cheap."""
    code = (
        "import sys, buttdial_sync.testing.plugin\n"
        "print([m for m in ('requests', 'responses', 'urllib3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
