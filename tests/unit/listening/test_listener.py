"""A listener's runs, over the wire without a socket."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from buttdial_sync import (
    AuthError,
    Client,
    ConfigError,
    InboundHandler,
    InboundMessage,
    Listener,
)
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.simulate import message_payload
from tests.fakes import cut_streams
from tests.integration.inbound.listening import PATIENCE, Inbox, numbered, wait_until
from tests.unit.listening.conftest import TOKEN, Clock, Make


def test_reconnects_add_up_over_runs(fake: FakeButtDialServer, make: Make) -> None:
    """Stopping and starting forgets no reconnect; each run begins with the shortest pause."""
    inbox = Inbox()
    listener = make(inbox.handler)
    for total in (2, 4):
        fake.fault("status", on="stream", status=503, count=2)
        with listener:
            wait_until(lambda: listener.connected)
        assert listener.reconnects == total
        assert not listener.connected


def test_the_usual_pauses_of_a_stream(client: Client) -> None:
    """A minute of silence before a ping, and between two readings; twenty readings in all."""
    options = Listener(client, InboundHandler())._options
    assert (options.idle_ping, options.poll_every, options.polls_per_minute) == (60.0, 60.0, 20)


def test_a_client_that_is_closed_before(client: Client) -> None:
    """There is no session to be closed, and nothing to be raised."""
    listener = Listener(client, InboundHandler())
    client.close()
    listener.run()
    assert (listener.running, listener.error) == (False, None)


def test_a_good_stream_begins_the_pauses_anew(
    fake: FakeButtDialServer, make: Make, clock: Clock
) -> None:
    """After ten seconds of life the next pause is the first one again; before, it is longer."""
    inbox, lives, reconnected = Inbox(), iter([0.0, 9.5, 10.0, 0.0]), threading.Semaphore(0)

    @inbox.handler.on_message
    def live_and_die(_: InboundMessage) -> None:
        clock.now += next(lives)
        cut_streams(fake)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        reconnected.release()

    listener = make(inbox.handler, sleep=sleep)
    with listener:
        for number in (1, 2, 3, 4):
            wait_until(lambda: listener.connected)
            fake.push(message_payload(number))
            assert reconnected.acquire(timeout=PATIENCE)
        wait_until(lambda: listener.connected)
    assert clock.pauses == [0.5, 1.0, 0.5, 1.0]


def test_a_run_that_ends_leaves_its_successor_alone(fake: FakeButtDialServer, make: Make) -> None:
    """A listener that starts while another one ends gets what is pushed from then on."""
    first, second = Inbox(), Inbox()
    successor = make(second.handler)

    @first.handler.on_message
    def succeed(message: InboundMessage) -> None:
        if message.id == "waiting-1":
            listener.stop(PATIENCE)
        else:
            successor.start()

    for _ in range(2):
        fake.add_waiting()
    listener = make(first.handler)
    listener.run()
    try:
        wait_until(lambda: successor.connected)
        assert fake.push(message_payload(3))
        second.wait_for(1)
    finally:
        successor.stop()
    assert second.ids == numbered(3)


def test_what_ended_it_is_kept_until_the_next_run(fake: FakeButtDialServer, make: Make) -> None:
    """An error belongs to its run."""
    fake.revoke(TOKEN)
    listener = make(Inbox().handler)
    with pytest.raises(AuthError, match="revoked") as raised:
        listener.run()
    assert listener.error is raised.value
    with pytest.raises(AuthError, match="revoked"):
        listener.poll()
    assert listener.error is None


def test_a_host_that_cannot_keep_an_event_does_not_end_it(
    fake: FakeButtDialServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """What on_undelivered raises is logged; without it the loss is logged."""
    inbound = InboundHandler()

    def fail(_: object) -> None:
        raise OSError("the disk is full")

    inbound.on_message(fail)
    for option in (fail, None):
        fake.add_waiting()
        assert make(inbound, on_undelivered=option, max_attempts=1).poll() == 0
    assert "on_undelivered failed" in caplog.text
    assert "is lost: give on_undelivered" in caplog.text


def test_a_failing_handler_that_is_told_to_end_gets_no_more_attempts(
    fake: FakeButtDialServer, make: Make, clock: Clock
) -> None:
    """One attempt for each event that is left, and no pause."""
    kept: list[Any] = []
    inbound = InboundHandler()

    @inbound.on_message
    def stop_and_fail(_: InboundMessage) -> None:
        listener.stop(PATIENCE)
        raise OSError("no")

    for _ in range(2):
        fake.add_waiting()
    listener = make(inbound, on_undelivered=kept.append)
    listener.run()
    assert [event.id for event in kept] == ["waiting-1", "waiting-2"]
    assert clock.pauses == []


def test_what_was_read_before_a_refusal_is_tried_once(
    fake: FakeButtDialServer, make: Make, clock: Clock
) -> None:
    """The queue was read and the stream is refused: one attempt for each event, and no pause."""
    kept: list[Any] = []
    inbound = InboundHandler()

    @inbound.on_message
    def fail(_: InboundMessage) -> None:
        raise OSError("no")

    for _ in range(2):
        fake.add_waiting()
    body = {"error": "Invalid token", "code": "AUTH_INVALID_TOKEN", "retryable": False}
    fake.fault("status", on="stream", status=401, body=body)
    with pytest.raises(AuthError):
        make(inbound, on_undelivered=kept.append).run()
    assert [event.id for event in kept] == ["waiting-1", "waiting-2"]
    assert clock.pauses == []


def test_a_second_run_is_refused_and_the_first_goes_on(
    fake: FakeButtDialServer, make: Make
) -> None:
    """A listener runs once at a time, whichever way; starting it twice does nothing."""
    inbox = Inbox()
    with make(inbox.handler) as listener:
        wait_until(lambda: listener.connected)
        for again in (listener.run, listener.poll):
            with pytest.raises(ConfigError, match="runs already"):
                again()
        listener.start()
        fake.push(message_payload(1))
        inbox.wait_for(1)


def test_stopping_what_does_not_run(make: Make) -> None:
    """Before the first run and after the last one it is stopped already."""
    listener = make(Inbox().handler)
    assert listener.stop()
    assert listener.poll() == 0
    assert listener.stop()
