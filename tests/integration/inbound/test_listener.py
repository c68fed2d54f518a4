"""Live push over real sockets: in order, without doubles, whatever happens to the stream."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from buttdial_sync import (
    AuthError,
    Client,
    ConfigError,
    InboundMessage,
    Listener,
    StatusUpdate,
    WaitingMessage,
)
from buttdial_sync.testing import LoopbackServer
from buttdial_sync.testing.simulate import message_payload
from tests.fakes import cut_streams, failed_logins, forget_sessions, open_streams
from tests.integration.inbound.listening import (
    PATIENCE,
    Inbox,
    briefly,
    client_of,
    deliver,
    listener_of,
    numbered,
    wait_until,
)
from tests.unit.listening.conftest import Clock


def test_500_messages_survive_a_restart(hosted: LoopbackServer) -> None:
    """Each of 500 numbered messages is handed over exactly once and in order."""
    inbox = Inbox()
    with client_of(hosted) as client, listener_of(client, inbox) as listener:
        wait_until(lambda: listener.connected)
        for number in range(1, 501):
            if number == 250:
                hosted.stop()
            if number == 260:
                hosted.start()
            deliver(hosted, number)
        inbox.wait_for(500)
    assert inbox.ids == numbered(*range(1, 501))
    assert listener.reconnects >= 1


def test_500_messages_while_the_client_sends(hosted: LoopbackServer) -> None:
    """Other threads that open the stream again change nothing."""
    inbox = Inbox()
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            client.send_message("+1", "x", timeout=5.0)
            over.wait(0.001)

    with client_of(hosted) as client, listener_of(client, inbox) as listener:
        wait_until(lambda: listener.connected)
        sender = threading.Thread(target=send)
        sender.start()
        for number in range(1, 501):
            if number % 100 == 50:
                cut_streams(hosted.fake)
            deliver(hosted, number)
        inbox.wait_for(500)
        over.set()
        sender.join(PATIENCE)
    assert sorted(inbox.ids, key=str) == sorted(numbered(*range(1, 501)))


def test_a_restart_of_the_server(hosted: LoopbackServer) -> None:
    """What is pushed and what came while nobody listened is handed over, in order."""
    inbox = Inbox()
    with client_of(hosted) as client, listener_of(client, inbox) as listener:
        wait_until(lambda: listener.connected)
        for number in range(1, 101):
            deliver(hosted, number)
        hosted.stop()
        for number in range(101, 201):
            deliver(hosted, number)
        hosted.start()
        inbox.wait_for(200)
        wait_until(lambda: listener.connected)
        for number in range(201, 301):
            assert deliver(hosted, number)
        inbox.wait_for(300)
    assert inbox.ids == numbered(*range(1, 301))
    assert hosted.fake.lost_waiting == 0


def test_a_restart_of_the_server_that_empties_the_queue(server: LoopbackServer) -> None:
    """What came while nobody listened is read before the stream is opened, on both servers."""
    inbox = Inbox()
    with client_of(server) as client, listener_of(client, inbox) as listener:
        wait_until(lambda: listener.connected)
        server.stop()
        for number in range(1, 101):
            assert not deliver(server, number)
        server.start()
        inbox.wait_for(100)
    assert inbox.ids == numbered(*range(1, 101))
    assert server.fake.lost_waiting == 0


def test_one_session_for_everything(hosted: LoopbackServer) -> None:
    """The listener uses the client's session, also when the client was there first."""
    inbox = Inbox()
    with client_of(hosted) as client:
        assert client.send_message("+1", "x").ok
        with listener_of(client, inbox) as listener:
            wait_until(lambda: listener.connected)
            assert client.send_message("+1", "y").ok
            deliver(hosted, 1)
            inbox.wait_for(1)
            assert client.send_message("+1", "z").ok
            assert hosted.fake.streams_opened == 1


def test_stop_leaves_no_session_that_nobody_hears(server: LoopbackServer) -> None:
    """What comes after stop() is kept by the server, and not pushed into the void."""
    with client_of(server) as client:
        with listener_of(client, Inbox()) as listener:
            wait_until(lambda: listener.connected)
        assert server.fake.wait_for(lambda: open_streams(server.fake) == 0)
        assert client.send_message("+1", "z").ok


def test_pushed_and_waiting_is_handed_over_once(hosted: LoopbackServer) -> None:
    """A message that is in the queue and pushed too counts once, by its id and channel."""
    inbox = Inbox()
    hosted.fake.add_waiting(externalId="message-1", channel="sms")
    hosted.fake.add_waiting(externalId="message-1", channel="whatsapp")
    with client_of(hosted) as client, listener_of(client, inbox) as listener:
        wait_until(lambda: listener.connected)
        deliver(hosted, 1)
        deliver(hosted, 2)
        inbox.wait_for(3)
    assert [(m.id, m.channel) for m in inbox.got] == [
        ("message-1", "sms"),
        ("message-1", "whatsapp"),
        ("message-2", "sms"),
    ]


