"""One request and its answer: what is known about it when it fails."""

from __future__ import annotations

import os
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import responses

from buttdial_sync.errors import (
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    EndpointNotAvailable,
    ProtocolError,
    TransportError,
)
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.http import Http, origin_of
from buttdial_sync.transport.logins import Logins
from buttdial_sync.transport.network import NetworkOptions
from buttdial_sync.transport.rest import Rest

BASE_URL = "https://rest.test"
TOKEN = "team-secret-1"


@pytest.fixture
def http() -> Iterator[Http]:
    made = Http(connect_timeout=5.0)
    yield made
    made.close()


@pytest.fixture
def mock() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as running:
        yield running


def call(http: Http, method: str = "GET", **options: Any) -> Any:
    return Rest(http, BASE_URL, Logins(http, BASE_URL)).call(
        method, "/x", Deadline(5.0), credential=TOKEN, **options
    )


def test_headers_are_plain_text(http: Http, mock: responses.RequestsMock) -> None:
    """Recorders of requests write down what a header is made of, and not only what it says."""
    mock.get(f"{BASE_URL}/x", json={})
    call(http)
    sent = mock.calls[0].request.headers["Authorization"]
    assert (type(sent), sent) == (str, f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://H.example/x?y", "https://h.example:443"),
        ("http://h.example", "http://h.example:80"),
        ("http://h.example:8080/", "http://h.example:8080"),
        ("http://[::1]:3100/sse", "http://::1:3100"),
        ("http://[::1", ""),
        ("http://h:99999", ""),
    ],
)
def test_origins(url: str, origin: str) -> None:
    """An origin is scheme, host and port; what is no URL equals no origin."""
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://h.example", True),
        ("http://localhost:3100", True),
        ("http://127.0.0.1", True),
        ("http://127.8.8.8", True),
        ("http://[::1]:3100", True),
        ("http://h.example", False),
        ("http://127.evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://10.0.0.1", False),
    ],
)
def test_private_ways(url: str, private: bool, http: Http) -> None:
    """A token may stand in a URL only over TLS or on this machine."""
    assert http.is_private_way(url) is private


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_reads_what_is_not_encrypted(scheme: str) -> None:
    """Also what goes to this machine, if somebody wants it to go by a proxy."""
    network = NetworkOptions(proxies={"all": "http://debugger:8080"})
    http = Http(connect_timeout=10.0, network=network)
    assert http.is_private_way(f"{scheme}://localhost:3100") is (scheme == "https")
    http.close()


def test_rest_round_trip(http: Http, mock: responses.RequestsMock) -> None:
    """Query, body and credential travel; the answer comes decoded."""
    mock.post(f"{BASE_URL}/x", json={"teamToken": TOKEN})
    answer = call(http, "POST", query={"a": "b c"}, body={"k": "\u00e9"}, headers={"X-Y": "1"})
    assert answer == {"teamToken": TOKEN}
    sent = mock.calls[0].request
    assert sent.url == f"{BASE_URL}/x?a=b+c"
    assert sent.body == '{"k":"\u00e9"}'.encode()
    assert sent.headers["Authorization"] == f"Bearer {TOKEN}"
    assert sent.headers["X-Y"] == "1"
    assert sent.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("body", ["", "  \n"])
def test_empty_answers(body: str, http: Http, mock: responses.RequestsMock) -> None:
    """A success without a body is None."""
    mock.get(f"{BASE_URL}/x", body=body)
    assert call(http) is None


@pytest.mark.parametrize("body", ["<html>login</html>", "ok", "{", "[" * 99_999])
def test_answers_that_are_no_json(body: str, http: Http, mock: responses.RequestsMock) -> None:
    """A success that is no JSON leaves the outcome unknown."""
    mock.get(f"{BASE_URL}/x", body=body)
    with pytest.raises(ProtocolError) as caught:
        call(http)
    assert caught.value.outcome == "unknown"


def test_missing_endpoint(http: Http, mock: responses.RequestsMock) -> None:
    """A framework's 404 page means that the server has no such endpoint."""
    mock.get(f"{BASE_URL}/x", status=404, body="<!DOCTYPE html><html></html>")
    with pytest.raises(EndpointNotAvailable):
        call(http)


@pytest.mark.parametrize("location", ["https://elsewhere.test/", "/x", "http://[", "//h:x/", ""])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(status: int, location: str, http: Http, mock: responses.RequestsMock) -> None:
    """No redirect is followed, and none is a success, with or without a target."""
    mock.get(f"{BASE_URL}/x", status=status, headers={"Location": location} if location else {})
    with pytest.raises(ButtDialError) as caught:
        call(http)
    assert len(mock.calls) == 1
    asks_elsewhere = location and status in {307, 308}
    assert caught.value.outcome == ("not_sent" if asks_elsewhere else "unknown")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_of_a_stream(status: int, http: Http, mock: responses.RequestsMock) -> None:
    """Opening a stream carries nothing out, wherever it would be."""
    mock.get(f"{BASE_URL}/x", status=status, headers={"Location": "/y"})
    request = http.prepare("GET", f"{BASE_URL}/x", headers={})
    with pytest.raises(ButtDialError) as caught:
        http.send(request, Deadline(5.0), stream=True)
    assert caught.value.outcome == "not_sent"


@pytest.mark.parametrize("status", [300, 304])
def test_other_3xx(status: int, http: Http, mock: responses.RequestsMock) -> None:
    """An answer of 3xx without a target is no success either."""
    mock.get(f"{BASE_URL}/x", status=status)
    with pytest.raises(ButtDialError):
        call(http)


