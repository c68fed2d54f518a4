"""Opening a WebSocket: where the token goes, certificates and pins, proxies, what goes wrong."""

from __future__ import annotations

import base64
import gc
import hashlib
import os
import queue
import re
import shutil
import ssl
import subprocess
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection

from buttdial_sync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    AuthError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    ProtocolError,
    TransportError,
)
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.network import is_private
from buttdial_sync.transport.websocket_opening import (
    WebSocketOptions,
    check_pins,
    check_websocket_url,
)
from tests.forks import exit_code, forked
from tests.unit.transport.test_websocket import shake_hands
from tests.unit.transport.websocket_servers import (
    CERTIFICATE,
    PATIENCE,
    Server,
    echo,
    opened,
    opener_of,
    raw_server,
)

TOKEN = "tok-secret-1"
CA_FILES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
PIN = hashlib.sha256(
    ssl.PEM_cert_to_DER_cert(CERTIFICATE.read_text().split("KEY-----\n")[-1])
).hexdigest()


def soon() -> Deadline:
    return Deadline(PATIENCE)


def failure_of(url: str, token: str = TOKEN, **options: Any) -> ButtDialError:
    with pytest.raises(ButtDialError) as caught:
        opener_of(url, **options).open(token, soon())
    assert TOKEN not in everything_in(caught.value, caught.tb)
    return caught.value


def everything_in(error: ButtDialError, traceback: TracebackType | None) -> str:
    """What a debug page shows of an error: its text, its chain, the variables of our frames."""
    seen = [str(error), repr(error.__cause__), repr(error.__context__), repr(vars(error))]
    while traceback is not None:
        if "buttdial_sync" in traceback.tb_frame.f_code.co_filename:
            seen += [repr(value) for value in traceback.tb_frame.f_locals.values()]
        traceback = traceback.tb_next
    return "\n".join(seen)


class Upgrades:
    """Keeps the requests that a server gets, and may answer them."""

    def __init__(self, answer: Response | None = None) -> None:
        self.requests: list[Request] = []
        self.answer = answer

    def __call__(self, _: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        return self.answer


@pytest.mark.parametrize(
    ("token", "authorization", "subprotocol"),
    [
        ("", None, None),
        ("sess_1-A.b~", "Bearer sess_1-A.b~", "sess_1-A.b~"),
        ("ab/cd+ef==", "Bearer ab/cd+ef==", None),
        ("with blank", "Bearer with blank", None),
    ],
)
@pytest.mark.parametrize("echoes", [True, False])
def test_token_in_the_upgrade(
    token: str, authorization: str | None, subprotocol: str | None, echoes: bool
) -> None:
    """As header and subprotocol; only in the header if it is no token of RFC 7230."""
    upgrades = Upgrades()
    options: dict[str, Any] = {"subprotocols": [token]} if echoes and subprotocol else {}
    with (
        Server(echo, process_request=upgrades, **options) as server,
        opened(server.url, token, token_as_subprotocol=True),
    ):
        headers = upgrades.requests[0].headers
        assert headers.get("Authorization") == authorization
        assert headers.get("Sec-WebSocket-Protocol") == subprotocol
        assert headers["User-Agent"].startswith("buttdial-sync/")
        assert upgrades.requests[0].path == "/world"


def test_token_is_no_subprotocol_unless_asked_for() -> None:
    """Other servers take it for the name of a protocol."""
    upgrades = Upgrades()
    with Server(echo, process_request=upgrades) as server, opened(server.url, TOKEN):
        assert "Sec-WebSocket-Protocol" not in upgrades.requests[0].headers


@pytest.mark.parametrize("token", ["a\r\nX-Injected: 1", "tokén", "a\x00b"])
def test_token_that_no_header_can_hold(token: str) -> None:
    """It is refused before anything is sent."""
    with pytest.raises(ArgumentValueError):
        opener_of("ws://127.0.0.1:9/").open(token, soon())


@pytest.mark.parametrize("url", ["ws://world.example/", "ws://10.0.0.1:8765"])
def test_token_travels_encrypted(url: str) -> None:
    """Over ws:// it goes to this machine only, unless the host is named."""
    error = failure_of(url)
    assert isinstance(error, ConfigError)
    assert "insecure_hosts" in str(error.remediation)


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("wss://world.example/", True),
        ("ws://localhost:8765", True),
        ("ws://[::1]:8765", True),
        ("ws://Named.example", True),
        ("ws://127.evil.example", False),
        ("ws://unnamed.example", False),
    ],
)
def test_private_addresses(url: str, private: bool) -> None:
    """TLS, this machine, and the hosts that are named in whatever case."""
    assert is_private(url, ["nAMED.EXAMPLE"]) is private


