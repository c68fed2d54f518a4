"""The REST side of the fake server."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import requests

from buttdial_sync.testing import FakeButtDialServer, Request
from buttdial_sync.testing.http_messages import HttpResponse, StreamResponse
from tests.fakes import cut_streams

BEARER = {"authorization": "Bearer t"}


def ask(server: FakeButtDialServer, method: str, path: str, **query: str) -> Any:
    reply = server.handle(Request(method, path, query, BEARER))
    assert isinstance(reply, HttpResponse)
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
    cut_streams(server)


def test_open_source_pushes_nothing() -> None:
    """What would be pushed waits in the queue, with the columns that it has there."""
    server = FakeButtDialServer(dialect="open-source")
    opened = server.handle(Request("GET", "/sse", {"token": "t"}))
    assert isinstance(opened, StreamResponse)
    message = {"type": "message", "messageId": "m-1", "from": "+1", "body": "hi", "mediaType": "x"}
    assert server.push(message) == 0
    assert server.push({"method": "notifications/message", "params": {"data": message}}) == 0
    waiting = ask(server, "GET", "/api/v1/waiting-messages")
    for item in json.loads(waiting.body)["messages"]:
        assert (item["externalId"], item["from"], item["body"]) == ("m-1", "+1", "hi")
        assert item["id"] != "m-1"
        assert not {"type", "messageId", "mediaType"} & item.keys()
    assert server.push({"method": "notifications/progress", "params": {}}) == 1
    cut_streams(server)


def post(server: FakeButtDialServer, path: str, **body: Any) -> Any:
    reply = server.handle(Request("POST", path, {}, BEARER, json.dumps(body).encode()))
    assert isinstance(reply, HttpResponse)
    assert reply.status == 200
    return json.loads(reply.body)


def test_open_source_rest_drops_unknown_keys() -> None:
    """Keys that the server does not read are dropped in silence, inside of objects as well."""
    server = FakeButtDialServer(dialect="open-source")
    wanted = {"phone": True, "email": False, "sms": True, "whatsApp": True}
    made = post(
        server,
        "/api/v1/provision",
        agentId="a",
        displayName="Bot",
        capabilities=wanted,
        callbackUrl="https://host.test/hook",
        language="he",
    )
    assert made.keys() == {"success", "agentId", "displayName", "securityToken", "channels"}
    assert made["channels"].keys() == {"phone"}
    limits = {"maxActionsPerDay": 7, "maxActionsPerMinutes": 1}
    kept = post(server, "/api/v1/agent-limits", agentId="a", limits=limits)["currentLimits"]
    assert kept["maxActionsPerDay"] == 7
    assert "maxActionsPerMinutes" not in kept
    config = post(server, "/api/v1/billing/config", agentId="a", tier="pro", colour="red")
    assert "colour" not in config["billingConfig"]


def test_open_source_onboarding_answers_under_provisioning() -> None:
    """The id, the name, the token and the channels all stand there."""
    server = FakeButtDialServer(dialect="open-source")
    answer = post(server, "/api/v1/onboard", agentId="a", displayName="Bot")
    assert answer.keys() == {"success", "provisioning"}
    assert answer["provisioning"].keys() == {"agentId", "displayName", "securityToken", "channels"}


def test_unknown_endpoint_is_an_html_page() -> None:
    """The servers' web framework answers for an endpoint that they lack, before any login."""
    server = FakeButtDialServer(tokens=())
    for path in ("/api/v1/nothing", "/bd/sse", "/sses"):
        answer = ask(server, "GET", path)
        assert answer.status == 404
        assert answer.content_type.startswith("text/html")


def test_big_body_is_an_html_page() -> None:
    """A REST body over 1 MB is refused by the web framework too."""
    server = FakeButtDialServer()
    server.on_rest("POST", "/api/v1/agents")
    reply = server.handle(Request("POST", "/api/v1/agents", {}, BEARER, b"x" * (1 << 20 | 1)))
    assert isinstance(reply, HttpResponse)
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


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("api/v1/voices", "begins with a slash"),
        ("/api/v1/voicez", "did you mean /api/v1/voices?"),
        ("/api/v1/agent/{agent_id}/tokens", "did you mean /api/v1/agents/{agent_id}/tokens?"),
    ],
)
def test_a_mistyped_path_is_refused(path: str, hint: str) -> None:
    """It would program nothing."""
    with pytest.raises(ValueError, match=re.escape(hint)):
        FakeButtDialServer().on_rest("GET", path, {})


@pytest.mark.parametrize(
    "path", ["/api/v1/voices", "/api/v1/agents/ann/tokens", "/api/v1/agents/{id}", "/v1/charges"]
)
def test_other_paths_are_programmed(path: str) -> None:
    """A part of a path may be anything, and a fake may answer for another service, too."""
    fake = FakeButtDialServer()
    fake.on_rest("GET", path, {"mine": True}, public=True)
    with fake.mocked() as mocked:
        url = f"{mocked.base_url}{path.format(id='ann')}"
        assert requests.get(url, timeout=5).json() == {"mine": True}
