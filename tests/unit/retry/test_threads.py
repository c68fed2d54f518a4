"""The signals that a loop's threads listen to, and several threads at one work."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from buttdial_sync.retry.threads import StopSignals, work_side_by_side
from tests.unit.interrupts import ctrl_c, interruptible

SECONDS = 10.0


def test_a_signal_for_who_listens() -> None:
    """Only inside of the block; the outer block's signal counts again after an inner one."""
    signals = StopSignals(None)
    before = signals.is_own_thread
    assert not signals.give()
    with signals.listening() as outer:
        within = signals.is_own_thread
        given = threading.Event()
        with signals.listening(given) as inner:
            assert inner is given
            assert set(signals.give()) == {outer, inner}
        again = signals.is_own_thread
        assert outer.is_set()
        assert signals.give() == (outer,)
        assert signals.wait_until_unheard([inner], 0)
        assert not signals.wait_until_unheard([inner, outer], 0)
    assert (before, within, again, signals.is_own_thread) == (False, True, True, False)
    assert signals.wait_until_unheard([inner, outer], 0)


def test_who_waits_for_the_end_is_woken() -> None:
    """At once when the last one has ended."""
    signals = StopSignals(None)
    listens, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with signals.listening():
            listens.set()
            assert go_on.wait(SECONDS)

    thread = threading.Thread(target=work)
    thread.start()
    assert listens.wait(SECONDS)
    given = signals.give()
    assert not signals.wait_until_unheard(given, 0)
    go_on.set()
    assert signals.wait_until_unheard(given, SECONDS)
    thread.join(SECONDS)


def test_a_failure_ends_the_listening() -> None:
    """Nobody waits for a thread that has failed."""
    signals = StopSignals(None)
    with pytest.raises(OSError, match="no"), signals.listening():
        raise OSError("no")
    assert not signals.give()
    assert not signals.is_own_thread


def test_sleeping() -> None:
    """The host's way of it, or until the signal; without one there is nothing to wait for."""
    slept: list[float] = []
    StopSignals(slept.append).sleep(5.0)
    assert slept == [5.0]
    signals = StopSignals(None)
    signals.sleep(3600.0)
    with signals.listening() as mine:
        mine.set()
        signals.sleep(3600.0)


def test_sleeping_until_the_signal() -> None:
    """Neither less nor, once it is given, more."""
    signals = StopSignals(None)
    listens = threading.Event()

    def sleep() -> None:
        with signals.listening():
            listens.set()
            signals.sleep(3600.0)

    thread = threading.Thread(target=sleep)
    thread.start()
    assert listens.wait(SECONDS)
    thread.join(0.05)
    assert thread.is_alive()
    signals.give()
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_a_forked_child_has_no_listeners() -> None:
    """The parent's threads are not here."""
    signals = StopSignals(None)
    with signals.listening():
        signals.reset_after_fork()
        assert not signals.is_own_thread
        assert not signals.give()


def test_several_threads() -> None:
    """All of them work at once, under their names, and have ended when it returns."""
    together = threading.Barrier(3)
    names: list[str] = []
    stopping = threading.Event()

    def work(given: threading.Event) -> None:
        assert given is stopping
        together.wait(SECONDS)
        thread = threading.current_thread()
        assert thread.daemon
        names.append(thread.name)

    work_side_by_side(work, 3, stopping, "w")
    assert sorted(names) == ["w-1", "w-2", "w-3"]
    assert not stopping.is_set()


@interruptible
def test_ctrl_c_waits_for_the_threads() -> None:
    """They are told to stop, and what they have in hand gets its end before the caller goes on."""
    stopping, is_through = threading.Event(), threading.Event()
    together = threading.Barrier(2)
    happened: list[str] = []

    def work(_: threading.Event) -> None:
        together.wait(SECONDS)
        if threading.current_thread().name == "w-1":
            ctrl_c(until=stopping)
        assert stopping.wait(SECONDS)
        # Who does not wait is through by then.
        happened.append("abandoned" if is_through.wait(0.2) else "waited for")

    with pytest.raises(KeyboardInterrupt):
        work_side_by_side(work, 2, stopping, "w")
    is_through.set()
    assert happened == ["waited for"] * 2


def test_a_thread_that_ends_the_process() -> None:
    """A hook that calls sys.exit() in one of them: all stop, and the caller is told."""
    stopping = threading.Event()
    together = threading.Barrier(2)

    def work(_: threading.Event) -> None:
        together.wait(SECONDS)
        if threading.current_thread().name == "w-1":
            sys.exit("of a hook")
        assert stopping.wait(SECONDS)

    with pytest.raises(SystemExit, match="of a hook"):
        work_side_by_side(work, 2, stopping, "w")


class Few(threading.Thread):
    """The system gives only so many."""

    left = 0

    def start(self) -> None:
        if not Few.left:
            raise RuntimeError("can't start new thread")
        Few.left -= 1
        super().start()


@pytest.mark.parametrize(("left", "names"), [(2, ["w-1", "w-2"]), (0, ["MainThread"])])
def test_a_system_without_more_threads(
    left: int, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work is done in fewer; nobody is told to stop."""
    monkeypatch.setattr(Few, "left", left)
    monkeypatch.setattr(threading, "Thread", Few)
    stopping = threading.Event()
    worked: list[Any] = []
    work_side_by_side(lambda _: worked.append(threading.current_thread().name), 4, stopping, "w")
    assert sorted(worked) == names
    assert not stopping.is_set()
