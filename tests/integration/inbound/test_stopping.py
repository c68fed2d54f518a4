"""What a listener does with what comes in while it ends, over loopback sockets."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from buttdial_sync import Client, InboundMessage, Listener, MemoryInbox
from buttdial_sync.testing import LoopbackServer
from buttdial_sync.testing.simulate import message_payload
from tests.fakes import cut_streams, open_streams
from tests.integration.inbound.listening import (
    PATIENCE,
    Inbox,
    client_of,
    deliver,
    listener_of,
    numbered,
    wait_until,
)


def stored(inbox: MemoryInbox) -> list[Any]:
    """Return the ids of the messages that wait in an inbox, oldest first."""
    events = [each.event for each in inbox.list("pending", 10_000)]
    return [event.id for event in reversed(events) if isinstance(event, InboundMessage)]


def push_at_once(server: LoopbackServer, *numbers: int) -> None:
    """Push messages in one event: when the first one is handled, all are in this machine."""
    batch = [
        {
            "jsonrpc": "2.0",
            "method": "notifications/message",
            "params": {"level": "info", "data": message_payload(number)},
        }
        for number in numbers
    ]
    event = f"event: message\ndata: {json.dumps(batch)}\n\n".encode()
    (session,) = server.fake.core.sessions.by_id.values()
    assert session.stream.send(event)


def leave(way: str, client: Client, listener: Listener) -> None:
    if way == "stop":
        assert listener.stop(PATIENCE)
    else:
        client.close()
        wait_until(lambda: not listener.running)


@pytest.mark.parametrize("way", ["stop", "close"])
@pytest.mark.parametrize("durable", [False, True])
def test_what_was_read_is_not_dropped(hosted: LoopbackServer, durable: bool, way: str) -> None:
    """The reader passes on all that it has before the listener takes its leave."""
    inbox, store, kept = Inbox(), MemoryInbox(), list[Any]()
    options = {"inbox": store} if durable else {}
    numbers = range(1, 2001)  # so many that the reader is busy with them
    with client_of(hosted) as client:
        listener = listener_of(client, inbox, on_undelivered=kept.append, **options)
        listener.start()
        wait_until(lambda: listener.connected)
        push_at_once(hosted, *numbers)
        inbox.wait_for(1)
        leave(way, client, listener)
    got = [*inbox.ids, *(event.id for event in kept), *stored(store)]
    assert sorted(map(str, got)) == sorted(numbered(*numbers))


@pytest.mark.parametrize("durable", [False, True])
def test_what_is_on_its_way_is_not_dropped(hosted: LoopbackServer, durable: bool) -> None:
    """The server is asked to end the stream, and what it has pushed by then still comes."""
    inbox, store, kept = Inbox(), MemoryInbox(), list[Any]()
    options = {"inbox": store} if durable else {}
    numbers = range(1, 301)
    with client_of(hosted) as client:
        listener = listener_of(client, inbox, on_undelivered=kept.append, **options)
        listener.start()
        wait_until(lambda: listener.connected)
        for number in numbers:
            assert deliver(hosted, number)
        assert listener.stop(PATIENCE)
    got = [*inbox.ids, *(event.id for event in kept), *stored(store)]
    assert sorted(map(str, got)) == sorted(numbered(*numbers))


def answering(inbox: Inbox, client: Client, server: LoopbackServer, at: str) -> None:
    """Have a message come in just before, or on, the stream that an answer opens."""

    @inbox.handler.on_message
    def answer(message: InboundMessage) -> None:
        if message.id == at:
            if server.fake.dialect == "open-source":
                server.fake.add_waiting(externalId="late", **{"from": "+14155550177"})
            assert client.send_message("+14155550123", "an answer", "sms").ok
            if server.fake.dialect == "hosted":
                late = {"type": "message", "messageId": "late", "from": "+1415", "body": "hi"}
                assert server.fake.push(late) == 1


def test_an_answer_after_the_stop_loses_nothing(server: LoopbackServer) -> None:
    """The rest is handed over, an answer opens a stream, and what comes in by that is handled."""
    inbox = Inbox()
    for number in (1, 2):
        server.fake.add_waiting(externalId=f"message-{number}")
    with client_of(server) as client:
        listener = listener_of(client, inbox)
        inbox.handler.on_message(
            lambda message: listener.stop(PATIENCE) and None if message.id == "message-1" else None
        )
        answering(inbox, client, server, at="message-2")
        listener.run()
        assert inbox.ids == [*numbered(1, 2), "late"]
        wait_until(lambda: open_streams(server.fake) == 0)
    assert server.fake.lost_waiting == 0


def test_an_answer_of_a_worker_after_the_stop_loses_nothing(server: LoopbackServer) -> None:
    """The handler that runs is finished before the listener takes its leave."""
    inbox, store = Inbox(), MemoryInbox()
    server.fake.add_waiting(externalId="message-1")
    with client_of(server) as client:
        listener: Listener = listener_of(client, inbox, inbox=store)

        @inbox.handler.on_message
        def stop(_: InboundMessage) -> None:
            wait_until(lambda: listener.connected)  # what waited is read before that
            assert listener.stop(PATIENCE) is False
            wait_until(lambda: not listener.connected)
            cut_streams(server.fake)
            wait_until(lambda: open_streams(server.fake) == 0)

        answering(inbox, client, server, at="message-1")
        listener.start()
        wait_until(lambda: not listener.running)
        wait_until(lambda: open_streams(server.fake) == 0)
    assert inbox.ids == numbered(1)
    assert stored(store) == ["late"]
    assert server.fake.lost_waiting == 0


def test_an_answer_in_a_poll_that_is_stopped_loses_nothing(server: LoopbackServer) -> None:
    """A poll hands over what the answers of its handlers bring in, to its end."""
    inbox = Inbox()
    server.fake.add_waiting(externalId="message-1")
    with client_of(server) as client:
        listener = listener_of(client, inbox)
        inbox.handler.on_message(lambda _: listener.stop(PATIENCE) and None)
        answering(inbox, client, server, at="message-1")
        assert listener.poll() == 2
    assert inbox.ids == [*numbered(1), "late"]
    assert server.fake.lost_waiting == 0


def fail_to_start(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the machine refuse one thread, by its name."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.parametrize(
    ("name", "way"),
    [("listener", "start")]
    + [(name, way) for name in ("writer", "inbox-1") for way in ("start", "run")],
)
def test_a_thread_that_cannot_be_started(
    hosted: LoopbackServer, monkeypatch: pytest.MonkeyPatch, name: str, way: str
) -> None:
    """The listener says so, does not claim to run, and is started again later."""
    inbox = Inbox()
    store = None if name == "listener" else MemoryInbox()
    with client_of(hosted) as client:
        listener = listener_of(client, inbox, inbox=store)
        with monkeypatch.context() as refusing:
            fail_to_start(refusing, f"buttdial-sync-{name}")
            if way == "run" or name == "listener":
                with pytest.raises(RuntimeError, match="start new thread"):
                    getattr(listener, way)()
            else:
                listener.start()
                wait_until(lambda: not listener.running)
        assert not listener.running
        assert listener.stop(PATIENCE)
        with listener:
            wait_until(lambda: listener.connected)
            deliver(hosted, 1)
            inbox.wait_for(1)


def test_a_lockout_of_the_address_passes(hosted: LoopbackServer) -> None:
    """It ends by itself, so the listener waits for its end; a refused token still ends it."""
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        client.forget_refusals()  # as if the time had passed

    body = {"error": "Too many", "code": "AUTH_LOCKED_OUT", "retryAfterSeconds": 900}
    hosted.fake.fault("status", on="stream", status=429, body=body)
    inbox = Inbox()
    with client_of(hosted) as client, listener_of(client, inbox, sleep=wait) as listener:
        wait_until(lambda: listener.connected)
        deliver(hosted, 1)
        inbox.wait_for(1)
        assert listener.error is None
    assert pauses == [pytest.approx(900, abs=PATIENCE)]
