"""What goes wrong on demand, over a real socket."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import urllib3

from buttdial_sync.testing import FakeButtDialServer
from tests.fakes import add_fault, forget_sessions
from tests.unit.testing.fake_wire import HEADERS, Wire, data_of


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("explode", {}),
        ("cut", {"on": "stream"}),
        ("no_endpoint", {"on": "call"}),
        ("silence", {"size": 3}),
        ("status", {"on": "rest", "tool": "comms_ping"}),
        ("cut", {"on": "everywhere"}),
        ("cut", {"count": 0}),
    ],
)
def test_impossible_faults_are_refused_at_once(kind: Any, options: dict[str, Any]) -> None:
    """A fault that could never strike is a mistake of the test, and says so."""
    with pytest.raises(ValueError, match=r"fault|count"):
        FakeButtDialServer().fault(kind, **options)


@pytest.mark.parametrize("kind", ["refuse", "reset"])
def test_connection_is_reset(kind: Any) -> None:
    """The client sees a reset; a refused request is not even recorded."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        posts = fake.posts
        fake.fault(kind)
        with pytest.raises(requests.ConnectionError, match="reset"):
            wire.post_call(to="+1")
        assert fake.posts - posts == (kind == "reset")
        assert len(fake.calls) == (kind == "reset")
        assert not fake.delivered
        assert wire.send()["messageId"]


def test_clear_drops_what_is_held() -> None:
    """An answer of before does not come up in the next test."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        fake.fault("late")
        wire.post_call(to="+1", body="x")
        assert fake.wait_for(lambda: fake.held == 1)
        fake.clear()
        assert (fake.held, fake.release()) == (0, 0)


@pytest.mark.parametrize("trouble", ["token", "session"])
def test_a_lost_post_of_a_stranger_is_not_carried_out(trouble: str) -> None:
    """``delivered`` means: if the server would have carried it out."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        if trouble == "token":
            fake.revoke("t")
        else:
            forget_sessions(fake)
        fake.fault("status", delivered=True)
        assert wire.post_call(to="+1", body="x").status_code == 500
        assert not fake.delivered


@pytest.mark.parametrize("kind", ["reset", "hang", "drip", "status"])
def test_a_lost_post_may_have_been_carried_out(kind: Any) -> None:
    """With ``delivered`` the message is sent though the client hears nothing of it."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        # A drip that drips gets round the time-out: that is what it is for.
        options: dict[str, Any] = {"interval": 100.0} if kind == "drip" else {}
        add_fault(fake, kind, delivered=True, **options)
        params = {"name": "comms_send_message", "arguments": {"to": "+1"}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        if kind == "status":
            assert wire.post(message).status_code == 500
        else:
            with pytest.raises((requests.ConnectionError, requests.Timeout)):
                requests.post(wire.endpoint, json=message, headers=HEADERS, timeout=0.05)
        assert fake.wait_for(lambda: len(fake.delivered) == 1)


@pytest.mark.parametrize("on", ["stream", "rest"])
@pytest.mark.parametrize("kind", ["hang", "reset", "refuse"])
def test_trouble_strikes_where_it_was_sent(on: Any, kind: Any) -> None:
    """A fault on the stream leaves REST alone, and the other way round."""
    fake = FakeButtDialServer()
    fake.fault(kind, on=on)
    with fake.listen() as loopback:
        urls = {"stream": "/sse", "rest": "/api/v1/waiting-messages"}
        other = next(path for place, path in urls.items() if place != on)
        with requests.get(
            loopback.base_url + other, headers=HEADERS, stream=True, timeout=5
        ) as good:
            assert good.status_code == 200
        with pytest.raises((requests.ConnectionError, requests.Timeout)):
            requests.get(loopback.base_url + urls[on], headers=HEADERS, timeout=0.05)


def test_drip_outlives_a_read_timeout() -> None:
    """Bytes keep coming, so that no single read ever times out, until the server closes."""
    fake = FakeButtDialServer()
    add_fault(fake, "drip", on="rest", interval=0.001)
    loopback = fake.listen()
    with socket.create_connection(("127.0.0.1", loopback.port), 5) as client:
        client.sendall(b"GET /api/v1/waiting-messages HTTP/1.1\r\nHost: x\r\n\r\n")
        seen = b""
        while len(seen) < 60:
            seen += client.recv(100)
        assert b"\r\n\r\n" not in seen
        loopback.close()
        while client.recv(100):
            pass


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"status": 503}, '{"error": "Status 503"}'),
        ({"status": 429, "body": "Too many requests"}, "Too many requests"),
        ({"status": 401, "body": {"code": "AUTH_TOKEN_REVOKED"}}, '{"code": "AUTH_TOKEN_REVOKED"}'),
        ({"status": 429, "body": "", "headers": {"Retry-After": "7"}}, ""),
    ],
)
@pytest.mark.parametrize("on", ["call", "post", "stream", "rest"])
def test_status(on: Any, options: dict[str, Any], text: str) -> None:
    """Any status, body and headers, once, anywhere."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        fake.fault("status", on=on, **options)
        if on in {"call", "post"}:
            answer = wire.post_call(to="+1")
        else:
            path = "/sse" if on == "stream" else "/api/v1/waiting-messages"
            answer = requests.get(loopback.base_url + path, headers=HEADERS, timeout=5)
        assert (answer.status_code, answer.text) == (options["status"], text)
        assert answer.headers.get("Retry-After") == (options.get("headers") or {}).get(
            "Retry-After"
        )


