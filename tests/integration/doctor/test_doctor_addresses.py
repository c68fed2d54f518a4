"""Wrong addresses and wrong tokens, over real sockets, each with its own right words."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from buttdial_sync import Client, ConfigError, DoctorStage, run_diagnostic
from buttdial_sync.doctor import failed_configuration
from buttdial_sync.doctor.stages import exit_code_of
from buttdial_sync.testing import LoopbackServer
from tests.fakes import failed_logins
from tests.integration.doctor.conftest import TOKEN
from tests.integration.doctor.test_doctor_faults import (
    HANDSHAKE,
    REACH,
    check,
    failure,
    listening_with_tls,
)

Talk = Callable[[socket.socket], object]


@contextmanager
def listening(talk: Talk) -> Iterator[int]:
    """Listen, let ``talk`` have each connection, and close it."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(20)
                talk(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)


def answer(status: str, body: str) -> Talk:
    """Read a request and answer it."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body.encode())

    return talk


@pytest.mark.parametrize(
    "base_url", ["butt-dial.example", "butt-dial.example:8080/x", "//a.example"]
)
def test_no_scheme(base_url: str) -> None:
    """Which to add; no server was asked, and none is blamed."""
    with pytest.raises(ConfigError) as caught:
        Client(base_url, agent_token=TOKEN)
    report = failed_configuration(caught.value)
    assert report.failure is not None
    check(report.failure, "Config loaded", "base_url", "https://")
    assert exit_code_of(report) == 2


def test_no_base_url() -> None:
    """What to set."""
    with pytest.raises(ConfigError) as caught:
        Client("", agent_token=TOKEN)
    failed = failed_configuration(caught.value).failure
    assert failed is not None
    check(failed, "Config loaded", "base_url", "BUTT_DIAL_BASE_URL")


def test_http_to_a_port_that_speaks_tls() -> None:
    """The server breaks off what it does not understand."""
    with listening_with_tls() as base_url:
        stage = failure(base_url.replace("https:", "http:"))
    check(stage, REACH, "tls_port", "write https://")


@pytest.mark.parametrize(
    "words",
    [
        "<h1>400 Bad Request</h1>The plain HTTP request was sent to HTTPS port",
        "Reason: You're speaking plain HTTP to an SSL-enabled server port.",
        "Client sent an HTTP request to an HTTPS server.\n",
    ],
    ids=["nginx", "Apache", "Go"],
)
def test_http_to_a_port_that_says_it_speaks_tls(words: str) -> None:
    """Many servers say so in plain HTTP."""
    with listening(answer("400 Bad Request", words)) as port:
        stage = failure(f"http://127.0.0.1:{port}")
    check(stage, REACH, "tls_port", "write https://")


def test_a_server_that_breaks_off_for_another_reason() -> None:
    """Nothing is said about TLS where the port does not speak it."""
    with listening(lambda connection: connection.recv(65536)) as port:
        stage = failure(f"http://127.0.0.1:{port}")
    assert (stage.name, stage.fault) == (REACH, None)
    assert "https" not in str(stage.remediation)


def test_https_to_a_port_that_speaks_http(server: LoopbackServer) -> None:
    """A real HTTP server's answer to a TLS greeting."""
    stage = failure(server.base_url.replace("http:", "https:"))
    check(stage, REACH, "http_port", "http://")


@pytest.mark.parametrize("status", ["404 Not Found", "200 OK"])
def test_a_wrong_path(server: LoopbackServer, status: str) -> None:
    """A page instead of a stream, as nginx gives it: look at the path."""
    page = f"<html><head><title>{status}</title></head><center>nginx</center></html>"
    with listening(answer(status, page)) as port:
        stage = failure(f"http://127.0.0.1:{port}/api")
    check(stage, HANDSHAKE, "wrong_path", "base_url")


@pytest.mark.parametrize("token", [f'"{TOKEN}"', f"'{TOKEN}'"])
def test_a_token_in_quotes(server: LoopbackServer, token: str) -> None:
    """It is said before it costs a failed login."""
    stage = failure(server.base_url, agent_token=token)
    check(stage, "Config loaded", "quoted_token", "Remove the quotes")
    assert failed_logins(server.fake) == 0
    assert server.fake.requests == []


def test_a_good_server_without_a_front_page(server: LoopbackServer) -> None:
    """Its 404 does not read as a fault."""
    with Client(server.base_url, agent_token=TOKEN) as client:
        report = run_diagnostic(client)
    assert report.ok
    assert report.stages[1].detail == "HTTP 404, which is normal at this address"


def test_a_limit_without_a_time(server: LoopbackServer) -> None:
    """How long to wait is not said as if it were known, and the server is the one that refused."""
    server.fake.fault("status", on="stream", status=429, body={"error": "slow down"}, count=9)
    stage = failure(server.base_url)
    check(stage, HANDSHAKE, "limiter", "Wait a minute")
    assert "retry_after" not in str(stage.remediation)
    with Client(server.base_url, agent_token=TOKEN, max_attempts=1) as client:
        assert exit_code_of(run_diagnostic(client)) == 1


class SilentAdapter(BaseAdapter):
    """A server that takes what comes and says nothing; notes how long one waits for it."""

    def __init__(self, silent_at: str) -> None:
        super().__init__()
        self.silent_at = silent_at
        self.waits: list[float] = []

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        if str(request.url).split("?")[0].endswith(self.silent_at):
            self.waits.append(options["timeout"][1])
            raise requests.exceptions.ReadTimeout("silent")
        response = requests.Response()
        response.status_code, response._content = 404, b""
        return response

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("silent_at", "stage", "advice"),
    [(".example/", REACH, "did not answer"), ("/sse", HANDSHAKE, "raise timeout")],
)
@pytest.mark.parametrize(("timeout", "longest"), [(300.0, 10.0), (4.0, 4.0)])
def test_a_silent_server(
    silent_at: str, stage: str, advice: str, timeout: float, longest: float
) -> None:
    """Ten seconds are enough, whatever a client's timeout is; a shorter one is kept."""
    adapter = SilentAdapter(silent_at)
    with Client(
        "https://butt-dial.example",
        agent_token=TOKEN,
        timeout=timeout,
        max_attempts=1,
        transport_adapter=adapter,
        clock=lambda: 0.0,
    ) as client:
        failed = run_diagnostic(client).failure
    assert isinstance(failed, DoctorStage)
    check(failed, stage, "timeout", advice)
    assert adapter.waits
    assert max(adapter.waits) <= longest
