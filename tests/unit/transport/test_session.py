"""One session over a stream in memory: what is asked, what comes back, and how it ends."""

from __future__ import annotations

import gc
import logging
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from buttdial_sync._version import __version__
from buttdial_sync.errors import (
    AuthInvalidTokenError,
    ButtDialError,
    ClientClosedError,
    DeadlineExceededError,
    InvalidRequestError,
    ProtocolError,
    SessionUnknownError,
    StreamLostError,
    ToolError,
    TransportError,
)
from buttdial_sync.transport.descriptors import KeptSocket, socket_identity
from buttdial_sync.transport.token_breaker import TokenBreaker
from tests.unit.transport.live import (
    ENDPOINT,
    PATIENCE,
    TOKEN,
    URL,
    Live,
    Message,
    answer,
    event,
    living,
)


@pytest.fixture
def live() -> Iterator[Live]:
    with living() as made:
        yield made


class InFlight(threading.Thread):
    """A call in a thread of its own; made when its post has arrived."""

    def __init__(self, live: Live, call: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.call = call or live.ask
        self.result: object = None
        self.error: ButtDialError | None = None
        posted = threading.Event()
        live.server.on_post.setdefault("tools/call", lambda _: posted.set())
        self.start()
        assert call or posted.wait(PATIENCE)

    def run(self) -> None:
        try:
            self.result = self.call()
        except ButtDialError as error:
            self.error = error

    def ended(self) -> InFlight:
        self.join(PATIENCE)
        assert not self.is_alive()
        return self


def breaks(_: Message) -> None:
    """A post whose connection breaks: nobody knows whether it arrived."""
    raise requests.exceptions.ConnectionError("reset by peer")


def test_handshake(live: Live) -> None:
    """The endpoint is taken from the stream, the handshake goes there, with the token."""
    live.start()
    assert live.server.posts == [
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "buttdial-sync", "version": __version__},
            },
        },
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
    ]
    assert live.server.urls == [f"{URL}/messages?sessionId=1"] * 2
    for headers in live.server.headers:
        assert headers["Authorization"] == f"Bearer {TOKEN}"
        assert headers["Content-Type"] == "application/json"
    assert live.session.usable


def test_refused_handshake(live: Live) -> None:
    """A server that does not want to shake hands is not told that hands were shaken."""
    live.server.on_post["initialize"] = lambda each: live.body.write(
        event({"jsonrpc": "2.0", "id": each["id"], "error": {"code": -32000, "message": "too old"}})
    )
    with pytest.raises(ToolError, match="too old"):
        live.start()
    assert live.server.methods == ["initialize"]


def test_proxy_that_serves_under_a_prefix(live: Live) -> None:
    """The server does not know the prefix: the first post that fails shows it, and is explained."""
    live.url = f"{URL}/dial/sse"
    live.server.on_post["initialize"] = lambda _: (404, "<html>not found</html>")
    with pytest.raises(ProtocolError, match="not below /dial") as caught:
        live.start()
    assert caught.value.status_code == 404


def test_endpoint_with_the_origin(live: Live) -> None:
    """An endpoint may be a whole URL; the default port is the same origin."""
    live.body.write(b"event: endpoint\ndata: https://LIVE.test:443/messages\n\n")
    live.session.start(live.deadline())
    assert live.server.methods == ["initialize", "notifications/initialized"]


@pytest.mark.parametrize(
    "endpoint", ["https://evil.test/messages", "http://live.test/messages", "http://[", "//[::1/"]
)
def test_endpoint_elsewhere(endpoint: str, live: Live) -> None:
    """The token goes to no other origin, nor to an address that cannot be read."""
    live.body.write(f"event: endpoint\ndata: {endpoint}\n\n".encode())
    with pytest.raises(ProtocolError, match="origin") as caught:
        live.session.start(live.deadline())
    assert caught.value.stage == "session"
    assert "base_url" in (caught.value.remediation or "")
    assert live.server.posts == []


def test_no_endpoint_in_time(live: Live) -> None:
    """A stream that is silent from the start costs the deadline, not more."""
    with pytest.raises(DeadlineExceededError, match=r"within 0\.001 s") as caught:
        live.session.start(live.deadline(0.001))
    assert (caught.value.code, caught.value.stage) == ("TIMEOUT", "session")
    assert "base_url" in (caught.value.remediation or "")


def test_no_time_for_an_endpoint(live: Live) -> None:
    """A deadline that has passed already is not waited for."""
    deadline = live.deadline(1.0)
    live.now = 1.0
    with pytest.raises(DeadlineExceededError, match="opening the session"):
        live.session.start(deadline)


