"""Each of the faults, over real sockets, is found and named with its remedy."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import AuthError, Client, DoctorStage, run_diagnostic
from buttdial_sync.doctor.stages import exit_code_of
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer, ToolFailure
from tests.fakes import add_fault, failed_logins, set_tools
from tests.integration.doctor.conftest import TOKEN

TO = "+14155550123"
CERTIFICATE = Path(__file__).with_name("self_signed.pem")
REACH, HANDSHAKE, TOOLS, SEND = (
    "Server reachable",
    "SSE handshake",
    "Tool list",
    "send_message accepted",
)


def failure(base_url: str, **options: Any) -> DoctorStage:
    """Examine a server, check that all after the failure was skipped, and return the failure."""
    chosen: dict[str, Any] = {"agent_token": TOKEN, "max_attempts": 1, "timeout": 5.0, **options}
    with Client(base_url, **chosen) as client:
        report = run_diagnostic(client, to=TO)
    names = [stage.name for stage in report.stages]
    assert len(names) == 7
    failed = report.failure
    assert failed is not None
    position = names.index(failed.name)
    assert all(stage.ok for stage in report.stages[:position])
    assert all(stage.skipped for stage in report.stages[position + 1 :])
    assert all(failed.name in str(stage.detail) for stage in report.stages[position + 1 :])
    assert failed.seconds is not None
    assert TOKEN not in report.summary()
    return failed


def check(stage: DoctorStage, name: str, fault: str, advice: str) -> None:
    assert (stage.name, stage.fault) == (name, fault)
    assert advice in str(stage.remediation)


def test_missing_token(server: LoopbackServer) -> None:
    """Without a token nothing is sent at all."""
    stage = failure(server.base_url, agent_token=None)
    check(stage, "Config loaded", "missing_token", "BUTT_DIAL_AGENT_TOKEN")
    assert server.fake.requests == []


def test_token_that_the_server_does_not_see() -> None:
    """A server that looks for the token elsewhere: where to put it."""
    with FakeButtDialServer(dialect="open-source").listen() as server:
        stage = failure(server.base_url, token_in="header")
    check(stage, HANDSHAKE, "missing_token", 'token_in="query"')


def test_refused(closed_port: str) -> None:
    """Nobody listens."""
    stage = failure(closed_port)
    check(stage, REACH, "refused", "Nothing listens there")
    assert stage.code == "REFUSED"


def test_dns() -> None:
    """The name does not exist."""
    check(failure("https://butt-dial.invalid"), REACH, "dns", "Check the host in base_url")


def test_untrusted_certificate() -> None:
    """A certificate that nobody signed."""
    with listening_with_tls() as base_url:
        check(failure(base_url), REACH, "tls", "certificate")


@pytest.mark.parametrize("kind", ["hang", "drip"])
def test_timeout(server: LoopbackServer, kind: Any) -> None:
    """A server that says nothing, or a byte now and then."""
    add_fault(server.fake, kind, on="rest")
    stage = failure(server.base_url, timeout=0.3)
    check(stage, REACH, "timeout", "The server did not answer")
    assert stage.outcome == "not_sent"


def test_timeout_of_the_handshake(server: LoopbackServer) -> None:
    """A stream that opens and stays silent."""
    add_fault(server.fake, "no_endpoint", on="stream")
    check(failure(server.base_url, timeout=0.3), HANDSHAKE, "timeout", "base_url")


def test_timeout_of_the_send() -> None:
    """No answer to the message: it may have been sent, and the report says so."""
    fake = FakeButtDialServer(dialect="open-source")
    with fake.listen() as server:
        fake.fault("silence")
        stage = failure(server.base_url, timeout=0.5)
    check(stage, SEND, "timeout", "Raise timeout")
    assert stage.outcome == "unknown"
    assert "before you repeat it" in str(stage.remediation)


def test_proxy_is_not_there(closed_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the environment does not answer."""
    monkeypatch.setenv("HTTP_PROXY", closed_port)
    check(failure("http://butt-dial.example"), REACH, "proxy", "HTTP_PROXY")


