"""Opening the live connection at servers that answer as they should not."""

from __future__ import annotations

import base64
import gc
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from buttdial_sync.errors import ClientClosedError
from buttdial_sync.happy import errors
from buttdial_sync.happy.client import HappyClient
from buttdial_sync.testing.happy_server import FakeHappyServer
from tests.integration.client.test_network_options import CERTIFICATE
from tests.integration.happy.conftest import client_of
from tests.integration.happy.raw_server import (
    CONNECTED,
    OPEN,
    client_at,
    frame,
    head_of,
    read_until_cut,
    serving,
    tunnel_to,
    unmasked,
    upgrade,
)
from tests.integration.happy.test_happy_secrets import everything_about
from tests.integration.inbound.listening import wait_until

PATIENCE = 30.0


def raised_by(call: Callable[[], object]) -> BaseException:
    """What a call raises; it must end long before the pings of a mute server would end it."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    return raised[0]


def test_a_redirect_is_not_followed() -> None:
    """The token would go to whom the redirect names."""
    heard: list[bytes] = []

    def another_origin(connection: socket.socket) -> None:
        upgrade(connection)
        connection.sendall(frame(OPEN))
        heard.append(unmasked(read_until_cut(connection)))

    with serving(another_origin) as elsewhere:

        def portal(connection: socket.socket) -> None:
            head_of(connection)
            target = f"ws://127.0.0.1:{elsewhere}/v1/updates/?transport=websocket&EIO=4"
            connection.sendall(
                f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            read_until_cut(connection)

        with serving(portal) as port, client_at(port, connect_timeout=20.0) as client:
            with pytest.raises(errors.ConnectionError, match="no live connection") as caught:
                client.check_live_connection()
            assert caught.value.outcome == "not_sent"
    assert heard == []


def test_an_answer_that_drips() -> None:
    """The deadline is over the whole opening, and not over each of its reads."""
    was_cut = threading.Event()

    def drips(connection: socket.socket) -> None:
        head_of(connection)
        pause = threading.Event()
        try:
            for byte in b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 2_000:
                connection.sendall(bytes([byte]))
                pause.wait(0.05)
        except OSError:
            was_cut.set()

    with serving(drips) as port, client_at(port, connect_timeout=0.5) as client:
        assert isinstance(raised_by(client.check_live_connection), errors.TimeoutError)
        assert was_cut.wait(PATIENCE)


def test_a_server_that_accepts_nobody() -> None:
    """It is not waited for longer than asked, and nothing stays of it."""
    before, was_cut = threading.enumerate(), threading.Event()

    def is_mute(connection: socket.socket) -> None:
        upgrade(connection)
        connection.sendall(frame(OPEN))
        read_until_cut(connection)
        was_cut.set()

    with serving(is_mute) as port, client_at(port, connect_timeout=0.5) as client:
        assert isinstance(raised_by(client.check_live_connection), errors.TimeoutError)
        assert was_cut.wait(PATIENCE)
        for thread in threading.enumerate():
            if thread not in before and "accept" not in thread.name:
                thread.join(PATIENCE)
                assert not thread.is_alive(), thread.name


def test_a_server_that_leaves_at_once() -> None:
    """That is noticed when it happens, and not when the time has passed."""

    def leaves(connection: socket.socket) -> None:
        upgrade(connection)
        connection.sendall(frame(OPEN))
        connection.recv(100)
        connection.shutdown(socket.SHUT_RDWR)

    with serving(leaves) as port, client_at(port, timeout=600, connect_timeout=600.0) as client:
        assert isinstance(raised_by(client.check_live_connection), errors.ConnectionError)


@pytest.mark.parametrize("way", ["is reset", "says what nobody understands"])
def test_a_connection_that_ends_is_closed(way: str) -> None:
    """Its descriptor is not left to the garbage collector."""
    ports: list[int] = []
    is_open = threading.Event()

    def end(connection: socket.socket) -> None:
        ports.append(connection.getpeername()[1])
        upgrade(connection)
        connection.sendall(frame(OPEN) + frame(CONNECTED))
        assert is_open.wait(PATIENCE)
        if way == "is reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        else:
            connection.sendall(frame(b"nonsense"))
            read_until_cut(connection)

    def is_clients(each: object) -> bool:
        # Another socket of this process may have the same port, to another server.
        with suppress(OSError):
            if isinstance(each, socket.socket) and each.family == socket.AF_INET:
                return (each.getsockname()[1], each.getpeername()[1]) == (ports[0], port)
        return False

    with serving(end) as port, client_at(port) as client:
        client.check_live_connection()
        (kept,) = filter(is_clients, gc.get_objects())
        is_open.set()
        wait_until(lambda: kept.fileno() == -1)


@pytest.mark.parametrize("opening", [b"0nonsense", b"0[]", b"0{}", b"4", b"hello"])
def test_a_malformed_opening(opening: bytes) -> None:
    """Whatever the library makes of it, the caller gets this client's error."""

    def talks_nonsense(connection: socket.socket) -> None:
        upgrade(connection)
        connection.sendall(frame(opening))
        read_until_cut(connection)

    with serving(talks_nonsense) as port, client_at(port, timeout=600) as client:
        error = raised_by(client.check_live_connection)
        assert type(error) is errors.ConnectionError
        assert error.outcome == "not_sent"


