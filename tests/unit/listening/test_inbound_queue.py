"""The order in which what came in is given out."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from buttdial_sync import InboundMessage
from buttdial_sync.inbound.native import parse_waiting
from buttdial_sync.listening.inbound_queue import InboundQueue
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.transport.deadline import Deadline
from tests.unit.interrupts import waits_of_main_thread

PATIENCE = 20.0


def waiting(name: str) -> WaitingMessage:
    return WaitingMessage(id=name, channel="sms", from_="+1", body="hi", direction="inbound")


def push(name: str) -> dict[str, Any]:
    data = {"messageId": name, "channel": "sms", "from": "+1", "body": "hi"}
    return {"method": "notifications/message", "params": {"data": data}}


def never(events: Sequence[InboundEvent]) -> None:
    """Get what comes after the end: in most tests nothing does."""
    raise AssertionError(events)


def taken(queue: InboundQueue, now: float = 0.0) -> list[str]:
    ids = []
    while (queued := queue.take(now)) is not None:
        assert isinstance(queued.event, InboundMessage)
        ids.append(str(queued.event.id))
    return ids


def test_pushes_are_held_back_until_older_messages_are_here() -> None:
    """What waited goes first, though it was read after the first push came."""
    queue = InboundQueue(never, None, 10)
    queue.opening()
    queue.pushed(push("p1"))
    assert taken(queue) == []
    queue.waiting([waiting("w1"), waiting("w2")], Deadline(30))
    assert taken(queue) == ["w1", "w2"]
    queue.release_pushed(queue.generation)
    assert taken(queue) == ["p1"]


def test_the_one_that_is_due_first_is_given_out_first() -> None:
    """With those of its sender behind it; until then the others go on."""
    queue = InboundQueue(never, None, 7)
    assert queue.page_size == 7
    assert queue.seconds_until_due(0.0) == math.inf
    senders = ("+1", "+2", "+1", "+3")
    messages = [
        attrs.evolve(waiting(f"w{number}"), from_=sender) for number, sender in enumerate(senders)
    ]
    queue.waiting(messages, Deadline(30))
    for due in (9.0, 5.0):
        queued = queue.take(0.0)
        assert queued is not None
        queue.postpone(queued, due)
    assert taken(queue) == ["w3"]
    assert queue.seconds_until_due(1.0) == 4.0
    assert taken(queue, 4.9) == []
    assert taken(queue, 5.0) == ["w1"]
    assert queue.seconds_until_due(5.0) == 4.0
    assert taken(queue, 9.0) == ["w0", "w2"]


def test_a_later_stream_s_pushes_wait_for_their_own_release() -> None:
    """Releasing one generation gives out nothing of the next one, and the order stays."""
    queue = InboundQueue(never, None, 10)
    queue.opening()
    queue.pushed(push("p1"))
    first = queue.generation
    queue.opening()
    queue.pushed(push("p2"))
    queue.waiting([waiting("w2")], Deadline(30))
    queue.release_pushed(first)
    assert taken(queue) == ["p1", "w2"]
    queue.release_pushed(queue.generation)
    assert taken(queue) == ["p2"]


def test_what_is_not_a_message_for_the_agent_is_left_out() -> None:
    """Progress and log lines are not queued."""
    queue = InboundQueue(never, None, 10)
    for notification in (
        {"method": "notifications/progress", "params": {"data": {"from": "+1"}}},
        {"method": "notifications/message", "params": {"data": "a log line"}},
        {"method": "notifications/message", "params": None},
        {"method": "notifications/message", "params": {"data": {"level": "info"}}},
    ):
        queue.pushed(notification)
    queue.release_pushed(0)
    assert taken(queue) == []


def test_a_wake_is_not_lost() -> None:
    """A wake before the wait ends that wait, and only that one; the next waits for a message."""
    queue, woken = InboundQueue(never, None, 10), threading.Event()

    def wait_twice() -> None:
        queue.wait(PATIENCE)
        woken.set()
        queue.wait(PATIENCE)
        got.extend(taken(queue))

    got: list[str] = []
    queue.ended()
    waiter = threading.Thread(target=wait_twice)
    waiter.start()
    assert woken.wait(PATIENCE)
    waiter.join(0.05)
    assert waiter.is_alive()
    queue.waiting([waiting("w1")], Deadline(30))
    waiter.join(PATIENCE)
    assert got == ["w1"]


def test_pushes_before_any_opening_wait_too() -> None:
    """Nothing is released before somebody says so."""
    queue = InboundQueue(never, None, 10)
    queue.pushed(push("p1"))
    assert taken(queue) == []
    queue.release_pushed(0)
    assert taken(queue) == ["p1"]


def test_only_messages_are_taken_in() -> None:
    """Another notification may carry the same fields."""
    queue = InboundQueue(never, None, 10)
    queue.pushed({**push("p1"), "method": "notifications/progress"})
    queue.release_pushed(0)
    assert taken(queue) == []


def test_what_is_there_ends_the_wait_at_once() -> None:
    """A wait returns for a message; for a push only when it may be given out."""
    queue, got = InboundQueue(never, None, 10), threading.Event()

    def wait() -> None:
        queue.wait(PATIENCE)
        got.set()

    waiter = threading.Thread(target=wait)
    queue.pushed(push("p1"))
    waiter.start()
    waiter.join(0.05)
    assert not got.is_set()
    queue.release_pushed(0)
    queue.wake()
    assert got.wait(PATIENCE)
    waiter.join(PATIENCE)
    queue.wait(PATIENCE)


def test_a_queue_that_is_full(caplog: pytest.LogCaptureFixture) -> None:
    """It keeps the oldest hundred thousand, and says how many it has dropped."""
    queue = InboundQueue(never, None, 10)
    (event,) = parse_waiting(waiting("w"))
    queue._put(0, [event] * 100_000)
    assert caplog.messages == []
    queue.waiting([waiting("a"), waiting("b")], Deadline(30))
    assert caplog.messages == [
        "1 messages dropped: the handlers are too slow",
        "2 messages dropped: the handlers are too slow",
    ]
    first = queue.take(0.0)
    assert first is not None
    assert first.event is event
    queue.postpone(first, 1.0)
    assert queue.take(0.0) is None  # one sender: all others wait for it
    queue.waiting([waiting("c")], Deadline(30))
    assert len(caplog.messages) == 3  # what was put aside is still there
    assert queue.take(1.0) is first
    queue.waiting([waiting("d")], Deadline(30))
    assert len(caplog.messages) == 3


def test_what_is_put_aside_takes_one_place(caplog: pytest.LogCaptureFixture) -> None:
    """As any other event."""
    queue = InboundQueue(never, None, 10)
    events = parse_waiting(waiting("w"))
    queue._put(0, events)
    first = queue.take(0.0)
    assert first is not None
    queue.postpone(first, 1.0)
    queue._put(0, events * 99_999)
    assert caplog.messages == []
    queue._put(0, events)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("known", ["agent-7", None])
def test_pushes_of_the_agent_whose_queue_it_is(known: str | None) -> None:
    """A push does not name the agent; it is the client's, or the one that the queue names."""
    queue = InboundQueue(never, known, 10)
    queue.waiting([attrs.evolve(waiting("w"), agent_id="agent-7")], Deadline(30))
    queue.waiting([], Deadline(30))  # nobody is named: what is known stays
    queue.pushed(push("p"))
    queue.release_pushed(0)
    agents = []
    while (queued := queue.take(0.0)) is not None:
        assert isinstance(queued.event, InboundMessage)
        agents.append(queued.event.agent_id)
    assert agents == ["agent-7", "agent-7"]


def test_what_comes_after_the_end() -> None:
    """It is given to somebody else, for nobody takes it from here; what is there is given out."""
    late: list[Any] = []
    queue = InboundQueue(late.extend, None, 10)
    queue.waiting([waiting("w1")], Deadline(30))
    queue.close()
    queue.waiting([waiting("w2")], Deadline(30))
    queue.pushed(push("p1"))
    assert taken(queue) == ["w1"]
    queue.release_pushed(queue.generation)
    assert taken(queue) == []
    assert [event.id for event in late] == ["w2", "p1"]


def test_a_signal_just_before_a_wait() -> None:
    """Its handler does not have to wait for the next message, if the runner has the main thread."""
    queue = InboundQueue(never, None, 10)
    waker = threading.Thread(target=queue.wake)
    with waits_of_main_thread(waker.start) as waits:
        queue.wait(PATIENCE)
    waker.join(PATIENCE)
    assert waits == {1.0}