@pytest.mark.parametrize("token", ["a\nb", "a\r\nX: y", "t\u20ack\u20acn"])
def test_tokens_that_no_header_can_hold(token: str, http: Http) -> None:
    """A broken token is a config error that does not show it, and nothing is sent."""
    with pytest.raises(ConfigError) as caught:
        Rest(http, BASE_URL, Logins(http, BASE_URL)).call(
            "GET", "/x", Deadline(5.0), credential=token
        )
    assert token.strip() not in str(caught.value)


def test_deprecation_is_announced_once(
    http: Http, mock: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    """An endpoint's end is logged once per process, with its date."""
    headers = {"Deprecation": "true", "Sunset": "Fri, 01 Jan 2027 00:00:00 GMT"}
    mock.get(f"{BASE_URL}/old/1", json={}, headers=headers)
    mock.get(f"{BASE_URL}/old/2", json={}, headers=headers)
    rest = Rest(http, BASE_URL, Logins(http, BASE_URL))
    for number in (1, 2):
        rest.call("GET", f"/old/{number}", Deadline(5.0), endpoint="/old/{id}")
    assert caplog.text.count("deprecates GET /old/{id}; it ends Fri, 01 Jan 2027") == 1


def test_lockout_is_announced(
    http: Http, mock: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    """The last failed logins before a lockout are warned of."""
    mock.get(f"{BASE_URL}/x", status=401, json={"error": "no", "remainingAttempts": 2})
    with pytest.raises(ButtDialError):
        call(http)
    assert "2 more failed logins" in caplog.text
    assert TOKEN not in caplog.text


def test_closed(http: Http) -> None:
    """After ``close`` nothing is sent."""
    http.close()
    http.close()
    with pytest.raises(ClientClosedError):
        call(http)


def test_passed_deadline_sends_nothing(http: Http) -> None:
    """A call whose time is up before it begins does not connect."""
    clock = iter([0.0])
    with pytest.raises(DeadlineExceededError) as caught:
        Rest(http, BASE_URL, Logins(http, BASE_URL)).call(
            "GET", "/x", Deadline(1.0, lambda: next(clock, 9.0))
        )
    assert caught.value.outcome == "not_sent"


def test_deadline_between_connecting_and_writing(http: Http) -> None:
    """When the time is up before the first byte is written, nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def clock() -> float:
            connected, _, _ = select.select([listener], [], [], 0)
            return 100.0 if connected else 0.0

        rest = Rest(
            http,
            f"http://127.0.0.1:{listener.getsockname()[1]}",
            Logins(http, f"http://127.0.0.1:{listener.getsockname()[1]}"),
        )
        with pytest.raises(DeadlineExceededError) as caught:
            rest.call("POST", "/x", Deadline(10.0, clock), body={})
        assert caught.value.outcome == "not_sent"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nobody_listens(scheme: str, http: Http) -> None:
    """A refused connection was not sent, says so, and shows no token."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    rest = Rest(http, f"{scheme}://127.0.0.1:{port}", Logins(http, f"{scheme}://127.0.0.1:{port}"))
    with pytest.raises(TransportError) as caught:
        rest.call("GET", "/x", Deadline(5.0), query={"poll_token": TOKEN}, credential=TOKEN)
    assert (caught.value.code, caught.value.outcome) == ("REFUSED", "not_sent")
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_no_tls_on_the_other_side(http: Http) -> None:
    """A failed handshake was before anything was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5.0)
        accepted: list[socket.socket] = []

        def clock() -> float:
            # The handshake waits for an answer: hang up as soon as the client is there.
            if select.select([listener], [], [], 0)[0]:
                accepted.append(listener.accept()[0])
                accepted[0].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return 0.0

        rest = Rest(
            http,
            f"https://127.0.0.1:{listener.getsockname()[1]}",
            Logins(http, f"https://127.0.0.1:{listener.getsockname()[1]}"),
        )
        with pytest.raises(TransportError) as caught:
            rest.call("POST", "/x", Deadline(5.0, clock), body={})
        for sock in accepted:
            sock.close()
    assert (caught.value.code, caught.value.outcome) == ("TLS", "not_sent")


def test_success_of_any_kind(
    http: Http, mock: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything below 300 is a success, a text in JSON is an answer, and nothing is logged."""
    mock.get(f"{BASE_URL}/x", status=299, body=' "text"')
    assert call(http, endpoint="/never-deprecated") == "text"
    sent = mock.calls[0].request
    assert "Content-Type" not in sent.headers
    assert sent.headers["Accept"] == "application/json"
    assert caplog.records == []


def test_deprecation_without_a_template(
    http: Http, mock: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    """An endpoint without a template is named by its path; its end may have no date."""
    mock.get(f"{BASE_URL}/going", json={}, headers={"Deprecation": "true"})
    Rest(http, BASE_URL, Logins(http, BASE_URL)).call("GET", "/going", Deadline(5.0))
    (record,) = caplog.records
    assert record.getMessage() == "the server deprecates GET /going"


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    try:
        with suppress(OSError):
            while True:  # those below it that are free
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


@pytest.mark.parametrize("host", ["http://127.0.0.1", "https://127.0.0.1", "http://no-such.test"])
def test_no_descriptor_left(host: str, http: Http) -> None:
    """It is this process that has to change, not the address or the server."""
    with suppress(OSError):  # from now on the resolver has its configuration
        socket.getaddrinfo("no-such.test", 80)
    with no_descriptor_left(), pytest.raises(TransportError) as caught:
        Rest(http, host, Logins(http, host)).call("GET", "/x", Deadline(5.0))
    assert (caught.value.code, caught.value.outcome) == ("EMFILE", "not_sent")
    assert "ulimit -n" in str(caught.value.remediation)
