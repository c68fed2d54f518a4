"""A client with its own certificates, proxies, headers and adapter, over loopback."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from requests.adapters import HTTPAdapter

from buttdial_sync import (
    AccountsClient,
    ButtDialError,
    Client,
    ConfigError,
    SendResult,
    TransportError,
)
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.fakes import open_connections, open_streams
from tests.forks import exit_code, forked
from tests.integration.client.test_resilience import PATIENCE, client_of, wait_until

CERTIFICATE = str(Path(__file__).parents[1] / "doctor/self_signed.pem")
TO = "+14155550123"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        yield loopback


def over_tls(server: LoopbackServer, *, wants_client: bool, tls: Any = None) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CERTIFICATE)
    if tls is not None:
        context.maximum_version = tls
    assert server._listener is not None
    server._listener.socket = context.wrap_socket(server._listener.socket, server_side=True)
    return server.base_url.replace("http:", "https:")


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_mutual_tls(server: LoopbackServer, tls: ssl.TLSVersion) -> None:
    """The server wants to know the client by its certificate, and the client the server."""
    url = over_tls(server, wants_client=True, tls=tls)
    options: Any = {"ca_bundle": CERTIFICATE, "timeout": PATIENCE}
    with Client(url, agent_token="t", client_cert=CERTIFICATE, **options) as client:
        assert client.send_message(TO, "hello").ok
    with AccountsClient(
        url, team_token="t", client_cert=(CERTIFICATE, CERTIFICATE), **options
    ) as accounts:
        accounts.get_account()
    with Client(url, agent_token="t", sleep=lambda _: None, **options) as stranger:
        assert stranger.send_message(TO, "hello").outcome == "not_sent"
    assert len(server.fake.sent_messages) == 1


def attempts_of(client: Client) -> tuple[SendResult, int]:
    result = client.send_message(TO, "hello")
    return result, result.attempts


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_certificate_errors_are_tried_once(server: LoopbackServer, host: str) -> None:
    """Neither a foreign authority nor a foreign name changes within seconds."""
    url = over_tls(server, wants_client=False).replace("127.0.0.1", host)
    bundle = None if host == "127.0.0.1" else CERTIFICATE
    slept: list[float] = []
    with Client(url, agent_token="t", ca_bundle=bundle, sleep=slept.append) as client:
        result, attempts = attempts_of(client)
    assert (result.outcome, result.error_code, attempts) == ("not_sent", "TLS", 1)
    assert "ca_bundle" in str(result.remediation)
    assert slept == []


class Proxy:
    """A forward proxy that answers every request with the same page."""

    def __init__(self, status: str) -> None:
        self.asked: list[bytes] = []
        self._page = (
            f"HTTP/1.0 {status}\r\nContent-Type: text/html\r\nContent-Length: 13\r\n"
            f"Connection: close\r\n\r\n<html></html>"
        ).encode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://user:geheim@127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(PATIENCE)
                asked = connection.recv(10_000)
                if not asked:
                    return
                self.asked.append(asked)
                connection.sendall(self._page)

    def end(self) -> None:
        with socket.create_connection(self._listener.getsockname()):
            pass  # says nothing, so the proxy ends
        self._thread.join(PATIENCE)
        self._listener.close()


@contextmanager
def proxy_that_says(status: str) -> Iterator[Proxy]:
    proxy = Proxy(status)
    try:
        yield proxy
    finally:
        proxy.end()


@pytest.mark.parametrize(
    "status", ["401 Unauthorized", "403 Filtered", "407 Proxy Authentication Required"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_refusal_of_a_proxy(scheme: str, status: str) -> None:
    """It is told as the proxy's, not as the token's; and it is asked once."""
    slept: list[float] = []
    with proxy_that_says(status) as proxy:
        options: Any = {"proxies": {scheme: proxy.url}, "sleep": slept.append, "timeout": PATIENCE}
        with Client(f"{scheme}://far.test", agent_token="t0ken", **options) as client:
            result, attempts = attempts_of(client)
        with (
            AccountsClient(f"{scheme}://far.test", team_token="t0ken", **options) as accounts,
            pytest.raises(TransportError) as caught,
        ):
            accounts.get_account()
    assert (result.outcome, result.error_code, attempts) == ("not_sent", "PROXY", 1)
    assert caught.value.code == "PROXY"
    assert "prox" in str(result.remediation)
    assert slept == []
    assert len(proxy.asked) == 2
    assert "geheim" not in f"{result!r} {caught.value!r}"


def test_the_proxy_of_the_environment_gets_nothing_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over plain HTTP it would see tokens, those in URLs too, which leave the machine with it."""
    fake = FakeButtDialServer(dialect="open-source")
    with proxy_that_says("502 Bad") as proxy, fake.listen() as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        with client_of(server, token_in="query") as client:
            assert client.send_message(TO, "hello").ok
    assert proxy.asked == []
    assert any("token" in request.query for request in fake.requests)


