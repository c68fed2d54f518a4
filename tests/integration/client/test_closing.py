"""What is left of a client when it is closed, and what the next one inherits: nothing."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from buttdial_sync import Client
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.transport import session
from buttdial_sync.transport.http import shared_adapter
from tests.fakes import open_connections, open_streams
from tests.integration.client.test_resilience import client_of, wait_until

CERTIFICATE = Path(__file__).parents[1] / "doctor/self_signed.pem"
THREADS = 16
DROPPED = 30
SERVERS = 80  # more than there are origins whose connections are kept


@pytest.fixture(autouse=True)
def _own_connections() -> Iterator[None]:
    # Those of a client that another test has left for the garbage collector would stay open.
    shared_adapter.cache_clear()
    yield
    shared_adapter.cache_clear()


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen(keep_alive=600.0) as loopback:
        yield loopback


@pytest.fixture
def tls_server(server: LoopbackServer) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    assert server._listener is not None
    server._listener.socket = context.wrap_socket(server._listener.socket, server_side=True)
    return server.base_url.replace("http:", "https:")


def outcome_of(client: Client) -> tuple[str, str | None]:
    result = client.send_message("+14155550123", "hello")
    return result.outcome, result.error_code


def test_close_closes_every_connection(server: LoopbackServer) -> None:
    """The stream's, and those of all the threads that have posted."""
    with client_of(server) as client, ThreadPoolExecutor(THREADS) as threads:
        server.fake.on_tool("comms_send_message", lambda _: {"messageId": "m"})
        for _ in range(3):
            for each in [threads.submit(outcome_of, client) for _ in range(THREADS)]:
                assert each.result() == ("sent", None)
        assert open_connections(server) > 1
    wait_until(lambda: open_connections(server) == 0)


def drop_unclosed(server: LoopbackServer) -> None:
    client = client_of(server)
    assert outcome_of(client) == ("sent", None)
    with pytest.warns(ResourceWarning, match="was not closed"):
        del client


def readers() -> int:
    return sum(thread.name.endswith("-reader") for thread in threading.enumerate())


def test_dropped_clients_leave_nothing(
    server: LoopbackServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread, no connection, no session on the server; and one warning for all of them."""
    monkeypatch.setattr(session, "_warnings", iter(["dropped"]))
    for _ in range(DROPPED):
        drop_unclosed(server)
    wait_until(lambda: not readers())
    wait_until(lambda: open_streams(server.fake) == 0)
    wait_until(lambda: open_connections(server) == 0)
    assert server.fake.streams_opened == DROPPED
    assert [(each.levelname, each.message) for each in caplog.records] == [("WARNING", "dropped")]


def test_dropped_client_does_not_end_others(server: LoopbackServer) -> None:
    """The connections of the process stay for those who use them."""
    with client_of(server) as other:
        assert outcome_of(other) == ("sent", None)
        drop_unclosed(server)
        wait_until(lambda: readers() == 1)
        assert outcome_of(other) == ("sent", None)
        assert server.fake.streams_opened == 2


def test_finalizer_waits_for_no_lock(server: LoopbackServer) -> None:
    """It may run in a thread that holds any of them."""
    client = client_of(server)
    assert outcome_of(client) == ("sent", None)
    pool = client._agent.connection.pool
    live = next(iter(pool._slots.values())).session
    assert live is not None
    connections = shared_adapter()
    with connections._lock, connections.adapter._lock, live._pending._lock, live._endpoints.mutex:
        with pytest.warns(ResourceWarning, match="was not closed"):
            client._agent.connection.__del__()
        assert live._reader.is_alive()  # what needs a lock is left to this thread
    wait_until(lambda: not readers())


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="needs /dev/fd")
def test_many_servers_leave_no_descriptor() -> None:
    """One client after the other, each closed."""
    before = len(os.listdir("/dev/fd"))
    for _ in range(SERVERS):
        with FakeButtDialServer().listen() as each, client_of(each) as client:
            assert outcome_of(client) == ("sent", None)
    wait_until(lambda: len(os.listdir("/dev/fd")) <= before)


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="needs /dev/fd")
def test_connections_are_kept_for_so_many_origins_only() -> None:
    """While a client lives, those of the origin not used for longest are closed."""
    with Client("http://127.0.0.1:9", agent_token="t"):
        before = len(os.listdir("/dev/fd"))
        for _ in range(SERVERS):
            with FakeButtDialServer().listen() as each, client_of(each) as client:
                assert outcome_of(client) == ("sent", None)
        wait_until(lambda: len(os.listdir("/dev/fd")) <= before + 2 * 32)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_trust_is_not_inherited(
    tls_server: str, closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A private authority that is trusted no longer is refused by the next client."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    first = Client(tls_server, agent_token="t", sleep=lambda _: None)
    with first:
        assert outcome_of(first) == ("sent", None)
        if closed:
            first.close()
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with Client(tls_server, agent_token="t", sleep=lambda _: None) as second:
            assert outcome_of(second) == ("not_sent", "TLS")


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_proxies_are_not_inherited(server: LoopbackServer, closed: bool) -> None:
    """Each client goes the way that it was given, although they share the connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # a proxy that is down
        down = {"http": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        ways = [({}, ("sent", None)), (down, ("not_sent", "PROXY")), ({}, ("sent", None))]
        clients = [
            client_of(server, agent_token=f"tok-{number}", proxies=proxies)
            for number, (proxies, _) in enumerate(ways)
        ]
        for client, (_, outcome) in zip(clients, ways, strict=True):
            assert outcome_of(client) == outcome
            if closed:
                client.close()
        for client in clients:
            client.close()