def test_what_came_between_reading_and_opening_goes_first(hosted: LoopbackServer) -> None:
    """The queue is read again once the stream is open, and goes before what was pushed since."""
    inbox = Inbox()
    reads: list[int] = []

    def read(_: object) -> dict[str, Any]:
        reads.append(1)
        if len(reads) == 1:
            return {"messages": [{"id": "w1", "channel": "sms", "from": "+1", "body": "a"}]}
        hosted.fake.push(message_payload(3))
        return {"messages": [{"id": "w2", "channel": "sms", "from": "+1", "body": "b"}]}

    hosted.fake.on_rest("GET", "/api/v1/waiting-messages", read)
    with client_of(hosted) as client, listener_of(client, inbox):
        inbox.wait_for(3)
    assert inbox.ids == ["w1", "w2", "message-3"]
    assert len(reads) == 2


def test_the_hosts_own_before_open_is_called_too(hosted: LoopbackServer) -> None:
    """A client that has one keeps it."""
    inbox, seen = Inbox(), list[WaitingMessage]()
    hosted.fake.add_waiting()
    with client_of(hosted, before_open=seen.extend) as client, listener_of(client, inbox):
        inbox.wait_for(1)
    assert [message.id for message in seen] == inbox.ids == ["waiting-1"]


def test_failed_outbound_is_a_status_update(server: LoopbackServer) -> None:
    """A message of ours that waits in the queue is news, not a message."""
    inbox, news = Inbox(), list[StatusUpdate]()
    inbox.handler.on_status_update(news.append)
    server.fake.add_waiting(direction="outbound", externalId="SM1", errorDetails="no credit")
    with client_of(server) as client:
        assert listener_of(client, inbox).poll() == 1
    assert [(n.kind, n.id, n.detail) for n in news] == [("outbound_failed", "SM1", "no credit")]
    assert inbox.got == []


def test_poll_opens_no_stream(server: LoopbackServer) -> None:
    """poll() reads the queue to its end, hands it over in order, and may be repeated."""
    inbox = Inbox()
    for _ in range(120):
        server.fake.add_waiting()
    with client_of(server) as client:
        listener = listener_of(client, inbox)
        assert listener.poll() == 120
        assert listener.poll() == 0
    assert inbox.ids == [f"waiting-{number}" for number in range(1, 121)]
    assert server.fake.streams_opened == 0


def test_poll_hands_over_what_it_read_before_a_fault(hosted: LoopbackServer) -> None:
    """A page that was read is not lost because the next one cannot be."""
    inbox = Inbox()
    for _ in range(60):
        hosted.fake.add_waiting()

    def read(_: object) -> dict[str, Any]:
        taken = hosted.fake.waiting[:50]
        hosted.revoked = True  # type: ignore[attr-defined]
        hosted.fake.revoke("tok-1")
        return {"messages": taken}

    hosted.fake.on_rest("GET", "/api/v1/waiting-messages", read)
    with client_of(hosted) as client, pytest.raises(AuthError):
        listener_of(client, inbox).poll()
    assert len(inbox.got) == 50


def test_callbacks_may_call_the_client(server: LoopbackServer) -> None:
    """A handler answers over the same session."""
    inbox = Inbox()
    server.fake.add_waiting(body="Message 1")
    with client_of(server) as client:

        @inbox.handler.on_message
        def answer(message: InboundMessage) -> None:
            assert client.send_message(message.sender, f"Re: {message.text}").ok

        with listener_of(client, inbox) as listener:
            wait_until(lambda: listener.connected)
            wait_until(lambda: len(server.fake.delivered) == 1)
    assert server.fake.delivered[0].body == "Re: Message 1"
    assert server.fake.streams_opened == 1


def test_a_handler_may_stop_its_listener(hosted: LoopbackServer) -> None:
    """stop() from a handler neither waits for itself nor hangs."""
    inbox = Inbox()
    with client_of(hosted) as client:
        listener = listener_of(client, inbox)
        answers: list[bool] = []
        inbox.handler.on_message(lambda _: answers.append(listener.stop(PATIENCE)))
        listener.start()
        wait_until(lambda: listener.connected)
        deliver(hosted, 1)
        wait_until(lambda: not listener.running)
    assert answers == [False]


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_refused_token_ends_it(server: LoopbackServer, when: str) -> None:
    """The error is kept and raised by run(); one failed login is one."""
    inbox = Inbox()
    if when == "before":
        server.fake.revoke("tok-1")
    with client_of(server) as client:
        listener = listener_of(client, inbox)
        if when == "while":

            @inbox.handler.on_message
            def revoke(_: InboundMessage) -> None:
                server.fake.revoke("tok-1")
                cut_streams(server.fake)

            server.fake.add_waiting()
        with pytest.raises(AuthError) as raised:
            listener.run()
    assert listener.error is raised.value
    assert not listener.running
    # The first stream is asked for with the header only, which the open-source server counts, too.
    looked = when == "while" and server.fake.dialect == "open-source"
    assert failed_logins(server.fake) == (2 if looked else 1)


