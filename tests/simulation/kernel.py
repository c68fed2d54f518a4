"""Tasks on virtual time: one runs at a time, and a seed decides which is next."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import attrs
from greenlet import GreenletExit, getcurrent, greenlet

_SOON = 0.002
_ROUNDS_TO_END = 50


class Crashed(BaseException):
    """The process of this task was killed. No code may go on after it."""


class DeadlockError(Exception):
    """Nobody can ever run again, though something is not done yet."""


@attrs.define(eq=False)
class Group:
    """
    The tasks of one simulated process.

    Attributes:
        is_dead: It was killed: its tasks end where they are.
        paused_until: It is stopped, as by SIGSTOP, until this time.
        tasks: Its tasks.
    """

    name: str
    is_dead: bool = False
    paused_until: float = -math.inf
    tasks: list[Task] = attrs.field(factory=list)


@attrs.define(eq=False)
class Task:
    """
    What a thread is outside of the simulation.

    Attributes:
        ident: Its number.
        name: Its name, in traces.
        group: The process that it belongs to; None for the world around.
        is_done: It has ended.
        locals: Its values of thread-local objects.
    """

    ident: int
    name: str
    group: Group | None
    is_done: bool = False
    locals: dict[int, dict[str, Any]] = attrs.field(factory=dict)
    _greenlet: Any = None
    _turn: int = 0
    _is_waiting: bool = False
    _is_woken: bool = False


class Kernel:
    """
    Runs tasks until nothing is left to do. Time passes only while all of them wait.

    Args:
        seed: Decides everything that is left to chance.

    Attributes:
        dice: The one source of chance.
        now: The time, in seconds.
        failures: What tasks ended with, if they should not have.
    """

    def __init__(self, seed: int | str) -> None:
        self.dice = random.Random(seed)
        self.now = 0.0
        self.failures: list[tuple[str, BaseException]] = []
        self.running: Task | None = None
        self._due: list[tuple[float, int, Task, int]] = []
        self._numbers = count(1)
        self._doomed: list[Group] = []
        self._all: set[Task] = set()

    def spawn(
        self, work: Callable[[], object], name: str, group: Group | None = None, after: float = 0.0
    ) -> Task:
        """Begin a task, in so many seconds."""
        task = Task(next(self._numbers), name, group)
        task._greenlet = greenlet(lambda: self._run_task(task, work), parent=getcurrent())
        if group is not None:
            group.tasks.append(task)
        self._all.add(task)
        self._schedule(task, after)
        return task

    def sleep(self, seconds: float) -> None:
        """Let the running task wait, and the others run."""
        self.wait(max(seconds, 0.0) + self.dice.random() * _SOON)

    def wait(self, timeout: float = math.inf) -> bool:
        """Let the running task wait until it is woken; return whether it was."""
        task = self.running
        if task is None:
            raise RuntimeError("only a task can wait")
        self.check(task)
        task._turn += 1
        task._is_waiting, task._is_woken = True, False
        if timeout < math.inf:
            self._schedule(task, timeout)
        self._hub.switch()
        task._is_waiting = False
        self.check(task)
        return task._is_woken

    def wake(self, task: Task) -> None:
        """Let a task that waits go on, soon."""
        if task._is_waiting and not task._is_woken and not task.is_done:
            task._is_woken = True
            task._turn += 1
            self._schedule(task, self.dice.random() * _SOON)

    def check(self, task: Task) -> None:
        """Raise in a task whose process was killed."""
        if task.group is not None and task.group.is_dead:
            raise Crashed

    def kill(self, group: Group) -> None:
        """Kill a process: its tasks end where they are; one that kills its own ends here."""
        if not group.is_dead:
            group.is_dead = True
            self._doomed.append(group)
        if self.running is not None:
            self.check(self.running)

    def run(self, is_over: Callable[[], bool], until: float = math.inf) -> None:
        """
        Run tasks until something is true, or a time has come.

        Raises:
            DeadlockError: Nothing is left that could run.
        """
        self._hub = getcurrent()
        while not is_over():
            if not self._due:
                raise DeadlockError(f"nothing can run any more at {self.now:.3f}")
            when, number, task, turn = heapq.heappop(self._due)
            if turn != task._turn or task.is_done:
                continue
            if task.group is not None and task.group.paused_until > when:
                heapq.heappush(self._due, (task.group.paused_until, number, task, turn))
                continue
            if when > until:
                heapq.heappush(self._due, (when, number, task, turn))
                self.now = until
                return
            self.now = max(self.now, when)
            self._switch_to(task)
            self._bury()

    def end(self) -> None:
        """End all tasks, so that nothing of them is left."""
        for task in sorted(self._all, key=lambda each: each.ident):
            self._end_task(task)
        self._due.clear()

    def _schedule(self, task: Task, after: float) -> None:
        heapq.heappush(self._due, (self.now + after, next(self._numbers), task, task._turn))

    def _switch_to(self, task: Task) -> None:
        self.running = task
        try:
            # Its end, and each of its waits, comes back here.
            task._greenlet.parent = self._hub
            task._greenlet.switch()
        finally:
            self.running = None

    def _bury(self) -> None:
        while self._doomed:
            for task in self._doomed.pop().tasks:
                self._end_task(task)

    def _end_task(self, task: Task) -> None:
        """Let a task fall through its own ``finally`` blocks. It cannot wait in them."""
        if task.is_done:
            return
        if not task._greenlet:  # it never began
            task.is_done = True
            self._all.discard(task)
            return
        task.group = task.group or Group("the world")
        task.group.is_dead = True
        self._hub = getcurrent()
        self.running = task
        task._greenlet.parent = self._hub
        try:
            for _ in range(_ROUNDS_TO_END):
                task._greenlet.throw(Crashed())
                if task._greenlet.dead:
                    return
        finally:
            self.running = None
        raise RuntimeError(f"{task.name} swallows its own end")

    def _run_task(self, task: Task, work: Callable[[], object]) -> None:
        try:
            work()
        except (Crashed, GreenletExit):
            pass
        except BaseException as error:  # noqa: BLE001 - judged at the end of the history
            # In a process that was killed, leaving a lock fails that nobody could take back.
            if task.group is None or not task.group.is_dead:
                self.failures.append((task.name, error))
        finally:
            task.is_done = True
            self._all.discard(task)
            if task.group is not None and task in task.group.tasks:
                task.group.tasks.remove(task)


_running: list[Kernel] = []


def kernel() -> Kernel:
    """Return the kernel of the simulation that runs."""
    return _running[-1]


def running_task() -> Task | None:
    """Return the task that runs; None outside of all."""
    return _running[-1].running if _running else None


@contextmanager
def running(kernel: Kernel) -> Iterator[Kernel]:
    """Make a kernel the one that the simulated threads belong to; end its tasks afterwards."""
    _running.append(kernel)
    try:
        yield kernel
    finally:
        try:
            kernel.end()
        finally:
            _running.remove(kernel)
