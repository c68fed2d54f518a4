"""The MCP side of the fake server, over a real socket."""

from __future__ import annotations

import json
import queue
import threading
from typing import Any

import pytest
import requests

from buttdial_sync import Client
from buttdial_sync.testing import FakeButtDialServer, ToolFailure
from buttdial_sync.testing.dialects import HOSTED, OPEN_SOURCE, DialectName
from buttdial_sync.testing.tool_schemas import tools_of
from tests.fakes import (
    PrefixedServer,
    client_answers,
    forget_sessions,
    open_streams,
    page_tools,
    set_tools,
)
from tests.unit.testing.fake_wire import HEADERS, Wire, content


def text(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_request_before_the_handshake_is_refused(dialect: DialectName) -> None:
    """Before ``notifications/initialized`` only ``initialize`` and ``ping`` are answered."""
    fake = FakeButtDialServer(dialect=dialect)
    with fake.listen() as loopback, Wire(loopback.base_url, query=dialect != "hosted") as wire:
        assert "error" in wire.request("tools/list")
        assert wire.request("ping")["result"] == {}
        hello = wire.request("initialize", {"protocolVersion": "2025-11-25"}, id=0)
        assert hello["id"] == 0
        assert hello["result"]["protocolVersion"] == "2025-11-25"
        assert "error" in wire.request("tools/list")
        wire.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert "result" in wire.request("tools/list")
        assert wire.request("no/such")["error"]["code"] == -32601


@pytest.mark.parametrize(
    ("dialect", "status", "body"),
    [
        ("hosted", 404, "Could not find session"),
        ("open-source", 400, '{"error": "Unknown session"}'),
    ],
)
def test_post_to_a_session_that_is_gone(dialect: DialectName, status: int, body: str) -> None:
    """A session that was forgotten is unknown, though its stream is still open."""
    fake = FakeButtDialServer(dialect=dialect)
    with fake.listen() as loopback, Wire(loopback.base_url, query=dialect != "hosted") as wire:
        forget_sessions(fake)
        answer = wire.post_call(to="+1")
        assert (answer.status_code, answer.text) == (status, body)
        assert (open_streams(fake), fake.streams_opened) == (0, 1)


def test_session_ends_with_its_stream() -> None:
    """The server notices at once that a client has left."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback:
        wire = Wire(loopback.base_url)
        endpoint = wire.endpoint
        wire.close()
        assert fake.wait_for(lambda: open_streams(fake) == 0)
        answer = requests.post(endpoint, json={}, headers=HEADERS, timeout=5)
        assert answer.status_code == 404


def test_endpoint_event() -> None:
    """The first event is the endpoint, without the origin."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        assert wire.endpoint_bytes.startswith(b"event: endpoint\ndata: /messages/?session_id=")
        assert wire.endpoint_bytes.endswith(b"\n\n")
        assert wire.greet().send() == {"messageId": f"SM{1:032x}"}


def test_a_server_under_a_path() -> None:
    """A client follows the path of the base URL, and the endpoint that the server names."""
    with (
        PrefixedServer("/bd").listen() as loopback,
        Client(f"{loopback.base_url}/bd", agent_token="any") as client,
    ):
        assert client.send_message("+1415", "hi").ok
        assert {each.path for each in loopback.fake.requests} == {"/sse", "/bd/messages/"}


def test_bad_posts_are_plain_text() -> None:
    """Bad JSON and more than 4 MiB are refused in plain text that echoes the body."""
    with FakeButtDialServer().listen() as loopback, Wire(loopback.base_url) as wire:
        bad = requests.post(wire.endpoint, data=b"{oops", headers=HEADERS, timeout=5)
        assert (bad.status_code, bad.text) == (400, "Invalid message: {oops")
        big = requests.post(wire.endpoint, data=b"x" * (4 << 20 | 1), headers=HEADERS, timeout=5)
        assert big.status_code == 400


def test_unknown_tool_and_bad_arguments() -> None:
    """Both are results with ``isError`` and a plain text, and nothing is delivered."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        unknown = wire.greet().call("no_such")
        assert unknown["isError"] is True
        assert text(unknown) == "MCP error -32602: Tool no_such not found"
        for args in ({}, {"to": 1}, {"to": "+1", "channel": "pigeon"}, {"to": "+1", "media": [1]}):
            bad = wire.call(**args)
            assert bad["isError"] is True
            assert text(bad).startswith("MCP error -32602: Input validation error")
        missing = wire.request("tools/call", {"name": "comms_ping"})["result"]
        assert missing["isError"] is True
        assert len(fake.sent_messages) == 4
        assert not fake.delivered


def test_success_has_no_is_error() -> None:
    """``isError`` is absent when a tool succeeds."""
    with FakeButtDialServer().listen() as loopback, Wire(loopback.base_url) as wire:
        assert "isError" not in wire.greet().call("comms_ping")


def test_hosted_keeps_idempotency_keys() -> None:
    """The same key gives the same answer again, and is one delivery."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        first = wire.greet().send(idempotencyKey="k")
        assert wire.send(idempotencyKey="k") == first
        assert wire.send(idempotencyKey="other") != first
        assert [m.idempotency_key for m in fake.delivered] == ["k", "other"]
        assert len(fake.sent_messages) == 3


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_two_messages_are_on_their_way_at_once(dialect: DialectName) -> None:
    """A message whose answer waits for another one does not keep that one from the server."""
    fake, both = FakeButtDialServer(dialect=dialect), threading.Barrier(2)

    def meet(args: dict[str, Any]) -> dict[str, Any]:
        both.wait(30)
        return {"messageId": args["to"]}

    fake.on_tool("comms_send_message", meet)
    people = ["+14155550123", "+14155550124"]
    with fake.listen() as server, Client(server.base_url, agent_token="t", timeout=60) as client:
        results = client.send_many(people, "hi", "sms", workers=2)
        assert [each.message_sid for each in results] == people


def test_failed_send_keeps_no_idempotency_key() -> None:
    """A message that failed may be sent again under its key."""
    fake = FakeButtDialServer()
    fake.on_send(error="No sender", code="NO_CHANNEL_ASSIGNED", channel="sms", retryable=False)
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        assert wire.greet().send(idempotencyKey="k") == {
            "error": "No sender",
            "code": "NO_CHANNEL_ASSIGNED",
            "channel": "sms",
            "retryable": False,
        }
        assert wire.send(idempotencyKey="k")["messageId"]
        assert len(fake.delivered) == 1


def test_open_source_ignores_what_it_does_not_know() -> None:
    """Unknown arguments are dropped, ``idempotencyKey`` too; the answer is pretty-printed."""
    fake = FakeButtDialServer(dialect="open-source")
    with fake.listen() as loopback, Wire(loopback.base_url, query=True) as wire:
        result = wire.greet().call(to="+1", body="x", channel="sms", idempotencyKey="k")
        assert text(result).startswith('{\n  "success": true')
        assert content(result)["channel"] == "sms"
        wire.send(idempotencyKey="k")
        assert len(fake.delivered) == 2


def test_open_source_refuses_carriage_returns() -> None:
    """Its sanitiser rejects any carriage return in a text."""
    fake = FakeButtDialServer(dialect="open-source")
    with fake.listen() as loopback, Wire(loopback.base_url, query=True) as wire:
        assert wire.greet().call(to="+1", body="a\r\nb")["isError"] is True
        assert not fake.delivered


def test_programmed_sends_are_used_one_by_one() -> None:
    """Each programmed answer is used ``count`` times, in order; then the default comes back."""
    fake = FakeButtDialServer()
    fake.on_send(sid="SM1", count=2)
    fake.on_send(raw_text="Rate limit exceeded", error="x")
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        assert [wire.send()["messageId"] for _ in range(2)] == ["SM1", "SM1"]
        limited = wire.call(to="+1")
        assert (text(limited), limited["isError"]) == ("Rate limit exceeded", True)
        assert wire.send()["messageId"] != "SM1"


def test_programmed_tools() -> None:
    """An answer is a dict, a text, a failure or a callable that returns or raises one."""
    fake = FakeButtDialServer()

    def fail(_args: dict[str, Any]) -> str:
        raise ToolFailure({"message": "no"}, code="NOPE", action="call")

    fake.on_tool("comms_get_me", {"agentId": "a"})
    fake.on_tool("comms_find_agent", "plain")
    fake.on_tool("comms_check_trust", lambda args: {"contact": args["contact"]})
    fake.on_tool("comms_make_call", fail)
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        assert content(wire.greet().call("comms_get_me")) == {"agentId": "a"}
        assert text(wire.call("comms_find_agent")) == "plain"
        assert content(wire.call("comms_check_trust", contact="+1")) == {"contact": "+1"}
        failed = wire.call("comms_make_call", to="+1")
        assert failed["isError"] is True
        assert content(failed) == {"error": {"message": "no"}, "code": "NOPE", "action": "call"}
        assert [call.tool for call in fake.calls][-1] == "comms_make_call"


def test_tools_in_pages() -> None:
    """``tools/list`` comes in pages that lead to one another."""
    fake = FakeButtDialServer()
    page_tools(fake, 20)
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        names: list[str] = []
        params: dict[str, object] = {}
        for _ in range(3):
            result = wire.request("tools/list", params)["result"]
            names += [tool["name"] for tool in result["tools"]]
            params = {"cursor": result.get("nextCursor")}
        assert params == {"cursor": None}
        assert names == list(tools_of(HOSTED))
        assert "error" in wire.request("tools/list", {"cursor": "x"})


def test_tools_can_change() -> None:
    """``set_tools`` replaces all tools, and tells the streams if asked to."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        set_tools(fake, ["comms_ping", {"name": "mine", "inputSchema": {}}], announce=True)
        assert wire.next()["method"] == "notifications/tools/list_changed"
        tools = wire.request("tools/list")["result"]["tools"]
        assert [tool["name"] for tool in tools] == ["comms_ping", "mine"]
        assert wire.call("comms_send_message", to="+1")["isError"] is True


def test_schemas_of_the_two_dialects() -> None:
    """The open-source server lacks tools, arguments and every ``confirm``, and renames some."""
    hosted, open_source = tools_of(HOSTED), tools_of(OPEN_SOURCE)
    assert "comms_create_team" in hosted
    assert "comms_create_organization" in open_source
    assert "comms_whatsapp_action" not in open_source
    assert "confirm" in hosted["comms_revoke_consent"]["inputSchema"]["required"]
    assert "confirm" not in json.dumps(open_source)
    send = "comms_send_message"
    assert "idempotencyKey" in hosted[send]["inputSchema"]["properties"]
    assert "idempotencyKey" not in open_source[send]["inputSchema"]["properties"]
    bridge = hosted["comms_bridge_call"]["inputSchema"]
    assert bridge["properties"]["action"]["enum"] == ["list", "call", "remove", "setup"]
    assert bridge["required"] == ["action"]


def test_push_reaches_the_streams_of_one_token() -> None:
    """A notification goes to all streams, or to those of a token; bare data is wrapped."""
    fake = FakeButtDialServer()
    with (
        fake.listen() as loopback,
        Wire(loopback.base_url, token="a") as one,
        Wire(loopback.base_url, token="b") as two,
    ):
        assert fake.push({"body": "for b"}, token="b") == 1
        assert fake.push({"method": "notifications/x"}) == 2
        pushed = two.next()
        assert pushed["method"] == "notifications/message"
        assert pushed["params"]["data"] == {"body": "for b"}
        assert one.next() == {"jsonrpc": "2.0", "method": "notifications/x"}


def test_server_asks_with_an_id_of_its_own() -> None:
    """The server's requests may have the id 0; what the client answers is recorded."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        assert fake.ask("ping") == 1
        assert wire.next() == {"jsonrpc": "2.0", "id": 0, "method": "ping"}
        wire.post({"jsonrpc": "2.0", "id": 0, "result": {}})
        assert client_answers(fake) == [{"jsonrpc": "2.0", "id": 0, "result": {}}]


def test_clear_forgets_what_was_programmed() -> None:
    """After ``clear`` the server answers as a new one, on the same session."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet().send(idempotencyKey="k")
        fake.on_send(error="x")
        fake.fault("silence")
        fake.add_waiting()
        fake.clear()
        assert (fake.requests, fake.calls, fake.delivered, fake.waiting) == ([], [], [], [])
        assert wire.send(idempotencyKey="k")["messageId"]


@pytest.mark.parametrize("change", ["an answer is held", "a stream ends"])
def test_who_waits_is_woken(change: str) -> None:
    """``wait_for`` asks again when an answer is held and when a stream ends."""
    fake = FakeButtDialServer()
    asked, woken = threading.Event(), queue.SimpleQueue[bool]()

    def has_changed() -> bool:
        asked.set()
        return bool(fake.held) if change == "an answer is held" else not open_streams(fake)

    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        fake.fault("late")
        thread = threading.Thread(target=lambda: woken.put(fake.wait_for(has_changed, 300)))
        thread.daemon = True
        thread.start()
        assert asked.wait(5)
        if change == "an answer is held":
            wire.post_call(to="+1")
        else:
            wire.close()
        assert woken.get(timeout=5)


def test_thirty_two_threads_share_a_stream() -> None:
    """Answers to many callers come back on one stream, none lost and none twice."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        endpoint = wire.endpoint

        def work(number: int) -> None:
            with requests.Session() as session:
                for turn in range(5):
                    params = {"name": "comms_ping", "arguments": {}}
                    message = {"id": number * 5 + turn, "method": "tools/call", "params": params}
                    session.post(endpoint, json=message, headers=HEADERS, timeout=10)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        ids = [wire.next()["id"] for _ in range(160)]
        for thread in threads:
            thread.join(10)
        assert sorted(ids) == list(range(160))


def test_open_source_drops_unknown_arguments() -> None:
    """It does so in silence, inside of objects too, and takes its defaults for what is left out."""
    fake = FakeButtDialServer(dialect="open-source")
    calls: dict[str, dict[str, Any]] = {
        "comms_onboard_customer": {
            "displayName": "A",
            "capabilities": {"sms": True, "email": False},
        },
        "comms_set_agent_limits": {"limits": {"maxActionsPerDay": 1, "maxActionsPerMinutes": 2}},
        "comms_send_message": {"to": "+1", "body": "hi", "nonsense": 1},
    }
    for name in calls:
        fake.on_tool(name, lambda args: {"understood": args})
    with fake.listen() as loopback, Wire(loopback.base_url, query=True) as wire:
        wire.greet()
        understood = [
            content(wire.call(name, **args))["understood"] for name, args in calls.items()
        ]
    assert [call.args for call in fake.calls] == list(calls.values())
    channels = {"phone": True, "whatsapp": True, "email": False, "voiceAi": True}
    assert understood == [
        {"displayName": "A", "capabilities": channels},
        {"limits": {"maxActionsPerDay": 1}},
        {"to": "+1", "body": "hi", "channel": "sms"},
    ]