def test_named_host_gets_the_token_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy stands for a host elsewhere."""
    with proxy_to_a_server() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with opened("ws://World.example/", TOKEN, insecure_hosts=["world.EXAMPLE"]):
            assert proxy.tunnels == ["world.example:80"]


@pytest.mark.parametrize("pins", [PIN, [PIN.upper(), "0" * 64], [f"sha256:{PIN}"]])
def test_pinned_certificate(pins: Any) -> None:
    """Any of the pins will do, however it is written."""
    with (
        Server(echo, tls=True) as server,
        opened(server.url, TOKEN, ca_file=str(CERTIFICATE), pins=pins) as websocket,
    ):
        websocket.send({"x": 1}, soon())
        assert websocket.receiver.next() == {"x": 1}


def test_wrong_pin_stops_before_the_upgrade() -> None:
    """The server sees neither token nor request; the error names the certificate's own."""
    upgrades = Upgrades()
    with Server(echo, tls=True, process_request=upgrades) as server:
        error = failure_of(server.url, ca_file=str(CERTIFICATE), pins=["0" * 64])
    assert (type(error), error.code, error.outcome) == (TransportError, "TLS", "not_sent")
    assert PIN in str(error)
    assert upgrades.requests == []


@pytest.mark.parametrize("pin", ["", "abc", "g" * 64, "sha1:" + "0" * 40])
def test_malformed_pins(pin: str) -> None:
    """A pin that can never match would lock everybody out."""
    with pytest.raises(ArgumentValueError, match="SHA-256"):
        check_pins(pin)


def test_pin_replaces_no_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pinned certificate that nobody vouches for is refused."""
    for each in CA_FILES:
        monkeypatch.delenv(each, raising=False)
    with Server(echo, tls=True) as server:
        error = failure_of(server.url, pins=PIN)
    assert (type(error), error.code, error.outcome) == (TransportError, "TLS", "not_sent")


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_of_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that the HTTP side and the published client read."""
    for each in CA_FILES:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, str(CERTIFICATE))
    with Server(echo, tls=True) as server, opened(server.url) as websocket:
        assert websocket.usable


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_certificates_in_a_directory(tmp_path: Path) -> None:
    """As OpenSSL wants them: each under the hash of its name."""
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(CERTIFICATE)]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / f"{name}.0").write_text(CERTIFICATE.read_text())
    with Server(echo, tls=True) as server, opened(server.url, ca_file=str(tmp_path)) as websocket:
        assert websocket.usable


def test_own_ssl_context() -> None:
    """It is used as it is."""
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    with Server(echo, tls=True) as server, opened(server.url, ssl_context=context) as websocket:
        assert websocket.usable


def test_unreadable_certificates() -> None:
    """The error names the file."""
    error = failure_of("wss://127.0.0.1:9/", ca_file="/nowhere.pem")
    assert isinstance(error, ConfigError)
    assert "/nowhere.pem" in str(error)


@pytest.mark.parametrize(
    "options", [{"pins": PIN}, {"ca_file": "x"}, {"ssl_context": ssl.create_default_context()}]
)
def test_tls_settings_without_tls(options: dict[str, Any]) -> None:
    """They would silently protect nothing."""
    with pytest.raises(ConfigError, match="wss://"):
        opener_of("ws://127.0.0.1/", **options)


def answer(status: HTTPStatus, body: bytes = b"", **headers: str) -> Response:
    from websockets.datastructures import Headers

    return Response(status.value, status.phrase, Headers(**headers), body)


