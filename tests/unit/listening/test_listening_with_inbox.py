"""A listener with an inbox: what comes in is written before anybody handles it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import (
    ButtDialError,
    Client,
    ConfigError,
    InboundHandler,
    InboundMessage,
    Inbox,
    Listener,
    MemoryInbox,
    SQLiteInbox,
    TransportError,
    UnreadableEvent,
)
from buttdial_sync.inbound.inbox import StoredEvent
from buttdial_sync.listening.inbox_worker import HandingOver, InboxWorkers, drain_inbox
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.stores.schema import Condition
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.conformance import SettableClock
from buttdial_sync.testing.simulate import message_payload
from tests.integration.inbound.listening import PATIENCE, briefly, wait_until
from tests.unit.listening.conftest import Make
from tests.unit.listening.test_inbound_queue import push


class Host:
    """Handlers that note what they got, and fail where a test says so."""

    def __init__(self) -> None:
        self.inbound = InboundHandler()
        self.got: list[str] = []
        self.failing: set[str] = set()
        self.undelivered: list[InboundEvent] = []
        self._lock = threading.Lock()
        self.inbound.on_message(self.handle)

    def handle(self, message: InboundMessage) -> None:
        with self._lock:
            self.got.append(message.text)
        if message.text in self.failing:
            raise OSError("the host's database is down")


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def moment() -> SettableClock:
    return SettableClock()


@pytest.fixture(params=["memory", "sqlite"])
def inbox(request: pytest.FixtureRequest, moment: SettableClock, tmp_path: Path) -> Iterator[Inbox]:
    if request.param == "memory":
        yield MemoryInbox(clock=moment)
        return
    with SQLiteInbox(tmp_path / "inbox.db", clock=moment) as made:
        yield made


@pytest.fixture
def listener(make: Make, host: Host, inbox: Inbox) -> Listener:
    return make(host.inbound, inbox=inbox, on_undelivered=host.undelivered.append)


def let_wait(fake: FakeButtDialServer, *texts: str, sender: str = "+1") -> None:
    for text in texts:
        fake.add_waiting(body=text, externalId=f"id-{text}", **{"from": sender})


def test_what_is_handled_is_written_first(
    fake: FakeButtDialServer, make: Make, inbox: Inbox
) -> None:
    """A push and a waiting message alike: the row is there while the handler runs."""
    seen: list[tuple[str, str]] = []
    inbound = InboundHandler()

    @inbound.on_message
    def look(message: InboundMessage) -> None:
        seen.extend((message.text, each.status) for each in inbox.list("pending"))

    let_wait(fake, "waited")
    with make(inbound, inbox=inbox) as listener:
        wait_until(lambda: inbox.stats()["handled"] == 1 and listener.connected)
        fake.push(message_payload(1))
        wait_until(lambda: inbox.stats()["handled"] == 2)
    assert [status for _, status in seen] == ["pending", "pending"]
    assert seen[0][0] == "waited"


def test_a_poll_hands_over_what_is_due(
    fake: FakeButtDialServer, listener: Listener, inbox: Inbox, host: Host
) -> None:
    """Page by page, in order; nothing is left."""
    let_wait(fake, *(f"{number:02}" for number in range(25)))
    assert listener.poll() == 25
    assert host.got == [f"{number:02}" for number in range(25)]
    assert inbox.stats() == {"pending": 0, "handled": 25, "dead": 0, "dismissed": 0}
    assert listener.poll() == 0


def test_a_message_that_comes_twice_is_handled_once(
    fake: FakeButtDialServer, listener: Listener, inbox: Inbox, host: Host
) -> None:
    """Also in the memory of another process: the row is known."""
    let_wait(fake, "a")
    assert listener.poll() == 1
    let_wait(fake, "a")
    other = Host()
    client = listener._client
    assert Listener(client, other.inbound, inbox=inbox).poll() == 0
    assert (host.got, other.got) == (["a"], [])


def test_ten_poison_messages_hold_up_their_sender_only(
    fake: FakeButtDialServer,
    listener: Listener,
    inbox: Inbox,
    host: Host,
    moment: SettableClock,
) -> None:
    """Others are handled at once; each of the ten rests after a minute, and is told."""
    poison = [f"poison-{number}" for number in range(10)]
    host.failing.update(poison)
    let_wait(fake, *poison, "after the poison", sender="+666")
    let_wait(fake, "innocent", sender="+2")
    assert listener.poll() == 1
    assert host.got == ["poison-0", "innocent"]
    for number in range(10):
        before = len(host.got)
        for _ in range(7):  # half a second, doubled each time: 31.5 s, and once more at the end
            moment.move(31.6)
            listener.poll()
            if inbox.stats()["dead"] > number:
                break
        assert inbox.stats()["dead"] == number + 1
        tried = [text for text in host.got[before:] if text == f"poison-{number}"]
        assert len(tried) == 2, "it was tried again while it held its sender up"
    assert host.got[-1] == "after the poison"
    assert [getattr(each, "text", "") for each in host.undelivered] == poison
    assert inbox.stats() == {"pending": 0, "handled": 2, "dead": 10, "dismissed": 0}


def test_the_pauses_between_attempts(
    fake: FakeButtDialServer,
    listener: Listener,
    inbox: Inbox,
    host: Host,
    moment: SettableClock,
) -> None:
    """They double from half a second on; the last attempt is a minute after the first."""
    host.failing.add("a")
    let_wait(fake, "a")
    began = moment()
    tries: list[float] = []
    for _ in range(2000):
        before = len(host.got)
        listener.poll()
        if len(host.got) > before:
            tries.append((moment() - began).total_seconds())
        if not inbox.count_pending():
            break
        due = inbox.list()[0].next_retry_at
        assert due is not None
        moment.now = due
    assert tries == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 60]


def test_a_dead_letter_is_retried_on_demand(
    fake: FakeButtDialServer,
    listener: Listener,
    inbox: Inbox,
    host: Host,
    moment: SettableClock,
) -> None:
    """Handlers that have had it are not called again."""
    others: list[str] = []
    host.inbound.on_message(lambda message: others.append(message.text))
    host.failing.add("a")
    let_wait(fake, "a")
    listener.poll()
    moment.move(60)
    listener.poll()
    (dead,) = inbox.list("dead")
    assert "a handler failed" in str(dead.last_error)
    host.failing.clear()
    assert inbox.force_retry(dead.id)
    assert listener.poll() == 1
    assert (host.got, others) == (["a", "a", "a"], ["a"])


def test_stopping_leaves_the_rest_in_the_inbox(
    fake: FakeButtDialServer, make: Make, inbox: Inbox, host: Host
) -> None:
    """The handler that runs is finished; a handler may stop the listener itself."""

    @host.inbound.on_message
    def stop(message: InboundMessage) -> None:
        assert listening.stop(PATIENCE) is False

    listening = make(host.inbound, inbox=inbox, on_undelivered=host.undelivered.append)
    let_wait(fake, "a", "b", "c")
    listening.start()
    wait_until(lambda: not listening.running)
    assert host.got == ["a"]
    assert inbox.stats() == {"pending": 2, "handled": 1, "dead": 0, "dismissed": 0}
    assert host.undelivered == []
    host.inbound.remove(stop)
    assert drain_inbox(HandingOver(inbox=inbox, inbound=host.inbound)) == 2
    assert host.got == ["a", "b", "c"]


def test_senders_are_handled_side_by_side(
    fake: FakeButtDialServer, make: Make, inbox: Inbox
) -> None:
    """As many as there are workers, and each of them in order."""
    both = threading.Barrier(2)
    order: dict[str, list[str]] = {"+1": [], "+2": []}
    inbound = InboundHandler()

    @inbound.on_message
    def meet(message: InboundMessage) -> None:
        both.wait(PATIENCE)
        order[message.sender].append(message.text)

    for number in range(5):
        let_wait(fake, f"a{number}", sender="+1")
        let_wait(fake, f"b{number}", sender="+2")
    assert make(inbound, inbox=inbox, workers=2).poll() == 10
    assert order == {
        "+1": [f"a{number}" for number in range(5)],
        "+2": [f"b{number}" for number in range(5)],
    }


class FullDisk(MemoryInbox):
    """An inbox that cannot be written for some time."""

    def __init__(self, clock: SettableClock, times: int) -> None:
        super().__init__(clock=clock)
        self.times = times
        self.failed = threading.Event()

    def write(self, events: Sequence[InboundEvent], delivery_keys: Sequence[str] = ()) -> int:
        self.times -= 1
        if self.times >= 0:
            self.failed.set()
            raise OSError("no space left on device")
        return super().write(events, delivery_keys)


def test_a_disk_that_is_full_for_a_while(
    fake: FakeButtDialServer, make: Make, host: Host, moment: SettableClock
) -> None:
    """What was read is kept in memory, and written as soon as there is room."""
    let_wait(fake, "a", "b")
    inbox = FullDisk(moment, times=3)
    assert make(host.inbound, inbox=inbox).poll() == 2
    assert host.got == ["a", "b"]


def test_a_disk_that_stays_full(
    fake: FakeButtDialServer, make: Make, host: Host, moment: SettableClock
) -> None:
    """At the end the host gets what could not be written: nothing is dropped in silence."""
    inbox, keep = FullDisk(moment, times=10**9), host.undelivered.append
    listener = make(host.inbound, inbox=inbox, on_undelivered=keep, sleep=briefly)
    with listener:
        wait_until(lambda: listener.connected)
        fake.push(message_payload(1))
        assert inbox.failed.wait(PATIENCE)
    assert [getattr(each, "id", "") for each in host.undelivered] == ["message-1"]
    assert host.got == []


def test_a_disk_that_hangs(
    fake: FakeButtDialServer, make: Make, host: Host, moment: SettableClock
) -> None:
    """Stopping does not wait for it, and the host gets what is not written by then."""
    writing, go_on = threading.Event(), threading.Event()

    class Hanging(MemoryInbox):
        def write(self, events: Sequence[InboundEvent], delivery_keys: Sequence[str] = ()) -> int:
            writing.set()
            assert go_on.wait(PATIENCE)
            return super().write(events, delivery_keys)

    keep = host.undelivered.append
    listener = make(host.inbound, inbox=Hanging(clock=moment), on_undelivered=keep)
    listener.start()
    wait_until(lambda: listener.connected)
    for number in (1, 2):
        fake.push(message_payload(number))
    assert writing.wait(PATIENCE)
    runner = listener._runner
    assert runner is not None
    wait_until(lambda: len(runner._writer._unwritten) == 2)
    listener.stop(0)
    wait_until(lambda: not listener.running)
    assert [getattr(each, "id", "") for each in host.undelivered] == ["message-1", "message-2"]
    go_on.set()


@pytest.mark.parametrize("failures", [0, 1])
def test_a_push_that_is_late(
    fake: FakeButtDialServer, make: Make, host: Host, moment: SettableClock, failures: int
) -> None:
    """It is written after the end, or else the host gets it: the server has it no more."""
    inbox, keep = FullDisk(moment, times=failures), host.undelivered.append
    listener = make(host.inbound, inbox=inbox, on_undelivered=keep)
    listener.start()
    runner = listener._runner
    assert runner is not None
    assert listener.stop(PATIENCE)
    runner._queue.pushed(push("p1"))  # by a reader that had this one's address before
    if failures:
        wait_until(lambda: host.undelivered)
        assert [getattr(each, "id", "") for each in host.undelivered] == ["p1"]
    else:
        wait_until(lambda: inbox.stats()["pending"] == 1)
        assert host.undelivered == []


def test_a_poll_with_a_disk_that_stays_full(
    fake: FakeButtDialServer, make: Make, host: Host, moment: SettableClock
) -> None:
    """It ends, reads no further page, and gives the host what it has read."""
    let_wait(fake, "a", "b", "c")
    inbox = FullDisk(moment, times=10**9)
    keep = host.undelivered.append
    listener = make(host.inbound, inbox=inbox, on_undelivered=keep, page_size=2)
    with pytest.raises(TransportError, match="the inbox cannot be written"):
        listener.poll()
    assert [getattr(each, "text", "") for each in host.undelivered] == ["a", "b"]
    assert len(fake.waiting) == 1


def test_a_message_that_lacks_a_part_rests(
    fake: FakeButtDialServer, listener: Listener, inbox: Inbox, host: Host
) -> None:
    """It is a dead letter at once, and the host is told."""
    fake.add_waiting(body="x", externalId="odd", **{"from": None})
    listener.poll()
    (dead,) = inbox.list("dead")
    assert "lacks a part" in str(dead.last_error)
    assert [type(each) for each in host.undelivered] == [UnreadableEvent]


def test_a_dead_letter_is_told_though_the_acknowledgement_was_lost(
    fake: FakeButtDialServer, make: Make, host: Host, moment: SettableClock
) -> None:
    """The second try finds the row dead already: by this attempt, so the host is told, once."""

    class Forgetful(MemoryInbox):
        acknowledges = False

        def mark_dead(self, stored: StoredEvent, error: str) -> bool:
            done = super().mark_dead(stored, error)
            if not self.acknowledges:
                self.acknowledges = True
                raise OSError("the connection was lost")
            return done

    inbox = Forgetful(clock=moment)
    listener = make(host.inbound, inbox=inbox, on_undelivered=host.undelivered.append)
    fake.add_waiting(body="x", externalId="odd", **{"from": None})
    listener.poll()
    assert inbox.stats()["dead"] == 1
    assert [type(each) for each in host.undelivered] == [UnreadableEvent]


@pytest.mark.parametrize("end", ["dead", "dismissed", "purged"])
def test_an_event_that_another_ended_is_not_told(
    end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The process slept, and its lease ended: another gave it up, or a person dismissed it."""
    inbox, told = MemoryInbox(), list[InboundEvent]()
    inbound = InboundHandler()

    @inbound.on_message
    def slow(message: InboundMessage) -> None:
        stored = inbox.list()[0]
        number = stored.attempt_number + (1 if end == "dead" else 0)
        long_ago = inbox.store.now() - timedelta(days=1)
        status = "dead" if end == "dead" else "dismissed"
        changes = {"attempt_number": number, "status": status, "resolved_at": long_ago}
        inbox.store.update(stored.id, changes, Condition())
        if end == "purged":
            assert inbox.purge(1.0) == 1
        raise OSError("it fails")

    inbox.write([InboundMessage(id="a", sender="+1", channel="sms")])
    how = HandingOver(inbox=inbox, inbound=inbound, longest_hold=0.0, on_undelivered=told.append)
    drain_inbox(how)
    assert told == []
    assert "is given up" not in caplog.text
    assert "the inbox failed" not in caplog.text


