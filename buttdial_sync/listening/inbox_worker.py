"""The threads that hand over what an inbox holds."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

import attrs

from buttdial_sync.inbound.dispatch import ends_process
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.inbound.inbox import Inbox, StoredEvent
from buttdial_sync.listening.pauses import WHILE_BUSY, exponential
from buttdial_sync.models.inbound import InboundEvent, UnreadableEvent
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.threads import work_side_by_side

logger = logging.getLogger("buttdial_sync.inbound")

AroundDrain = Callable[[Callable[[], None]], AbstractContextManager[object]]

# Other processes, such as web workers, may write to the inbox too.
_LOOK_AGAIN_AFTER = 1.0
_PAUSES_TO_RECORD = (0.1, 0.4, 1.6, 6.4, 25.6)
_PURGE_AFTER = 3600.0
_NAME = "buttdial-sync-inbox"
_TRIES_OF_A_DRAIN = 4
_FAILED = "a handler failed; the log says which"
_BUSY = "another process is still busy with it, or ended without a word"


@attrs.frozen(kw_only=True)
class HandingOver:
    """
    How events are handed over.

    Attributes:
        inbox: Has the events.
        inbound: Has the handlers.
        workers: How many threads hand over at once; events of one sender are not handled at once.
        longest_hold: For how many seconds after its first failure an event is tried again. Its
            sender's later events wait that long.
        on_undelivered: Gets each event that was given up.
    """

    inbox: Inbox
    inbound: InboundHandler
    workers: int = 1
    longest_hold: float = 60.0
    on_undelivered: Callable[[InboundEvent], object] | None = None


def drain_inbox(how: HandingOver, around: AroundDrain = nullcontext) -> int:
    """
    Hand over what is due in an inbox, and end. Safe to repeat, and while others do the same.

    An event on which a handler fails is due again later: for the next call.

    Args:
        how: How events are handed over.
        around: Makes a context manager that is entered meanwhile, from a function that lets it
            begin nothing more.

    Returns:
        How many events the handlers got.

    Raises:
        Exception: The store's, if the inbox cannot be read after some tries.
    """
    workers = InboxWorkers(how)
    try:
        with around(workers.tell_to_stop):
            workers.drain()
    finally:
        workers.stop(0.0)
    return workers.handled


class InboxWorkers:
    """
    Threads that hand over the events of an inbox. One thread calls these methods.

    Args:
        how: How events are handed over.
        sleep: Sleeps for some seconds; by default until :meth:`stop` at most.

    Attributes:
        handled: How many events the handlers got; repetitions do not count.
    """

    def __init__(self, how: HandingOver, sleep: Callable[[float], object] | None = None) -> None:
        self.handled = 0
        self._how = how
        self._inbox = how.inbox
        self._stopping = threading.Event()
        self._sleep = sleep or self._stopping.wait
        self._changed = threading.Condition()
        self._news = 0
        self._drains = False
        self._in_hand: dict[str, StoredEvent] = {}
        self._threads: list[threading.Thread] = []
        self._here = threading.local()
        self._leases = threading.Thread(
            target=self._keep_leases, name="buttdial-sync-leases", daemon=True
        )
        # Not guarded: purging twice does no harm.
        self._purge_at = -math.inf

    def start(self) -> None:
        """Begin to hand over, in threads."""
        self._threads = [
            threading.Thread(target=self._work, name=f"{_NAME}-{number}", daemon=True)
            for number in range(1, self._how.workers + 1)
        ]
        for thread in (*self._threads, self._leases):
            thread.start()

    def wake(self) -> None:
        """Look at once: something was written."""
        with self._changed:
            self._news += 1
            self._changed.notify_all()

    def drain(self) -> None:
        """
        Hand over until nothing is due: in this thread, or in threads if there are several workers.

        What failed is due later, and is not waited for. Call it instead of :meth:`start`.

        Raises:
            Exception: The store's, if the inbox cannot be read after some tries.
        """
        self._drains = True
        self._leases.start()
        if self._how.workers == 1:
            self._work()
        else:
            work_side_by_side(lambda _: self._work(), self._how.workers, self._stopping, _NAME)

    @property
    def is_own_thread(self) -> bool:
        """Whether one of these threads asks: a handler does."""
        return getattr(self._here, "works", False)

    def tell_to_stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()
        self.wake()

    def stop(self, timeout: float) -> bool:
        """
        Begin nothing more; wait for the handlers that run.

        Args:
            timeout: How long to wait, in seconds.

        Returns:
            Whether all have ended.
        """
        deadline = Deadline(timeout)
        self.tell_to_stop()
        threads = [thread for thread in (*self._threads, self._leases) if thread.is_alive()]
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(deadline.remaining())
        return not any(thread.is_alive() for thread in threads)

    def _work(self) -> None:
        self._here.works = True
        failures = 0
        while not self._stopping.is_set():
            news = self._news
            try:
                with self._inbox.around():
                    self._hand_over_what_is_due()
                    self._purge_sometimes()
                failures = 0
            except BaseException as error:  # the store's or the host's; the thread goes on
                if ends_process(error):
                    raise
                failures += 1
                if self._drains and failures == _TRIES_OF_A_DRAIN:
                    raise
                logger.exception("the inbox cannot be read; trying again")
                self._sleep(exponential(self._how.longest_hold, failures))
                continue
            if self._drains:
                return
            with self._changed:
                if self._news == news and not self._stopping.is_set():
                    self._changed.wait(_LOOK_AGAIN_AFTER)

    def _hand_over_what_is_due(self) -> None:
        while not self._stopping.is_set() and (stored := self._inbox.take()) is not None:
            self._in_hand[stored.id] = stored
            try:
                self._hand_over(stored)
            finally:
                self._in_hand.pop(stored.id, None)

    def _hand_over(self, stored: StoredEvent) -> None:
        if stored.event is None:
            # The inbox gave it up when it was taken: nobody has been told yet.
            reason = stored.unreadable or ""
            self._tell(stored, UnreadableEvent(reason=reason, id=stored.id))
            return
        try:
            report = self._how.inbound.dispatch_event(stored.event, [f"inbox:{stored.id}"])
        except BaseException:  # the process ends: the next one need not wait for the lease
            self._record(self._inbox.put_back, stored)
            raise
        if report.unreadable:
            self._give_up(stored, "it lacks a part, and no handler wants such events")
        elif report.failed:
            self._keep_or_give_up(stored)
        elif report.busy:
            # No failure: whoever is busy with it ends, or its claim does.
            due = self._inbox.store.now() + timedelta(seconds=WHILE_BUSY)
            self._record(self._inbox.postpone, stored, _BUSY, due)
        else:
            with self._changed:
                self.handled += report.handled
            self._record(self._inbox.mark_handled, stored)
            # The next one of this sender is free now.
            self.wake()

    def _keep_or_give_up(self, stored: StoredEvent) -> None:
        now = self._inbox.store.now()
        first = stored.first_failed_at or now
        end = first + timedelta(seconds=self._how.longest_hold)
        if now >= end:
            self._give_up(stored, _FAILED)
            return
        pause = exponential(self._how.longest_hold, stored.retry_count - 1)
        due = min(now + timedelta(seconds=pause), end)
        self._record(self._inbox.keep, stored, _FAILED, due, first)

    def _give_up(self, stored: StoredEvent, error: str) -> None:
        # A try that failed may have been carried out all the same: then what the row says counts.
        is_dead = self._record(self._inbox.mark_dead, stored, error)
        if not (is_dead or self._record(self._is_dead, stored)):
            return
        logger.error("%s %s is given up: %s", stored.kind, stored.id, error)
        self.wake()
        if stored.event is not None:
            self._tell(stored, stored.event)

    def _is_dead(self, stored: StoredEvent) -> bool:
        row = self._inbox.get(stored.id)
        return (
            row is not None and row.status == "dead" and row.attempt_number == stored.attempt_number
        )

    def _tell(self, stored: StoredEvent, event: InboundEvent) -> None:
        if self._how.on_undelivered is not None:
            try:
                self._how.on_undelivered(event)
            except BaseException as error:  # the host's; the event is in the dead letters
                logger.exception("on_undelivered failed for %s", stored.id)
                if ends_process(error):
                    raise

    def _record(self, change: Callable[..., bool], stored: StoredEvent, *arguments: object) -> bool:
        """Record what became of an event; try again for as long as a database takes to restart."""
        for pause in _PAUSES_TO_RECORD:
            try:
                return change(stored, *arguments)
            except Exception as error:  # noqa: BLE001, PERF203 - the store's, of any kind
                logger.warning("the inbox failed, once more: %s", type(error).__name__)
                self._sleep(pause)
        return change(stored, *arguments)

    def _keep_leases(self) -> None:
        pause = self._inbox.lease / 3
        while not self._stopping.wait(pause):
            failed = [stored for stored in [*self._in_hand.values()] if not self._extend(stored)]
            # Soon again: the store may have used most of the time that is left to say that.
            pause = self._inbox.lease / (12 if failed else 3)

    def _extend(self, stored: StoredEvent) -> bool:
        """Begin the lease of an event again; False if the store fails."""
        try:
            with self._inbox.around():
                self._inbox.extend_lease(stored.id, stored.attempt_number)
        except BaseException:  # the host's, sys.exit() too: the other leases are extended
            logger.exception("the lease of %s could not be extended", stored.id)
            return False
        return True

    def _purge_sometimes(self) -> None:
        now = time.monotonic()
        if now >= self._purge_at:
            self._purge_at = now + _PURGE_AFTER
            self._inbox.purge(self._inbox.keep_for)
