"""Requests over real sockets: what is read when, what close ends, and what is kept afterwards."""

from __future__ import annotations

import gc
import io
import math
import os
import signal
import socket
import threading
import traceback
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
import responses
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter

from buttdial_sync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    ProtocolError,
    TransportError,
)
from buttdial_sync.errors.scrubbing import Secret, SecretBytes
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.http import (
    Http,
    json_bytes,
    load_json,
    origin_of,
    shared_adapter,
)
from buttdial_sync.transport.logins import Logins
from buttdial_sync.transport.network import NetworkOptions
from buttdial_sync.transport.rest import Rest
from tests.forks import exit_code, forked, is_leaked

PATIENCE = 10.0


@pytest.fixture
def http() -> Iterator[Http]:
    """A client whose connections no other client of this process uses."""
    shared_adapter.cache_clear()
    made = Http(connect_timeout=PATIENCE)
    yield made
    made.close()
    shared_adapter.cache_clear()


class Server:
    """Takes one connection, reads the request's head, and writes what it is told."""

    def __init__(self, answer: bytes, *, hangs_up: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/x"
        self.asked = threading.Event()
        self.client_left = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(answer, hangs_up))
        self._thread.start()

    def _serve(self, answer: bytes, hangs_up: bool) -> None:
        self._listener.settimeout(PATIENCE)
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1000)
            connection.sendall(answer)
            self.asked.set()
            if not hangs_up and not connection.recv(1):
                self.client_left.set()

    def end(self) -> None:
        self._thread.join(PATIENCE)
        self._listener.close()


def answer(status: int, body: bytes, length: int, kind: str = "text/plain") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + body


def send(http: Http, url: str, *, stream: bool = False) -> requests.Response:
    request = http.prepare("GET", url, headers={})
    return http.send(request, Deadline(PATIENCE, lambda: 0.0), stream=stream)[0]


@pytest.mark.parametrize(("stream", "status"), [(False, 200), (False, 500), (True, 401)])
def test_bodies_are_read_within_the_deadline(stream: bool, status: int, http: Http) -> None:
    """Sending includes reading the answer: one that is cut short fails there and not later."""
    server = Server(answer(status, b"no", 5), hangs_up=True)
    with pytest.raises(TransportError) as caught:
        send(http, server.url, stream=stream)
    assert caught.value.outcome == "unknown"
    server.end()


def test_good_stream_is_not_read(http: Http) -> None:
    """Of a stream that was opened only the head is waited for."""
    server = Server(answer(200, b"da", 1000, "text/event-stream"))
    response = send(http, server.url, stream=True)
    assert response.raw.read1(2) == b"da"
    response.close()
    server.end()


def test_close_ends_a_request(http: Http) -> None:
    """A caller that waits for an answer is told at once that the client was closed."""
    server = Server(b"")
    told: list[ButtDialError] = []

    def ask() -> None:
        try:
            send(http, server.url)
        except ButtDialError as error:
            told.append(error)

    caller = threading.Thread(target=ask, daemon=True)
    caller.start()
    assert server.asked.wait(PATIENCE)
    http.close()
    caller.join(PATIENCE / 2)
    assert [(type(error), error.outcome) for error in told] == [(ClientClosedError, "unknown")]
    server.end()


def test_close_closes_idle_connections(http: Http) -> None:
    """The last client that is closed leaves no connection behind."""
    server = Server(answer(200, b"ok", 2))
    assert send(http, server.url).content == b"ok"
    assert not server.client_left.is_set()
    http.close()
    server.end()
    assert server.client_left.is_set()


def test_connections_stay_while_another_client_uses_them(http: Http) -> None:
    """A client that is closed takes nothing from the others."""
    other = Http(connect_timeout=PATIENCE)

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            while peer.recv(10_000):
                peer.sendall(answer(200, b"ok", 2))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        serving = threading.Thread(target=serve)
        serving.start()
        assert send(http, url).content == b"ok"
        other.close()
        request = http.prepare("GET", url, headers={})
        assert http.send(request, Deadline(PATIENCE))[0].content == b"ok"  # nobody else listens
        http.close()
        serving.join(PATIENCE)


