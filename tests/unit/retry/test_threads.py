"""The signals that a loop's threads listen to."""

from __future__ import annotations

import threading

import pytest

from buttdial_sync.retry.threads import StopSignals

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