def test_stream_that_ends_before_its_endpoint(live: Live) -> None:
    """The end is told at once; the opener does not wait for its deadline."""
    live.body.end()
    with pytest.raises(StreamLostError) as caught:
        live.session.start(live.deadline())
    assert not isinstance(caught.value, DeadlineExceededError)


def test_stream_that_is_cut_in_its_endpoint(live: Live) -> None:
    """Half an address is no address: nothing is posted there."""
    live.body.write(answer(1), b"event: endpoint\ndata: /messages?session")
    live.body.end()
    with pytest.raises(StreamLostError):
        live.session.start(live.deadline())
    assert live.server.posts == []


def test_request(live: Live) -> None:
    """The answer with the request's id comes back; ids count up."""
    live.start()
    live.server.on_post["tools/call"] = lambda each: live.body.write(
        answer(each["id"], {"echo": each["params"]})
    )
    assert live.ask(name="one") == {"echo": {"name": "one"}}
    assert live.ask(name="two") == {"echo": {"name": "two"}}
    assert [each.get("id") for each in live.server.posts] == [1, None, 2, 3]
    assert live.server.posts[-1] == {
        "jsonrpc": "2.0",
        "id": 3,
        "method": "tools/call",
        "params": {"name": "two"},
    }


def test_answers_in_another_order(live: Live) -> None:
    """Each caller gets its own answer."""
    live.start()
    first = InFlight(live)
    del live.server.on_post["tools/call"]
    second = InFlight(live)
    live.body.write(answer(3, {"for": "second"}), answer(2, {"for": "first"}))
    assert first.ended().result == {"for": "first"}
    assert second.ended().result == {"for": "second"}


@pytest.mark.parametrize("error", [None, {"code": -32000, "message": "no"}])
def test_null_error(error: object, live: Live) -> None:
    """An ``error`` that is null is none; any other counts, whatever stands beside it."""
    live.start()
    live.server.on_post["tools/call"] = lambda each: live.body.write(
        answer(each["id"], {"fine": True}, error=error)
    )
    if error is None:
        assert live.ask() == {"fine": True}
    else:
        with pytest.raises(ToolError, match="no"):
            live.ask()


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        ({"code": -32601, "message": "out of order"}, "out of order", "-32601"),
        ({"code": "later", "message": "out of order"}, "out of order", None),
        ({"message": None}, "the server refused the request", None),
        ("just words", "just words", None),
        ({"code": -32602, "message": f"{TOKEN} is wrong"}, "*** is wrong", "INVALID_REQUEST"),
    ],
)
def test_json_rpc_error(error: object, text: str, code: str | None, live: Live) -> None:
    """The server's "no" is a ToolError with its words and code, without the token."""
    live.start()
    live.server.on_post["tools/call"] = lambda each: live.body.write(
        event({"jsonrpc": "2.0", "id": each["id"], "error": error})
    )
    with pytest.raises(ToolError) as caught:
        live.ask()
    assert (str(caught.value), caught.value.code) == (text, code)
    assert caught.value.outcome == "rejected"


@pytest.mark.parametrize("result", [None, [], "text", 5])
def test_answer_without_a_result(result: object, live: Live) -> None:
    """An answer that holds nothing usable does not say what became of the request."""
    live.start()
    body = {"jsonrpc": "2.0", "id": 2, "result": result}
    live.server.on_post["tools/call"] = lambda _: live.body.write(event(body))
    with pytest.raises(ProtocolError) as caught:
        live.ask()
    assert (caught.value.outcome, caught.value.body) == ("unknown", body)


def test_no_answer_in_time(live: Live) -> None:
    """Without an answer the call ends with its deadline, and what became of it is unknown."""
    live.start()
    live.server.on_post["tools/call"] = lambda _: setattr(live, "now", PATIENCE)
    with pytest.raises(DeadlineExceededError, match="tools/call within 5 s") as caught:
        live.ask()
    error = caught.value
    assert (error.code, error.stage, error.outcome) == ("TIMEOUT", "tool_call", "unknown")
    assert live.session.usable


