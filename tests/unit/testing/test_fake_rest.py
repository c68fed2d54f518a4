"""The REST side of the fake server."""

from __future__ import annotations

from typing import Any

import requests

from buttdial_sync.testing import FakeButtDialServer, Request
from buttdial_sync.testing.exchange import Answer

BEARER = {"authorization": "Bearer t"}


def ask(server: FakeButtDialServer, method: str, path: str, **query: str) -> Any:
    reply = server.handle(Request(method, path, query, BEARER))
    assert isinstance(reply, Answer)
    return reply


def test_reading_waiting_messages_removes_them() -> None:
    """What is returned has left the queue; ``limit`` and ``channel`` choose."""
    server = FakeButtDialServer()
    for channel in ("sms", "email", "sms", "sms"):
        server.add_waiting(channel=channel, body="same")
    with server.listen() as loopback, requests.Session() as session:
        url = f"{loopback.base_url}/api/v1/waiting-messages"

        def read(**params: str) -> int:
            answer = session.get(url, params=params, headers=BEARER, timeout=5).json()
            assert len(answer["messages"]) == answer["count"]
            return int(answer["count"])

        assert read(limit="2", channel="sms") == 2
        assert [each["channel"] for each in server.waiting] == ["email", "sms"]
        assert read() == 2
        assert read() == 0


def test_bad_limit() -> None:
    """A limit that is no number is refused, and nothing is lost."""
    server = FakeButtDialServer()
    server.add_waiting()
    assert ask(server, "GET", "/api/v1/waiting-messages", limit="x").status == 400
    assert len(server.waiting) == 1


def test_open_source_stream_loses_waiting_messages() -> None:
    """Opening a stream on the open-source server marks what waits as delivered."""
    server = FakeButtDialServer(dialect="open-source")
    server.add_waiting()
    server.handle(Request("GET", "/sse", {"token": "t"}))
    assert (server.waiting, server.lost_waiting) == ([], 1)
    server.cut_streams()


def test_unknown_endpoint_is_an_html_page() -> None:
    """The servers' web framework answers for an endpoint that they lack, before any login."""
    server = FakeButtDialServer(base_path="/bd", tokens=())
    for path in ("/bd/api/v1/nothing", "/sse", "/bdx/sse"):
        answer = ask(server, "GET", path)
        assert answer.status == 404
        assert answer.content_type.startswith("text/html")


def test_big_body_is_an_html_page() -> None:
    """A REST body over 1 MB is refused by the web framework too."""
    server = FakeButtDialServer()
    server.on_rest("POST", "/api/v1/agents")
    reply = server.handle(Request("POST", "/api/v1/agents", {}, BEARER, b"x" * (1 << 20 | 1)))
    assert isinstance(reply, Answer)
    assert (reply.status, reply.content_type[:9]) == (413, "text/html")


def test_programmed_endpoint() -> None:
    """An endpoint can be programmed, with parts of the path that may be anything."""
    server = FakeButtDialServer()
    server.on_rest("GET", "/api/v1/agents/{agent_id}", lambda request: {"path": request.path})
    server.on_rest("POST", "/api/v1/agents", {"a": 1}, status=201, headers={"Sunset": "x"})
    assert ask(server, "GET", "/api/v1/agents/a-1").body == b'{"path": "/api/v1/agents/a-1"}'
    created = ask(server, "POST", "/api/v1/agents")
    assert (created.status, created.headers["Sunset"]) == (201, "x")
    assert ask(server, "GET", "/api/v1/agents/a/b").status == 404
