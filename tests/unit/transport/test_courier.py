"""The second thread of a session."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from buttdial_sync.transport import courier as courier_module
from buttdial_sync.transport.courier import Courier

PATIENCE = 5.0


@pytest.fixture
def courier() -> Iterator[Courier]:
    made = Courier("buttdial-sync-test-courier")
    yield made
    made.stop()
    made.join(PATIENCE)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.endswith("-courier")]


def test_order(courier: Courier) -> None:
    """Errands run one after the other, in the order in which they came, in one thread."""
    ran: list[tuple[int, int]] = []
    done = threading.Event()

    def note(number: int) -> None:
        ran.append((number, threading.get_ident()))

    for number in range(100):
        assert courier.submit(partial(note, number))
    courier.submit(done.set)
    assert done.wait(PATIENCE)
    assert [number for number, _ in ran] == list(range(100))
    assert len({thread for _, thread in ran}) == 1
    assert ran[0][1] != threading.get_ident()


def test_thread_starts_with_the_first_errand(courier: Courier) -> None:
    """No thread before it is needed, and one however many errands there are."""
    assert threads() == []
    done = threading.Event()
    courier.submit(lambda: None)
    courier.submit(done.set)
    assert done.wait(PATIENCE)
    assert threads() == ["buttdial-sync-test-courier"]


def test_errand_that_raises(courier: Courier, caplog: pytest.LogCaptureFixture) -> None:
    """What a callback raises is logged, and the next one runs."""
    done = threading.Event()

    def fail() -> None:
        raise ValueError("the callback's own")

    with caplog.at_level(logging.ERROR, "buttdial_sync"):
        courier.submit(fail)
        courier.submit(done.set)
        assert done.wait(PATIENCE)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "the callback's own" in caplog.text


def test_stop_from_an_errand(courier: Courier) -> None:
    """An errand may end its own courier; what is queued behind it is dropped."""
    ran: list[str] = []
    gate = threading.Event()

    def stop() -> None:
        gate.wait(PATIENCE)
        courier.stop()
        courier.join(PATIENCE)
        ran.append("stop")

    courier.submit(stop)
    courier.submit(lambda: ran.append("behind"))
    gate.set()
    courier.join(PATIENCE)
    assert ran == ["stop"]
    assert threads() == []


def test_nothing_after_stop(courier: Courier) -> None:
    """A stopped courier takes nothing, starts nothing, and may be stopped again."""
    courier.stop()
    courier.stop()
    assert not courier.submit(lambda: None)
    assert threads() == []
    courier.join(PATIENCE)


def test_queue_is_bounded(
    courier: Courier, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When callbacks are slower than what comes in, what is dropped is said, with its number."""
    monkeypatch.setattr(courier_module, "_WAITING_AT_MOST", 3)
    gate, running = threading.Event(), threading.Event()
    ran: list[int] = []

    def block() -> None:
        running.set()
        gate.wait(PATIENCE)

    courier.submit(block)
    assert running.wait(PATIENCE)
    with caplog.at_level(logging.ERROR, "buttdial_sync"):
        taken = [courier.submit(partial(ran.append, number)) for number in range(5)]
    assert taken == [True, True, True, False, False]
    assert "2 pushed messages dropped" in caplog.text
    done = threading.Event()
    gate.set()
    while not courier.submit(done.set):
        threading.Event().wait(0.01)
    assert done.wait(PATIENCE)
    assert ran == [0, 1, 2]


def test_threads_that_submit_together_start_one_thread(courier: Courier) -> None:
    """Two first errands at the same time do not make two threads."""
    seen: set[int] = set()
    barrier = threading.Barrier(8)
    left = threading.Semaphore(0)

    def errand() -> None:
        seen.add(threading.get_ident())
        left.release()

    def submit() -> None:
        barrier.wait(PATIENCE)
        courier.submit(errand)

    submitting = [threading.Thread(target=submit) for _ in range(8)]
    for thread in submitting:
        thread.start()
    for thread in submitting:
        thread.join(PATIENCE)
    for _ in range(8):
        assert left.acquire(timeout=PATIENCE)
    assert len(seen) == 1