@pytest.mark.parametrize(
    ("response", "kind", "outcome"),
    [
        (answer(HTTPStatus.UNAUTHORIZED), AuthError, "rejected"),
        (answer(HTTPStatus.UNAUTHORIZED, f"no {TOKEN}".encode()), AuthError, "rejected"),
        (answer(HTTPStatus.FOUND, Location="ws://elsewhere.example/"), ProtocolError, "not_sent"),
        (answer(HTTPStatus.OK, b"<html>"), ButtDialError, "not_sent"),
        (answer(HTTPStatus.BAD_GATEWAY, b"<html>"), ButtDialError, "not_sent"),
    ],
    ids=["401", "401 with the token", "redirect", "a page", "502"],
)
def test_server_refuses_the_upgrade(
    response: Response, kind: type[ButtDialError], outcome: str
) -> None:
    """The status is told; nothing was sent."""
    with Server(echo, process_request=Upgrades(response)) as server:
        error = failure_of(server.url)
    assert isinstance(error, kind)
    assert (error.status_code, error.outcome) == (response.status_code, outcome)


def test_refusal_in_json() -> None:
    """Its data is kept, and not told as words."""
    refusal = answer(
        HTTPStatus.FORBIDDEN, b'{"error": "no"}', **{"Content-Type": "application/json"}
    )
    with Server(echo, process_request=Upgrades(refusal)) as server:
        error = failure_of(server.url)
    assert error.message == "the server refuses the upgrade (HTTP 403)"
    assert error.body == {"error": "no"}


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(code: int) -> None:
    """They are told as what they are."""
    response = answer(HTTPStatus(code), Location="ws://elsewhere.example/")
    with Server(echo, process_request=Upgrades(response)) as server:
        error = failure_of(server.url)
    assert type(error) is ProtocolError
    assert error.message == f"the server redirects (HTTP {code}); that is not followed"


@pytest.mark.parametrize(("length", "told"), [(199, True), (200, False)])
@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN])
def test_words_of_a_refusal(status: HTTPStatus, length: int, told: bool) -> None:
    """They are told if they are no page."""
    words = "x" * length
    with Server(echo, process_request=Upgrades(answer(status, words.encode()))) as server:
        error = failure_of(server.url)
    assert type(error) is AuthError
    assert (words in error.message) is told


def test_usual_options() -> None:
    """A connection that says nothing for forty seconds is over."""
    usual = WebSocketOptions()
    assert (usual.ping_interval, usual.ping_timeout, usual.connect_timeout) == (20.0, 20.0, 10.0)
    assert usual.max_size == 8 * 1024 * 1024
    assert (usual.token_as_subprotocol, usual.compress) == (False, False)


@pytest.mark.parametrize(
    ("answered", "kind"),
    [
        (b"", TransportError),
        (b"SSH-2.0-OpenSSH_9.6\r\n", ProtocolError),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ProtocolError),
    ],
    ids=["nothing", "another protocol", "half an upgrade"],
)
def test_peer_that_is_no_websocket_server(answered: bytes, kind: type[ButtDialError]) -> None:
    """It is told that it is none, or that it hung up."""

    def work(peer: Any) -> None:
        peer.recv(65536)
        peer.sendall(answered)

    with raw_server(work) as url:
        error = failure_of(url)
    assert (type(error), error.outcome) == (kind, "not_sent")


def test_nobody_listens() -> None:
    """The code is that of the HTTP side."""
    with raw_server(lambda _: None) as url:
        pass
    error = failure_of(url)
    assert (type(error), error.code, error.outcome) == (TransportError, "REFUSED", "not_sent")


@pytest.mark.parametrize(("own", "of_the_call"), [(0.1, PATIENCE), (PATIENCE, 0.1)])
def test_silent_server(own: float, of_the_call: float) -> None:
    """The opening has a limit of its own, and keeps to the call's deadline."""
    told = threading.Event()
    with raw_server(lambda _: told.wait(PATIENCE)) as url:
        with pytest.raises(DeadlineExceededError) as caught:
            opener_of(url, connect_timeout=own).open(TOKEN, Deadline(of_the_call))
        error = caught.value
        told.set()
    assert (type(error), error.code, error.outcome) == (
        DeadlineExceededError,
        "TIMEOUT",
        "not_sent",
    )
    # In figures that a person reads, though what was left of the call's time is 0.0999876.
    assert re.fullmatch(r".* within [0-9.]{1,5} s", error.message)