def test_nobody_waits_after_the_deadline(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """A call that ran out of time is forgotten: its late answer is nobody's."""
    live.start()
    live.server.on_post["tools/call"] = lambda _: setattr(live, "now", PATIENCE)
    with pytest.raises(DeadlineExceededError):
        live.ask()
    with caplog.at_level(logging.DEBUG, "buttdial_sync"):
        live.body.write(answer(2))
        live.catch_up()
    assert "nobody waits for the answer with id 2" in caplog.text
    assert live.session.usable


def test_answer_after_a_broken_post(live: Live) -> None:
    """A post that broke may have arrived: its answer is waited for a little, and counts."""
    live.start()
    broken: list[Message] = []

    def answer_when_the_caller_looks_at_the_clock() -> float:
        while broken:
            live.body.write(answer(broken.pop()["id"], {"arrived": True}))
        return 0.0

    def keep_and_break(message: Message) -> None:
        broken.append(message)
        breaks(message)

    live.server.on_post["tools/call"] = keep_and_break
    deadline = live.deadline(PATIENCE, answer_when_the_caller_looks_at_the_clock)
    assert live.session.request("tools/call", {}, deadline) == {"arrived": True}


def test_answer_before_a_broken_post(live: Live) -> None:
    """An answer that came before the post broke counts too."""
    live.start()

    def answer_and_break(message: Message) -> None:
        live.body.write(answer(message["id"], {"arrived": True}))
        live.catch_up()
        breaks(message)

    live.server.on_post["tools/call"] = answer_and_break
    assert live.ask() == {"arrived": True}


def test_no_answer_after_a_broken_post(live: Live) -> None:
    """Without an answer the caller hears how the post broke, within its deadline."""
    live.start()

    def break_late(message: Message) -> None:
        live.now = PATIENCE - 0.001
        breaks(message)

    live.server.on_post["tools/call"] = break_late
    with pytest.raises(TransportError, match="reset by peer") as caught:
        live.ask()
    assert caught.value.outcome == "unknown"
    assert live.session.usable


def test_stream_that_ends_with_a_broken_post(live: Live) -> None:
    """When the stream breaks too, nobody waits for the grace to pass."""
    live.start()

    def break_both(message: Message) -> None:
        live.body.end()
        breaks(message)

    live.server.on_post["tools/call"] = break_both
    with pytest.raises(StreamLostError) as caught:
        live.ask()
    assert caught.value.outcome == "unknown"


def test_post_that_never_left(live: Live) -> None:
    """Where no byte left there is no answer to wait for."""
    live.start()

    def fail(message: Message) -> None:
        live.body.write(answer(message["id"]))
        live.catch_up()
        raise requests.exceptions.ConnectTimeout("no connection")

    live.server.on_post["tools/call"] = fail
    with pytest.raises(TransportError) as caught:
        live.ask()
    assert caught.value.outcome == "not_sent"


def test_refused_post(live: Live) -> None:
    """A "no" to the post is final: no answer is waited for, and the session goes on."""
    live.start()

    def refuse(message: Message) -> tuple[int, str]:
        live.body.write(answer(message["id"]))
        live.catch_up()
        return 400, f'{{"error": "Invalid recipient for {TOKEN}"}}'

    live.server.on_post["tools/call"] = refuse
    with pytest.raises(InvalidRequestError, match="Invalid recipient") as caught:
        live.ask()
    assert (caught.value.status_code, caught.value.outcome) == (400, "rejected")
    assert TOKEN not in str(caught.value)
    assert live.session.usable


@pytest.mark.parametrize("status", [200, 202, 299])
def test_accepted_post(status: int, live: Live) -> None:
    """Every status below 300 is a yes."""
    live.start()

    def accept(message: Message) -> tuple[int, str]:
        live.body.write(answer(message["id"]))
        return status, "Accepted"

    live.server.on_post["tools/call"] = accept
    assert live.ask() == {}


def test_odd_status_of_a_post(live: Live) -> None:
    """300 is the first status that is a no."""
    live.start()
    live.patience = 0.01
    live.server.on_post["tools/call"] = lambda _: (300, "Multiple choices")
    with pytest.raises(ButtDialError, match="Multiple choices"):
        live.ask()


def test_token_refused_by_a_post(live: Live) -> None:
    """A refused token is a refused token on a post too."""
    live.start()
    live.server.on_post["tools/call"] = lambda _: (401, '{"code": "AUTH_INVALID_TOKEN"}')
    with pytest.raises(AuthInvalidTokenError):
        live.ask()


def test_what_a_post_says_about_the_token(live: Live) -> None:
    """The breaker of tokens learns that it was accepted or refused, and nothing from the rest."""
    breaker = live.options["breaker"] = TokenBreaker()
    live.start()
    live.patience = 0.01
    assert breaker.is_proven(TOKEN)
    live.server.on_post["tools/call"] = lambda _: (400, '{"code": "VALIDATION_ERROR"}')
    with pytest.raises(InvalidRequestError):
        live.ask()
    assert breaker.is_proven(TOKEN)
    live.server.on_post["tools/call"] = lambda _: (401, '{"code": "AUTH_INVALID_TOKEN"}')
    with pytest.raises(AuthInvalidTokenError):
        live.ask()
    assert breaker.block_of(TOKEN) is not None


def test_post_from_before_refusals_were_forgotten(live: Live) -> None:
    """The host corrects the server while the refusal is on its way: it does not count."""
    breaker = live.options["breaker"] = TokenBreaker()

    def refuse(_: Message) -> tuple[int, str]:
        breaker.forget()
        return 401, '{"code": "AUTH_INVALID_TOKEN"}'

    live.start()
    live.server.on_post["tools/call"] = refuse
    with pytest.raises(AuthInvalidTokenError):
        live.ask()
    assert breaker.block_of(TOKEN) is None


def test_a_refusal_is_freed_at_once(live: Live) -> None:
    """It would hold the whole client until the garbage collector runs."""
    live.start()
    live.patience = 0.01
    live.server.on_post["tools/call"] = lambda _: (400, '{"code": "VALIDATION_ERROR"}')
    errors: list[weakref.ref[ButtDialError]] = []
    gc.disable()
    try:
        try:
            live.ask()
        except InvalidRequestError as error:
            errors.append(weakref.ref(error))
        assert errors[0]() is None
    finally:
        gc.enable()


def test_session_that_the_server_forgot(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """After "unknown session" nothing more is posted to it, and those who wait are told."""
    caplog.set_level(logging.INFO)
    live.start()
    waiting = InFlight(live)
    live.server.on_post["tools/list"] = lambda _: (404, "Could not find session")
    with pytest.raises(SessionUnknownError) as caught:
        live.ask("tools/list")
    assert caught.value.outcome == "not_sent"
    assert not live.session.usable
    told = waiting.ended().error
    assert isinstance(told, SessionUnknownError)
    assert told.outcome == "unknown"
    posted = len(live.server.posts)
    with pytest.raises(SessionUnknownError) as again:
        live.ask()
    assert again.value.outcome == "not_sent"
    assert len(live.server.posts) == posted
    live.wait_for_end()
    assert caplog.text.count("session ended") == 1
    live.wait_for_end()
    assert live.ends == [TOKEN]


def test_answer_that_had_arrived_when_the_server_forgot(live: Live) -> None:
    """One caller's "unknown session" does not throw away what another one was answered."""
    reading, go_on = threading.Event(), threading.Event()

    def hold(_: Message) -> None:
        reading.set()
        go_on.wait(PATIENCE)

    live.start()
    live.on_push = hold
    waiting = InFlight(live)
    live.body.write(event({"method": "notifications/x"}) + answer(2, {"text": "sent"}))
    assert reading.wait(PATIENCE)
    live.server.on_post["tools/list"] = lambda _: (404, "Could not find session")
    with pytest.raises(SessionUnknownError):
        live.ask("tools/list")
    assert not live.session.usable
    go_on.set()
    assert waiting.ended().result == {"text": "sent"}
    live.wait_for_end()


def test_session_that_ends_from_both_sides(live: Live) -> None:
    """A caller whose post is refused does not wait for the reader to finish what it has begun."""
    reader_is_ending, go_on = threading.Event(), threading.Event()

    def stop_here(record: logging.LogRecord) -> bool:
        if record.funcName != "_end":
            return True  # the caller's record
        reader_is_ending.set()
        return go_on.wait(PATIENCE)

    def forget(_: Message) -> tuple[int, str]:
        live.body.end()
        assert reader_is_ending.wait(PATIENCE)
        return 404, "Could not find session"

    live.start()
    live.server.on_post["tools/call"] = forget
    logger = logging.getLogger("buttdial_sync.session")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addFilter(stop_here)
    try:
        with pytest.raises(SessionUnknownError):
            live.ask()
        assert not live.session.usable
    finally:
        go_on.set()
        logger.removeFilter(stop_here)
        logger.setLevel(level)
    live.wait_for_end()
    assert live.ends == [TOKEN]


def test_stream_that_ends(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """Who waits is told that the outcome is unknown; who comes later, that nothing was sent."""
    live.start()
    waiting = [InFlight(live)]
    del live.server.on_post["tools/call"]
    waiting.append(InFlight(live))
    with caplog.at_level(logging.INFO, "buttdial_sync"):
        live.body.end()
        live.wait_for_end()
    errors = [each.ended().error for each in waiting]
    for error in errors:
        assert isinstance(error, StreamLostError)
        assert error.outcome == "unknown"
    assert errors[0] is not errors[1]
    with pytest.raises(StreamLostError) as caught:
        live.ask()
    assert caught.value.outcome == "not_sent"
    assert not live.session.usable
    assert live.ends == [TOKEN]
    assert live.body.released
    assert "session ended" in caplog.text


@pytest.mark.parametrize("cut", range(1, len(answer(2)) - 1, 7))
def test_stream_that_is_cut_in_an_event(cut: int, live: Live) -> None:
    """Half an event is a lost stream, not an answer that is no JSON."""
    live.start()
    waiting = InFlight(live)
    live.body.write(answer(2, {"text": "whole"})[:cut])
    live.body.end()
    error = waiting.ended().error
    assert isinstance(error, StreamLostError)
    assert error.outcome == "unknown"


def test_stream_that_breaks(live: Live) -> None:
    """Whatever a dying stream raises is a lost stream; the token is not in its text."""
    live.start()
    waiting = InFlight(live)
    live.body.break_with(AttributeError(f"no read for {TOKEN}"))
    error = waiting.ended().error
    assert isinstance(error, StreamLostError)
    assert "no read for" in str(error)
    assert TOKEN not in str(error)
    live.wait_for_end()
    assert live.body.released


@pytest.mark.parametrize("junk", [b"event: message\ndata: {half\n\n", b"data: \xff\n\n"])
def test_stream_of_junk(junk: bytes, live: Live) -> None:
    """A whole event that cannot be read ends the session; waiting on would be in vain."""
    live.start()
    waiting = InFlight(live)
    live.body.write(junk)
    error = waiting.ended().error
    assert isinstance(error, ProtocolError)
    assert error.outcome == "unknown"
    live.wait_for_end()
    assert live.body.released


def test_event_that_is_too_large(live: Live) -> None:
    """It ends the session; who waits, or asks later, is told why, and what to do about it."""
    live.options["max_event_bytes"] = 500
    live.start()
    waiting = InFlight(live)
    live.body.write(answer(2, {"text": "x" * 500}))
    error = waiting.ended().error
    live.wait_for_end()
    with pytest.raises(ProtocolError) as later:
        live.ask()
    assert isinstance(error, ProtocolError)
    for told, outcome in ((error, "unknown"), (later.value, "not_sent")):
        assert "500 bytes" in str(told)
        assert "max_event_bytes" in str(told.remediation)
        assert told.outcome == outcome


@pytest.mark.parametrize("oddity", [[1], "text", 5, None])
def test_messages_that_are_no_objects(
    oddity: object, live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    """They are ignored, and it is said; the session goes on."""
    live.start()
    live.body.write(event(oddity))
    live.catch_up()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    live.server.on_post["tools/call"] = lambda each: live.body.write(answer(each["id"]))
    assert live.ask() == {}


def test_events_of_other_kinds(live: Live) -> None:
    """Comments and events with other names mean nothing, JSON or not."""
    live.start()
    live.body.write(b": hello\n\n", b"event: heartbeat\ndata: {no JSON\n\n")
    live.catch_up()
    assert live.session.usable
    assert live.pushed == []


def test_pushes(live: Live) -> None:
    """What the server pushes is handed over in order, with the token whose session it is."""
    live.start()
    pushes = [{"method": "notifications/message", "params": {"n": each}} for each in range(3)]
    live.body.write(*map(event, pushes))
    live.catch_up()
    assert live.pushed == pushes


def test_ping_of_the_server(live: Live) -> None:
    """The server's pings are answered, by another thread than the reader."""
    live.start()
    live.body.write(event({"jsonrpc": "2.0", "id": "p1", "method": "ping"}))
    assert live.server.reply() == {"jsonrpc": "2.0", "id": "p1", "result": {}}
    assert live.pushed == []


def test_other_requests_of_the_server(live: Live) -> None:
    """What this client cannot do is refused in JSON-RPC's words, so that nobody waits."""
    live.start()
    live.body.write(event({"jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage"}))
    assert live.server.reply() == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {"code": -32601, "message": "sampling/createMessage is not supported"},
    }


def test_ping_before_the_endpoint(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """A ping that comes before there is an address is answered when there is one."""
    replying = threading.Event()

    def note_the_thread() -> None:
        if threading.current_thread() in live.threads("replies"):
            replying.set()

    live.on_tick = note_the_thread
    live.body.write(event({"jsonrpc": "2.0", "id": "p1", "method": "ping"}))
    starting = InFlight(live, lambda: live.session.start(live.deadline()))
    assert replying.wait(PATIENCE)
    live.body.write(ENDPOINT)
    assert starting.ended().error is None
    assert live.server.reply() == {"jsonrpc": "2.0", "id": "p1", "result": {}}
    assert caplog.records == []


def test_ping_that_cannot_be_answered(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """A reply that is refused is logged; the session goes on, and so does the thread."""
    live.start()
    live.server.on_post[""] = lambda each: (500, "Internal error") if each["id"] == "p1" else None
    for name in ("p1", "p2"):
        live.body.write(event({"jsonrpc": "2.0", "id": name, "method": "ping"}))
        assert live.server.reply()["id"] == name
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the server's ping stays unanswered" in caplog.text
    assert live.session.usable


def test_the_replying_thread_ends_with_the_stream(live: Live) -> None:
    """The second thread does not outlive the stream, also when nobody closes the session."""
    live.start()
    live.body.write(event({"jsonrpc": "2.0", "id": "p1", "method": "ping"}))
    live.server.reply()
    (thread,) = live.threads("replies")
    live.body.end()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_the_replying_thread_ends_with_the_session(live: Live) -> None:
    """Closing ends both threads before it returns."""
    live.start()
    live.body.write(event({"jsonrpc": "2.0", "id": "p1", "method": "ping"}))
    live.server.reply()
    threads = live.threads("replies") + live.threads("reader")
    assert len(threads) == 2
    assert all(thread.daemon for thread in threads)
    live.session.close(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)


def test_close_waits_for_the_reader(live: Live) -> None:
    """Who closed may rely on it that no hook is called any more."""
    order: list[str] = []
    closed = threading.Event()

    def end_slowly(_: str) -> None:
        closed.wait(0.02)
        order.append("the hook")

    live.options["on_end"] = end_slowly
    live.start()
    live.session.close()
    order.append("the close")
    closed.set()
    assert order == ["the hook", "the close"]


def test_close_waits_for_the_reply(live: Live) -> None:
    """A reply that is on its way when the session is closed is finished first."""
    order: list[str] = []
    replying, closed = threading.Event(), threading.Event()

    def take_slowly(_: Message) -> None:
        replying.set()
        closed.wait(0.02)
        order.append("the reply")

    live.server.on_post[""] = take_slowly
    live.start()
    live.body.write(event({"jsonrpc": "2.0", "id": "p1", "method": "ping"}))
    assert replying.wait(PATIENCE)
    live.session.close()
    order.append("the close")
    closed.set()
    assert order == ["the reply", "the close"]


def test_close_that_may_not_wait(live: Live) -> None:
    """With no seconds to wait, a reader that is busy is left to itself."""
    gate = threading.Event()
    live.options["on_end"] = lambda _: gate.wait(PATIENCE)
    live.start()
    live.session.close(0)
    assert live.threads("reader")
    gate.set()


def test_close_tells_who_waits(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """A call in flight ends at once with the closer's reason; its outcome is unknown."""
    live.start()
    waiting = InFlight(live)
    with caplog.at_level(logging.INFO, "buttdial_sync"):
        live.session.close(PATIENCE, ClientClosedError)
    error = waiting.ended().error
    assert isinstance(error, ClientClosedError)
    assert error.outcome == "unknown"
    with pytest.raises(ClientClosedError) as caught:
        live.ask()
    assert caught.value.outcome == "not_sent"
    assert live.ends == [TOKEN]
    assert caplog.records == []  # nobody is told of an end that he asked for


def test_close_is_idempotent(live: Live) -> None:
    """Closed twice is closed; the first reason stays, and the end is told once."""
    live.start()
    live.session.close(PATIENCE)
    live.session.close(PATIENCE, ClientClosedError)
    with pytest.raises(StreamLostError):
        live.ask()
    assert live.ends == [TOKEN]
    assert live.body.closed.is_set()


def test_close_while_opening(live: Live) -> None:
    """An opener that waits for the endpoint is told the closer's reason, not of a lost stream."""
    waiting = threading.Event()

    def seconds() -> float:
        waiting.set()
        return 0.0

    deadline = live.deadline(PATIENCE, seconds)
    waiting.clear()
    opening = InFlight(live, lambda: live.session.start(deadline))
    assert waiting.wait(PATIENCE)
    live.session.close(PATIENCE, ClientClosedError)
    assert isinstance(opening.ended().error, ClientClosedError)


@pytest.fixture
def far_end(live: Live) -> Iterator[socket.socket]:
    """The server's end of a socket that the session takes for that of its stream."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(PATIENCE)
        live.progress.kept = KeptSocket(ours, socket_identity(ours))
        yield theirs


def test_finish_reads_what_is_on_its_way(
    live: Live, far_end: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """The server is told, and ends the stream; only then the connection is shut down."""
    caplog.set_level(logging.INFO)
    push = {"method": "notifications/message", "params": {"n": 1}}

    def say_goodbye() -> None:
        assert far_end.recv(1) == b""
        live.body.write(event(push))
        live.body.end()

    live.options["on_end"] = lambda _: live.ends.append(str(far_end.send(b"still open")))
    session = live.start()
    server = threading.Thread(target=say_goodbye)
    server.start()
    session.finish(PATIENCE)
    server.join(PATIENCE)
    assert (live.pushed, live.ends) == ([push], ["10"])
    assert not session.usable
    with pytest.raises(BrokenPipeError):
        far_end.send(b"shut down")
    assert "session ended" not in caplog.text


@pytest.mark.usefixtures("far_end")
def test_finish_in_the_reading_thread(live: Live) -> None:
    """It cannot wait for itself."""
    session = live.start()
    waiting = InFlight(live)
    live.on_push = lambda _: session.finish(PATIENCE)
    live.body.write(event({"method": "notifications/message"}))
    assert "the session was closed" in str(waiting.ended().error)
    live.body.end()


def test_finish_of_a_stream_that_cannot_be_told(live: Live) -> None:
    """It would not end by itself, so nobody waits for that."""
    session = live.start()
    session.finish(3600.0)
    assert live.body.closed.is_set()
    live.wait_for_end()


def test_no_thread_can_be_started(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would read the stream: the opening fails at once."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    session = live.session
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        with pytest.raises(TransportError, match="no thread can be started") as caught:
            session.start(live.deadline())
    assert "ulimit -u" in str(caught.value.remediation)


def test_close_before_the_start(live: Live) -> None:
    """A session that was never started gives its connection back all the same."""
    live.session.close(PATIENCE)
    assert live.body.closed.is_set()
    assert live.body.released


def test_close_while_the_reader_starts(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has begun but not told so yet cannot be joined; closing does not try."""
    started = live.session._reader._started  # type: ignore[attr-defined]
    errors: list[Exception] = []
    tell = threading.Event.set

    def close_first(signal: threading.Event) -> None:
        if signal is started:
            try:
                live.session.close(0, ClientClosedError)
            except RuntimeError as error:
                errors.append(error)
        tell(signal)

    monkeypatch.setattr(threading.Event, "set", close_first)
    with pytest.raises(ClientClosedError):
        live.session.start(live.deadline(PATIENCE))
    assert errors == []


def test_close_from_a_hook(live: Live) -> None:
    """What runs in the reader may close the session; it does not wait for itself."""
    closed: list[bool] = []

    def close(_: Message) -> None:
        live.session.close(PATIENCE)
        closed.append(True)

    live.on_push = close
    live.start()
    live.body.write(event({"method": "notifications/message"}))
    live.wait_for_end()
    assert closed == [True]


def test_abandoned(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The reading thread ends all: who waits is told, the connections are closed; it warns once."""
    monkeypatch.setattr("buttdial_sync.transport.session._warnings", iter(["without close()"]))
    live.start()
    call = InFlight(live)
    live.session.abandon()
    assert not live.session.usable
    assert live.body.closed.is_set()
    assert isinstance(call.ended().error, StreamLostError)
    live.wait_for_end()
    with pytest.raises(ClientClosedError):
        live.session._post({}, live.deadline())
    live.session._clean_up()
    assert caplog.text.count("without close()") == 1


def test_closed_is_not_usable_whatever_came_before(live: Live) -> None:
    """Answers that came early keep an ended stream usable, as with mocks; a closed one never."""
    live.start()
    live.body.write(answer(2, {"early": True}))
    live.catch_up()
    live.body.end()
    live.wait_for_end()
    assert live.session.usable
    live.session.close(PATIENCE)
    assert not live.session.usable


def test_usable_until_it_ends(live: Live) -> None:
    """A live stream can answer; one that ended cannot."""
    live.start()
    assert live.session.usable
    live.body.end()
    live.wait_for_end()
    assert not live.session.usable


def test_ping(live: Live) -> None:
    """A ping is a request; its round trip is measured by the session's clock."""
    live.start()
    live.now = 10.0

    def take_time(message: Message) -> None:
        live.now = 12.5
        live.body.write(answer(message["id"]))

    live.server.on_post["ping"] = take_time
    assert live.session.ping(live.deadline()) == 2.5
    assert live.server.posts[-1] == {"jsonrpc": "2.0", "id": 2, "method": "ping", "params": {}}


def test_silence(live: Live) -> None:
    """How long it was silent counts from the last byte, event or not."""
    live.start()
    live.now = 7.0
    live.body.write(b": still here\n\n")
    live.catch_up()
    live.now = 9.0
    assert live.session.silent_for == 2.0


def test_tools_are_asked_for_once(live: Live) -> None:
    """The list is asked for once, all its pages, and anew when the server says that it changed."""
    live.start()
    pages: dict[Any, Message] = {
        None: {"tools": [{"name": "a"}], "nextCursor": "2"},
        "2": {"tools": [{"name": "b"}]},
    }
    live.server.on_post["tools/list"] = lambda each: live.body.write(
        answer(each["id"], pages[each["params"].get("cursor")])
    )
    for _ in range(2):
        tools = live.session.list_tools(live.deadline())
        assert [tool.name for tool in tools] == ["a", "b"]
    assert live.server.methods.count("tools/list") == 2
    live.body.write(event({"method": "notifications/tools/list_changed"}))
    live.catch_up()
    assert live.pushed == []
    pages[None] = {"tools": []}
    assert live.session.list_tools(live.deadline()) == []


def test_close_drops_replies_that_wait(live: Live) -> None:
    """The reply under way leaves; those behind it do not, when this side ends the session."""
    under_way, may_go_on = threading.Event(), threading.Event()

    def hold(_: Message) -> None:
        under_way.set()
        assert may_go_on.wait(PATIENCE)

    live.server.on_post[""] = hold
    live.start()
    for number in range(3):
        live.body.write(event({"jsonrpc": "2.0", "id": f"p{number}", "method": "ping"}))
    live.catch_up()
    assert under_way.wait(PATIENCE)
    live.session.close(0)
    may_go_on.set()
    for thread in live.threads("replies"):
        thread.join(PATIENCE)
    assert live.server.reply()["id"] == "p0"
    assert [post["id"] for post in live.server.posts if "result" in post] == ["p0"]


def test_any_success_of_a_post(live: Live) -> None:
    """Everything below 300 means that the message was taken."""

    def take(message: Message) -> tuple[int, str]:
        live.body.write(answer(message["id"], {"a": 1}))
        return 299, ""

    live.server.on_post["tools/call"] = take
    live.server.on_post["notifications/initialized"] = lambda _: (299, "")
    live.start()
    assert live.ask() == {"a": 1}


def test_an_event_that_is_nested_too_deeply(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """It costs this event, and not the session with all calls in flight."""
    live.options["max_event_bytes"] = 10_000_000
    live.start()
    bomb = b"[" * 200_000 + b"]" * 200_000
    live.server.on_post["tools/call"] = lambda each: live.body.write(
        b"data: " + bomb + b"\n\n",
        b'data: {"id": 1, "result": {"deep": ' + bomb + b"}}\n\n",
        answer(each["id"], {"fine": True}),
    )
    assert live.ask() == {"fine": True}
    assert live.session.usable
    assert caplog.text.count("nested too deeply") == 2


@pytest.mark.parametrize("digits", [4_301, 100_000])
def test_an_integer_of_many_digits(digits: int, live: Live) -> None:
    """Python makes no int of it; the answer arrives with a float in its place."""
    live.options["max_event_bytes"] = 10_000_000
    live.start()
    number = b"9" * digits
    live.server.on_post["tools/call"] = lambda each: live.body.write(
        b'data: {"method": "notifications/message", "params": {"n": -' + number + b"}}\n\n",
        b'data: {"id": %d, "result": {"n": %b, "m": 5}}\n\n' % (each["id"], number),
    )
    assert live.ask() == {"n": float("inf"), "m": 5}
    assert live.session.usable
    assert [each["params"] for each in live.pushed] == [{"n": float("-inf")}]


def test_not_json_still_ends_the_session(live: Live) -> None:
    """Such a stream is not one of JSON-RPC; what follows in it proves nothing."""
    live.start()
    live.server.on_post["tools/call"] = lambda _: live.body.write(b"data: {half\n\n")
    with pytest.raises(ProtocolError, match="not JSON") as caught:
        live.ask()
    assert caught.value.outcome == "unknown"


def test_a_batch(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """Several messages in one event are taken one by one, in their order."""
    live.start()
    live.server.on_post["ping"] = lambda _: None
    live.server.on_post["tools/call"] = lambda each: live.body.write(
        event(
            [
                {"method": "notifications/message", "params": {"n": 1}},
                {"jsonrpc": "2.0", "id": 7, "method": "ping"},
                "not a message",
                [{"method": "notifications/message", "params": {"n": 2}}],
                {"jsonrpc": "2.0", "id": each["id"], "result": {"fine": True}},
                {"method": "notifications/message", "params": {"n": 3}},
            ]
        ),
        event([]),
    )
    assert live.ask() == {"fine": True}
    assert live.server.reply() == {"jsonrpc": "2.0", "id": 7, "result": {}}
    live.catch_up()
    assert [each["params"] for each in live.pushed] == [{"n": 1}, {"n": 3}]
    assert caplog.text.count("not an object") == 2


def test_a_batch_for_two_callers(live: Live) -> None:
    """Each of two waiting calls gets its own answer out of one event."""
    live.start()
    asked: list[Message] = []

    def answer_both(each: Message) -> None:
        asked.append(each)
        if len(asked) == 2:
            results = [{"id": each["id"], "result": {"to": each["params"]["to"]}} for each in asked]
            live.body.write(event(results))

    live.server.on_post["tools/call"] = answer_both
    with ThreadPoolExecutor(2) as threads:
        found = threads.map(lambda to: live.ask(to=to), ["a", "b"])
    assert list(found) == [{"to": "a"}, {"to": "b"}]
