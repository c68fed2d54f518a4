"""Coming back from what breaks, over real sockets."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from buttdial_sync import (
    Client,
    ClientClosedError,
    ClientEvent,
    DeadlineExceededError,
    OutcomeUnknownError,
    ProtocolError,
    RateLimitError,
    SendResult,
    TransportError,
)
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.fakes import (
    add_fault,
    clear_faults,
    client_answers,
    cut_streams,
    failed_logins,
    forget_sessions,
    set_tools,
)

PATIENCE = 10.0


@pytest.fixture(params=["hosted", "open-source"])
def server(request: pytest.FixtureRequest) -> Iterator[LoopbackServer]:
    with FakeButtDialServer(dialect=request.param).listen() as loopback:
        yield loopback


@pytest.fixture
def hosted() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(dialect="hosted").listen() as loopback:
        yield loopback


@pytest.fixture
def open_source() -> Iterator[LoopbackServer]:
    with FakeButtDialServer(dialect="open-source").listen() as loopback:
        yield loopback


def client_of(server: LoopbackServer, **options: Any) -> Client:
    options.setdefault("agent_token", "tok-1")
    options.setdefault("timeout", PATIENCE)
    options.setdefault("sleep", lambda _: None)
    return Client(server.base_url, **options)


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run a call in a thread; its result or its exception is put into the list."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for another thread's doing; bounded."""
    limit = time.monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        pause.wait(0.002)


def test_a_message_costs_one_post_and_nothing_else(server: LoopbackServer) -> None:
    """After the first, a send is one POST on one connection, whatever the server."""
    with client_of(server) as client:
        assert client.send_message("+1", "first").ok
        before = server.fake.posts, server.fake.connections, len(server.fake.requests)
        for number in range(30):
            assert client.send_message("+1", f"{number}").ok
        posts, connections, requests = before
        assert server.fake.posts - posts == 30
        assert len(server.fake.requests) - requests == 30
        assert server.fake.connections == connections == 2
        assert server.fake.streams_opened == 1