def test_closed_opener() -> None:
    """It opens no more."""
    opener = opener_of("ws://127.0.0.1:9/")
    opener.close()
    with pytest.raises(ClientClosedError):
        opener.open("", soon())


def test_opener_that_is_closed_meanwhile() -> None:
    """An opening under way ends at once, and the server sees us leave."""
    got: queue.Queue[bytes] = queue.Queue()
    openers: list[Any] = []

    def work(peer: Any) -> None:
        peer.recv(65536)
        openers[0].close()
        got.put(peer.recv(65536))

    with raw_server(work) as url:
        openers.append(opener_of(url, connect_timeout=3600.0))
        with pytest.raises(ClientClosedError):
            openers[0].open("", Deadline(3600.0))
        assert got.get(timeout=PATIENCE) == b""


def test_opener_that_is_closed_afterwards() -> None:
    """What it has opened is not its own any more."""
    with Server(echo) as server:
        opener = opener_of(server.url)
        websocket = opener.open("", soon())
        opener.close()
        websocket.send({"after": 1}, soon())
        assert websocket.receiver.next() == {"after": 1}
        websocket.close(PATIENCE)


def test_a_failure_is_freed_at_once() -> None:
    """It would hold the whole client until the garbage collector runs."""
    opener = opener_of("ws://world.example/")
    errors: list[weakref.ref[ButtDialError]] = []
    gc.disable()
    try:
        try:
            opener.open(TOKEN, soon())
        except ConfigError as error:
            errors.append(weakref.ref(error))
        assert errors[0]() is None
    finally:
        gc.enable()


def test_interrupted_while_opening_is_told() -> None:
    """Ctrl-C in the host's function: nobody gets the connection, so it is closed."""
    is_over = threading.Event()

    def serve_one(connection: ServerConnection) -> None:
        echo(connection)
        is_over.set()

    def interrupt(_: ClientEvent) -> None:
        raise KeyboardInterrupt

    with Server(serve_one) as server:
        with pytest.raises(KeyboardInterrupt):
            opener_of(server.url, on_event=interrupt).open(TOKEN, soon())
        assert is_over.wait(PATIENCE)


def test_event_of_an_opened_connection() -> None:
    """With how long it took."""
    events: list[ClientEvent] = []
    moments = count(1000.0)
    with (
        Server(echo) as server,
        opened(server.url, on_event=events.append, clock=lambda: next(moments)),
    ):
        (event,) = events
    assert (event.kind, event.operation) == ("connect", "websocket")
    assert event.seconds == 1.0


class Proxy:
    """What an HTTP proxy saw."""

    def __init__(self) -> None:
        self.tunnels: list[str] = []
        self.heads: list[bytes] = []
        self.url = ""


@contextmanager
def proxy_to_a_server(refusal: bytes | None = None) -> Iterator[Proxy]:
    """Give an HTTP proxy whose tunnel leads to a WebSocket server of its own."""
    proxy, told = Proxy(), threading.Event()

    def work(peer: Any) -> None:
        head = peer.recv(65536)
        proxy.heads.append(head)
        proxy.tunnels.append(head.split(b" ")[1].decode())
        if refusal is not None:
            peer.sendall(refusal)
            return
        peer.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        protocol = shake_hands(peer)
        while not told.is_set() and (data := peer.recv(65536)):
            protocol.receive_data(data)
            for answered in protocol.data_to_send():
                peer.sendall(answered)

    with raw_server(work) as url:
        proxy.url = url.replace("ws://", "http://")
        yield proxy
        told.set()


@pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
def test_proxy_of_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tunnel leads to the server, with the proxy's own credential."""
    with proxy_to_a_server() as proxy:
        url = proxy.url.replace("http://", "http://user:p%40ss@")
        monkeypatch.setenv(variable, url)
        with opened("ws://world.example:8765/"):
            pass
    assert proxy.tunnels == ["world.example:8765"]
    credential = base64.b64encode(b"user:p@ss")
    assert b"proxy-authorization: basic " + credential.lower() in proxy.heads[0].lower()