@pytest.mark.parametrize("when", ["before the upgrade", "after the upgrade"])
def test_closing_ends_an_opening(when: str) -> None:
    """close() does not wait for a server, and does not leave the caller waiting."""
    has_begun = threading.Event()

    def is_mute(connection: socket.socket) -> None:
        if when == "after the upgrade":
            upgrade(connection)
            connection.sendall(frame(OPEN))
        connection.recv(100)
        has_begun.set()
        read_until_cut(connection)

    with (
        serving(is_mute) as port,
        client_at(port, timeout=600, connect_timeout=600.0) as client,
    ):

        def close() -> None:
            has_begun.wait(PATIENCE)
            client.close()

        closing = threading.Thread(target=close)
        closing.start()
        assert isinstance(raised_by(client.check_live_connection), ClientClosedError)
        closing.join(PATIENCE)


def test_ctrl_c_while_it_opens() -> None:
    """The connection that was being opened is given up."""
    is_open, was_cut = threading.Event(), threading.Event()

    def clock() -> float:
        if is_open.is_set():
            raise KeyboardInterrupt
        return time.monotonic()

    def is_mute(connection: socket.socket) -> None:
        upgrade(connection)
        is_open.set()
        connection.sendall(frame(OPEN))
        read_until_cut(connection)
        was_cut.set()

    with serving(is_mute) as port, client_at(port, connect_timeout=20.0, clock=clock) as client:
        with pytest.raises(KeyboardInterrupt):
            client.check_live_connection()
        is_open.clear()
        assert was_cut.wait(PATIENCE)


def test_a_turn_while_the_live_connection_is_mute(happy_server: FakeHappyServer) -> None:
    """Opening does not use up the time of the turn: REST is asked afterwards."""
    machine = happy_server.add_machine(is_instant=True)
    is_over = threading.Event()
    happy_server._io.on("connect", lambda *_: is_over.wait(PATIENCE))
    passed = [0.0, time.monotonic()]

    def clock() -> float:
        """Time that passes only while the live connection is being opened."""
        now = time.monotonic()
        if any(thread.name == "buttdial-sync-happy-opening" for thread in threading.enumerate()):
            passed[0] += now - passed[1]
        passed[1] = now
        return passed[0]

    try:
        with client_of(happy_server, clock=clock, connect_timeout=100.0) as client:
            session_id = happy_server.add_session(machine).session.id
            assert client.run_prompt(session_id, "go", 2.0).status == "completed"
    finally:
        is_over.set()


def test_a_large_frame_ends_the_connection() -> None:
    """It is not taken into memory."""
    size, was_cut = 512 * 1024 * 1024, threading.Event()

    def sends_much(connection: socket.socket) -> None:
        upgrade(connection)
        connection.sendall(frame(OPEN))
        connection.recv(100)
        connection.sendall(frame(CONNECTED))
        try:
            connection.sendall(bytes([0x81, 127]) + size.to_bytes(8, "big"))
            for _ in range(512):
                connection.sendall(bytes(1024 * 1024))
        except OSError:
            was_cut.set()

    with serving(sends_much) as port, client_at(port) as client:
        client.check_live_connection()
        assert was_cut.wait(PATIENCE)