def test_a_refused_token_ends_the_thread(hosted: LoopbackServer) -> None:
    """In a thread of its own it is logged and kept."""
    hosted.fake.revoke("tok-1")
    with client_of(hosted) as client:
        listener = listener_of(client, Inbox())
        listener.start()
        wait_until(lambda: not listener.running)
    assert isinstance(listener.error, AuthError)


def test_closing_the_client_ends_it(server: LoopbackServer) -> None:
    """run() returns, without an error."""
    inbox = Inbox()
    client = client_of(server)
    inbox.handler.on_message(lambda _: client.close())
    server.fake.add_waiting()
    listener = listener_of(client, inbox)
    listener.run()
    assert listener.error is None
    assert not listener.running


def test_a_failing_handler_is_tried_again(server: LoopbackServer) -> None:
    """Until it works, in order, and only the one that failed; the pauses grow."""
    inbox, clock, failures = Inbox(), Clock(), iter([True, True, False, False])
    seen: list[str | None] = []

    @inbox.handler.on_message
    def fail_twice(message: InboundMessage) -> None:
        if next(failures):
            raise OSError("the database is away")
        seen.append(message.id)

    for _ in range(2):
        server.fake.add_waiting()
    with client_of(server) as client:
        listener = listener_of(client, inbox, clock=clock, sleep=clock.sleep)
        assert listener.poll() == 2
    assert seen == inbox.ids == ["waiting-1", "waiting-2"]
    assert clock.pauses == [0.5, 1.0]


def test_what_cannot_be_handed_over_goes_to_the_host(server: LoopbackServer) -> None:
    """After the last attempt on_undelivered gets it, and the next one is handed over."""
    inbox, kept, calls = Inbox(), list[Any](), list[str | None]()
    clock = Clock()

    @inbox.handler.on_message
    def fail(message: InboundMessage) -> None:
        calls.append(message.id)
        if message.id == "waiting-1":
            raise OSError("never")

    for _ in range(2):
        server.fake.add_waiting()
    with client_of(server) as client:
        options: dict[str, Any] = {"clock": clock, "sleep": clock.sleep, "max_attempts": 3}
        listener = listener_of(client, inbox, on_undelivered=kept.append, **options)
        assert listener.poll() == 1
    assert calls == ["waiting-1"] * 3 + ["waiting-2"]
    assert [event.id for event in kept] == ["waiting-1"]


def test_stop_hands_over_what_was_taken_in(hosted: LoopbackServer) -> None:
    """What has left the server is handled before the listener ends, while there is time."""
    inbox, entered, go_on = Inbox(), threading.Event(), threading.Event()

    @inbox.handler.on_message
    def wait(_: InboundMessage) -> None:
        entered.set()
        go_on.wait(PATIENCE)

    for _ in range(20):
        hosted.fake.add_waiting()
    with client_of(hosted) as client:
        listener = listener_of(client, inbox)
        listener.start()
        assert entered.wait(PATIENCE)
        stopper = threading.Thread(target=lambda: listener.stop(PATIENCE))
        stopper.start()
        wait_until(lambda: listener._runner and listener._runner._stopping.is_set())
        go_on.set()
        stopper.join(PATIENCE)
        assert not listener.running
    assert len(inbox.got) == 20


def test_stop_without_time_keeps_the_rest_for_the_host(hosted: LoopbackServer) -> None:
    """What there is no time for goes to on_undelivered."""
    inbox, kept = Inbox(), list[Any]()
    entered, go_on = threading.Event(), threading.Event()

    @inbox.handler.on_message
    def wait(_: InboundMessage) -> None:
        entered.set()
        go_on.wait(PATIENCE)

    for _ in range(20):
        hosted.fake.add_waiting()
    with client_of(hosted) as client:
        listener = listener_of(client, inbox, on_undelivered=kept.append)
        listener.start()
        assert entered.wait(PATIENCE)
        assert listener.stop(timeout=0.001) is False
        go_on.set()
        wait_until(lambda: not listener.running)
    assert len(inbox.got) == 1
    assert [event.id for event in kept] == [f"waiting-{n}" for n in range(2, 21)]


