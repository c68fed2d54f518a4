"""What comes in is written to the inbox: in order, again after failures; the rest is told."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pytest

from buttdial_sync import InboundMessage, MemoryInbox, TransportError
from buttdial_sync.listening.inbox_sink import InboxSink, InboxWriter
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.transport.deadline import Deadline
from tests.integration.inbound.listening import wait_until
from tests.unit.interrupts import waits_of_main_thread

PATIENCE = 30.0


def message(name: str) -> InboundMessage:
    return InboundMessage(id=name, sender="+1", channel="sms")


def ids(events: Sequence[InboundEvent]) -> list[str]:
    return [str(getattr(event, "id", "")) for event in events]


def waiting(name: str) -> WaitingMessage:
    return WaitingMessage(id=name, channel="sms", from_="+1", body="hi", direction="inbound")


def push(name: str) -> dict[str, Any]:
    data = {"messageId": name, "channel": "sms", "from": "+1", "body": "hi"}
    return {"method": "notifications/message", "params": {"data": data}}


class FullDisk(MemoryInbox):
    """An inbox that fails so many times, and notes what it gets in one transaction."""

    def __init__(self, times: float = 0) -> None:
        super().__init__()
        self.times = times
        self.error: BaseException = OSError("no space left on device")
        self.refused: list[str] = []
        self.batches: list[list[str]] = []

    def write(self, events: Sequence[InboundEvent], delivery_keys: Sequence[str] = ()) -> int:
        if self.times > 0:
            self.times -= 1
            self.refused += ids(events)
            raise self.error
        self.batches.append(ids(events))
        return super().write(events, delivery_keys)


class Bench:
    """A writer, its inbox and its pauses."""

    def __init__(self, times: float = 0) -> None:
        self.inbox = FullDisk(times)
        self.slept: list[float] = []
        self.written = threading.Semaphore(0)
        self.late: list[Any] = []
        self.writer = InboxWriter(
            self.inbox, self.written.release, self.late.extend, self.slept.append
        )


def test_a_reader_writes_itself() -> None:
    """A page is one transaction; after a failure it is written again, four times at most."""
    here = Bench(times=4)
    here.writer.write_here()
    here.writer.write([message("a"), message("b")], Deadline(30))
    assert here.inbox.batches == [["a", "b"]]
    assert here.slept == [0.5, 1.0, 2.0, 4.0]
    assert here.writer.close(0.0) == []
    assert here.written.acquire(blocking=False)
    assert not here.written.acquire(blocking=False)


def test_a_page_that_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    """The reader reads no more, and the log says why; at the end it is tried once more."""
    here = Bench(times=5)
    here.writer.write_here()
    with pytest.raises(TransportError, match="the inbox cannot be written"):
        here.writer.write([message("a")], Deadline(30))
    assert here.slept == [0.5, 1.0, 2.0, 4.0]
    assert caplog.messages == ["1 events cannot be written to the inbox"] * 5
    assert here.writer.close(0.0) == []
    assert here.inbox.batches == [["a"]]
    here = Bench(times=6)
    here.writer.write_here()
    with pytest.raises(TransportError):
        here.writer.write([message("a")], Deadline(30))
    here.writer.put([message("b")])
    assert ids(here.writer.close(0.0)) == ["a"]  # the host is told of it
    assert here.inbox.batches == [["b"]]


def test_a_page_whose_writing_is_interrupted() -> None:
    """The process ends: the host is told of it."""
    here = Bench()
    here.writer.write_here()
    here.inbox.error = KeyboardInterrupt()
    here.inbox.times = 1
    with pytest.raises(KeyboardInterrupt):
        here.writer.write([message("a")], Deadline(30))
    assert ids(here.writer.close(0.0)) == ["a"]


@pytest.mark.parametrize("error", [OSError("no space left on device"), SystemExit("of the host")])
def test_a_thread_writes_what_is_pushed(error: BaseException) -> None:
    """It does not give up, whatever the store or the host raises, and keeps the order."""
    here = Bench(times=7)
    here.inbox.error = error
    here.writer.put([message("a")])
    here.writer.put([message("b"), message("c")])
    here.writer.start()
    for _ in range(2):
        assert here.written.acquire(timeout=PATIENCE)
    assert here.inbox.batches == [["a"], ["b", "c"]]
    assert here.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    here.writer.write([message("d")], Deadline(30))
    assert here.inbox.batches[-1] == ["d"]  # it was waited for
    assert here.writer._thread.daemon
    assert here.writer.close(PATIENCE) == []
    assert not here.writer._thread.is_alive()


def test_nothing_to_write() -> None:
    """No transaction is begun for it."""
    here = Bench()
    here.writer.write_here()
    here.writer.put([])
    here.writer.write([], Deadline(30))
    assert here.writer.close(0.0) == []
    assert here.inbox.batches == []
    assert not here.written.acquire(blocking=False)


def test_a_pause_ends_when_the_writer_is_closed() -> None:
    """What is left is tried once, and told in the order in which it came."""
    inbox = FullDisk(math.inf)
    writer = InboxWriter(inbox, lambda: None, list[Any]().extend)
    for name in ("a", "b"):
        writer.put([message(name)])
    writer.start()
    wait_until(lambda: len(inbox.refused) == 2)  # it pauses before each further try
    assert ids(writer.close(PATIENCE)) == ["a", "b"]
    assert inbox.refused[-2:] == ["a", "b"]
    assert not writer._thread.is_alive()


def test_what_comes_after_the_end() -> None:
    """Nobody writes it any more, so somebody else gets it at once; nobody waits for that."""
    here = Bench()
    here.writer.put([message("a")])
    assert here.writer.close(0.0) == []
    here.writer.put([message("b")])
    here.writer.write([message("c")], Deadline(PATIENCE))
    assert here.inbox.batches == [["a"]]
    assert ids(here.late) == ["b", "c"]
    assert here.writer.close(0.0) == []


def test_what_comes_while_the_rest_is_written() -> None:
    """It is not put behind the end, where the thread does not come to it."""
    late: list[Any] = []

    def put_another() -> None:
        writer.put([message("b")])

    writer = InboxWriter(MemoryInbox(), put_another, late.extend)
    writer.put([message("a")])
    assert writer.close(0.0) == []
    assert ids(late) == ["b"]


@pytest.mark.parametrize("failures", [0, 1])
def test_what_is_late_is_tried_once(failures: int) -> None:
    """In the thread that brings it, without a pause."""
    here = Bench(failures)
    here.writer.close(0.0)
    assert here.writer.write_late([message("a")]) is (failures == 0)
    assert here.inbox.batches == ([] if failures else [["a"]])
    assert here.slept == []


@pytest.fixture
def here() -> Iterator[Bench]:
    """With a thread that writes."""
    made = Bench()
    made.writer.start()
    yield made
    made.writer.close(PATIENCE)


def test_pushes_wait_for_older_messages(here: Bench) -> None:
    """What waited at the server was sent earlier; a page is written before the next is read."""
    sink = InboxSink(here.writer, "agent-1", 10)
    assert (sink.generation, sink.agent_id, sink.page_size) == (0, "agent-1", 10)
    sink.opening()
    assert sink.generation == 1
    sink.pushed(push("p1"))
    sink.waiting([waiting("w1"), waiting("w2")], Deadline(30))
    assert here.inbox.batches == [["w1", "w2"]]
    sink.release_pushed(1)
    sink.pushed(push("p2"))
    assert here.writer.close(PATIENCE) == []
    assert here.inbox.batches == [["w1", "w2"], ["p1"], ["p2"]]


def test_pushes_of_an_earlier_stream_are_written_first(here: Bench) -> None:
    """They are older than what waits when the next one is opened, and need not be held any more."""
    sink = InboxSink(here.writer, None, 10)
    sink.opening()
    sink.pushed(push("p1"))
    sink.opening()
    sink.pushed(push("p2"))
    assert here.writer.close(PATIENCE) == []
    assert here.inbox.batches == [["p1"]]


def test_pushes_of_a_later_stream_wait_for_their_own_release(here: Bench) -> None:
    """Those of the stream before are older than what waits now; and nothing is released twice."""
    sink = InboxSink(here.writer, None, 10)
    sink.pushed(push("p0"))
    sink.waiting([waiting("w0")], Deadline(30))
    sink.opening()
    sink.pushed(push("p1"))
    sink.opening()
    sink.pushed(push("p2"))
    sink.pushed(push("p3"))
    sink.release_pushed(1)
    sink.release_pushed(0)
    sink.waiting([waiting("w2")], Deadline(30))
    sink.release_pushed(2)
    sink.release_pushed(1)
    sink.pushed(push("p4"))
    assert here.writer.close(PATIENCE) == []
    assert here.inbox.batches == [[name] for name in ("w0", "p0", "p1", "w2", "p2", "p3", "p4")]


def test_pushes_that_are_held_back_at_the_end(here: Bench) -> None:
    """They are written, and so are those that come while the writer still writes."""
    sink = InboxSink(here.writer, None, 10)
    sink.opening()
    sink.pushed(push("p1"))
    sink.close()
    sink.opening()
    sink.pushed(push("p2"))
    assert here.writer.close(PATIENCE) == []
    sink.pushed(push("p3"))
    assert here.inbox.batches == [["p1"], ["p2"]]
    assert ids(here.late) == ["p3"]


def test_whose_messages_come(here: Bench) -> None:
    """The waiting queue may name the agent; what is known stays."""
    sink = InboxSink(here.writer, None, 10)
    for name in ("agent-1", None, "agent-2"):
        sink.waiting([attrs.evolve(waiting("w"), agent_id=name)], Deadline(30))
        assert sink.agent_id == "agent-1"


def test_the_runner_is_woken(here: Bench) -> None:
    """Also if it waits only afterwards; once."""
    sink = InboxSink(here.writer, None, 10)
    sink.ended()
    sink.wait(PATIENCE)
    assert not sink._wakes.is_set()
    sink.take(0.0)
    assert sink.seconds_until_due(0.0) == math.inf


def test_a_signal_just_before_a_wait(here: Bench) -> None:
    """Its handler does not have to wait for the next ping, if the runner has the main thread."""
    sink = InboxSink(here.writer, None, 10)
    waker = threading.Thread(target=sink.wake)
    with waits_of_main_thread(waker.start) as waits:
        sink.wait(PATIENCE)
    waker.join(PATIENCE)
    assert waits == {1.0}