def test_cookies_are_not_kept(http: Http) -> None:
    """Threads share the session, so an answer must not change it."""
    with responses.RequestsMock() as mock:
        mock.get("https://h.test/x", body="ok", headers={"Set-Cookie": "a=1"})
        send(http, "https://h.test/x")
    assert not http._session.cookies


def test_headers_of_the_client() -> None:
    """They are sent with every request, and those of a request win."""
    http = Http(connect_timeout=1.0, network=NetworkOptions(headers={"X-A": "1"}))
    assert http.prepare("GET", "https://h.test/x", headers={}).headers["X-A"] == "1"
    assert http.prepare("GET", "https://h.test/x", headers={"X-A": "2"}).headers["X-A"] == "2"
    http.close()


class OwnAdapter(BaseAdapter):
    """A host's; it notes the time limits that it gets, and keeps its answers."""

    def __init__(self, status: int = 200, body: io.BytesIO | None = None) -> None:
        super().__init__()
        self._status, self._body = status, body or io.BytesIO(b"ok")
        self.timeouts: list[object] = []
        self.answers: list[requests.Response] = []
        self.closed = False

    def send(self, *_: Any, **options: Any) -> requests.Response:
        self.timeouts.append(options["timeout"])
        response = requests.Response()
        response.status_code = self._status
        response.headers["Location"] = "/elsewhere"
        response.raw = urllib3.HTTPResponse(self._body, preload_content=False)
        self.answers.append(response)
        return response

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("connect_timeout", "limits"), [(3.0, (3.0, 10.0)), (30.0, (10.0, 10.0))])
def test_adapter_of_the_host(connect_timeout: float, limits: tuple[float, float]) -> None:
    """It sends, within what is left of the deadline, and is closed with the client."""
    adapter = OwnAdapter()
    network = NetworkOptions(transport_adapter=adapter)
    http = Http(connect_timeout=connect_timeout, network=network)
    assert send(http, "https://h.test/x").content == b"ok"
    assert adapter.timeouts == [limits]
    http.close()
    assert adapter.closed


class Interrupted(io.BytesIO):
    """A body during which somebody presses Ctrl-C, while something else is handled."""

    def read(self, *_: Any) -> bytes:
        try:
            os.stat("")
        except OSError:
            raise KeyboardInterrupt from None
        return b""


def locals_of_ours(error: BaseException) -> set[str]:
    """Return the names that are left in the frames of the module under test."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [frame for frame in frames if frame.f_code.co_filename.endswith("transport/http.py")]
    return {name for frame in ours for name in frame.f_locals}


def test_an_interrupt_during_a_request() -> None:
    """It goes on as it is, to whoever handles another error, and leads to nothing that was sent."""
    network = NetworkOptions(transport_adapter=OwnAdapter(200, Interrupted()))
    http = Http(connect_timeout=PATIENCE, network=network)
    handled = LookupError("the caller's")

    def handle() -> None:
        try:
            raise handled
        except LookupError:
            send(http, "https://h.test/x")

    with pytest.raises(KeyboardInterrupt) as caught:
        handle()
    assert caught.value.__context__ is handled
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    assert {os.path.basename(frame.f_code.co_filename) for frame in frames} == {
        "http.py",
        "test_http.py",
    }
    assert not locals_of_ours(caught.value) & {"plain", "response"}
    assert not http._under_way
    http.close()


def test_a_redirect_of_a_stream_is_read() -> None:
    """So its connection can be used again; the exception does not lead to the answer."""
    body = io.BytesIO(b"moved")
    http = Http(
        connect_timeout=PATIENCE, network=NetworkOptions(transport_adapter=OwnAdapter(302, body))
    )
    with pytest.raises(ProtocolError) as caught:
        send(http, "https://h.test/x", stream=True)
    assert body.closed
    assert not locals_of_ours(caught.value) & {"plain", "response", "failure"}
    http.close()


def test_a_stream_of_a_hosts_adapter() -> None:
    """It has no time limit either, and can be ended by another thread."""
    network = NetworkOptions(transport_adapter=HTTPAdapter())
    http = Http(connect_timeout=PATIENCE, network=network)
    server = Server(answer(200, b"da", 1000, "text/event-stream"))
    request = http.prepare("GET", server.url, headers={})
    response, progress = http.send(request, Deadline(PATIENCE), stream=True)
    raw: Any = response.raw
    assert raw.connection.sock.gettimeout() is None
    assert progress.abort()
    assert server.client_left.wait(PATIENCE)
    response.close()
    http.close()
    server.end()


def test_no_stream_while_a_recorder_is_at_work(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would read the stream to an end that never comes; other requests go on."""
    recording = type("Recording", (), {"__module__": "vcr.patch"})
    with monkeypatch.context() as patched, responses.RequestsMock() as mock:
        mock.get("https://h.test/x", body="ok")
        patched.setattr(urllib3.HTTPConnectionPool, "ConnectionCls", recording)
        with pytest.raises(ConfigError, match="cannot record an event stream"):
            send(http, "https://h.test/x", stream=True)
        assert send(http, "https://h.test/x").content == b"ok"