def test_an_interrupt_keeps_everything_for_the_host(hosted: LoopbackServer) -> None:
    """Ctrl-C in a handler: that event and those behind it go to on_undelivered."""
    inbox, kept = Inbox(), list[Any]()

    @inbox.handler.on_message
    def interrupt(_: InboundMessage) -> None:
        raise KeyboardInterrupt

    for _ in range(3):
        hosted.fake.add_waiting()
    with client_of(hosted) as client:
        listener = listener_of(client, inbox, on_undelivered=kept.append)
        with pytest.raises(KeyboardInterrupt):
            listener.run()
    assert [event.id for event in kept] == ["waiting-1", "waiting-2", "waiting-3"]


def test_a_silent_stream_is_pinged(server: LoopbackServer) -> None:
    """And one that does not answer is replaced, though nobody calls."""
    with (
        client_of(server, timeout=1.0) as client,
        listener_of(client, Inbox(), idle_ping=0.05) as listener,
    ):
        wait_until(lambda: listener.connected)
        before = server.fake.posts
        wait_until(lambda: server.fake.posts >= before + 2)
        assert server.fake.streams_opened == 1
        forget_sessions(server.fake)
        wait_until(lambda: server.fake.streams_opened == 2)


def test_pauses_grow_are_jittered_capped_and_counted(hosted: LoopbackServer) -> None:
    """A server that refuses streams is asked less and less often."""
    pauses: list[float] = []
    hosted.fake.fault("status", on="stream", status=503, count=9)
    with client_of(hosted) as client:
        listener = listener_of(
            client,
            Inbox(),
            longest_pause=8.0,
            sleep=pauses.append,
            random_fraction=lambda: 0.5,
        )
        with listener:
            wait_until(lambda: listener.connected)
        assert listener.reconnects == 9
    assert pauses == [each * 0.75 for each in [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0]]


def test_the_servers_own_pause_is_kept(hosted: LoopbackServer) -> None:
    """Retry-After of a limiter wins when it is longer."""
    pauses: list[float] = []
    hosted.fake.fault("status", on="stream", status=429, headers={"Retry-After": "17"})
    with (
        client_of(hosted) as client,
        listener_of(client, Inbox(), sleep=pauses.append) as listener,
    ):
        wait_until(lambda: listener.connected)
    assert pauses == [17.0]


def test_two_listeners_for_one_agent_are_refused(hosted: LoopbackServer) -> None:
    """Two would share the messages out; two agents of one client are fine."""
    with client_of(hosted) as client, listener_of(client, Inbox()) as first:
        with pytest.raises(ConfigError, match="another listener"):
            listener_of(client, Inbox()).start()
        with pytest.raises(ConfigError, match="runs already"):
            first.run()
        first.start()
        inbox = Inbox()
        with listener_of(client.as_agent("tok-2"), inbox) as other:
            wait_until(lambda: other.connected)
            hosted.fake.push(message_payload(7), token="tok-2")
            inbox.wait_for(1)


def test_start_again_after_stop(hosted: LoopbackServer) -> None:
    """A stopped listener can be started again; stop() twice is harmless."""
    inbox = Inbox()
    with client_of(hosted) as client:
        listener = listener_of(client, inbox)
        for number in (1, 2):
            listener.start()
            wait_until(lambda: listener.connected)
            deliver(hosted, number)
            inbox.wait_for(number)
            assert listener.stop()
            assert listener.stop()
    assert inbox.ids == numbered(1, 2)


def test_other_pushes_are_ignored(hosted: LoopbackServer) -> None:
    """Log messages, progress and nonsense reach no handler and end nothing."""
    inbox = Inbox()
    with client_of(hosted) as client, listener_of(client, inbox) as listener:
        wait_until(lambda: listener.connected)
        nothing: list[Any] = [None, [], {"data": "a log line"}, {"data": {"from": 1}}]
        for params in nothing:
            hosted.fake.push({"method": "notifications/message", "params": params})
        hosted.fake.push({"method": "notifications/progress", "params": {"progress": 1}})
        deliver(hosted, 1)
        inbox.wait_for(1)
    assert inbox.ids == numbered(1)


def test_no_token_in_the_log(hosted: LoopbackServer, caplog: pytest.LogCaptureFixture) -> None:
    """Reconnecting and giving up log no credential."""
    token = "a-very-secret-token"
    hosted.fake.fault("reset", on="stream", count=3)
    with (
        caplog.at_level(logging.DEBUG),
        client_of(hosted, agent_token=token) as client,
        listener_of(client, Inbox()) as listener,
    ):
        wait_until(lambda: listener.connected)
        assert token not in repr(listener)
    assert "connecting again" in caplog.text
    assert token not in caplog.text


def test_no_token_no_listener(hosted: LoopbackServer) -> None:
    """A client without a token cannot listen, and says so at once."""
    with (
        Client(hosted.base_url) as client,
        pytest.raises(ConfigError, match="no agent_token"),
    ):
        Listener(client, Inbox().handler, sleep=briefly).start()
