"""What the library finds under ``threading`` and ``queue`` while it is simulated."""

from __future__ import annotations

import math
import queue
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

from tests.simulation.kernel import Task, kernel, running_task


class Lock:
    """A lock; tasks that wait for it get it in no special order."""

    def __init__(self) -> None:
        self._is_held = False
        self._waiting: deque[Task] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._is_held:
            self._is_held = True
            return True
        if not blocking:
            return False
        now = kernel()
        end = now.now + timeout if timeout >= 0 else math.inf
        while self.locked():
            if now.now >= end:
                return False
            _wait_in(self._waiting, end - now.now)
        self._is_held = True
        return True

    def release(self) -> None:
        if not self._is_held:
            raise RuntimeError("release unlocked lock")
        self._is_held = False
        _wake_first(self._waiting)

    def locked(self) -> bool:
        return self._is_held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RLock:
    """A lock that its holder may take again."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._holder: int | None = None
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._depth and self._holder == get_ident():
            self._depth += 1
            return True
        if not self._lock.acquire(blocking, timeout):
            return False
        self._holder, self._depth = get_ident(), 1
        return True

    def release(self) -> None:
        if self._holder != get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        self._depth -= 1
        if not self._depth:
            self._holder = None
            self._lock.release()

    def set_aside(self) -> int:
        """Release it, however often it is held; return how often."""
        depth, self._depth, self._holder = self._depth, 0, None
        self._lock.release()
        return depth

    def take_back(self, depth: int) -> None:
        """Hold it as often as before."""
        self._lock.acquire()
        self._holder, self._depth = get_ident(), depth

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Condition:
    """A condition over a lock."""

    def __init__(self, lock: Lock | RLock | None = None) -> None:
        self._lock = lock or RLock()
        self._waiting: deque[Task] = deque()
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def wait(self, timeout: float | None = None) -> bool:
        lock, depth = self._lock, 0
        if isinstance(lock, RLock):
            depth = lock.set_aside()
        else:
            lock.release()
        try:
            return _wait_in(self._waiting, math.inf if timeout is None else timeout)
        finally:
            # In a process that was killed this raises, too: nobody there needs the lock any more.
            if isinstance(lock, RLock):
                lock.take_back(depth)
            else:
                lock.acquire()

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        end = math.inf if timeout is None else kernel().now + timeout
        result = predicate()
        while not result and end > kernel().now:
            self.wait(end - kernel().now)
            result = predicate()
        return result

    def notify(self, number: int = 1) -> None:
        for _ in range(min(number, len(self._waiting))):
            _wake_first(self._waiting)

    def notify_all(self) -> None:
        self.notify(len(self._waiting))

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Event:
    """A flag to wait for."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: deque[Task] = deque()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        while self._waiting:
            _wake_first(self._waiting)

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_set:
            _wait_in(self._waiting, math.inf if timeout is None else max(timeout, 0.0))
        return self._is_set


class Thread:
    """A thread of the process that starts it."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self.name = name or "thread"
        self.daemon = daemon
        self._work = partial(target, *args, **(kwargs or {})) if target else None
        self._task: Task | None = None
        self._ended = Event()

    @property
    def ident(self) -> int | None:
        return None if self._task is None else self._task.ident

    def start(self) -> None:
        now = kernel()
        starter = now.running
        group = None if starter is None else starter.group
        self._task = now.spawn(self._run, self.name, group, now.dice.random() * 0.002)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.is_done

    def join(self, timeout: float | None = None) -> None:
        if self.is_alive():
            self._ended.wait(timeout)

    def _run(self) -> None:
        task = kernel().running
        assert task is not None
        task.locals[0] = {"thread": self}
        try:
            if self._work is not None:
                self._work()
        finally:
            if task.group is None or not task.group.is_dead:
                self._ended.set()


class Local:
    """Values of which each task has its own."""

    def __init__(self) -> None:
        object.__setattr__(self, "_number", next(_NUMBERS))

    def __getattr__(self, name: str) -> Any:
        try:
            return _values_of(self)[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        _values_of(self)[name] = value


class Queue:
    """A queue without a limit."""

    def __init__(self, maxsize: int = 0) -> None:
        self._items: deque[Any] = deque()
        self._changed = Condition(Lock())

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify()

    put_nowait = put

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        with self._changed:
            if not self._changed.wait_for(lambda: self._items, timeout if block else 0):
                raise queue.Empty
            return self._items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)


def get_ident() -> int:
    """Return the number of the running task; 0 outside of all."""
    task = running_task()
    return 0 if task is None else task.ident


class _MainThread:
    name = "main"


_MAIN = _MainThread()


def current_thread() -> Any:
    """Return the thread that runs, or an object that stands for the main one."""
    task = running_task()
    return _MAIN if task is None else task.locals.get(0, {}).get("thread", task)


THREADING = types.SimpleNamespace(
    Lock=Lock,
    RLock=RLock,
    Condition=Condition,
    Event=Event,
    Thread=Thread,
    local=Local,
    get_ident=get_ident,
    current_thread=current_thread,
    main_thread=lambda: _MAIN,
)
QUEUE = types.SimpleNamespace(Queue=Queue, SimpleQueue=Queue, Empty=queue.Empty)


@contextmanager
def simulated_threads() -> Iterator[None]:
    """Put the simulated modules under the names by which the loaded library finds the real ones."""
    changed: list[tuple[types.ModuleType, str, Any]] = []
    stand_ins: tuple[tuple[str, Any, Any], ...] = (
        ("threading", threading, THREADING),
        ("queue", queue, QUEUE),
    )
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "buttdial_sync":
            continue
        for attribute, real, stand_in in stand_ins:
            if module.__dict__.get(attribute) is real:
                changed.append((module, attribute, real))
                setattr(module, attribute, stand_in)
    try:
        yield
    finally:
        for module, attribute, real in changed:
            setattr(module, attribute, real)


def _wait_in(waiting: deque[Task], timeout: float) -> bool:
    now = kernel()
    task = now.running
    if task is None:
        raise RuntimeError("only a task can wait")
    waiting.append(task)
    try:
        return now.wait(timeout)
    finally:
        if task in waiting:
            waiting.remove(task)


def _wake_first(waiting: deque[Task]) -> None:
    if waiting:
        kernel().wake(waiting.popleft())


def _values_of(local: Local) -> dict[str, Any]:
    task = running_task()
    values = _OUTSIDE if task is None else task.locals
    return values.setdefault(object.__getattribute__(local, "_number"), {})


_OUTSIDE: dict[int, dict[str, Any]] = {}
_NUMBERS = count(1)