def test_proxy_wants_a_login(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the environment answers in the server's place."""
    monkeypatch.setenv("HTTP_PROXY", server.base_url)
    server.fake.fault("status", on="rest", status=407)
    stage = failure("http://butt-dial.example")
    check(stage, REACH, "proxy", "HTTP_PROXY")


def test_unauthorized(server: LoopbackServer) -> None:
    """A wrong token costs one failed login, and what is left is told."""
    stage = failure(server.base_url, agent_token="a-wrong-token")
    check(stage, HANDSHAKE, "unauthorized", "Check the token")
    assert stage.code == "AUTH_INVALID_TOKEN"
    assert "9 more failed logins" in str(stage.detail)
    assert failed_logins(server.fake) == 1


def test_forbidden(server: LoopbackServer) -> None:
    """A good token without the right."""
    body = {"error": "Auth error: scope agent:send is missing"}
    server.fake.fault("status", on="call", status=403, body=body)
    check(failure(server.base_url), SEND, "forbidden", "scope")


def test_limiter(server: LoopbackServer) -> None:
    """Too many requests from this address."""
    server.fake.fault("status", on="stream", status=429, body="Too many requests")
    check(failure(server.base_url), HANDSHAKE, "limiter", "Wait retry_after seconds")


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_token_of_another_agent(dialect: Any) -> None:
    """Messages would be sent in the name of an agent that nobody meant."""
    with FakeButtDialServer(dialect=dialect).listen() as server:
        stage = failure(server.base_url, agent_id="agent-2")
        check(stage, HANDSHAKE, "wrong_agent", "token of this agent")
        assert "belongs to agent agent-1, not to agent-2" in str(stage.detail)
        with Client(server.base_url, agent_token=TOKEN, agent_id="agent-1") as client:
            assert run_diagnostic(client).ok


@pytest.mark.parametrize(("dialect", "time"), [("hosted", "UTC"), ("open-source", "900 s")])
def test_lockout(dialect: Any, time: str) -> None:
    """Too many failed logins: until when, where the server says so; good tokens are refused too."""
    with FakeButtDialServer(dialect=dialect, tokens=[TOKEN]).listen() as server:
        with Client(server.base_url, agent_token="wrong", max_attempts=1) as client:
            for _ in range(10):
                client.forget_refusals()
                with suppress(AuthError):
                    client.ping()
        stage = failure(server.base_url)
    check(stage, HANDSHAKE, "lockout", "until the lockout has passed")
    assert time in str(stage.detail)


@pytest.mark.parametrize("status", [200, 404])
def test_a_page_instead_of_a_stream(server: LoopbackServer, status: int) -> None:
    """A login page or somebody else's server."""
    server.fake.fault("html", on="stream", status=status)
    check(failure(server.base_url), HANDSHAKE, "wrong_path", "base_url")


def test_wrong_path() -> None:
    """A base URL with another path than that of the server."""
    with FakeButtDialServer().listen() as server:
        check(failure(f"{server.base_url}/bd"), HANDSHAKE, "wrong_path", "base_url")


def test_an_answer_that_is_not_understood(server: LoopbackServer) -> None:
    """It is not a web page, and a report of a failure never ends a command with 0."""
    server.fake.on_rest("GET", "/api/v1/agents/me", [])
    with Client(server.base_url, agent_id="agent-1", agent_token=TOKEN) as client:
        report = run_diagnostic(client)
    stage = report.failure
    assert stage is not None
    assert (stage.name, stage.fault, stage.outcome) == (HANDSHAKE, None, "sent")
    assert "base_url" not in str(stage.remediation)
    assert exit_code_of(report) == 3


def test_tool_missing(server: LoopbackServer) -> None:
    """A server that cannot send messages."""
    set_tools(server.fake, ["comms_ping"])
    stage = failure(server.base_url)
    check(stage, TOOLS, "tool_missing", "list_tools()")
    assert stage.outcome == "rejected"


@pytest.mark.parametrize(
    ("answer", "fault", "advice"),
    [
        (ToolFailure("agentId is required"), "agent_id", "agent_id"),
        (ToolFailure("Invalid recipient: 0123"), "recipient", "E.164"),
        (ToolFailure("no", "INVALID_RECIPIENT"), "recipient", "E.164"),
        (ToolFailure("Compliance: +1 opted out"), "consent", "remove them"),
        (
            ToolFailure("Rate limit exceeded: per-minute (10/10). Resets in up to 60 seconds."),
            "rate_limit",
            "ask for a higher limit",
        ),
        (ToolFailure("no sender", "NO_CHANNEL_ASSIGNED"), "unprovisioned", "Assign a channel"),
        (ToolFailure("no such agent", "AGENT_NOT_FOUND"), "unprovisioned", "Register the agent"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_message_is_refused(
    server: LoopbackServer, answer: ToolFailure, fault: str, advice: str
) -> None:
    """What the server says to a message is named, with its own advice or ours."""
    server.fake.on_tool("comms_send_message", answer)
    stage = failure(server.base_url)
    check(stage, SEND, fault, advice)
    assert stage.outcome == "rejected"


def test_a_refusal_without_a_name(server: LoopbackServer) -> None:
    """A fault that nobody foresaw is told as it came, with where to look."""
    server.fake.on_tool("comms_send_message", ToolFailure("The moon is full"))
    stage = failure(server.base_url)
    assert stage.fault is None
    assert stage.detail == "The moon is full"
    assert "-v" in str(stage.remediation)


@pytest.mark.parametrize("minutes", [10, -10])
def test_clock_skew(server: LoopbackServer, minutes: int) -> None:
    """A wrong clock is told with its remedy; messages go out all the same, so it fails nothing."""
    date = datetime.now(timezone.utc) - timedelta(minutes=minutes)
    headers = {"Date": format_datetime(date, usegmt=True)}
    server.fake.fault("status", on="rest", status=404, headers=headers)
    with Client(server.base_url, agent_token=TOKEN) as client:
        report = run_diagnostic(client, to=TO)
    assert report.ok
    stage = report.stages[1]
    check(stage, REACH, "clock_skew", "clock")
    assert f"10 min {'ahead of' if minutes > 0 else 'behind'}" in str(stage.detail)


@contextmanager
def listening_with_tls() -> Iterator[str]:
    """Listen with a certificate of one's own making, and end each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=shake_hands, args=(listener, context))
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def shake_hands(listener: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.settimeout(5)
            with connection, suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()
