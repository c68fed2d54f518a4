"""Handing over the events of an inbox: when a failed one is due again, and a store that is down."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from buttdial_sync import InboundHandler, InboundMessage, MemoryInbox
from buttdial_sync.inbound.inbox import StoredEvent
from buttdial_sync.listening.inbox_worker import HandingOver, InboxWorkers, drain_inbox
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.testing.conformance import START, SettableClock
from tests.integration.inbound.listening import PATIENCE, wait_until
from tests.unit.interrupts import ctrl_c, interruptible
from tests.unit.listening.conftest import LogOfKilled


class Unsteady(MemoryInbox):
    """An inbox that is down for some calls."""

    def __init__(self, clock: SettableClock, takes: int = 0, records: int = 0) -> None:
        super().__init__(clock=clock)
        self.takes, self.records = takes, records
        self.taken = self.purged = self.extended = 0
        self.on_take: Callable[[], object] = lambda: None
        self.error: type[BaseException] = OSError
        self.extends: list[type[BaseException]] = []

    def take(self) -> StoredEvent | None:
        self.taken += 1
        self.on_take()
        if self.takes > 0:
            self.takes -= 1
            raise self.error("the database restarts")
        return super().take()

    def mark_handled(self, stored: StoredEvent) -> bool:
        if self.records > 0:
            self.records -= 1
            raise OSError("the database restarts")
        return super().mark_handled(stored)

    def extend_lease(self, *arguments: Any) -> bool:
        self.extended += 1
        if self.extends:
            raise self.extends.pop()
        return super().extend_lease(*arguments)

    def purge(self, *arguments: Any) -> int:
        self.purged += 1
        return super().purge(*arguments)


class Bench:
    """An inbox, its clock, and a handler that may fail."""

    def __init__(self, takes: int = 0, records: int = 0, **options: Any) -> None:
        self.clock = SettableClock()
        self.inbox = Unsteady(self.clock, takes, records)
        self.slept: list[float] = []
        self.got: list[str | None] = []
        self.threads: set[int] = set()
        self.undelivered: list[InboundEvent] = []
        self.fails = False
        self.ends: list[type[BaseException]] = []
        self.log = LogOfKilled(lambda: self.clock().timestamp())
        inbound = InboundHandler(delivery_log=self.log)
        inbound.on_message(self.handle)
        self.how = HandingOver(
            inbox=self.inbox, inbound=inbound, on_undelivered=self.undelivered.append, **options
        )

    def handle(self, message: InboundMessage) -> None:
        self.got.append(message.id)
        self.threads.add(threading.get_ident())
        if self.ends:
            raise self.ends.pop()
        if self.fails:
            raise OSError("the host's database is down")

    def add(self, *names: str) -> None:
        for name in names:
            self.inbox.write([InboundMessage(id=name, sender=f"+{name}", channel="sms")])

    def drain(self) -> int:
        workers = InboxWorkers(self.how, self.slept.append)
        try:
            workers.drain()
        finally:
            workers.stop(0.0)
        return workers.handled

    def seconds_until_due(self) -> float:
        """After how long the failed event is due again; the clock is moved there."""
        (stored,) = self.inbox.list()
        assert stored.next_retry_at is not None
        seconds = (stored.next_retry_at - self.clock()).total_seconds()
        self.clock.move(seconds)
        return seconds


@pytest.mark.parametrize("workers", [1, 3])
def test_all_that_is_due(workers: int) -> None:
    """In this thread, or else in several; how many the handlers got is told."""
    here = Bench(workers=workers)
    here.add("1", "2", "3")
    assert drain_inbox(here.how) == 3
    assert sorted(map(str, here.got)) == ["1", "2", "3"]
    assert (here.threads == {threading.get_ident()}) is (workers == 1)
    assert here.inbox.stats()["handled"] == 3
    assert drain_inbox(here.how) == 0


def test_an_event_that_fails_is_due_again() -> None:
    """After twice as long each time, until a minute is over: then the host is told, once."""
    here = Bench()
    here.fails = True
    here.add("1")
    pauses: list[float] = []
    for _ in range(7):
        assert here.drain() == 0
        pauses.append(here.seconds_until_due())
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 28.5]
    assert here.undelivered == []
    here.drain()
    (dead,) = here.inbox.list("dead")
    assert "a handler failed" in str(dead.last_error)
    assert dead.first_failed_at == START
    assert [getattr(each, "id", "") for each in here.undelivered] == ["1"]
    assert here.got == ["1"] * 8


def test_an_event_that_a_killed_process_has_claimed() -> None:
    """It is kept until the claim ends, as if nothing had failed, and is then handled."""
    here = Bench()
    here.add("1")
    (stored,) = here.inbox.list()
    here.ends = [SystemExit]
    here.log.die_with(here.how.inbound, stored.event)
    for _ in range(300):
        assert here.drain() == 0
        assert here.seconds_until_due() == 1.0
        (stored,) = here.inbox.list("pending")
        assert (stored.retry_count, stored.first_failed_at) == (0, None)
        assert "another process is still busy" in str(stored.last_error)
    assert here.got == ["1"]  # that of the killed process
    here.fails = True  # its failures count from here on
    here.drain()
    assert here.seconds_until_due() == 0.5
    here.fails = False
    assert here.drain() == 1
    assert here.undelivered == []


def test_a_success_after_failures() -> None:
    """Nothing is given up then."""
    here = Bench()
    here.fails = True
    here.add("1")
    here.drain()
    here.seconds_until_due()
    here.fails = False
    assert here.drain() == 1
    assert (here.inbox.stats()["handled"], here.undelivered) == (1, [])


class Rounds(threading.Event):
    """Its waits take no time; after so many of them it is over."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return len(self.waits) > self.number


