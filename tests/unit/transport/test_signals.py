"""Ending after signals, and waiting for what their handlers set."""

from __future__ import annotations

import queue
import signal
import threading

import pytest

from buttdial_sync.transport.signals import stopped_by_signals, wait_for


class Waits:
    """Notes how long each wait may take, and is over after some of them."""

    def __init__(self, over_after: int) -> None:
        self.seconds: list[float | None] = []
        self._over_after = over_after

    def wait(self, seconds: float | None) -> bool:
        self.seconds.append(seconds)
        return len(self.seconds) > self._over_after


@pytest.mark.parametrize(
    ("seconds", "over_after", "is_over", "waits"),
    [
        (0.25, 9, False, [0.25]),
        (1.0, 9, False, [1.0]),
        (2.5, 9, False, [1.0, 1.0, 0.5]),
        (3600.0, 2, True, [1.0, 1.0, 1.0]),
        (None, 2, True, [1.0, 1.0, 1.0]),
        (0.0, 0, True, [0.0]),
    ],
)
def test_no_wait_is_long(
    seconds: float | None, over_after: int, is_over: bool, waits: list[float]
) -> None:
    """A signal that comes at the wrong moment does not end a wait, but it delays the end little."""
    event = Waits(over_after)
    assert wait_for(event.wait, seconds) == is_over
    assert event.seconds == waits


@pytest.mark.parametrize("seconds", [3600.0, None])
def test_other_threads_wait_at_once(seconds: float | None) -> None:
    """Signals are for the main thread; an idle thread is not woken each second."""
    event = Waits(over_after=9)
    thread = threading.Thread(target=wait_for, args=(event.wait, seconds))
    thread.start()
    thread.join(30)
    assert event.seconds == [seconds]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_the_process(number: signal.Signals) -> None:
    """The first one lets the work finish, in a thread of its own; the second one does not wait."""
    stopped = threading.Event()
    with stopped_by_signals(stopped.set) as came:
        signal.raise_signal(number)
        assert came == [number]
        assert stopped.wait(30)
        for thread in threading.enumerate():
            if thread.name == "buttdial-sync-stop":
                thread.join(5)
                assert not thread.is_alive()  # it stops once, although the block goes on
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(number)
    assert ended.value.code == 128 + number


def test_what_has_not_begun_is_stopped_again() -> None:
    """The first stop may come too early; the last one comes before the block's end."""
    stops = threading.Semaphore(0)
    with stopped_by_signals(stops.release, repeats=True):
        signal.raise_signal(signal.SIGTERM)
        assert all(stops.acquire(timeout=30) for _ in range(3))
    (thread,) = (each for each in threading.enumerate() if each.name == "buttdial-sync-stop")
    thread.join(30)
    assert not thread.is_alive()


def test_a_signal_while_there_is_nothing_to_stop() -> None:
    """The process ends, and the handlers of before are back."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), stopped_by_signals(pytest.fail, is_running=lambda: False):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_threads_handle_no_signals() -> None:
    """Only the main thread may, so the block does without."""
    before, came = signal.getsignal(signal.SIGTERM), queue.SimpleQueue[list[int]]()

    def run() -> None:
        with stopped_by_signals(pytest.fail) as signals:
            assert signal.getsignal(signal.SIGTERM) == before
        came.put(signals)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert came.get_nowait() == []
