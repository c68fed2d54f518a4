"""Whose messages a listener reads, and how others get on with it, over loopback sockets."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from buttdial_sync import InboundMessage, MemoryInbox, WaitingMessage
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.http_messages import Request
from buttdial_sync.testing.simulate import message_payload
from buttdial_sync.testing.workspace import Refusal
from tests.integration.inbound.listening import (
    PATIENCE,
    Inbox,
    client_of,
    listener_of,
    wait_until,
)


def test_a_token_of_an_organization_reads_the_listener_s_own_queue() -> None:
    """Also after another view of the client has named another agent of the organization."""
    asked: list[str | None] = []

    def waiting(request: Request) -> dict[str, object]:
        asked.append(request.query.get("agentId"))
        if asked[-1] is None:
            raise Refusal(400, "Missing agentId. It is auto-detected from your API key.")
        return {"messages": [], "count": 0}

    with (
        FakeButtDialServer(dialect="open-source").listen() as server,
        client_of(server, agent_token="org-token", agent_id="ann") as client,
    ):
        server.fake.on_rest("GET", "/api/v1/waiting-messages", waiting)
        listener = listener_of(client, Inbox())
        client.as_agent("org-token", agent_id="ben")
        listener.poll()
        listener.poll()
    assert asked == [None, "ann", "ann"]


@pytest.mark.parametrize("durable", [False, True])
def test_the_queue_says_whose_pushes_these_are(durable: bool) -> None:
    """A message that waits, with its agent, and is pushed, without it, is handled once."""
    inbox = Inbox()
    with FakeButtDialServer().listen() as server, client_of(server) as client:
        server.fake.on_rest("GET", "/api/v1/agents/me", {"error": "starting"}, status=500)
        server.fake.add_waiting(externalId="message-1", agentId="ann", channel="sms")
        options = {"inbox": MemoryInbox()} if durable else {}
        with listener_of(client, inbox, **options) as listener:
            wait_until(lambda: listener.connected)
            for number in (1, 2):
                server.fake.push(message_payload(number))
            inbox.wait_for(2)
    assert [(message.id, message.agent_id) for message in inbox.got] == [
        ("message-1", "ann"),
        ("message-2", "ann"),
    ]


def test_an_inbox_that_hangs_does_not_hold_up_a_send() -> None:
    """A call that opens the stream waits for the page to be written, within its own time."""
    go_on, pausing = threading.Event(), threading.Event()

    class Hanging(MemoryInbox):
        def write(self, events: Sequence[InboundEvent], delivery_keys: Sequence[str] = ()) -> int:
            assert go_on.wait(PATIENCE * 2)
            return super().write(events, delivery_keys)

    def pause(_: float) -> None:
        pausing.set()
        assert go_on.wait(PATIENCE * 2)

    outcomes: list[str] = []

    def send() -> None:
        outcomes.append(client.send_message("+14155550123", "hi", "sms", timeout=1.0).outcome)

    with FakeButtDialServer(dialect="open-source").listen() as server, client_of(server) as client:
        server.fake.fault("status", on="stream", status=503)
        inbox = Inbox()
        with listener_of(client, inbox, inbox=Hanging(), sleep=pause):
            assert pausing.wait(PATIENCE)
            server.fake.add_waiting(externalId="message-1")
            sender = threading.Thread(target=send)
            sender.start()
            sender.join(PATIENCE)
            is_stuck = sender.is_alive()
            go_on.set()
            sender.join(PATIENCE)
            inbox.wait_for(1)
    assert not is_stuck
    assert outcomes == ["not_sent"]
    assert server.fake.lost_waiting == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_handler_of_a_poll_may_send(workers: int) -> None:
    """What its answer reads from the queue is written while the poll goes on, and handled."""
    inbox, store = Inbox(), MemoryInbox()
    outcomes: list[str] = []
    with FakeButtDialServer(dialect="open-source").listen() as server, client_of(server) as client:

        @inbox.handler.on_message
        def answer(message: InboundMessage) -> None:
            if message.id == "message-1":
                server.fake.add_waiting(externalId="message-2")
                result = client.send_message("+14155550123", "hi", "sms", timeout=PATIENCE)
                outcomes.append(result.outcome)

        server.fake.add_waiting(externalId="message-1")
        listener_of(client, inbox, inbox=store, workers=workers).poll()
    assert outcomes == ["sent"]
    assert sorted(map(str, inbox.ids)) == ["message-1", "message-2"]
    assert server.fake.lost_waiting == 0


@pytest.mark.parametrize("durable", [False, True])
def test_a_message_without_an_id_is_handed_to_each_handler_once(durable: bool) -> None:
    """The attempts for a handler that fails do not call those again that have had it."""
    inbox, failures = Inbox(), iter([ValueError("once"), ValueError("twice")])
    done = threading.Event()

    @inbox.handler.on_message
    def fail_at_first(_: InboundMessage) -> None:
        failure = next(failures, None)
        if failure is not None:
            raise failure
        done.set()

    options = {"inbox": MemoryInbox()} if durable else {}
    with (
        FakeButtDialServer().listen() as server,
        client_of(server) as client,
        listener_of(client, inbox, **options) as listener,
    ):
        wait_until(lambda: listener.connected)
        server.fake.push({**message_payload(1), "messageId": None})
        assert done.wait(PATIENCE)
    assert inbox.ids == [None]


def test_an_odd_field_does_not_lose_a_page() -> None:
    """The messages have left the server: what cannot be read around them is left aside."""
    inbox = Inbox()
    message = {"id": 1, "from": "+1", "body": "hi", "channel": "sms"}
    odd: list[dict[str, object]] = [
        {"messages": [message], "count": "1"},
        {"messages": [None, message], "count": 2},
        {"messages": [message, "nonsense"], "count": True},
        {"messages": [message]},
    ]
    unreadable = list[object]()
    inbox.handler.on_unreadable(unreadable.append)
    with FakeButtDialServer().listen() as server, client_of(server) as client:
        for page in odd:
            server.fake.on_rest("GET", "/api/v1/waiting-messages", page)
            answer = client.inbox.waiting()
            assert [each.body for each in answer if each.body] == ["hi"]
            assert answer.count == (2 if page.get("count") == 2 else None)
            listener_of(client, inbox).poll()
    assert inbox.ids == ["1"]
    assert len(unreadable) == 2


def test_before_open_that_fails_loses_nothing() -> None:
    """Nothing is sent, and nothing more is read, until the host has what was read."""
    kept, failing = list[str | None](), [OSError("the database is down")]

    def keep(messages: Sequence[WaitingMessage]) -> None:
        if failing:
            raise failing[0]
        kept.extend(each.body for each in messages)

    with (
        FakeButtDialServer(dialect="open-source").listen() as server,
        client_of(server, before_open=keep) as client,
    ):
        for number in range(12):
            server.fake.add_waiting(body=str(number))
        result = client.send_message("+14155550123", "hi", "sms")
        assert (result.outcome, result.retryable) == ("not_sent", True)
        assert len(server.fake.waiting) == 2
        failing.clear()
        assert client.send_message("+14155550123", "hi", "sms").ok
    assert kept == [str(number) for number in range(12)]
    assert server.fake.lost_waiting == 0