@pytest.mark.parametrize("error", [OSError, SystemExit])
def test_leases_that_cannot_be_extended(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again soon, whatever the store or what the host puts around it raises."""
    here = Bench()
    here.add("1")
    workers = InboxWorkers(here.how)
    workers._stopping = rounds = Rounds(3)

    def keep_leases(_: InboundMessage) -> None:
        here.clock.move(100.0)
        here.inbox.extends = [error, error]
        workers._keep_leases()
        (end,) = here.inbox.leased().values()
        assert end == here.clock() + timedelta(seconds=300.0)

    here.how.inbound.on_message(keep_leases)
    workers._hand_over_what_is_due()
    assert workers.handled == 1
    assert rounds.waits == [100.0, 25.0, 25.0, 100.0]
    workers._stopping = Rounds(1)
    workers._keep_leases()
    assert here.inbox.extended == 3  # not that of an event that was handled
    assert caplog.text.count("could not be extended") == 2


def test_a_process_may_end_at_any_time() -> None:
    """None of the threads keeps it: what is in hand is leased, and comes again."""
    here = Bench(workers=2)
    workers = InboxWorkers(here.how)
    workers.start()
    threads = [*workers._threads, workers._leases]
    assert [thread.daemon for thread in threads] == [True] * 3
    assert workers.stop(30.0)
    assert not any(thread.is_alive() for thread in threads)


def test_a_handler_that_ends_the_process() -> None:
    """Its event is put back: the next process need not wait for a lease, and no try is used up."""
    here = Bench()
    here.add("1")
    here.ends = [KeyboardInterrupt]
    with pytest.raises(KeyboardInterrupt):
        here.drain()
    (stored,) = here.inbox.list()
    assert (stored.status, stored.retry_count, here.inbox.leased()) == ("pending", 0, {})
    assert here.drain() == 1
    assert here.undelivered == []


def test_old_events_are_purged_once_an_hour() -> None:
    """And not each time that the inbox is looked through."""
    here = Bench()
    workers = InboxWorkers(here.how)
    workers.start()
    for rounds in range(5):
        wait_until(lambda: here.inbox.taken > rounds)  # noqa: B023 - called in this round
        workers.wake()
    assert workers.stop(PATIENCE)
    assert here.inbox.purged == 1


def test_without_patience(caplog: pytest.LogCaptureFixture) -> None:
    """An event that is never tried again is given up at once; the log says so."""
    here = Bench(longest_hold=0.0)
    here.fails = True
    here.add("1")
    here.drain()
    (dead,) = here.inbox.list("dead")
    assert f"InboundMessage {dead.id} is given up: a handler failed" in caplog.text
    assert here.inbox.stats()["dead"] == 1
    assert len(here.undelivered) == 1


def test_a_store_that_restarts_while_an_end_is_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is recorded after half a minute, and the handler is not called again."""
    here = Bench(records=5)
    here.add("1")
    with caplog.at_level(logging.WARNING, "buttdial_sync.inbound"):
        assert here.drain() == 1
    assert here.slept == [0.1, 0.4, 1.6, 6.4, 25.6]
    assert caplog.messages == ["the inbox failed, once more: OSError"] * 5
    assert here.inbox.stats()["handled"] == 1
    here = Bench(records=6)
    here.add("1")
    here.drain()  # the lease ends some time
    assert here.slept == [0.1, 0.4, 1.6, 6.4, 25.6, 1.0]
    assert here.inbox.stats()["handled"] == 0


def test_a_store_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """Four tries, and the fourth failure is raised: a cron job has to end."""
    here = Bench(takes=3)
    here.add("1")
    assert here.drain() == 1
    assert here.slept == [1.0, 2.0, 4.0]
    assert caplog.messages == ["the inbox cannot be read; trying again"] * 3
    here = Bench(takes=4)
    here.add("1")
    with pytest.raises(OSError, match="the database restarts"):
        here.drain()
    assert here.slept == [1.0, 2.0, 4.0]
    assert here.got == []
    here = Bench(takes=100, workers=3)
    with pytest.raises(OSError, match="the database restarts"):
        here.drain()


@pytest.mark.parametrize("error", [OSError, SystemExit])
def test_threads_outlive_a_store_that_is_down(error: type[BaseException]) -> None:
    """However long it takes, whatever it raises; they have nobody to tell but the log."""
    here = Bench(takes=6)
    here.inbox.error = error
    here.add("1")
    workers = InboxWorkers(here.how, here.slept.append)
    workers.start()
    wait_until(lambda: here.inbox.stats()["handled"] == 1)
    assert workers.stop(PATIENCE)
    assert here.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]