def test_the_answer_of_a_socket_does_not_show_the_token(http: Http) -> None:
    """urllib3 notes the address that it asked for."""
    server = Server(answer(200, b"ok", 2))
    request = http.prepare("GET", server.url, headers={}, query={"token": "tok-2"})
    response, _ = http.send(request, Deadline(PATIENCE))
    assert response.raw._request_url == "/x"
    assert "tok-2" not in f"{vars(response)} {vars(response.raw)}"
    http.close()
    server.end()


def test_what_is_under_way_stays_the_parents(http: Http) -> None:
    """A forked child keeps it, and its session, from being closed, and starts with nothing."""
    session, under_way = http._session, http._under_way
    http._reset_after_fork()
    assert http._session is not session
    assert http._under_way is not under_way
    assert is_leaked(session)
    assert is_leaked(under_way)


def test_closed_client_sends_nothing(http: Http) -> None:
    """Not even a request that was prepared before."""
    http.close()
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.get("https://h.test/x", body="ok")
        with pytest.raises(ClientClosedError) as caught:
            send(http, "https://h.test/x")
        assert len(mock.calls) == 0
    assert caught.value.outcome == "not_sent"


def test_answer_does_not_show_the_token(http: Http) -> None:
    """Callers keep it, and frames show it; the request itself had the token."""
    headers = {"Authorization": Secret("Bearer tok-secret")}
    request = http.prepare("GET", "https://h.test/x", headers=headers, query={"token": "tok-2"})
    with responses.RequestsMock() as mock:
        mock.get("https://h.test/x", body="ok")
        response, _ = http.send(request, Deadline(PATIENCE))
        sent: Any = mock.calls[0].request
    assert sent.headers["Authorization"] == "Bearer tok-secret"
    assert sent.url == "https://h.test/x?token=tok-2"
    shown = f"{vars(response.request)} {dict(response.request.headers)} {response.url}"
    assert "tok-secret" not in shown
    assert response.url == "https://h.test/x"


def test_another_body(http: Http) -> None:
    """It goes in the place of the prepared one, as plain bytes; nothing stays of the request."""
    request = http.prepare("POST", "https://h.test/x", headers={})
    with responses.RequestsMock() as mock:
        mock.post("https://h.test/x", body="ok")
        http.send(request, Deadline(PATIENCE), body=SecretBytes(b"{}"))
        sent: Any = mock.calls[0].request
    assert (sent.body, type(sent.body), sent.headers["Content-Length"]) == (b"{}", bytes, "2")
    assert request.body is None
    assert not http._under_way


def test_numbers_that_are_too_long() -> None:
    """Python refuses to read them as integers; the other numbers stay what they are."""
    found = load_json(f'{{"long": {"9" * 5000}, "short": 7}}')
    assert found == {"long": math.inf, "short": 7}
    assert type(found["short"]) is int
    with pytest.raises(ValueError, match="Expecting"):
        load_json("{")


