"""One run: the pauses, the pings, and what becomes of events when something goes wrong."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from buttdial_sync import (
    AuthError,
    Client,
    DeliveryInProgressError,
    InboundHandler,
    InboundMessage,
    Listener,
    MemoryDeliveryLog,
    UnreadableEvent,
)
from buttdial_sync.listening.pauses import exponential
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.simulate import message_payload
from tests.fakes import cut_streams
from tests.integration.inbound.listening import PATIENCE, Inbox, briefly, numbered, wait_until
from tests.unit.interrupts import waits_of_main_thread
from tests.unit.listening.conftest import TOKEN, URL, Clock, Make
from tests.unit.listening.test_inbound_queue import push

REFUSED = {"error": "Invalid token", "code": "AUTH_INVALID_TOKEN", "retryable": False}


@pytest.fixture
def seconds() -> Clock:
    """Give the seconds that pass for the client, so that a stream is silent when a test says so."""
    return Clock()


@pytest.fixture
def client(fake: FakeButtDialServer, seconds: Clock) -> Iterator[Client]:
    with Client(URL, agent_token=TOKEN, clock=seconds, sleep=lambda _: None) as client:
        yield client


def failing(inbound: InboundHandler, error: type[BaseException] = OSError) -> list[Any]:
    """Let each handling fail; return what was tried."""
    tried: list[Any] = []

    @inbound.on_message
    def fail(message: InboundMessage) -> None:
        tried.append(message.id)
        raise error

    return tried


def waiting(*numbers: int) -> list[str]:
    return [f"waiting-{number}" for number in numbers]


def test_the_pauses() -> None:
    """Half a second, doubled each time, and never longer than it may be."""
    assert [exponential(60.0, number) for number in range(9)] == [
        0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0,
    ]  # fmt: skip
    assert exponential(math.inf, 30) == 2.0**29
    assert exponential(math.inf, 10**6) == 2.0**29


def test_pauses_between_streams(
    fake: FakeButtDialServer, make: Make, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """They grow to a minute; at least half of each is waited, and the log says why and how long."""
    fake.fault("status", on="stream", status=503, count=8)
    with make(Inbox().handler, random_fraction=lambda: 0.5) as listener:
        wait_until(lambda: listener.connected)
        assert listener.reconnects == 8
    assert clock.pauses == [each * 0.75 for each in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)]
    assert "no stream (Status 503); connecting again in 0.38 s, no. 1" in caplog.text
    assert "no. 8" in caplog.text


def test_the_longest_pause_may_be_another(
    fake: FakeButtDialServer, make: Make, clock: Clock
) -> None:
    """But the server's own wish is kept where it is longer."""
    fake.fault("status", on="stream", status=503, count=3)
    fake.fault("status", on="stream", status=429, headers={"Retry-After": "17"})
    fake.fault("status", on="stream", status=429, headers={"Retry-After": "1"})
    with make(Inbox().handler, longest_pause=1.5) as listener:
        wait_until(lambda: listener.connected)
    assert clock.pauses == [0.5, 1.0, 1.5, 17.0, 1.5]


def test_a_signal_just_before_a_pause(fake: FakeButtDialServer, make: Make) -> None:
    """Its handler does not have to wait for the next stream, if the main thread listens."""
    fake.fault("status", on="stream", status=503, headers={"Retry-After": "3600"})
    listener = make(Inbox().handler, sleep=None)
    stopping = threading.Thread(target=listener.stop)
    with waits_of_main_thread(stopping.start) as waits:
        listener.run()
    stopping.join(PATIENCE)
    assert waits == {1.0}