class Watched(threading.Condition):
    """Nobody waits; a test is told instead."""

    def __init__(self, on_wait: Callable[[], object]) -> None:
        super().__init__()
        self.on_wait = on_wait
        self.waits: list[float | None] = []
        self.told = 0

    def notify_all(self) -> None:
        self.told += 1

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        self.on_wait()
        return True


def test_news_while_the_inbox_is_looked_through() -> None:
    """It is looked through again at once; without news a thread waits, but not for long."""
    here = Bench()
    workers = InboxWorkers(here.how)
    workers._changed = changed = Watched(workers.tell_to_stop)

    def news() -> None:
        if here.inbox.taken == 1:
            workers.wake()
        elif here.inbox.taken > 5:
            workers.tell_to_stop()

    here.inbox.on_take = news
    workers._work()
    assert here.inbox.taken == 2
    assert changed.waits == [1.0]
    assert changed.told == 2  # of the news, and of the end


@pytest.mark.parametrize("fails", [False, True])
def test_the_senders_next_event_is_free(fails: bool) -> None:
    """When an event is handled or given up, the other threads look at once."""
    here = Bench(longest_hold=0.0)
    here.fails = fails
    here.add("1")
    workers = InboxWorkers(here.how)
    workers._changed = changed = Watched(lambda: None)
    workers._hand_over_what_is_due()
    assert here.inbox.stats()["pending"] == 0
    assert changed.told == 1


def test_a_stop_ends_a_pause() -> None:
    """The store is down; nobody waits for it any more."""
    here = Bench(takes=1)
    workers = InboxWorkers(here.how)
    here.inbox.on_take = workers.tell_to_stop
    workers._work()
    assert here.inbox.taken == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_leases_are_kept_while_an_inbox_is_drained(workers: int) -> None:
    """A handler may be slow there, too."""
    here = Bench(workers=workers)
    here.add("1")
    names: list[str] = []
    here.how.inbound.on_message(
        lambda _: names.extend(thread.name for thread in threading.enumerate())
    )
    drain_inbox(here.how)
    assert "buttdial-sync-leases" in names


