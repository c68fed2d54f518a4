"""What a server pushes reaches the host, also when the stream ends right behind it."""

from __future__ import annotations

import io
import json
from typing import Any

import requests
import responses

from buttdial_sync.transport.connections import RequestProgress
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.http import Http
from buttdial_sync.transport.session import McpSession, SessionOptions
from buttdial_sync.transport.sse import EventStream
from buttdial_sync.transport.token_breaker import TokenBreaker

URL = "https://push.test"
TOKEN = "agent-secret-1"
PATIENCE = 5.0


def message(value: dict[str, Any]) -> bytes:
    return b"event: message\ndata: " + json.dumps({"jsonrpc": "2.0", **value}).encode() + b"\n\n"


def pushed(number: int) -> bytes:
    return message({"method": "notifications/message", "params": {"data": {"number": number}}})


def test_pushes_come_before_the_end() -> None:
    """What was pushed is handed over in order, all of it before the session is said to be over."""
    told: list[int | str] = []

    def receive(token: str, notification: dict[str, Any]) -> None:
        assert token == TOKEN
        told.append(notification["params"]["data"]["number"])

    body = b"event: endpoint\ndata: /messages\n\n" + message({"id": 1, "result": {}})
    response = requests.Response()
    response.raw = io.BytesIO(body + b"".join(map(pushed, range(3))))
    http = Http(connect_timeout=PATIENCE)
    stream = EventStream(
        response,
        RequestProgress(Deadline(PATIENCE), PATIENCE),
        url=f"{URL}/sse",
        max_event_bytes=1000,
        clock=lambda: 0.0,
    )
    options = SessionOptions(
        max_event_bytes=1000,
        on_notification=receive,
        on_end=told.append,
        breaker=TokenBreaker(),
        clock=lambda: 0.0,
    )
    session = McpSession(http, stream, TOKEN, options)
    with responses.RequestsMock() as mock:
        mock.post(f"{URL}/messages", status=202)
        session.start(Deadline(PATIENCE))
    session.close(PATIENCE)
    http.close()
    assert told == [0, 1, 2, TOKEN]