def test_a_stream_that_ended_is_told(
    fake: FakeButtDialServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no error to tell then."""
    inbox = Inbox()

    @inbox.handler.on_message
    def end(_: InboundMessage) -> None:
        cut_streams(fake)

    with make(inbox.handler) as listener:
        wait_until(lambda: listener.connected)
        fake.push(message_payload(1))
        wait_until(lambda: listener.reconnects)
        wait_until(lambda: listener.connected)
    assert "no stream (it ended); connecting again in 0.50 s" in caplog.text


def test_a_handler_that_fails_gets_five_attempts(
    fake: FakeButtDialServer, make: Make, clock: Clock
) -> None:
    """With growing pauses; then the host may keep the event."""
    inbound, kept = InboundHandler(), list[Any]()
    tried = failing(inbound)
    fake.add_waiting()
    assert make(inbound, on_undelivered=kept.append).poll() == 0
    assert tried == waiting(1) * 5
    assert clock.pauses == [0.5, 1.0, 2.0, 4.0]
    assert [event.id for event in kept] == waiting(1)


class ClaimedUntil(MemoryDeliveryLog):
    """A log in which another process has all deliveries, until some time."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__(clock=clock)
        self.seconds = seconds

    def claim(self, delivery_id: str, lease: float) -> str | None:
        if self._clock() < self.seconds:
            raise DeliveryInProgressError(delivery_id)
        return super().claim(delivery_id, lease)


def test_a_message_that_a_killed_process_has_claimed(
    fake: FakeButtDialServer, make: Make, clock: Clock
) -> None:
    """It is handled when the claim ends; that nobody could have it before is no failure."""
    inbound, kept = InboundHandler(delivery_log=ClaimedUntil(clock, 300)), list[Any]()
    got: list[float] = []

    @inbound.on_message
    def fail_first(_: InboundMessage) -> None:
        got.append(clock.now)
        if len(got) < 5:
            raise OSError

    fake.add_waiting()
    assert make(inbound, on_undelivered=kept.append).poll() == 1
    assert (got, kept) == ([300.0, 300.5, 301.5, 303.5, 307.5], [])


def test_a_claim_that_does_not_end(fake: FakeButtDialServer, make: Make, clock: Clock) -> None:
    """After the lease of this process it counts as a failure: what is only here cannot wait."""
    log, kept = ClaimedUntil(clock, math.inf), list[Any]()
    inbound = InboundHandler(delivery_log=log, lease=9)
    tried = failing(inbound)
    fake.add_waiting()
    assert make(inbound, on_undelivered=kept.append).poll() == 0
    assert tried == []
    assert clock.pauses == [1.0] * 9 + [0.5, 1.0, 2.0, 4.0]
    assert [event.id for event in kept] == waiting(1)


def test_a_stop_while_another_process_is_busy(
    fake: FakeButtDialServer, make: Make, clock: Clock
) -> None:
    """The host is given the message: what comes of it there, nobody here will know."""
    inbound, kept = InboundHandler(delivery_log=ClaimedUntil(clock, math.inf)), list[Any]()
    tried = failing(inbound)
    fake.add_waiting()

    def stop(seconds: float) -> None:
        clock.sleep(seconds)
        listener.stop(0.0)

    listener: Listener = make(inbound, on_undelivered=kept.append, sleep=stop)
    assert listener.poll() == 0
    assert (tried, clock.pauses) == ([], [1.0])
    assert [event.id for event in kept] == waiting(1)


def test_a_failing_message_holds_up_its_sender_only(
    fake: FakeButtDialServer, make: Make, clock: Clock
) -> None:
    """The others go on at once; his own next one waits, so that the order stays."""
    inbound, tried = InboundHandler(), list[str]()

    @inbound.on_message
    def fail_thrice(message: InboundMessage) -> None:
        tried.append(message.text)
        if message.text == "bad" and tried.count("bad") < 4:
            raise OSError

    for text in ("bad", "one", "his next", "two", "his last"):
        fake.add_waiting(body=text, **{"from": "+1" if text in {"one", "two"} else "+666"})
    assert make(inbound, page_size=3).poll() == 5
    assert tried == ["bad", "one", *["bad"] * 3, "his next", "two", "his last"]
    assert clock.pauses == [0.5, 1.0, 2.0]


def test_ten_failing_messages_wait_at_the_same_time(
    fake: FakeButtDialServer, make: Make, clock: Clock
) -> None:
    """Their attempts take as long as those of one, and the host gets each once."""
    inbound, kept = InboundHandler(), list[Any]()
    tried = failing(inbound)
    for number in range(10):
        fake.add_waiting(**{"from": f"+{number}"})
    assert make(inbound, on_undelivered=kept.append).poll() == 0
    assert tried == waiting(*range(1, 11)) * 5
    assert clock.now == 7.5
    assert [event.id for event in kept] == waiting(*range(1, 11))


def test_pushes_of_others_pass_a_failing_one(fake: FakeButtDialServer, make: Make) -> None:
    """Also if its time never comes; at the end it has one more attempt."""
    inbound, kept = InboundHandler(), list[Any]()
    got, tried = Inbox(), list[str]()

    @inbound.on_message
    def fail(message: InboundMessage) -> None:
        if message.sender == "+666":
            tried.append(message.text)
            raise OSError
        got.keep(message)

    with make(inbound, sleep=None, on_undelivered=kept.append) as listener:
        wait_until(lambda: listener.connected)
        for number in range(1, 4):
            fake.push({**message_payload(number), "from": "+666", "body": f"bad {number}"})
            fake.push(message_payload(10 + number))
        got.wait_for(3)
        assert tried == ["bad 1"]
    assert tried == ["bad 1", "bad 1", "bad 2", "bad 3"]
    assert [event.text for event in kept] == ["bad 1", "bad 2", "bad 3"]
    assert got.ids == numbered(11, 12, 13)


def test_repetitions_are_not_counted(fake: FakeButtDialServer, make: Make) -> None:
    """What was handed over before is handed over no more."""
    inbox = Inbox()
    for _ in range(2):
        fake.add_waiting(externalId="same")
    assert make(inbox.handler).poll() == 1
    assert inbox.ids == ["same"]


def test_each_page_is_handed_over_before_the_next_is_read(
    fake: FakeButtDialServer, make: Make
) -> None:
    """A page that was read is no longer on the server, so it must not wait for others."""
    left: list[int] = []
    inbound = InboundHandler()

    @inbound.on_message
    def look(_: InboundMessage) -> None:
        left.append(len(fake.waiting))

    for _ in range(12):
        fake.add_waiting()
    assert make(inbound, page_size=5).poll() == 12
    assert left == [7] * 5 + [2] * 5 + [0] * 2
    assert len(fake.requests) == 3


def test_a_poll_that_is_stopped(fake: FakeButtDialServer, make: Make) -> None:
    """The page is handed over to its end; those that were not read stay on the server."""
    inbox = Inbox()

    @inbox.handler.on_message
    def stop(_: InboundMessage) -> None:
        assert listener.stop(PATIENCE) is False

    for _ in range(12):
        fake.add_waiting()
    listener = make(inbox.handler)
    assert listener.poll() == 10
    assert len(fake.waiting) == 2
    assert not listener.running


def test_stopping_without_time(fake: FakeButtDialServer, make: Make) -> None:
    """What is left goes to the host, and no handler is called any more."""
    inbox, kept = Inbox(), list[Any]()

    @inbox.handler.on_message
    def stop(_: InboundMessage) -> None:
        listener.stop(0)

    for _ in range(3):
        fake.add_waiting()
    listener = make(inbox.handler, on_undelivered=kept.append)
    listener.run()
    assert inbox.ids == waiting(1)
    assert [event.id for event in kept] == waiting(2, 3)


def test_stopping_with_time(fake: FakeButtDialServer, make: Make, clock: Clock) -> None:
    """Handlers get what was taken in until the time is over."""
    inbox, kept = Inbox(), list[Any]()

    @inbox.handler.on_message
    def stop(_: InboundMessage) -> None:
        if clock.now == 0:
            listener.stop(10.0)
        clock.now += 5.0

    for _ in range(3):
        fake.add_waiting()
    listener = make(inbox.handler, on_undelivered=kept.append)
    listener.run()
    assert inbox.ids == waiting(1, 2)
    assert [event.id for event in kept] == waiting(3)


@pytest.mark.parametrize("way", ["start", "poll"])
def test_what_is_late_goes_to_the_host(fake: FakeButtDialServer, make: Make, way: str) -> None:
    """Of a reader that had the sink before; in another thread than the reader's."""
    inbox, kept = Inbox(), list[Any]()
    told = threading.Event()

    def keep(event: Any) -> None:
        kept.append((event.id, threading.current_thread().name))
        told.set()

    listener = make(inbox.handler, on_undelivered=keep)
    getattr(listener, way)()
    runner = listener._runner
    assert runner is not None
    listener.stop(PATIENCE)
    runner._queue.pushed(push("p1"))
    assert told.wait(PATIENCE)
    assert kept == [("p1", "buttdial-sync-late")]
    assert inbox.got == []


def test_what_is_late_where_no_thread_can_be_started(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that brings it tells the host itself."""
    kept: list[Any] = []
    listener = make(Inbox().handler, on_undelivered=kept.append)
    listener.poll()
    runner = listener._runner
    assert runner is not None

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    runner._queue.pushed(push("p1"))
    assert [event.id for event in kept] == ["p1"]


@pytest.mark.parametrize("way", ["run", "poll"])
def test_an_interrupt_in_a_handler(fake: FakeButtDialServer, make: Make, way: str) -> None:
    """That event and all that follow go to the host; no other handler is called."""
    inbound, kept = InboundHandler(), list[Any]()
    tried = failing(inbound, KeyboardInterrupt)
    for _ in range(3):
        fake.add_waiting()
    listener = make(inbound, on_undelivered=kept.append)
    with pytest.raises(KeyboardInterrupt):
        getattr(listener, way)()
    assert tried == waiting(1)
    assert [event.id for event in kept] == waiting(1, 2, 3)
    assert not listener.running


@pytest.mark.parametrize("way", ["run", "poll"])
def test_an_interrupt_while_the_queue_is_read(
    fake: FakeButtDialServer, clock: Clock, way: str
) -> None:
    """What was read by then goes to the host, for the process ends."""
    inbox, kept = Inbox(), list[Any]()

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        fake.add_waiting()
    with Client(URL, agent_token=TOKEN, before_open=interrupt) as client:
        listener = Listener(
            client, inbox.handler, on_undelivered=kept.append, clock=clock, sleep=clock.sleep
        )
        with pytest.raises(KeyboardInterrupt):
            getattr(listener, way)()
    assert inbox.got == []
    assert [event.id for event in kept] == waiting(1, 2)


def test_an_interrupt_while_the_host_keeps_an_event(
    fake: FakeButtDialServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """It passes through, and the host is asked to keep the others all the same."""
    inbound, kept = InboundHandler(), list[Any]()
    failing(inbound)

    def keep(event: Any) -> None:
        kept.append(event.id)
        if len(kept) == 1:
            raise KeyboardInterrupt

    for _ in range(3):
        fake.add_waiting()
    with pytest.raises(KeyboardInterrupt):
        make(inbound, on_undelivered=keep, max_attempts=1).poll()
    assert kept == waiting(1, 2, 3)
    assert "on_undelivered failed; InboundMessage 'waiting-1' is lost" in caplog.text
    assert "InboundMessage 'waiting-2' could not be handed over" in caplog.text


def test_the_second_reading_may_fail(
    fake: FakeButtDialServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream is open then, so it is told, and the listener goes on."""
    inbox = Inbox()

    def break_the_next(_: object) -> None:
        fake.fault("status", on="rest", status=500)

    fake.add_waiting()
    with (
        Client(URL, agent_token=TOKEN, before_open=break_the_next) as client,
        Listener(client, inbox.handler, clock=clock, sleep=clock.sleep) as listener,
    ):
        wait_until(lambda: listener.connected)
        fake.push(message_payload(1))
        inbox.wait_for(2)
        assert listener.reconnects == 0
    assert inbox.ids == [*waiting(1), *numbered(1)]
    assert "the waiting queue could not be read: Status 500" in caplog.text


def test_the_second_reading_may_be_refused(fake: FakeButtDialServer, clock: Clock) -> None:
    """A token that was revoked meanwhile ends the listener."""

    def refuse_the_next(_: object) -> None:
        fake.fault("status", on="rest", status=401, body=REFUSED)

    fake.add_waiting()
    with Client(URL, agent_token=TOKEN, before_open=refuse_the_next) as client:
        listener = Listener(client, Inbox().handler, clock=clock, sleep=clock.sleep)
        with pytest.raises(AuthError, match="Invalid token"):
            listener.run()
    assert isinstance(listener.error, AuthError)
    assert clock.pauses == []


def test_a_stream_is_pinged_when_it_was_silent_for_a_minute(
    fake: FakeButtDialServer, make: Make, seconds: Clock
) -> None:
    """Not earlier; the answer is a sign of life."""
    inbox, posts = Inbox(), list[int]()

    @inbox.handler.on_message
    def be_silent(message: InboundMessage) -> None:
        posts.append(fake.posts)
        seconds.now += 59.0 if message.id == "message-1" else 60.0

    with make(inbox.handler) as listener:
        wait_until(lambda: listener.connected)
        for number in (1, 2):
            fake.push(message_payload(number))
            inbox.wait_for(number)
        wait_until(lambda: fake.posts == posts[0] + 1)
        fake.push(message_payload(3))
        inbox.wait_for(3)
        assert fake.streams_opened == 1
    assert posts[0] == posts[1] == posts[2] - 1


def silent_with(
    fake: FakeButtDialServer, make: Make, seconds: Clock, trouble: Any
) -> tuple[Listener, Inbox]:
    """Make a listener whose stream is silent after the first message, and then in trouble."""
    inbox = Inbox()

    @inbox.handler.on_message
    def be_silent(message: InboundMessage) -> None:
        if message.id == "message-1":
            trouble()
            seconds.now += 60.0

    return make(inbox.handler), inbox


def test_a_server_without_ping_is_alive(
    fake: FakeButtDialServer, make: Make, seconds: Clock
) -> None:
    """It answered: the stream stays."""
    asked = threading.Event()

    def unknown(*_: Any) -> dict[str, Any]:
        asked.set()
        return {"error": {"code": -32601, "message": "Method not found"}}

    fake.core.mcp.methods["ping"] = unknown
    listener, inbox = silent_with(fake, make, seconds, lambda: None)
    with listener:
        wait_until(lambda: listener.connected)
        fake.push(message_payload(1))
        assert asked.wait(PATIENCE)
        fake.push(message_payload(2))
        inbox.wait_for(2)
    assert (fake.streams_opened, listener.reconnects) == (1, 0)


def test_a_ping_that_fails_opens_another_stream(
    fake: FakeButtDialServer, make: Make, seconds: Clock
) -> None:
    """The old one is closed, or the next round would get it again."""
    listener, inbox = silent_with(fake, make, seconds, lambda: fake.fault("refuse", on="post"))
    with listener:
        wait_until(lambda: listener.connected)
        fake.push(message_payload(1))
        wait_until(lambda: listener.reconnects == 1 and listener.connected)
        fake.push(message_payload(2))
        inbox.wait_for(2)
    assert fake.streams_opened == 2


def test_a_ping_that_is_refused_ends_it(
    fake: FakeButtDialServer, make: Make, seconds: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A token that was revoked meanwhile is not tried again, and the log says it."""

    def refuse() -> None:
        fake.fault("status", on="post", status=401, body=REFUSED)

    listener, _ = silent_with(fake, make, seconds, refuse)
    with listener:
        wait_until(lambda: listener.connected)
        fake.push(message_payload(1))
        wait_until(lambda: not listener.running)
    assert isinstance(listener.error, AuthError)
    assert listener.reconnects == 0
    assert "the listener ended: Invalid token" in caplog.text


def test_the_end_of_a_run_closes_its_stream(fake: FakeButtDialServer, make: Make) -> None:
    """So that the server keeps what comes from then on."""
    with make(Inbox().handler) as listener:
        wait_until(lambda: listener.connected)
        assert fake.push({"method": "notifications/progress", "params": {}}) == 1
    wait_until(lambda: not fake.push({"method": "notifications/progress", "params": {}}))


def test_a_closed_client_ends_it_without_an_error(
    fake: FakeButtDialServer, client: Client, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it listens or is about to connect again."""
    listener = make(Inbox().handler)
    listener.start()
    wait_until(lambda: listener.connected)
    client.close()
    wait_until(lambda: not listener.running)
    assert listener.stop(PATIENCE)
    assert (listener.error, listener.connected, listener.reconnects) == (None, False, 0)
    assert caplog.text == ""


def test_a_mistake_ends_the_thread_and_is_logged(
    fake: FakeButtDialServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """What the host's own functions raise must be seen somewhere."""

    def fail(_: float) -> None:
        raise RuntimeError("the host's mistake")

    fake.fault("status", on="stream", status=503)
    with make(Inbox().handler, sleep=fail) as listener:
        wait_until(lambda: not listener.running)
    assert "the listener ended" in caplog.text
    assert "the host's mistake" in caplog.text
    assert listener.error is None


def test_a_handler_may_stop_the_thread_that_calls_it(fake: FakeButtDialServer, make: Make) -> None:
    """It cannot wait for itself, and says that it has not stopped yet."""
    inbox, answers = Inbox(), list[bool]()

    @inbox.handler.on_message
    def stop(_: InboundMessage) -> None:
        answers.append(listener.stop(PATIENCE))

    fake.add_waiting()
    listener = make(inbox.handler)
    listener.start()
    wait_until(lambda: not listener.running)
    assert listener.stop(PATIENCE)
    assert answers == [False]
    assert inbox.ids == waiting(1)


def test_a_forked_child_does_not_listen(
    fake: FakeButtDialServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told so once, and only where the parent listens."""
    listener = make(Inbox().handler)
    listener._reset_after_fork()
    with listener:
        wait_until(lambda: listener.connected)
        assert listener._thread is not None
        assert listener._thread.daemon
    listener._reset_after_fork()
    assert "does not run in this forked process" not in caplog.text
    listener.start()
    wait_until(lambda: listener.connected)
    inherited = listener._runner
    assert inherited is not None
    listener._reset_after_fork()
    listener._reset_after_fork()
    assert caplog.text.count("does not run in this forked process") == 1
    assert (listener.running, listener.connected, listener.error) == (False, False, None)
    assert listener.stop()
    with make(Inbox().handler) as successor:  # nobody is in its way
        assert successor.running
        assert inherited.stop(PATIENCE)


def test_what_cannot_be_read_is_given_up_at_once(
    fake: FakeButtDialServer, make: Make, clock: Clock
) -> None:
    """It is not on the server any more, and trying again does not make it readable."""
    kept: list[Any] = []
    inbox = Inbox()
    fake.add_waiting(body="")
    fake.add_waiting(body="good")
    assert make(inbox.handler, on_undelivered=kept.append).poll() == 1
    assert [(type(event), event.reason) for event in kept] == [
        (UnreadableEvent, "it has no content")
    ]
    assert clock.pauses == []


def test_sys_exit_in_a_handler(
    fake: FakeButtDialServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """In the listener's thread it is a failure like others, and the listener goes on."""
    inbound, kept = InboundHandler(), list[Any]()
    failing(inbound, SystemExit)
    for _ in range(2):
        fake.add_waiting()
    with make(inbound, on_undelivered=kept.append, max_attempts=2) as listener:
        wait_until(lambda: len(kept) == 2)
        assert listener.running
    assert caplog.text.count("fail raised SystemExit") == 4


def test_sys_exit_while_the_host_keeps_an_event(
    fake: FakeButtDialServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """In the listener's thread it is logged like other errors, and the listener goes on."""
    inbound, kept = InboundHandler(), list[Any]()
    failing(inbound)

    def keep(event: Any) -> None:
        kept.append(event.id)
        raise SystemExit

    for _ in range(2):
        fake.add_waiting()
    with make(inbound, on_undelivered=keep, max_attempts=1) as listener:
        wait_until(lambda: len(kept) == 2)
        wait_until(lambda: listener.connected)
        assert listener.running
    assert caplog.text.count("on_undelivered failed; InboundMessage") == 2


class Ticking(Clock):
    """A clock that a test sets, and whose sleeping does not move it."""

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


def polling(make: Make, inbox: Inbox, clock: Ticking) -> Listener:
    # The waiting for something to come is real, so it has to be short: idle_ping bounds it.
    return make(inbox.handler, clock=clock, sleep=briefly, idle_ping=0.05, poll_every=60.0)


def test_the_queue_is_read_while_the_stream_is_open(caplog: pytest.LogCaptureFixture) -> None:
    """On a server that pushes nothing: what comes later is handed over, on the same stream."""
    caplog.set_level("INFO", "buttdial_sync.inbound")
    clock, inbox = Ticking(), Inbox()
    options: dict[str, Any] = {"clock": clock, "sleep": briefly, "idle_ping": 0.05}
    with (
        FakeButtDialServer(dialect="open-source").listen() as server,
        Client(server.base_url, agent_token=TOKEN) as client,
        Listener(client, inbox.handler, **options) as listener,
    ):
        wait_until(lambda: listener.connected)
        for number in (1, 2):
            server.fake.add_waiting(body=str(number), externalId=f"x{number}")
            clock.now += 59.0
            assert len(inbox.got) == number - 1
            clock.now += 2.0
            inbox.wait_for(number)
        assert listener.reconnects == 0
    assert [message.text for message in inbox.got] == ["1", "2"]
    assert caplog.text.count("pushes no messages") == 1


def test_a_listener_that_the_server_forgot_connects_again(
    fake: FakeButtDialServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A hosted server lets messages wait only where it knows no session: that is noticed."""
    clock, inbox = Ticking(), Inbox()
    with polling(make, inbox, clock) as listener:
        wait_until(lambda: listener.connected)
        fake.add_waiting(body="deaf", externalId="x1")
        clock.now += 61.0
        inbox.wait_for(1)
        wait_until(lambda: listener.reconnects == 1 and listener.connected)
        fake.push(message_payload(2))
        inbox.wait_for(2)
    assert inbox.got[0].text == "deaf"
    assert "1 messages waited although the stream is open" in caplog.text


@pytest.mark.parametrize("says_who", [True, False])
def test_a_push_is_known_again_from_the_queue(
    fake: FakeButtDialServer, make: Make, says_who: bool
) -> None:
    """The push does not name the agent, so the listener asks, if the server can tell."""
    clock, inbox = Ticking(), Inbox()
    if not says_who:
        fake.on_rest("GET", "/api/v1/agents/me", {"error": "no"}, status=404)
    with polling(make, inbox, clock) as listener:
        wait_until(lambda: listener.connected)
        fake.push(message_payload(1))
        inbox.wait_for(1)
        for name in ("message-1", "another"):
            fake.add_waiting(externalId=name)
        clock.now += 61.0
        inbox.wait_for(2 if says_who else 3)
    assert inbox.ids == ["message-1", *([] if says_who else ["message-1"]), "another"]
    assert inbox.got[0].agent_id == ("agent-1" if says_who else None)


def test_a_limit_of_the_server_slows_the_readings(
    fake: FakeButtDialServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A 429 is not answered by more requests, and the stream stays."""
    clock, inbox = Ticking(), Inbox()
    with polling(make, inbox, clock) as listener:
        wait_until(lambda: listener.connected)
        fake.fault("status", on="rest", status=429, headers={"Retry-After": "200"})
        clock.now += 61.0
        wait_until(lambda: "could not be read" in caplog.text)
        fake.add_waiting(body="later", externalId="x1")
        clock.now += 150.0
        runner = listener._runner
        assert runner is not None
        wait_until(lambda: runner._turn is not None)
        assert runner._turn == 261.0
        assert inbox.got == []
        slowed = runner._budget._interval
        clock.now += 51.0
        inbox.wait_for(1)
        assert runner._budget._interval < slowed  # it was read: the readings come closer again


@pytest.mark.parametrize("agent_id", ["agent-1", None])
def test_an_agent_that_is_named_is_not_asked_for(
    fake: FakeButtDialServer, client: Client, clock: Clock, agent_id: str | None
) -> None:
    """The server is asked whose pushes these are only if the host did not say it."""
    agent = client.as_agent(TOKEN, agent_id=agent_id)
    listener = Listener(agent, Inbox().handler, clock=clock, sleep=clock.sleep)
    with listener:
        wait_until(lambda: listener.connected)
    asked = [each.path for each in fake.requests].count("/api/v1/agents/me")
    assert asked == int(agent_id is None)


def test_a_reading_that_is_refused_ends_it(
    fake: FakeButtDialServer, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A token that was revoked while the stream was open is not tried again."""
    clock = Ticking()
    with polling(make, Inbox(), clock) as listener:
        wait_until(lambda: listener.connected)
        fake.fault("status", on="rest", status=401, body=REFUSED)
        clock.now += 61.0
        wait_until(lambda: not listener.running)
    assert isinstance(listener.error, AuthError)
    assert listener.reconnects == 0
    assert "could not be read" not in caplog.text


def test_when_the_queue_is_read_again(make: Make, clock: Clock) -> None:
    """After ``poll_every``, to the second; then it is this listener's turn."""
    clock.now = 100.0
    runner = make(Inbox().handler, poll_every=60.0)._new_runner()
    runner._plan_poll()
    left = []
    for seconds in (0.0, 59.5, 0.5):
        clock.now += seconds
        left.append(runner._seconds_until_poll())
    assert left == [60.0, 0.5, 0.0]
    assert runner._turn == 160.0
    runner.abandon()


def test_a_run_that_does_not_begin(make: Make, clock: Clock) -> None:
    """Who stops it is not kept waiting after its end; before, for as long as was said."""
    clock.now = 100.0
    listener = make(Inbox().handler)
    runner = listener._new_runner()
    assert not runner.stop(0.0)
    runner.abandon()
    assert runner.stop(0.0)
    again = listener._new_runner()  # the agent's events are free for another run
    again.abandon()
    assert again._stopping.is_set()
    assert again._seconds_left() == 0.0