@pytest.mark.parametrize("delivered", [True, False])
def test_cut(delivered: bool) -> None:
    """The POST is accepted, the stream is cut, and only the server knows what was done."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        fake.fault("cut", delivered=delivered)
        assert wire.post_call(to="+1").status_code == 202
        with pytest.raises(urllib3.exceptions.ProtocolError):
            wire.rest()
        assert len(fake.delivered) == delivered
        assert wire.post_call(to="+1").status_code == 404


def test_clean_cut() -> None:
    """A stream may end properly too, which no client library takes for an error."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        fake.fault("cut", clean=True)
        wire.post_call(to="+1")
        assert wire.rest() == []


def test_partial_cut() -> None:
    """A stream may be cut in the middle of an event."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        fake.fault("cut", partial=True, clean=True)
        wire.post_call(to="+1")
        half = wire.raw.read1(65536)
        assert half.startswith(b"event: message\ndata: {")
        assert not half.endswith(b"\n")


def test_silence_is_carried_out_and_never_answered() -> None:
    """Nothing comes for the silent call; the next one is answered."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        fake.fault("silence", tool="comms_send_message")
        assert wire.call("comms_ping")
        wire.post_call(to="+1")
        assert wire.request("ping", id=77)["id"] == 77
        assert len(fake.delivered) == 1


def test_late_answers_wait_for_release() -> None:
    """Held answers come when they are released, after answers to later calls."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        fake.fault("late", count=2)
        wire.post_call(to="+1")
        wire.post_call(to="+2")
        assert wire.request("ping", id=1)["id"] == 1
        assert fake.wait_for(lambda: fake.held == 2)
        assert fake.release() == 2
        assert [wire.next()["id"], wire.next()["id"]] == [9, 9]


def test_faults_of_an_answer() -> None:
    """An answer may be no JSON, an error, without content, or of any size."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        add_fault(fake, "garbage")
        wire.post_call(to="+1")
        assert data_of(next(wire.events)) == "{not json"
        add_fault(fake, "jsonrpc_error", code=-32000, message="no", data={"a": 1})
        error = wire.request("tools/call", {"name": "comms_ping", "arguments": {}})["error"]
        assert error == {"code": -32000, "message": "no", "data": {"a": 1}}
        add_fault(fake, "no_content")
        assert wire.call() == {}
        add_fault(fake, "huge", size=3_000_000)
        assert len(wire.call()["content"][0]["text"]) == 3_000_000


def test_handshake_can_fail_as_a_call_does() -> None:
    """``on="post"`` strikes at any request, and spares notifications from answer faults."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        add_fault(fake, "jsonrpc_error", on="post")
        wire.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert "error" in wire.request("initialize")


def test_faults_of_the_stream() -> None:
    """No endpoint, an endpoint elsewhere, a page or a redirect instead of a stream."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback:
        add_fault(fake, "foreign_endpoint", on="stream")
        with Wire(loopback.base_url) as wire:
            assert urlsplit(wire.endpoint).netloc == "elsewhere.example"
        fake.fault("html", on="stream")
        add_fault(fake, "redirect", on="stream", status=302, location="https://x.example/")
        url = f"{loopback.base_url}/sse"
        page = requests.get(url, headers=HEADERS, timeout=5)
        assert (page.status_code, page.text[:15]) == (200, "<!DOCTYPE html>")
        moved = requests.get(url, headers=HEADERS, timeout=5, allow_redirects=False)
        assert (moved.status_code, moved.headers["Location"]) == (302, "https://x.example/")
        add_fault(fake, "no_endpoint", on="stream")
        silent = requests.get(url, headers=HEADERS, timeout=5, stream=True)
        assert silent.headers["Content-Type"] == "text/event-stream"
        loopback.close()
        with pytest.raises(urllib3.exceptions.ProtocolError):
            silent.raw.read1(1)


def test_faults_of_rest_answers() -> None:
    """A REST answer may be no JSON or of any size."""
    fake = FakeButtDialServer()
    add_fault(fake, "garbage", on="rest")
    add_fault(fake, "huge", on="rest", size=2_000_000)
    with fake.listen() as loopback:
        url = f"{loopback.base_url}/api/v1/waiting-messages"
        garbage = requests.get(url, headers=HEADERS, timeout=5)
        with pytest.raises(json.JSONDecodeError):
            json.loads(garbage.content)
        assert len(requests.get(url, headers=HEADERS, timeout=5).content) > 2_000_000
