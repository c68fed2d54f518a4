"""A gateway that passes a POST on and then answers with an error of its own, over raw sockets."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from buttdial_sync import Client, OutcomeUnknownError, SendResult

pytestmark = pytest.mark.slow

SERVICE_UNAVAILABLE = b'{"message": "Service Unavailable"}'
PAGE = b"<!DOCTYPE html><html><body><h1>Error 503 Backend fetch failed</h1></body></html>"
BODIES = {"json": SERVICE_UNAVAILABLE, "page": PAGE, "empty": b""}

TOOL = {
    "name": "comms_send_message",
    "inputSchema": {
        "type": "object",
        "properties": {"to": {"type": "string"}, "body": {"type": "string"}},
    },
}
KEYED_TOOL = {
    "name": "comms_send_message",
    "inputSchema": {
        "type": "object",
        "properties": {**TOOL["inputSchema"]["properties"], "idempotencyKey": {"type": "string"}},  # type: ignore[index]
    },
}


class Gateway(socketserver.ThreadingTCPServer):
    """
    A server behind a gateway that spoils the answers to the first calls.

    Attributes:
        status: What the gateway answers a call with.
        body: The body of that.
        spoils: How many calls it does that to.
        answers: Whether the answer to a spoilt call comes on the stream all the same.
        tool: What ``tools/list`` says; a key in its schema is honoured.
        calls: The arguments of each call that reached the server.
        executed: Those that were carried out.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.status = "503 Service Unavailable"
        self.body = b""
        self.spoils = 1
        self.answers = False
        self.tool = TOOL
        self.calls: list[dict[str, Any]] = []
        self.executed: list[dict[str, Any]] = []
        self.stream: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def execute(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(arguments)
        key = arguments.get("idempotencyKey") if self.tool is KEYED_TOOL else None
        if key is None or all(each["idempotencyKey"] != key for each in self.executed):
            self.executed.append(arguments)
        sid = f"SM{len(self.executed)}"
        return {"content": [{"type": "text", "text": json.dumps({"messageId": sid})}]}


@attrs.frozen
class _Post:
    id: int | None
    method: str
    params: dict[str, Any]


class _Exchange(socketserver.StreamRequestHandler):
    server: Gateway

    def handle(self) -> None:
        request = self.rfile.readline()
        length = 0
        while (line := self.rfile.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        if request.startswith(b"GET"):
            self._stream()
        elif request:
            message = json.loads(self.rfile.read(length))
            self._take(
                _Post(message.get("id"), message.get("method", ""), message.get("params", {}))
            )

    def _stream(self) -> None:
        self.server.stream = self.wfile  # before the client knows where to post
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        self.wfile.write(b"event: endpoint\ndata: /messages?sessionId=1\n\n")
        self.rfile.read(1)  # until the client leaves

    def _take(self, post: _Post) -> None:
        is_call = post.method == "tools/call"
        spoils = is_call and len(self.server.calls) < self.server.spoils
        result = self._result(post)
        if post.id is not None and (self.server.answers or not spoils):
            event = json.dumps({"jsonrpc": "2.0", "id": post.id, "result": result})
            self.server.stream.write(f"event: message\ndata: {event}\n\n".encode())
        status, body = ("202 Accepted", b"Accepted")
        if spoils:
            status, body = self.server.status, self.server.body
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nLocation: /elsewhere\r\n"
        self.wfile.write(f"{head}Connection: close\r\n\r\n".encode() + body)

    def _result(self, post: _Post) -> dict[str, Any]:
        if post.method == "tools/call":
            return self.server.execute(post.params["arguments"])
        return {"tools": [self.server.tool]} if post.method == "tools/list" else {}


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def send(gateway: Gateway, timeout: float = 2.0) -> SendResult:
    """Send one message; without an answer it takes the whole timeout."""
    with Client(
        gateway.url, agent_token="t", timeout=timeout, token_in="header", sleep=lambda _: None
    ) as client:
        return client.send_message("+1", "hello")


every_body = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *(("503 Service Unavailable", body) for body in BODIES.values()),
        ("429 Too Many Requests", SERVICE_UNAVAILABLE),
        ("404 Not Found", PAGE),
    ],
)
def test_without_an_answer_it_is_unknown(gateway: Gateway, status: str, body: bytes) -> None:
    """A keyless server carried it out: nothing is repeated, and nothing is called a failure."""
    gateway.status, gateway.body = status, body
    result = send(gateway)
    assert (result.outcome, result.failed, result.attempts) == ("unknown", False, 1)
    assert len(gateway.executed) == 1


@every_body
def test_the_answer_on_the_stream_counts(gateway: Gateway, body: bytes) -> None:
    """The stream is looked at before anything is said: the message was sent, once."""
    gateway.body, gateway.answers = body, True
    result = send(gateway)
    assert (result.outcome, result.message_sid, result.attempts) == ("sent", "SM1", 1)
    assert len(gateway.executed) == 1


@every_body
def test_a_server_with_keys_is_asked_again(gateway: Gateway, body: bytes) -> None:
    """The second attempt has the same key, and the server carries it out once only."""
    gateway.body, gateway.tool = body, KEYED_TOOL
    with Client(
        gateway.url, agent_token="t", timeout=10.0, token_in="header", sleep=lambda _: None
    ) as client:
        result = client.send_message("+1", "hello")
    assert (result.outcome, result.message_sid, result.attempts) == ("sent", "SM1", 2)
    assert {call["idempotencyKey"] for call in gateway.calls} == {result.idempotency_key}
    assert (len(gateway.calls), len(gateway.executed)) == (2, 1)


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "303 See Other"])
def test_a_redirect_after_the_act_is_unknown(gateway: Gateway, status: str) -> None:
    """303 says where the result of a request is that was carried out."""
    gateway.status = status
    result = send(gateway)
    assert (result.outcome, result.attempts, len(gateway.executed)) == ("unknown", 1, 1)
    gateway.calls.clear()
    gateway.executed.clear()
    gateway.answers = True
    assert send(gateway).outcome == "sent"


def test_the_servers_own_503_is_repeated(gateway: Gateway) -> None:
    """What the server itself takes back was not carried out, as far as it says."""
    gateway.body = b'{"error": "starting", "retryable": true}'
    gateway.spoils = 9
    result = send(gateway, timeout=30.0)  # more than the longest pauses between three attempts
    assert (result.outcome, result.attempts) == ("rejected", 3)


def test_a_tool_call_says_it_too(gateway: Gateway) -> None:
    """A call that raises has a class of its own for it."""
    gateway.body = SERVICE_UNAVAILABLE
    with (
        Client(gateway.url, agent_token="t", timeout=1.0, token_in="header") as client,
        pytest.raises(OutcomeUnknownError) as caught,
    ):
        client.call_tool("comms_send_message", {"to": "+1", "body": "x"})
    assert caught.value.status_code == 503
    assert len(gateway.executed) == 1