def test_32_threads_get_their_own_answers_over_one_stream(server: LoopbackServer) -> None:
    """Answers are matched to callers, and nobody opens a second stream."""
    server.fake.on_tool("comms_send_message", lambda args: {"messageId": f"id-{args['body']}"})
    wrong: list[str] = []

    def send(thread: int) -> None:
        for number in range(25):
            body = f"{thread}-{number}"
            if client.send_message("+1", body).message_sid != f"id-{body}":
                wrong.append(body)

    with client_of(server) as client:
        threads = [threading.Thread(target=send, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []
        assert server.fake.streams_opened == 1
        assert len(server.fake.sent_messages) == 32 * 25


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
def test_a_dead_address_leaves_time_for_the_next(
    hosted: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each address that the name has gets a share of the time to connect."""
    port = int(hosted.base_url.rpartition(":")[2])
    with ExitStack() as stack:
        dead = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # its queue is full: it neither accepts nor refuses
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(dead.getsockname())
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for address in (dead.getsockname(), ("127.0.0.1", port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        client = stack.enter_context(client_of(hosted, connect_timeout=0.6, max_attempts=1))
        assert client.send_message("+1", "text").ok


def test_a_stream_cut_while_idle_is_not_noticed_by_the_next_caller(server: LoopbackServer) -> None:
    """The next call opens a new session and is answered; the message goes out once."""
    with client_of(server) as client:
        assert client.send_message("+1", "one").ok
        cut_streams(server.fake)
        assert client.send_message("+1", "two").ok
        assert [message.body for message in server.fake.delivered] == ["one", "two"]


def test_a_lost_answer_is_asked_for_again_with_the_same_key_where_that_is_safe(
    hosted: LoopbackServer,
) -> None:
    """The hosted server honours the key: the result is known, and one message was delivered."""
    hosted.fake.fault("cut", delivered=True)
    with client_of(hosted) as client:
        result = client.send_message("+1", "hello")
    assert result.ok
    assert result.attempts == 2
    assert len(hosted.fake.delivered) == 1
    assert {message.idempotency_key for message in hosted.fake.sent_messages} == {
        result.idempotency_key
    }


def test_a_lost_answer_is_unknown_where_asking_again_could_send_twice(
    open_source: LoopbackServer,
) -> None:
    """The open-source server ignores the key: nothing is sent again, and nothing is claimed."""
    open_source.fake.fault("cut", delivered=True)
    with client_of(open_source) as client:
        result = client.send_message("+1", "hello")
        assert (result.ok, result.failed, result.unknown) == (False, False, True)
        assert result.attempts == 1
        assert len(open_source.fake.delivered) == 1
        open_source.fake.fault("cut", delivered=True)
        with pytest.raises(OutcomeUnknownError):
            client.call_tool("comms_send_message", {"to": "+1", "body": "x"})


def test_a_caller_is_told_at_once_when_the_stream_is_cut_under_it(
    open_source: LoopbackServer,
) -> None:
    """Nobody waits for a timeout when the answer can no longer come."""
    open_source.fake.fault("silence")
    with client_of(open_source, timeout=300.0) as client:
        thread, outcome = in_thread(lambda: client.send_message("+1", "hello"))
        wait_until(lambda: len(open_source.fake.sent_messages) == 1)
        cut_streams(open_source.fake)
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert outcome[0].unknown


def test_all_callers_in_flight_are_told_when_the_stream_is_cut(open_source: LoopbackServer) -> None:
    """Each waiter of a lost stream gets an answer, not only the first."""
    open_source.fake.fault("silence", count=8)
    with client_of(open_source, timeout=300.0) as client:
        calls = [in_thread(lambda: client.send_message("+1", "x")) for _ in range(8)]
        wait_until(lambda: len(open_source.fake.sent_messages) == 8)
        cut_streams(open_source.fake)
        for thread, _ in calls:
            thread.join(PATIENCE)
        assert [outcome[0].outcome for _, outcome in calls] == ["unknown"] * 8


def test_a_restarted_server_is_found_again(server: LoopbackServer) -> None:
    """Sessions and connections are gone; the next call makes new ones."""
    with client_of(server) as client:
        assert client.send_message("+1", "before").ok
        server.stop()
        server.start()
        assert client.send_message("+1", "after").ok
        assert len(server.fake.delivered) == 2


def test_a_server_that_is_down_is_reported_as_not_sent(server: LoopbackServer) -> None:
    """Refused connections are tried again, and then reported, with a remedy."""
    pauses: list[float] = []
    with client_of(server, sleep=pauses.append) as client:
        server.stop()
        result = client.send_message("+1", "hello")
        assert result.outcome == "not_sent"
        assert (result.error_code, result.attempts, len(pauses)) == ("REFUSED", 3, 2)
        assert result.remediation
        server.start()
        assert client.send_message("+1", "hello").ok


def test_a_session_that_the_server_forgot_is_replaced(server: LoopbackServer) -> None:
    """The server did not carry it out and says so; the message is sent once, in a new session."""
    with client_of(server) as client:
        assert client.send_message("+1", "one").ok
        forget_sessions(server.fake)
        result = client.send_message("+1", "two")
        assert (result.ok, result.attempts) == (True, 2)
        assert len(server.fake.delivered) == 2


def test_connections_that_the_server_closed_are_not_reused(server: LoopbackServer) -> None:
    """A server that was started anew: both connections are gone, and nothing is lost."""
    with client_of(server) as client:
        assert client.send_message("+1", "one").ok
        server.stop()
        server.start()
        assert client.send_message("+1", "two").ok
        assert client.send_message("+1", "three").ok


def assert_timed_out(result: SendResult, outcome: str, timeout: str) -> None:
    """Check that the call ended by its own time-out, in one attempt: the server never ends it."""
    assert (result.outcome, result.error_type) == (outcome, "DeadlineExceededError")
    assert result.attempts == 1
    assert result.error is not None
    assert f"within {timeout}" in result.error


@pytest.mark.parametrize("fault", ["hang", "drip", "no_endpoint"])
def test_the_deadline_holds_while_a_stream_is_opened(hosted: LoopbackServer, fault: Any) -> None:
    """A server that is silent, drips or names no endpoint would never end the call; it ends."""
    add_fault(hosted.fake, fault, on="stream", count=3)
    with client_of(hosted, timeout=0.4) as client:
        result = client.send_message("+1", "hello")
        assert_timed_out(result, "not_sent", "0.4 s")
        assert hosted.fake.sent_messages == []
        with pytest.raises(DeadlineExceededError):
            client.ping(timeout=0.3)
        clear_faults(hosted.fake)
        assert client.send_message("+1", "hello", timeout=PATIENCE).ok


@pytest.mark.parametrize("fault", ["hang", "drip", "silence"])
def test_the_deadline_holds_while_a_message_is_posted(
    open_source: LoopbackServer, fault: Any
) -> None:
    """A message whose answer does not come in time has an unknown outcome."""
    with client_of(open_source) as client:
        assert client.send_message("+1", "warm").ok
        add_fault(open_source.fake, fault)
        result = client.send_message("+1", "hello", timeout=0.4)
        assert_timed_out(result, "unknown", "0.4 s")
        assert client.send_message("+1", "goes on").ok


def test_a_post_that_broke_is_still_answered_by_the_stream(hosted: LoopbackServer) -> None:
    """The request arrived and its 202 was lost: the answer on the stream counts."""
    hosted.fake.fault("reset", delivered=True)
    with client_of(hosted) as client:
        result = client.send_message("+1", "hello")
    assert result.ok
    assert len(hosted.fake.delivered) == 1


def test_late_answers_are_not_taken_for_others(hosted: LoopbackServer) -> None:
    """An answer that comes after its caller gave up is dropped."""
    with client_of(hosted) as client:
        assert client.send_message("+1", "warm").ok
        hosted.fake.fault("late")
        assert client.send_message("+1", "slow", timeout=0.3).unknown
        hosted.fake.release()
        hosted.fake.on_send(sid="SM-mine")
        assert client.send_message("+1", "next").message_sid == "SM-mine"


@pytest.mark.parametrize("fault", ["garbage", "huge"])
def test_an_answer_that_is_none_is_told_at_once(open_source: LoopbackServer, fault: Any) -> None:
    """Events that are no JSON, or too large, end the session; the next call has a new one."""
    add_fault(open_source.fake, fault)
    with client_of(open_source, timeout=300.0, max_event_bytes=100_000) as client:
        result = client.send_message("+1", "hello")
        assert result.unknown
        assert result.stage_failed == "parse"
        assert client.send_message("+1", "again").ok


def test_4_mib_answers_are_fine(hosted: LoopbackServer) -> None:
    """The largest answer that a server writes comes through whole."""
    hosted.fake.on_tool("comms_ping", "x" * 4 * 1024 * 1024)
    with client_of(hosted) as client:
        assert len(client.call_tool("comms_ping")) == 4 * 1024 * 1024


def test_a_result_without_content_is_a_protocol_error(hosted: LoopbackServer) -> None:
    """It is neither a yes nor a no."""
    add_fault(hosted.fake, "no_content", count=2)
    with client_of(hosted) as client:
        assert client.send_message("+1", "x").unknown
        with pytest.raises(OutcomeUnknownError) as caught:
            client.call_tool("comms_ping")
        assert isinstance(caught.value.__cause__, ProtocolError)


@pytest.mark.parametrize("fault", ["html", "redirect", "foreign_endpoint"])
def test_what_is_no_server_of_ours_gets_no_token_and_no_message(
    hosted: LoopbackServer, fault: Any
) -> None:
    """A page, a redirect, an endpoint of another origin: refused, and nothing is sent there."""
    add_fault(hosted.fake, fault, on="stream")
    with client_of(hosted) as client:
        result = client.send_message("+1", "hello")
        assert result.outcome == "not_sent"
        assert result.attempts == 1
        assert result.remediation
        assert hosted.fake.posts == 0
        add_fault(hosted.fake, fault, on="stream")
        with pytest.raises(ProtocolError):
            client.ping()


def test_a_refused_token_is_tried_once(server: LoopbackServer) -> None:
    """Failed logins add up to a lockout: a call costs one, whatever max_attempts says."""
    server.fake.revoke("tok-bad")
    client = client_of(server, agent_token="tok-bad", max_attempts=5)
    with client:
        assert client.send_message("+1", "hello").needs_operator
    # One for the refused token. The open-source server counts the look without ``?token=``, too.
    assert failed_logins(server.fake) == (1 if server.fake.dialect == "hosted" else 2)


def test_concurrent_callers_share_one_refusal(hosted: LoopbackServer) -> None:
    """Twenty threads with a bad token are one failed login, not twenty."""
    hosted.fake.revoke("tok-bad")
    hosted.fake.fault("late", on="post")  # nothing here reaches a post; it must stay unused
    gate = threading.Barrier(20)

    def send() -> SendResult:
        gate.wait(PATIENCE)
        return client.send_message("+1", "x")

    with client_of(hosted, agent_token="tok-bad") as client:
        calls = [in_thread(send) for _ in range(20)]
        for thread, _ in calls:
            thread.join(PATIENCE)
        assert all(outcome[0].error_code == "AUTH_TOKEN_REVOKED" for _, outcome in calls)
    assert failed_logins(hosted.fake) < 10


def limited(server: LoopbackServer, *, seconds: int) -> None:
    server.fake.fault(
        "status", status=429, body="Too many requests", headers={"Retry-After": str(seconds)}
    )


def test_a_limiter_is_waited_for_within_the_deadline(hosted: LoopbackServer) -> None:
    """HTTP 429 on the POST was not carried out: Retry-After is kept, then it is sent once."""
    pauses: list[float] = []
    with client_of(hosted, sleep=pauses.append) as client:
        limited(hosted, seconds=2)
        assert client.send_message("+1", "hello").ok
        assert pauses == [2.0]
        assert len(hosted.fake.delivered) == 1


def test_a_limiter_longer_than_the_deadline_is_reported_at_once(hosted: LoopbackServer) -> None:
    """Nobody sleeps towards a deadline that cannot be kept; retry_after says when."""
    pauses: list[float] = []
    with client_of(hosted, sleep=pauses.append) as client:
        limited(hosted, seconds=60)
        result = client.send_message("+1", "hello")
        assert (result.outcome, result.retry_after, pauses) == ("rejected", 60.0, [])
        limited(hosted, seconds=60)
        with pytest.raises(RateLimitError):
            client.call_tool("comms_ping")


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_gateway_that_fails_leaves_the_outcome_open(
    open_source: LoopbackServer, status: int
) -> None:
    """A 5xx on the POST says nothing about what was carried out behind it."""
    with client_of(open_source) as client:
        assert client.send_message("+1", "warm").ok
        open_source.fake.fault("status", status=status, body="bad gateway")
        assert client.send_message("+1", "x", timeout=1.0).outcome == "unknown"


def test_the_servers_own_503_was_not_carried_out(open_source: LoopbackServer) -> None:
    """It is tried again."""
    with client_of(open_source) as client:
        own = {"error": "starting", "retryable": True}
        open_source.fake.fault("status", status=503, body=own)
        result = client.send_message("+1", "x")
        assert (result.ok, result.attempts) == (True, 2)


def test_close_during_a_call_tells_the_caller(hosted: LoopbackServer) -> None:
    """close() from another thread ends a call that waits, at once."""
    hosted.fake.fault("silence")
    client = client_of(hosted, timeout=300.0)
    thread, outcome = in_thread(lambda: client.call_tool("comms_ping"))
    wait_until(lambda: len(hosted.fake.calls) == 1)
    client.close()
    thread.join(PATIENCE)
    assert isinstance(outcome[0], ClientClosedError)
    assert outcome[0].outcome == "unknown"


@pytest.mark.parametrize("fault", ["hang", "no_endpoint", "drip"])
def test_close_while_a_stream_is_opened_tells_the_caller(
    hosted: LoopbackServer, fault: Any
) -> None:
    """The opening is ended too, in whichever step it is."""
    add_fault(hosted.fake, fault, on="stream")
    client = client_of(hosted, timeout=300.0)
    thread, outcome = in_thread(client.ping)
    wait_until(lambda: len(hosted.fake.requests) == 1)
    client.close()
    thread.join(PATIENCE)
    assert isinstance(outcome[0], ClientClosedError)


def test_close_twice_and_from_a_callback(hosted: LoopbackServer) -> None:
    """close() is idempotent, and may be called from on_event."""
    events: list[ClientEvent] = []

    def close_at_retry(event: ClientEvent) -> None:
        events.append(event)
        if event.kind == "retry":
            client.close()

    client = client_of(hosted, on_event=close_at_retry)
    hosted.fake.fault("status", status=503, body={"error": "starting", "retryable": True})
    with pytest.raises(ClientClosedError):
        client.call_tool("comms_ping")
    client.close()
    with pytest.raises(ClientClosedError):
        client.send_message("+1", "x")
    assert events[-1].kind == "retry"


def test_a_silent_stream_is_pinged_before_it_is_trusted(hosted: LoopbackServer) -> None:
    """After idle_ping seconds of silence one ping goes first; then the same session serves."""
    now = [1000.0]
    with client_of(hosted, clock=lambda: now[0], idle_ping=60.0) as client:
        assert client.send_message("+1", "one").ok
        posts = hosted.fake.posts
        now[0] += 61.0
        assert client.send_message("+1", "two").ok
        assert hosted.fake.posts - posts == 2
        assert client.send_message("+1", "three").ok
        assert hosted.fake.posts - posts == 3
        assert hosted.fake.streams_opened == 1


def test_a_dead_silent_stream_is_replaced(open_source: LoopbackServer) -> None:
    """When the ping is not answered, a new session takes the message, which goes out once."""
    now = [1000.0]
    with client_of(open_source, clock=lambda: now[0]) as client:
        assert client.send_message("+1", "one").ok
        now[0] += 61.0
        forget_sessions(open_source.fake)
        result = client.send_message("+1", "two")
        assert (result.ok, result.attempts) == (True, 1)
        assert open_source.fake.streams_opened == 2
        assert len(open_source.fake.delivered) == 2


def test_requests_of_the_server_are_answered(hosted: LoopbackServer) -> None:
    """ping gets {}, the rest -32601, an id of 0 is an id, and ids may equal ours."""
    with client_of(hosted) as client:
        assert client.send_message("+1", "one").ok
        hosted.fake.ask("ping", id=0)
        hosted.fake.ask("roots/list", id=3)
        wait_until(lambda: len(client_answers(hosted.fake)) == 2)
        assert client.send_message("+1", "two").ok
    answers = {answer["id"]: answer for answer in client_answers(hosted.fake)}
    assert answers[0]["result"] == {}
    assert answers[3]["error"]["code"] == -32601


def test_tools_are_asked_again_when_they_changed(hosted: LoopbackServer) -> None:
    """The list is cached for the session, until the server says that it changed."""
    with client_of(hosted) as client:
        before = len(client.list_tools())
        posts = hosted.fake.posts
        assert len(client.list_tools()) == before
        assert hosted.fake.posts == posts
        set_tools(hosted.fake, ["comms_send_message"], announce=True)
        wait_until(lambda: len(client.list_tools()) == 1)


def test_no_more_sessions_than_max_sessions(hosted: LoopbackServer) -> None:
    """The session idle for longest is closed for a new token's."""
    with client_of(hosted, max_sessions=2) as client:
        for token in ("a", "b", "c", "b", "c"):
            assert client.send_message("+1", token, agent_token=token).ok
        assert hosted.fake.streams_opened == 3
        assert client.send_message("+1", "a", agent_token="a").ok
        assert hosted.fake.streams_opened == 4


def test_a_caller_waits_for_one_of_max_sessions(hosted: LoopbackServer) -> None:
    """When all are busy it waits for one to be free, until its deadline."""
    with client_of(hosted, max_sessions=1) as client:
        hosted.fake.fault("late")
        thread, outcome = in_thread(lambda: client.send_message("+1", "slow", agent_token="a"))
        wait_until(lambda: len(hosted.fake.calls) == 1)
        result = client.send_message("+1", "x", agent_token="b", timeout=0.2)
        assert result.outcome == "not_sent"
        waiting, second = in_thread(lambda: client.send_message("+1", "y", agent_token="b"))
        hosted.fake.release()
        thread.join(PATIENCE)
        waiting.join(PATIENCE)
        assert outcome[0].ok
        assert second[0].ok


def test_waiting_messages_are_drained_before_each_stream(open_source: LoopbackServer) -> None:
    """Opening a stream empties the queue on this server: before_open gets it first, every time."""
    got: list[str | None] = []
    with client_of(
        open_source, before_open=lambda messages: got.extend(m.body for m in messages)
    ) as client:
        open_source.fake.add_waiting(body="one")
        open_source.fake.add_waiting(body="two")
        assert client.send_message("+1", "x").ok
        open_source.fake.add_waiting(body="three")
        cut_streams(open_source.fake)
        assert client.send_message("+1", "y").ok
    assert got == ["one", "two", "three"]
    assert open_source.fake.lost_waiting == 0


def test_a_queue_that_cannot_be_read_keeps_the_stream_closed(open_source: LoopbackServer) -> None:
    """Opening it would lose what waits: nothing is opened, and nothing was sent."""
    open_source.fake.fault("status", on="rest", status=500, count=9)
    with client_of(open_source, before_open=lambda _: None) as client:
        result = client.send_message("+1", "x")
        assert result.outcome == "not_sent"
        assert open_source.fake.streams_opened == 0


def test_before_open_that_calls_the_client_is_told(
    hosted: LoopbackServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It would wait for the stream that waits for it, so no stream is opened."""
    client: Client = client_of(hosted, before_open=lambda _: client.ping())
    with client:
        hosted.fake.add_waiting(body="one")
        result = client.send_message("+1", "x")
    assert result.outcome == "not_sent"
    assert result.error == "before_open failed with 1 messages: ConfigError"
    assert "before_open or on_event called the client" in caplog.text


def test_name_resolution_failure_is_named() -> None:
    """A host that does not exist is reported with its remedy, and nothing was sent."""
    with Client("http://butt-dial.invalid", agent_token="t", max_attempts=1) as client:
        result = client.send_message("+1", "x")
        assert (result.outcome, result.error_code) == ("not_sent", "DNS")
        with pytest.raises(TransportError):
            client.ping()


def test_close_while_connecting_tells_the_caller() -> None:
    """A server whose backlog is full answers no connect; close() ends that too."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        connecting = threading.Event()
        client = Client(
            address,
            agent_token="agent-token",
            timeout=300.0,
            connect_timeout=300.0,
            on_event=lambda _: connecting.set(),
        )
        thread, outcome = in_thread(client.ping)
        assert connecting.wait(PATIENCE)
        client.close()
        thread.join(PATIENCE)
        for sock in waiting:
            sock.close()
    assert isinstance(outcome[0], ClientClosedError)
