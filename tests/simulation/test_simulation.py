"""The short campaign; and the simulation finds what it should, and always the same."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from tests.simulation.campaign import run_seeds
from tests.simulation.causes import CAUSES, ROOT, changed
from tests.simulation.history import History, quiet
from tests.simulation.kernel import Crashed, DeadlockError, Group, Kernel, running
from tests.simulation.threads import Condition, Event, Lock, Queue, Thread, simulated_threads

_HISTORIES = 200
_PARTS = 8
_TRACE = (
    "from tests.simulation.history import simulate; import sys;simulate(int(sys.argv[1]), print)"
)


@pytest.mark.parametrize("part", range(_PARTS))
def test_every_promise_holds(part: int) -> None:
    """If one fails: ``python -m tests.simulation --replay SEED`` shows the history."""
    assert run_seeds(range(1 + part, 1 + _HISTORIES, _PARTS)) == []


def trace_of(seed: int, hash_seed: str) -> str:
    """Return the trace of a history, without the ids that the library makes."""
    run = subprocess.run(
        [sys.executable, "-c", _TRACE, str(seed)],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    return hashlib.sha256(run.stdout.encode()).hexdigest()


def test_a_seed_replays() -> None:
    """The same seed is the same history, step by step, also in another Python process."""
    assert trace_of(3, "1") == trace_of(3, "2")


def test_a_trace_changes_nothing() -> None:
    """What is told is only told: with and without it a history ends at the same time."""
    ends = []
    for tell in (None, lambda _: None):
        with quiet(), simulated_threads(), running(Kernel(5)) as kernel:
            History(kernel, tell).run()
        ends.append(kernel.now)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("cause", CAUSES)
def test_a_mistake_can_be_put_back(cause: str) -> None:
    """The texts that a mistake replaces are there. Give it those of today if they are not."""
    by_path: dict[str, str] = {}
    for change in CAUSES[cause].changes:
        source = by_path.get(change.path) or (ROOT / change.path).read_text()
        by_path[change.path] = changed(source, [change])
        compile(by_path[change.path], change.path, "exec")


def test_time_passes_only_while_all_wait() -> None:
    """A year passes at once; who waits for less goes first."""
    order: list[str] = []
    with running(Kernel(1)) as kernel:

        def sleeper(name: str, seconds: float) -> None:
            kernel.sleep(seconds)
            order.append(name)

        kernel.spawn(lambda: sleeper("year", 365 * 86400.0), "year")
        kernel.spawn(lambda: sleeper("day", 86400.0), "day")
        kernel.run(lambda: len(order) == 2)
        assert order == ["day", "year"]
        assert 365 * 86400.0 <= kernel.now < 365 * 86400.0 + 1


def test_a_killed_process_does_nothing_more() -> None:
    """Its tasks end where they wait, whatever they would catch; others go on."""
    done: list[str] = []
    with running(Kernel(1)) as kernel:
        group, lock = Group("p"), Lock()

        def stubborn() -> None:
            try:
                with lock:
                    kernel.sleep(10.0)
            except BaseException:
                done.append("falls")
                kernel.sleep(1.0)
                done.append("never")
                raise

        def killer() -> None:
            kernel.sleep(5.0)
            kernel.kill(group)
            kernel.sleep(10.0)
            done.append("killer ends")

        kernel.spawn(stubborn, "stubborn", group)
        kernel.spawn(killer, "killer")
        kernel.run(lambda: "killer ends" in done)
        assert done == ["falls", "killer ends"]
        assert not lock.locked()
        assert kernel.failures == []


def test_who_kills_his_own_process_ends_there() -> None:
    with running(Kernel(1)) as kernel:
        group, seen = Group("p"), list[str]()

        def victim() -> None:
            try:
                kernel.kill(group)
            except Crashed:
                seen.append("crashed")
                raise

        kernel.spawn(victim, "victim", group)
        kernel.run(lambda: bool(seen))
        assert (seen, group.tasks, kernel.failures) == (["crashed"], [], [])


def test_a_stopped_process_waits() -> None:
    """Nothing of it runs before it is continued; then it does what it would have done long ago."""
    with running(Kernel(1)) as kernel:
        group, at = Group("p", paused_until=100.0), list[float]()
        kernel.spawn(lambda: at.append(kernel.now), "task", group, after=1.0)
        kernel.run(lambda: bool(at))
        assert at == [100.0]


def test_threads() -> None:
    """Threads, events, conditions and queues are as those of Python, but for the time."""
    told: list[object] = []
    with running(Kernel(1)) as kernel:
        ready, items = Event(), Queue()
        changed = Condition()

        def worker() -> None:
            told.append(ready.wait(5.0))
            told.append(ready.wait(50.0))
            items.put("item")
            with changed:
                told.append(changed.wait(1.0))
                told.append(changed.wait_for(lambda: "told" in told, 100.0))

        def starter() -> None:
            thread = Thread(target=worker)
            thread.start()
            kernel.sleep(10.0)
            ready.set()
            told.append(items.get())
            thread.join(20.0)
            told.append(thread.is_alive())
            with changed:
                told.append("told")
                changed.notify_all()
            thread.join()
            told.append(thread.is_alive())

        task = kernel.spawn(starter, "starter")
        kernel.run(lambda: task.is_done)
    assert told == [False, True, "item", False, True, "told", True, False]


def test_a_deadlock_is_told() -> None:
    with running(Kernel(1)) as kernel:
        kernel.spawn(lambda: Event().wait(), "waits")
        with pytest.raises(DeadlockError):
            kernel.run(lambda: False)
