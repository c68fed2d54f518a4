"""Several threads at one work."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from buttdial_sync.transport.threads import work_side_by_side
from tests.unit.interrupts import ctrl_c, interruptible, waits_of_main_thread

SECONDS = 10.0


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


def test_a_signal_just_before_the_wait_for_the_threads() -> None:
    """Its handler does not have to wait until all is sent."""
    is_waited_for = threading.Event()

    def work(_: threading.Event) -> None:
        assert is_waited_for.wait(SECONDS)

    with waits_of_main_thread(is_waited_for.set) as waits:
        work_side_by_side(work, 2, threading.Event(), "w")
    assert waits == {1.0}


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