def test_a_host_that_fails_to_be_told(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the others are handled."""
    here = Bench(longest_hold=0.0)

    def fail(_: InboundEvent) -> None:
        raise ZeroDivisionError

    how = HandingOver(
        inbox=here.inbox, inbound=here.how.inbound, longest_hold=0.0, on_undelivered=fail
    )
    here.fails = True
    here.add("1", "2")
    drain_inbox(how)
    assert here.inbox.stats()["dead"] == 2
    assert caplog.text.count("on_undelivered failed for") == 2


def test_sys_exit_while_the_host_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """In a thread it is a failure like others, and the thread goes on; the main one raises it."""
    here = Bench()
    here.fails = True
    told: list[Any] = []
    both = threading.Event()

    def leave(event: Any) -> None:
        told.append(event.id)
        if len(told) == 2:
            both.set()
        raise SystemExit

    inbound = here.how.inbound
    how = HandingOver(inbox=here.inbox, inbound=inbound, longest_hold=0.0, on_undelivered=leave)
    here.add("1", "2")
    workers = InboxWorkers(how)
    workers.start()
    assert both.wait(PATIENCE)
    assert workers.stop(PATIENCE)
    assert told == ["1", "2"]
    here.add("3")
    with pytest.raises(SystemExit):
        drain_inbox(how)
    assert told == ["1", "2", "3"]
    assert caplog.text.count("on_undelivered failed for") == 3


class Busy(MemoryInbox):
    """An inbox that is down when a lease is extended for the second time."""

    def __init__(self, clock: SettableClock) -> None:
        super().__init__(lease=36.0, clock=clock)
        self.asked = 0

    def extend_lease(self, msg_id: str, attempt_number: int) -> bool:
        self.asked += 1
        if self.asked == 2:
            raise OSError("no answer")
        return super().extend_lease(msg_id, attempt_number)


class Hourglass(threading.Event):
    """Waiting moves the clock, and ends at the fifth time."""

    def __init__(self, clock: SettableClock) -> None:
        super().__init__()
        self.clock = clock
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        self.clock.move(timeout or 0.0)
        return len(self.waits) == 5


def test_a_lease_that_could_not_be_extended(caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again soon: a store that answers late has used up most of the time."""
    clock = SettableClock()
    inbox = Busy(clock)
    inbox.write([InboundMessage(id="a", sender="+1", channel="sms")])
    stored = inbox.take()
    assert stored is not None
    workers = InboxWorkers(HandingOver(inbox=inbox, inbound=InboundHandler()))
    workers._in_hand[stored.id] = stored
    workers._stopping = hourglass = Hourglass(clock)
    workers._keep_leases()
    assert hourglass.waits == [12.0, 12.0, 3.0, 12.0, 12.0]
    assert inbox.asked == 4
    assert caplog.messages == [f"the lease of {stored.id} could not be extended"]
    assert inbox.leased() == {stored.id: clock() + timedelta(seconds=24)}


@interruptible
def test_ctrl_c_waits_for_the_handlers() -> None:
    """What a handler has begun gets its end before the caller goes on."""
    inbound, inbox = InboundHandler(), MemoryInbox()
    workers = InboxWorkers(HandingOver(inbox=inbox, inbound=inbound, workers=2))
    is_through = threading.Event()
    happened: list[str] = []

    @inbound.on_message
    def handle(_: InboundMessage) -> None:
        ctrl_c(until=workers._stopping)
        # Who does not wait is through by then.
        happened.append("abandoned" if is_through.wait(0.2) else "waited for")

    inbox.write([InboundMessage(id="a", sender="+1", channel="sms")])
    with pytest.raises(KeyboardInterrupt):
        workers.drain()
    is_through.set()
    assert happened == ["waited for"]
    assert [stored.status for stored in inbox.list()] == ["handled"]
    assert workers.stop(30.0)
