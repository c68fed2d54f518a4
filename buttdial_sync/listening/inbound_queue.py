"""The queue of events that were not handed over yet, in the order in which they were sent."""

from __future__ import annotations

import heapq
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import attrs

from buttdial_sync.inbound.dispatch import order_of
from buttdial_sync.inbound.native import parse_pushed, parse_waiting
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.signals import wait_for

logger = logging.getLogger("buttdial_sync.inbound")

_AT_MOST = 100_000
_WAITED, _PUSHED = 0, 1


def pushed_events(notification: Mapping[str, Any], agent_id: str | None) -> Sequence[InboundEvent]:
    """
    Return the events of a notification; none if it is not a message for the agent.

    Args:
        notification: What the server pushed.
        agent_id: The agent, where that is known: pushes do not name it.
    """
    params = notification.get("params")
    data = params.get("data") if isinstance(params, dict) else None
    if notification.get("method") != "notifications/message" or not isinstance(data, dict):
        return ()
    return parse_pushed(data, agent_id)


def agent_of(messages: Sequence[WaitingMessage]) -> str | None:
    """Return the agent that messages of the waiting queue name, if they do."""
    return next((each.agent_id for each in messages if each.agent_id), None)


@attrs.define(eq=False)
class QueuedEvent:
    """
    An event in the queue.

    Attributes:
        event: The event.
        place: Where it stands: its generation, whether it was pushed, and a running number.
        order: What it has in common with events that wait for it, such as its sender.
        attempts: How often a handler failed on it.
        waited: For how many seconds it was put aside because somebody else was busy with it.
        due: When it is handed over again, by the clock of the listener.
        behind: Those that came up meanwhile and wait for it.
        key: By what handlers that have had it are known, if it has no id of its own.
    """

    event: InboundEvent
    place: tuple[int, int, int]
    order: str
    attempts: int = 0
    waited: float = 0.0
    due: float = attrs.field(init=False)
    behind: list[QueuedEvent] = attrs.field(factory=list)
    key: str = attrs.field(factory=lambda: f"queued:{uuid4()}")


class InboundQueue:
    """
    The :class:`~buttdial_sync.transport.push_router.PushSink` of a listener. For any threads.

    What waited on the server is older than what is pushed on the stream that was opened next. But
    it may be read later than the first push arrives, because the server's queue is read again once
    the stream is open. So each opening begins a generation, and the pushes of a generation are held
    back until :meth:`release_pushed` says that all older messages are here.

    An event that failed is put aside until it is due again. Only events of the same sender wait for
    it, so that their order stays.

    Args:
        late: Gets what comes after :meth:`close`, in any thread. It must not wait.
        agent_id: The listening agent, where that is known. Pushes do not name it, but the waiting
            queue does, and a message that came both ways has to be known again.
        page_size: How many waiting messages are read at once.

    Attributes:
        agent_id: As given, or learned.
        generation: The number of streams that were about to be opened so far.
        page_size: As given.
    """

    def __init__(
        self,
        late: Callable[[Sequence[InboundEvent]], object],
        agent_id: str | None,
        page_size: int,
    ) -> None:
        self._late = late
        self.generation = 0
        self.page_size = page_size
        self.agent_id = agent_id
        self._changed = threading.Condition()
        # The places are different, so that the events are never compared.
        self._entries: list[tuple[tuple[int, int, int], QueuedEvent]] = []
        self._postponed: dict[str, QueuedEvent] = {}
        self._numbers = count()
        self._released = -1
        self._awake = False
        self._closed = False
        self._dropped = 0

    def opening(self) -> None:
        """Begin a generation: a stream is about to be opened."""
        with self._changed:
            self.generation += 1

    def waiting(self, messages: Sequence[WaitingMessage], _: Deadline) -> None:
        """Take in messages that waited."""
        self.agent_id = self.agent_id or agent_of(messages)
        self._put(_WAITED, [event for each in messages for event in parse_waiting(each)])

    def pushed(self, notification: Mapping[str, Any]) -> None:
        """Take in a notification, if it is a message for the agent."""
        self._put(_PUSHED, pushed_events(notification, self.agent_id))

    def ended(self) -> None:
        """Wake the runner: the stream is over."""
        self.wake()

    def release_pushed(self, generation: int) -> None:
        """Release the pushes up to this generation: all older messages are in the queue."""
        with self._changed:
            self._released = generation

    def close(self) -> None:
        """Take in nothing more. What is there is still given out."""
        with self._changed:
            self._closed = True

    def wake(self) -> None:
        """End the running :meth:`wait`, or else the next one."""
        with self._changed:
            self._awake = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until there is something to give out, at most for some seconds."""
        with self._changed:
            wait_for(partial(self._changed.wait_for, self._is_awake_or_ready), seconds)
            self._awake = False

    def take(self, now: float) -> QueuedEvent | None:
        """Give out the next event; None when none is due, or older ones may still come."""
        with self._changed:
            first = min(self._postponed.values(), key=_due, default=None)
            if first is not None and first.due <= now:
                del self._postponed[first.order]
                behind, first.behind = first.behind, []
                for each in behind:
                    heapq.heappush(self._entries, (each.place, each))
                return first
            while self._is_ready():
                queued = heapq.heappop(self._entries)[1]
                earlier = self._postponed.get(queued.order)
                if earlier is None:
                    return queued
                earlier.behind.append(queued)
            return None

    def postpone(self, queued: QueuedEvent, due: float) -> None:
        """Put an event aside that was taken last, and with it those of its sender."""
        with self._changed:
            queued.due = due
            self._postponed[queued.order] = queued

    def seconds_until_due(self, now: float) -> float:
        """Return how long the next event is still put aside; infinity if none is."""
        with self._changed:
            return min(map(_due, self._postponed.values()), default=math.inf) - now

    def _is_awake_or_ready(self) -> bool:
        return self._awake or self._is_ready()

    def _is_ready(self) -> bool:
        if not self._entries:
            return False
        generation, source, _ = self._entries[0][0]
        return source == _WAITED or generation <= self._released

    def _put(self, source: int, events: Sequence[InboundEvent]) -> None:
        with self._changed:
            if not self._closed:
                self._add(source, events)
                self._changed.notify_all()
                return
        self._late(events)

    def _add(self, source: int, events: Sequence[InboundEvent]) -> None:
        aside = sum(1 + len(each.behind) for each in self._postponed.values())
        for event in events:
            if len(self._entries) + aside >= _AT_MOST:
                self._dropped += 1
                logger.error("%d messages dropped: the handlers are too slow", self._dropped)
                continue
            place = (self.generation, source, next(self._numbers))
            queued = QueuedEvent(event, place, order_of(event))
            heapq.heappush(self._entries, (place, queued))


def _due(queued: QueuedEvent) -> float:
    return queued.due
