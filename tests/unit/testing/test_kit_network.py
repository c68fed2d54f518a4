"""The plugin keeps clients on this machine, and hosts' mocks and recorders catch them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests_mock
import vcr

from buttdial_sync import AccountsClient, Client, ConfigError
from buttdial_sync.testing import LoopbackServer
from buttdial_sync.transport.addresses import connection_guard

pytest_plugins = ["pytester"]

FAR = "192.0.2.1"
SSE = {"Content-Type": "text/event-stream"}
STREAM = (
    "event: endpoint\ndata: /messages?sessionId=1\n\n"
    'event: message\ndata: {"jsonrpc": "2.0", "id": 1, "result": {}}\n\n'
    'event: message\ndata: {"jsonrpc": "2.0", "id": 2, "result": {"content": '
    '[{"type": "text", "text": "{\\"messageId\\": \\"SM1\\"}"}]}}\n\n'
)


class Called:
    """Stands in for the network: notes who is called, and refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hosts: list[str] = []
        called = self

        class Wire(socket.socket):
            def connect(self, address: Any) -> None:
                called.hosts.append(address[0])
                raise ConnectionRefusedError

        monkeypatch.setattr(socket, "socket", Wire)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Called:
    return Called(monkeypatch)


def ping(host: str = FAR, **options: Any) -> None:
    with Client(f"http://{host}", agent_token="t", sleep=lambda _: None, **options) as client:
        client.ping()


def test_refused(called: Called) -> None:
    """A test that forgot its mock is told so, and nothing leaves."""
    with pytest.raises(ConfigError, match=f"a test tried to connect to {FAR}") as caught:
        ping()
    assert called.hosts == []
    assert "butt_dial_network" in str(caught.value.remediation)


@pytest.mark.butt_dial_network
def test_marked(called: Called) -> None:
    """The mark lets a test out."""
    with pytest.raises(Exception, match="ConnectionRefusedError"):
        ping(max_attempts=1)
    assert called.hosts == [FAR]


def test_this_machine(called: Called) -> None:
    """Servers here are called without a mark, by whatever name."""
    with pytest.raises(Exception, match="ConnectionRefusedError"):
        ping("localhost", max_attempts=1)
    assert set(called.hosts) <= {"127.0.0.1", "::1"}
    assert called.hosts


def test_proxy_on_this_machine(called: Called) -> None:
    """What is checked is where the connection goes."""
    with pytest.raises(Exception, match="ConnectionRefusedError"):
        ping(proxies={"http": "http://127.0.0.1:9"}, max_attempts=1)
    assert called.hosts == ["127.0.0.1"]


@pytest.mark.parametrize(("ini", "passed"), [("", 0), ("butt_dial_network = true", 1)])
def test_ini_option(ini: str, passed: int, pytester: pytest.Pytester) -> None:
    """It lets all tests of a project out."""
    pytester.makeini(f"[pytest]\n{ini}")
    pytester.makepyfile(
        """
        from buttdial_sync.transport.addresses import connection_guard

        def test_free():
            assert connection_guard.advice is None
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:django")
    result.assert_outcomes(passed=passed, failed=1 - passed)


def test_a_run_within_a_test_does_not_let_it_out(pytester: pytest.Pytester) -> None:
    """Who tests a pytest plugin is kept on this machine afterwards, too."""
    pytester.makepyfile("def test_inner(): pass")
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:django").assert_outcomes(
        passed=1
    )
    assert connection_guard.advice is not None


def test_requests_mock() -> None:
    """The habit of many hosts: a whole exchange, its stream included, without a socket."""
    with requests_mock.Mocker() as mocker:
        mocker.get("https://far.test/sse", text=STREAM, headers=SSE)
        mocker.post("https://far.test/messages", status_code=202)
        with Client("https://far.test", agent_token="t") as client:
            assert client.send_message("+14155550123", "hello").message_sid == "SM1"
        assert [each.method for each in mocker.request_history] == ["GET", "POST", "POST", "POST"]


@pytest.mark.parametrize("name", ["get_adapter", "send"])
def test_patches_of_a_session(name: str) -> None:
    """What a test puts in the place of requests' own is used."""
    with (
        mock.patch(f"requests.Session.{name}", side_effect=RuntimeError("mine")) as patched,
        AccountsClient("https://far.test", team_token="t") as client,
        pytest.raises(RuntimeError, match="mine"),
    ):
        client.get_account()
    assert patched.call_count == 1


@pytest.fixture
def cassette(tmp_path: Path) -> str:
    return str(tmp_path / "cassette.yaml")


def account_of(server: LoopbackServer) -> str:
    with AccountsClient(server.base_url, team_token="t0ken") as client:
        return client.get_account().org_id


# vcr.py drops the connections that were open before it, and does not close them.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_rest_calls_can_be_recorded(loopback_server: LoopbackServer, cassette: str) -> None:
    """The second time the recording answers, also to a client whose connection was open."""
    with vcr.use_cassette(cassette, filter_headers=["authorization"]):
        assert account_of(loopback_server) == "org-1"
    with AccountsClient(loopback_server.base_url, team_token="t0ken") as client:
        client.get_account()
        before = len(loopback_server.fake.requests)
        with vcr.use_cassette(
            cassette, record_mode="none", filter_headers=["authorization"]
        ) as played:
            assert client.get_account().org_id == "org-1"
        assert played.play_count == 1
        assert len(loopback_server.fake.requests) == before
        client.get_account()
        assert len(loopback_server.fake.requests) == before + 1
    assert "t0ken" not in Path(cassette).read_text()


@pytest.mark.butt_dial(dialect="open-source")
def test_messages_over_rest_can_be_recorded(loopback_server: LoopbackServer, cassette: str) -> None:
    """A message that needs no stream is sent once, and played afterwards."""
    sids = []
    for _ in range(2):
        with (
            vcr.use_cassette(cassette, filter_headers=["authorization"]),
            Client(loopback_server.base_url, agent_token="t0ken", send_via="rest") as client,
        ):
            sids.append(client.send_message("+14155550123", "hello").message_sid)
    assert sids[0]
    assert sids == sids[:1] * 2
    assert len(loopback_server.fake.requests) == 1
    assert "t0ken" not in Path(cassette).read_text()


def test_streams_cannot_be_recorded(loopback_server: LoopbackServer, cassette: str) -> None:
    """vcr.py would read a stream to its end, which never comes."""
    with (
        vcr.use_cassette(cassette),
        Client(loopback_server.base_url, agent_token="t") as client,
        pytest.raises(ConfigError, match=r"vcr\.py cannot record an event stream"),
    ):
        client.ping()
    assert loopback_server.fake.requests == []