def test_time_is_up_before_sending(http: Http) -> None:
    """When the deadline has passed nothing is handed to a connection."""
    clock = iter([0.0])
    request = http.prepare("GET", "https://h.test/x", headers={})
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.get("https://h.test/x", body="ok")
        with pytest.raises(DeadlineExceededError):
            http.send(request, Deadline(1.0, lambda: next(clock, 9.0)))
        assert len(mock.calls) == 0


def test_failures_keep_no_client() -> None:
    """A failed request leaves no cycle that holds the client until the garbage collector comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    http = Http(connect_timeout=PATIENCE)
    gone = weakref.ref(http)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(TransportError):
            send(http, url)
        http.close()
        del http
        assert gone() is None
    finally:
        gc.enable()


def proxies_of(http: Http, url: str) -> Mapping[str, str]:
    """Return the proxies that a request goes out with."""
    with responses.RequestsMock() as mock:
        mock.get(url, body="ok")
        send(http, url)
        sent: Any = mock.calls[0].request
        return dict(sent.req_kwargs["proxies"])


def test_proxies_of_each_origin(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says is looked up for each origin, and once."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "direct.test")
    for _ in range(2):
        assert "https" not in proxies_of(http, "https://direct.test/x")
        assert proxies_of(http, "https://far.test/x")["https"] == "http://proxy.test:3128"
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("HTTPS_PROXY", raising=False)


def test_verification_follows_the_environment(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    """A company's own certificates are used, as requests does."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", __file__)
    with responses.RequestsMock() as mock:
        mock.get("https://h.test/x", body="ok")
        send(http, "https://h.test/x")
        sent: Any = mock.calls[0].request
    assert sent.req_kwargs["verify"] == __file__
    assert sent.req_kwargs["timeout"] == (PATIENCE, PATIENCE)


@pytest.mark.parametrize(("left", "warned"), [(0, True), (3, True), (4, False)])
def test_lockout_that_is_near(
    left: int, warned: bool, http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    """The last three failed logins before a lockout are warned of."""
    with responses.RequestsMock() as mock:
        mock.get("https://h.test/x", status=401, json={"error": "no", "remainingAttempts": left})
        with pytest.raises(ButtDialError):
            Rest(http, "https://h.test", Logins(http, "https://h.test")).call(
                "GET", "/x", Deadline(PATIENCE)
            )
    assert (f"{left} more failed logins" in caplog.text) is warned


def test_odd_origins() -> None:
    """A scheme without a default port has port 0."""
    assert origin_of("ftp://h.example/x") == "ftp://h.example:0"


def test_json() -> None:
    """JSON is compact and UTF-8; what makes none says why."""
    assert json_bytes({"a": [1, "\u00e9"]}) == '{"a":[1,"\u00e9"]}'.encode()
    circle: dict[str, Any] = {}
    circle["again"] = circle
    for value in (circle, {"a": "\ud83d"}):
        with pytest.raises(ArgumentValueError, match="or a circular reference"):
            json_bytes(value)
    with pytest.raises(ArgumentValueError):
        json_bytes({"a": math.nan})  # no server could read it
    with pytest.raises(ArgumentTypeError, match=r"cannot be sent as JSON: .*object"):
        json_bytes({"a": object()})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_has_connections_of_its_own(http: Http) -> None:
    """On shared ones two processes get each other's answers; and it ends nothing of its parent."""
    asked, told = threading.Event(), threading.Event()
    answers: list[bytes] = []
    inherited = shared_adapter().adapter

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(10_000)
            asked.set()
            told.wait(PATIENCE)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        serving = threading.Thread(target=serve)
        sending = threading.Thread(target=lambda: answers.append(send(http, url).content))

        def in_child() -> None:
            signal.alarm(int(PATIENCE))  # a lock that is held would hang it
            assert shared_adapter().adapter is not inherited
            assert http._session.get_adapter(url) is shared_adapter().adapter
            http.close()

        serving.start()
        sending.start()
        assert asked.wait(PATIENCE)
        with shared_adapter()._lock:  # as by a thread that is not there in the child
            child = forked(in_child)
        assert exit_code(child) == 0
        told.set()
        sending.join(PATIENCE)
        serving.join(PATIENCE)
    assert answers == [b"ok"]
