"""What a listener with an inbox does with what comes in: it has it written before it is handled."""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from buttdial_sync.errors import TransportError
from buttdial_sync.inbound.dispatch import ends_process
from buttdial_sync.inbound.inbox import Inbox
from buttdial_sync.inbound.native import parse_waiting
from buttdial_sync.listening.inbound_queue import agent_of, pushed_events
from buttdial_sync.listening.pauses import exponential
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.signals import wait_for

logger = logging.getLogger("buttdial_sync.inbound")

_SECONDS_TO_WRITE = 30.0
_LONGEST_PAUSE = 10.0
_TRIES = 5
_NAME = "buttdial-sync-writer"


@attrs.frozen(eq=False)
class _Batch:
    events: Sequence[InboundEvent]
    written: threading.Event = attrs.field(factory=threading.Event)


class InboxWriter:
    """
    A thread that writes to an inbox, in order. Safe to share between threads.

    Events arrive in threads that must not write themselves: one that reads a stream must not wait
    for a database, and one of the host may be inside a transaction that is rolled back.

    Args:
        inbox: Where to write.
        on_written: Called after something was written.
        late: Gets what comes after :meth:`close` has begun, in any thread. It must not wait.
        sleep: Sleeps for some seconds after a failure; by default until :meth:`close` at most.
    """

    def __init__(
        self,
        inbox: Inbox,
        on_written: Callable[[], None],
        late: Callable[[Sequence[InboundEvent]], object],
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._inbox = inbox
        self._on_written = on_written
        self._late = late
        # Guards the end: nothing is put behind it, where nobody would write it.
        self._lock = threading.Lock()
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._sleep = sleep or self._closing.wait
        # In the order in which they came. Changed by single atomic operations.
        self._unwritten: dict[_Batch, None] = {}
        self._thread = threading.Thread(target=self._run, name=_NAME, daemon=True)
        self._own_thread: int | None = None

    def write_here(self) -> None:
        """Write what this thread reads in this thread: it may use the store."""
        self._own_thread = threading.get_ident()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, events: Sequence[InboundEvent]) -> None:
        """Have events written soon."""
        if events:
            self._put(_Batch(events))

    def write(self, events: Sequence[InboundEvent], deadline: Deadline) -> None:
        """
        Have events written, in one transaction, and wait for that.

        Args:
            events: What was read.
            deadline: Until when the caller can wait; at most 30 seconds.

        Raises:
            TransportError: They could not be written yet; they are, as soon as it is possible.
        """
        if not events:
            return
        batch = _Batch(events)
        if self._own_thread == threading.get_ident():
            self._unwritten[batch] = None  # an interrupt may come before it is written
            if not self._write(batch, tries=_TRIES):
                self._put(batch)  # for close(), which tells what could not be written
        else:
            self._put(batch)
            batch.written.wait(deadline.within(_SECONDS_TO_WRITE).remaining())
        if not batch.written.is_set():
            raise TransportError(
                "the inbox cannot be written",
                remediation="See the log: nothing more is read from the server until it can.",
            )

    def close(self, timeout: float) -> Sequence[InboundEvent]:
        """
        Write what is left, one try each, and end.

        Args:
            timeout: How long to wait, in seconds.

        Returns:
            The events that could not be written.
        """
        with self._lock:
            self._closing.set()
            self._batches.put(None)
        if self._thread.ident is None:  # it could not be started
            self._run()
        else:
            self._thread.join(timeout)
        # Also what the thread has not come to: who closes this tells the host of it.
        return [event for batch in list(self._unwritten) for event in batch.events]

    def write_late(self, events: Sequence[InboundEvent]) -> bool:
        """Write what came after the end, in this thread, with one try; return whether it is."""
        return self._write(_Batch(events))

    def _put(self, batch: _Batch) -> None:
        with self._lock:
            if not self._closing.is_set():
                self._unwritten[batch] = None
                self._batches.put(batch)
                return
        self._late(batch.events)
        batch.written.set()  # or told: nobody here waits for that

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            self._write(batch)

    def _write(self, batch: _Batch, tries: float = math.inf) -> bool:
        """Write a batch, after so many tries or until this is closed; return whether it is."""
        failures = 0
        while not batch.written.is_set():
            try:
                with self._inbox.around():
                    self._inbox.write(batch.events)
                self._unwritten.pop(batch, None)
                batch.written.set()
            except BaseException as error:  # noqa: PERF203 - the store's: a full disk may have room
                if ends_process(error):
                    raise
                logger.exception("%d events cannot be written to the inbox", len(batch.events))
                failures += 1
                if self._closing.is_set() or failures >= tries:
                    return False
                self._sleep(exponential(_LONGEST_PAUSE, failures - 1))
        self._on_written()
        return True


class InboxSink:
    """
    The :class:`~buttdial_sync.transport.push_router.PushSink` of a listener with an inbox.

    The order is that of :class:`~buttdial_sync.listening.inbound_queue.InboundQueue`: pushes of a
    stream are held back until what waited before it was read. A page of the waiting queue is
    written before the next one is read.

    Args:
        writer: Writes.
        agent_id: The listening agent, where that is known.
        page_size: How many waiting messages are read at once, and are lost if the process dies
            before they are written.

    Attributes:
        agent_id: As given, or learned.
        generation: The number of streams that were about to be opened so far.
        page_size: As given.
    """

    def __init__(self, writer: InboxWriter, agent_id: str | None, page_size: int) -> None:
        self.generation = 0
        self.agent_id = agent_id
        self.page_size = page_size
        self._writer = writer
        self._lock = threading.Lock()
        # Of the newest generation; those of earlier ones are released when it begins.
        self._held: list[Sequence[InboundEvent]] = []
        self._released = -math.inf
        self._wakes = threading.Event()

    def opening(self) -> None:
        """Begin a generation: a stream is about to be opened."""
        with self._lock:
            self._write_held()
            self.generation += 1

    def waiting(self, messages: Sequence[WaitingMessage], deadline: Deadline) -> None:
        """Write messages that waited, in one transaction."""
        self.agent_id = self.agent_id or agent_of(messages)
        self._writer.write([event for each in messages for event in parse_waiting(each)], deadline)

    def pushed(self, notification: Mapping[str, Any]) -> None:
        """Take in a notification, if it is a message for the agent."""
        events = pushed_events(notification, self.agent_id)
        with self._lock:
            self._held.append(events)
            if self.generation <= self._released:
                self._write_held()

    def ended(self) -> None:
        """Wake the runner: the stream is over."""
        self.wake()

    def close(self) -> None:
        """Hold nothing back any more: what comes now goes to the writer, or where it is late."""
        self.release_pushed(math.inf)

    def release_pushed(self, generation: float) -> None:
        """Release the pushes up to this generation: all older messages are written."""
        with self._lock:
            self._released = max(self._released, generation)
            if self.generation <= self._released:
                self._write_held()

    def _write_held(self) -> None:
        while self._held:
            self._writer.put(self._held[0])
            del self._held[0]  # only now: an interrupt in between must not lose it

    def wake(self) -> None:
        """End the running :meth:`wait`, or else the next one."""
        self._wakes.set()

    def wait(self, seconds: float) -> None:
        """Wait until somebody wakes this, at most for some seconds."""
        wait_for(self._wakes.wait, seconds)
        self._wakes.clear()

    def take(self, _: float) -> None:
        """Give out nothing: the workers take from the inbox."""

    def seconds_until_due(self, _: float) -> float:
        """Nothing is put aside here: what failed is in the inbox."""
        return math.inf