@pytest.mark.parametrize("proxies", [{}, None], ids=["no proxies", "those of the environment"])
def test_the_same_proxies_as_for_requests(
    proxies: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address of this machine is never reached through a proxy of the environment."""
    heads: dict[str, bytes] = {}
    try:
        socket.create_server(("127.0.0.2", 0)).close()
    except OSError as error:
        pytest.skip(f"needs 127.0.0.2: {error}")

    def refusing(name: str) -> Callable[[socket.socket], None]:
        def refuse(connection: socket.socket) -> None:
            heads[name] = head_of(connection)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        return refuse

    with serving(refusing("proxy")) as proxy, serving(refusing("server"), "127.0.0.2") as port:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        with (
            client_at(port, "127.0.0.2", proxies=proxies) as client,
            pytest.raises(errors.ConnectionError),
        ):
            client.check_live_connection()
    assert list(heads) == ["server"]
    assert b"Upgrade: websocket" in heads["server"]


@pytest.fixture
def secure_url(happy_server: FakeHappyServer) -> str:
    """The address of the server over TLS; it wants to know its clients by a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(CERTIFICATE)
    # The fake server reads and writes in two threads at once, which 1.3 does not bear.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    listener = happy_server._listener
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    return happy_server.server_url.replace("http:", "https:")


def secure_client(server: FakeHappyServer, url: str, **options: Any) -> HappyClient:
    return HappyClient(url, token=server.token, secret_b64=server.secret_b64, **options)


@pytest.mark.parametrize("pair", [CERTIFICATE, (CERTIFICATE, CERTIFICATE)], ids=["one", "two"])
def test_over_tls(happy_server: FakeHappyServer, secure_url: str, pair: Any) -> None:
    """With the certificates that the client was given: the server's, and its own."""
    happy_server.add_machine()
    options: Any = {"ca_bundle": CERTIFICATE, "client_cert": pair}
    with secure_client(happy_server, secure_url, **options) as client:
        assert client.run_task("machine-1", "/repo", "hello").text == "Done: hello"
    assert happy_server.events.count("connect") == 1


@pytest.mark.parametrize("options", [{"client_cert": CERTIFICATE}, {"ca_bundle": CERTIFICATE}])
def test_a_certificate_that_is_not_trusted(
    happy_server: FakeHappyServer, secure_url: str, options: Any
) -> None:
    """Neither the server's without ours, nor a client without one."""
    with (
        secure_client(happy_server, secure_url, **options) as client,
        pytest.raises(errors.ConnectionError) as caught,
    ):
        client.check_live_connection()
    assert caught.value.outcome == "not_sent"
    assert happy_server.events == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_through_a_proxy(
    happy_server: FakeHappyServer, request: pytest.FixtureRequest, scheme: str
) -> None:
    """A tunnel leads to the server, and the proxy gets its own login."""
    options: Any = {}
    url = happy_server.server_url
    if scheme == "https":
        url = request.getfixturevalue("secure_url")
        options = {"ca_bundle": CERTIFICATE, "client_cert": CERTIFICATE}
    heads: list[bytes] = []
    with serving(tunnel_to(urlsplit(url).port or 0, heads)) as proxy:
        options["proxies"] = {scheme: f"http://user:p%40ss@127.0.0.1:{proxy}"}
        with secure_client(happy_server, url, **options) as client:
            client.check_live_connection()
            assert happy_server.live_sockets == 1
    assert heads[0].startswith(f"CONNECT {urlsplit(url).netloc} HTTP/1.".encode())
    login = base64.b64encode(b"user:p@ss")
    assert b"proxy-authorization: basic " + login.lower() in heads[0].lower()


@pytest.mark.parametrize("refusal", [b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", None])
def test_a_proxy_that_is_in_the_way(happy_server: FakeHappyServer, refusal: bytes | None) -> None:
    """It is told as the proxy's fault, and its password is not."""

    def refuse(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(refusal or b"")

    with serving(refuse) as port:
        proxies = {"http": f"http://user:geheim@127.0.0.1:{port}"}
        if refusal is not None:
            with client_of(happy_server, proxies=proxies) as client:
                _fails_at_the_proxy(client)
    if refusal is None:
        with client_of(happy_server, proxies=proxies) as client:
            _fails_at_the_proxy(client)


def _fails_at_the_proxy(client: HappyClient) -> None:
    with pytest.raises(errors.ConnectionError) as caught:
        client.check_live_connection()
    assert (caught.value.code, caught.value.outcome) == ("PROXY", "not_sent")
    assert "geheim" not in everything_about(caught.value)


def test_a_proxy_of_another_kind(happy_server: FakeHappyServer) -> None:
    """That is said, and nobody is connected to."""
    with (
        client_of(happy_server, proxies={"http": "https://127.0.0.1:9"}) as client,
        pytest.raises(errors.HappyConfigError, match=r"proxy of this kind \(https\)"),
    ):
        client.check_live_connection()
    assert happy_server.connections == 0
