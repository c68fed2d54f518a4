"""``poll()`` of a queue with several pages: what is at risk when it is told to end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from buttdial_sync import InboundMessage, Listener
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.dialects import DialectName
from tests.integration.inbound.listening import Inbox, client_of, listener_of

WAITING = 25
PAGE = 10


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        for _ in range(WAITING):
            loopback.fake.add_waiting()
        yield loopback


def ids(first: int, last: int) -> list[str]:
    return [f"waiting-{number}" for number in range(first, last + 1)]


def test_a_page_is_handed_over_before_the_next_is_read(server: LoopbackServer) -> None:
    """What was not handed over yet is on the server, all but one page of it."""
    inbox, left = Inbox(), list[int]()
    inbox.handler.on_message(lambda _: left.append(len(server.fake.waiting)))
    with client_of(server) as client:
        assert listener_of(client, inbox).poll() == WAITING
    assert left == [15] * PAGE + [5] * PAGE + [0] * 5
    assert inbox.ids == ids(1, WAITING)


@pytest.mark.parametrize(("dialect", "streams"), [("open-source", 1), ("hosted", 2)])
def test_the_clients_stream_stays_where_nothing_is_pushed_on_it(
    dialect: DialectName, streams: int
) -> None:
    """Another one would empty the queue. A server that pushes would push to a stream unread."""
    inbox = Inbox()
    with FakeButtDialServer(dialect=dialect).listen() as server, client_of(server) as client:
        client.ping()
        listener_of(client, inbox).poll()
        client.ping()
        assert server.fake.streams_opened == streams


def test_stop_leaves_the_pages_that_were_not_read(server: LoopbackServer) -> None:
    """The page that was read is handed over; the others wait on the server."""
    inbox = Inbox()
    with client_of(server) as client:
        listener = listener_of(client, inbox)
        inbox.handler.on_message(lambda _: listener.stop() and None)
        assert listener.poll() == PAGE
        assert not listener.running
    assert inbox.ids == ids(1, PAGE)
    assert len(server.fake.waiting) == WAITING - PAGE


def test_what_there_is_no_time_for_is_given_up(server: LoopbackServer) -> None:
    """After the seconds of stop() the rest of the page goes to on_undelivered."""
    inbox, kept, seconds = Inbox(), list[Any](), [0.0]
    with client_of(server) as client:
        listener = listener_of(
            client, inbox, on_undelivered=kept.append, clock=lambda: seconds[0], max_attempts=1
        )

        @inbox.handler.on_message
        def take_a_second(message: InboundMessage) -> None:
            if message.id == "waiting-3":
                listener.stop(5.0)
            seconds[0] += 1.0

        assert listener.poll() == 7
    assert inbox.ids == ids(1, 7)
    assert [event.id for event in kept] == ids(8, PAGE)
    assert len(server.fake.waiting) == WAITING - PAGE


def test_an_interrupt_gives_up_the_page(server: LoopbackServer) -> None:
    """Ctrl-C in a handler, and again while the host keeps one: the others are kept, none called."""
    inbox, kept = Inbox(), list[Any]()

    @inbox.handler.on_message
    def interrupt(message: InboundMessage) -> None:
        if message.id == "waiting-3":
            raise KeyboardInterrupt

    def keep(event: Any) -> None:
        kept.append(event.id)
        if event.id == "waiting-5":
            raise KeyboardInterrupt

    with client_of(server) as client:
        listener: Listener = listener_of(client, inbox, on_undelivered=keep)
        with pytest.raises(KeyboardInterrupt):
            listener.poll()
        assert not listener.running
    assert inbox.ids == ids(1, 3)
    assert kept == ids(3, PAGE)
    assert len(server.fake.waiting) == WAITING - PAGE


def test_an_interrupt_while_reading_gives_up_what_was_read(server: LoopbackServer) -> None:
    """Ctrl-C in before_open: the page was read already; it is kept, and no handler is called."""
    inbox, kept = Inbox(), list[Any]()

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with client_of(server, before_open=interrupt) as client, pytest.raises(KeyboardInterrupt):
        listener_of(client, inbox, on_undelivered=kept.append).poll()
    assert inbox.ids == []
    assert [event.id for event in kept] == ids(1, PAGE)