def test_a_proxy_that_is_given_gets_no_url_with_a_token() -> None:
    """A proxy in front of this machine may be another one, and it logs URLs."""
    with proxy_that_says("502 Bad") as proxy:
        options: Any = {"proxies": {"http": proxy.url}, "timeout": PATIENCE, "max_attempts": 1}
        with Client("http://localhost:9", agent_token="t0ken", token_in="query", **options) as one:
            with pytest.raises(ConfigError, match="the token in the URL") as caught:
                one.ping()
            assert "without a proxy" in str(caught.value.remediation)
        with (
            AccountsClient("http://127.0.0.1:9", **options) as accounts,
            pytest.raises(ConfigError, match="in a URL that others can read"),
        ):
            accounts.verification_status("org", "p0ll-token")
    assert proxy.asked == []


def test_no_proxy_at_all(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty dict goes straight to the server, whatever the environment says."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    url = over_tls(server, wants_client=False)
    with Client(url, agent_token="t", ca_bundle=CERTIFICATE, proxies={}) as client:
        assert client.send_message(TO, "hello").ok


def test_headers_go_with_every_request(server: LoopbackServer) -> None:
    """With the stream, the posts and the REST calls; the library's own stay what they are."""
    headers = {"X-Gateway": "open", "User-Agent": "shop/1"}
    with client_of(server, headers=headers) as client:
        assert client.send_message(TO, "hello").ok
    with AccountsClient(server.base_url, team_token="t", headers=headers) as accounts:
        accounts.get_account()
    requests = server.fake.requests
    assert len({request.path for request in requests}) == 3
    for request in requests:
        assert request.headers["x-gateway"] == "open"
        assert request.headers["user-agent"] == "shop/1"
        assert request.headers["authorization"].startswith("Bearer ")


class NotingAdapter(HTTPAdapter):
    """Notes what it sends, and how often it was given new connections."""

    def __init__(self) -> None:
        self.sent: list[tuple[str | None, Any]] = []
        self.made = 0
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        self.made += 1
        super().init_poolmanager(*args, **kwargs)

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.sent.append((request.method, kwargs.get("timeout")))
        return super().send(request, *args, **kwargs)


def test_adapter_that_cannot_be_closed(server: LoopbackServer) -> None:
    """Its mistake is told, and leaves no session and no thread."""

    class Broken(HTTPAdapter):
        def close(self) -> None:
            raise RuntimeError("a bug of the host's")

    client = client_of(server, transport_adapter=Broken())
    assert client.send_message(TO, "hello").ok
    with pytest.raises(RuntimeError, match="a bug of the host's"):
        client.close(PATIENCE)
    client.close()
    wait_until(lambda: open_streams(server.fake) == 0)
    assert [each.name for each in threading.enumerate() if each.name.endswith("-reader")] == []


def test_own_adapter() -> None:
    """All requests go through it, each with a limit; and it is closed with the client."""
    adapter = NotingAdapter()
    with FakeButtDialServer().listen(keep_alive=600.0) as server:
        send_over(server, adapter)
        wait_until(lambda: open_connections(server) == 0)
    assert [method for method, _ in adapter.sent][:2] == ["GET", "POST"]


def send_over(server: LoopbackServer, adapter: NotingAdapter) -> None:
    with client_of(server, transport_adapter=adapter, connect_timeout=7.0) as client:
        assert client.send_message(TO, "hello").ok
        assert client.send_message(TO, "hello").ok
        assert open_connections(server) > 1
    for _, (connecting, reading) in adapter.sent:
        assert connecting == min(7.0, reading)
        assert 0 < reading <= PATIENCE


def test_stream_of_an_own_adapter_may_be_silent(server: LoopbackServer) -> None:
    """The limit of its opening does not end it, and close() does."""
    with client_of(server, transport_adapter=NotingAdapter()) as client:
        assert client.send_message(TO, "hello").ok
        (slot,) = client._agent.connection.pool._slots.values()
        assert slot.session is not None
        kept = slot.session._stream._progress.kept
        assert kept is not None
        assert kept.sock.gettimeout() is None
        reader = slot.session._reader
        assert reader.is_alive()
    assert not reader.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_own_adapter_after_a_fork(server: LoopbackServer) -> None:
    """Two processes on one connection would get each other's answers."""
    adapter = NotingAdapter()

    def send() -> None:
        for _ in range(5):
            assert client.send_message(TO, "hello").ok

    def send_with_new_connections() -> None:
        send()
        assert adapter.made == 2

    with client_of(server, transport_adapter=adapter) as client:
        send()
        children = [forked(send_with_new_connections) for _ in range(2)]
        send()
        assert [exit_code(child) for child in children] == [0, 0]
        assert adapter.made == 1
    assert len(server.fake.sent_messages) == 4 * 5
    assert server.fake.streams_opened == 3


def test_events_of_a_certificate_error(server: LoopbackServer) -> None:
    """The host hears of one attempt, and of no retry."""
    events: list[ClientEvent] = []
    url = over_tls(server, wants_client=False)
    with (
        Client(url, agent_token="t", on_event=events.append) as client,
        pytest.raises(ButtDialError),
    ):
        client.ping()
    assert "retry" not in {event.kind for event in events}


def test_stream_that_is_held_back(server: LoopbackServer) -> None:
    """Not a byte of it comes, as behind a proxy that buffers: the remedy is named."""
    server.fake.fault("hang", on="stream")
    with client_of(server, timeout=3.0) as client:
        result = client.send_message(TO, "hello")
    assert (result.outcome, result.error_code) == ("not_sent", "TIMEOUT")
    assert "proxy_buffering off" in str(result.remediation)