def test_a_row_that_cannot_be_read_is_told(
    fake: FakeButtDialServer,
    listener: Listener,
    inbox: Inbox,
    host: Host,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Somebody edited it by hand; the others are handled."""
    inbox.write([InboundMessage(id="a", sender="+1", channel="sms")])
    inbox.store.update(inbox.list()[0].id, {"payload": "[]"}, Condition())
    let_wait(fake, "b", sender="+1")
    assert listener.poll() == 1
    assert host.got == ["b"]
    (told,) = host.undelivered
    assert isinstance(told, UnreadableEvent)
    assert told.id == inbox.list("dead")[0].id
    assert told.reason
    (logged,) = caplog.messages
    assert logged.startswith(f"the stored event {told.id} cannot be read")


def test_a_slow_handler_keeps_its_event(moment: SettableClock) -> None:
    """Its lease starts again while it runs."""
    inbox = MemoryInbox(lease=0.3)
    inbox.write([InboundMessage(id="a", sender="+1", channel="sms")])
    running, go_on = threading.Event(), threading.Event()
    inbound = InboundHandler()

    @inbound.on_message
    def be_slow(_: InboundMessage) -> None:
        running.set()
        assert go_on.wait(PATIENCE)

    workers = InboxWorkers(HandingOver(inbox=inbox, inbound=inbound))
    workers.start()
    try:
        assert running.wait(PATIENCE)
        first = next(iter(inbox.leased().values()), inbox.store.now())
        wait_until(lambda: max(inbox.leased().values(), default=first) > first)
    finally:
        go_on.set()
        wait_until(lambda: workers.handled == 1)
        assert workers.stop(PATIENCE)


class Forgetful(MemoryInbox):
    """An inbox whose answers are lost for some time."""

    times = 3

    def mark_handled(self, stored: Any) -> bool:
        self.times -= 1
        if self.times >= 0:
            raise OSError("the database restarts")
        return super().mark_handled(stored)


def test_a_success_is_recorded_later(
    fake: FakeButtDialServer, make: Make, host: Host, moment: SettableClock
) -> None:
    """A database that restarts costs no second call of the handler."""
    let_wait(fake, "a")
    inbox = Forgetful(clock=moment)
    assert make(host.inbound, inbox=inbox).poll() == 1
    assert host.got == ["a"]
    assert inbox.stats()["handled"] == 1


def test_an_inbox_that_cannot_be_read_ends_nothing(
    fake: FakeButtDialServer, make: Make, host: Host, moment: SettableClock
) -> None:
    """The worker tries again."""

    class Locked(MemoryInbox):
        times = 2

        def take(self) -> Any:
            self.times -= 1
            if self.times >= 0:
                raise OSError("the database is locked")
            return super().take()

    let_wait(fake, "a")
    assert make(host.inbound, inbox=Locked(clock=moment)).poll() == 1


def test_a_poll_says_that_the_inbox_cannot_be_read(
    fake: FakeButtDialServer, make: Make, host: Host, moment: SettableClock
) -> None:
    """It does not wait for ever, as a cron job must not; the messages stay where they are."""

    class Gone(MemoryInbox):
        def take(self) -> Any:
            raise OSError("the database is gone")

    let_wait(fake, "a")
    inbox = Gone(clock=moment)
    listener = make(host.inbound, inbox=inbox)
    with pytest.raises(OSError, match="gone"):
        listener.poll()
    assert not listener.running
    assert inbox.count_pending() == 1


def test_what_was_handled_long_ago_is_purged(moment: SettableClock, host: Host) -> None:
    """Dead letters stay."""
    inbox = MemoryInbox(clock=moment)
    inbox.write([InboundMessage(id="a", sender="+1", channel="sms")])
    how = HandingOver(inbox=inbox, inbound=host.inbound)
    assert drain_inbox(how) == 1
    moment.move(8 * 24 * 3600)
    workers = InboxWorkers(how)
    workers.start()
    wait_until(lambda: not inbox.list())
    workers.stop(PATIENCE)


def test_workers_need_an_inbox(client: Client) -> None:
    """Without one, events are handled one after the other."""
    with pytest.raises(ConfigError, match="workers needs an inbox"):
        Listener(client, InboundHandler(), workers=2)
    wrong: list[dict[str, Any]] = [{"workers": 0}, {"page_size": 0}, {"longest_hold": 0}]
    for options in wrong:
        with pytest.raises(ButtDialError):
            Listener(client, InboundHandler(), **options)


def test_the_lease_is_not_shorter_than_the_handlers(client: Client) -> None:
    """Or another process would take over what is still claimed, and count that as a failure."""
    with pytest.raises(ConfigError, match=r"lease \(10 s\) is shorter"):
        Listener(client, InboundHandler(lease=11.0), inbox=MemoryInbox(lease=10.0))


def test_a_second_listener_leaves_no_thread(
    client: Client, host: Host, inbox: Inbox, listener: Listener
) -> None:
    """It is refused before it starts any."""
    with listener:
        before = threading.active_count()
        with pytest.raises(ConfigError, match="another listener"):
            Listener(client, host.inbound, inbox=inbox).start()
        assert threading.active_count() <= before