@pytest.mark.parametrize(("scheme", "port"), [("ws", 80), ("wss", 443)])
def test_proxy_that_refuses(scheme: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the proxy's fault, and nothing was sent. It was asked for the scheme's port."""
    with proxy_to_a_server(b"HTTP/1.1 407 No\r\n\r\n") as proxy:
        monkeypatch.setenv("all_proxy", proxy.url)
        error = failure_of(f"{scheme}://world.example/", token="")
    assert proxy.tunnels == [f"world.example:{port}"]
    assert (type(error), error.code, error.outcome) == (TransportError, "PROXY", "not_sent")


def test_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is its address that is wrong, and not the server's."""
    with raw_server(lambda _: None) as url:
        pass
    monkeypatch.setenv("http_proxy", url.replace("ws://", "http://"))
    error = failure_of("ws://world.example/", token="")
    assert (type(error), error.code, error.outcome) == (TransportError, "PROXY", "not_sent")
    assert "NO_PROXY" in str(error.remediation)


def test_tunnel_to_a_server_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy has let it through: it is not to blame."""

    def work(peer: Any) -> None:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 400 Bad request\r\n\r\n")

    with raw_server(work) as url:
        monkeypatch.setenv("https_proxy", url.replace("ws://", "http://"))
        error = failure_of("wss://world.example/")
    assert (type(error), error.code, error.outcome) == (TransportError, "TLS", "not_sent")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://:3128"])
def test_proxy_of_another_kind(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and not passed by."""
    monkeypatch.setenv("https_proxy", proxy)
    error = failure_of("wss://world.example/")
    assert isinstance(error, ConfigError)
    assert "NO_PROXY" in str(error.remediation)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_to_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    with Server(echo) as server, opened(server.url.replace("127.0.0.1", host)) as websocket:
        assert websocket.usable


@pytest.mark.parametrize(
    "url",
    ["", "http://x/", "ws:///path", "ws://u:p@x/", "ws://x/#part", "ws://x:0/", "ws://x:port/"],
)
def test_addresses_that_are_none(url: str) -> None:
    """The message names the argument."""
    with pytest.raises(ArgumentValueError, match=r"^server_url "):
        check_websocket_url(url, "server_url")
    with pytest.raises(ArgumentTypeError):
        check_websocket_url(None, "server_url")  # type: ignore[arg-type]


def test_addresses_are_used_as_given() -> None:
    """But for the blanks around them."""
    assert check_websocket_url(" wss://x.example/p?q=1 ", "url") == "wss://x.example/p?q=1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_opens_its_own() -> None:
    """Both speak with the server, each over its own connection."""

    def talk(number: int) -> None:
        websocket = opener.open("", soon())
        websocket.send({"process": number}, soon())
        assert websocket.receiver.next() == {"process": number}
        websocket.close(PATIENCE)

    with Server(echo) as server:
        opener = opener_of(server.url)
        talk(0)
        child = forked(lambda: talk(1))
        talk(2)
        assert exit_code(child) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_ends_no_opening_of_its_parent() -> None:
    """It has a copy of the socket: to shut that down would end the parent's connection."""
    asked, told = threading.Event(), threading.Event()
    opened_by_parent: list[Any] = []

    def work(peer: Any) -> None:
        protocol = ServerProtocol()
        while not (requests := protocol.events_received()):
            protocol.receive_data(peer.recv(65536))
        asked.set()
        told.wait(PATIENCE)
        protocol.send_response(protocol.accept(requests[0]))  # type: ignore[arg-type]
        for data in protocol.data_to_send():
            peer.sendall(data)
        peer.recv(65536)

    with raw_server(work) as url:
        opener = opener_of(url, connect_timeout=PATIENCE)
        thread = threading.Thread(target=lambda: opened_by_parent.append(opener.open("", soon())))
        thread.start()
        assert asked.wait(PATIENCE)
        assert exit_code(forked(opener.close)) == 0
        told.set()
        thread.join(PATIENCE)
        (websocket,) = opened_by_parent
        assert websocket.usable
        websocket.close(PATIENCE)
