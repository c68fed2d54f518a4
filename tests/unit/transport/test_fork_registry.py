"""What is reset in a forked child, in which order, and whatever fails."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from buttdial_sync.connection import Connection
from buttdial_sync.transport import fork
from buttdial_sync.transport.http import shared_adapter

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


class Kept:
    """Notes when it is reset."""

    def __init__(self, name: str, order: list[str], *, fails: bool = False) -> None:
        self.name = name
        self.order = order
        self.fails = fails
        fork.reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        self.order.append(self.name)
        if self.fails:
            raise RuntimeError("a fault of this one")


@pytest.fixture
def order() -> list[str]:
    return []


def in_child(check: Callable[[], bool]) -> bool:
    """Fork, and return what ``check`` says in the child."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if check() else 1
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_in_the_order_of_registration(order: list[str]) -> None:
    """What something is made of registers first, and is reset first."""
    names = [str(number) for number in range(20)]
    kept = [Kept(name, order) for name in names]
    assert in_child(lambda: order == names)
    assert order == []
    assert len(kept) == 20


def test_one_that_fails_does_not_keep_the_others(
    order: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The others' locks may be held, so they are reset all the same; the failure is logged."""
    kept = [Kept("a", order), Kept("b", order, fails=True), Kept("c", order)]
    assert in_child(
        lambda: (
            order == ["a", "b", "c"]
            and "Kept could not be reset after a fork" in caplog.text
            and "a fault of this one" in caplog.text
        )
    )
    assert kept


def test_what_is_gone_is_forgotten(order: list[str]) -> None:
    """The registry keeps nothing alive."""
    gc.collect()  # what other tests left behind
    before = len(fork._registered)
    kept = [Kept("a", order), Kept("b", order)]
    assert len(fork._registered) == before + 2
    kept.clear()
    gc.collect()
    assert len(fork._registered) == before
    assert in_child(lambda: order == [])


def test_without_the_hook(order: list[str]) -> None:
    """Where the hook does not run, the first call in the child does its work, once."""
    kept = Kept("a", order)

    def called_twice() -> bool:
        order.clear()
        fork._process = os.getppid()  # as if the hook had not run
        fork.reset_if_forked()
        fork.reset_if_forked()
        return order == ["a"]

    assert in_child(called_twice)
    assert kept.order == []


def test_without_the_hook_other_threads_wait(order: list[str]) -> None:
    """None goes on with what is inherited while another one still resets it."""

    class CallsMeanwhile(Kept):
        def _reset_after_fork(self) -> None:
            super()._reset_after_fork()
            threads.append(threading.Thread(target=call))
            threads[0].start()
            threads[0].join(0.2)  # where it does not wait, it has ended by then

    def call() -> None:
        fork.reset_if_forked()
        order.append("called")

    threads: list[threading.Thread] = []
    kept = [CallsMeanwhile("a", order), Kept("b", order)]

    def check() -> bool:
        order.clear()
        threads.clear()
        fork._process = os.getppid()  # as if the hook had not run
        fork.reset_if_forked()
        threads[0].join()
        return order == ["a", "b", "called"]

    assert in_child(check)
    assert kept


def test_a_registration_is_not_torn_by_a_fork(order: list[str]) -> None:
    """A child can register although its parent held the lock at the fork."""
    assert in_child(lambda: isinstance(Kept("a", order), Kept))


@pytest.fixture
def connection() -> Iterator[Connection]:
    made = Connection("https://h.test", timeout=5.0, connect_timeout=5.0, max_attempts=1)
    made.hold_sessions(
        token_in="auto", before_open=None, max_event_bytes=1000, max_sessions=1, idle_ping=5.0
    )
    yield made
    made.close()


def test_what_a_connection_is_made_of_is_reset(connection: Connection) -> None:
    """A child has its own adapter, sessions, signal and lists of what is under way."""
    parts = {
        "_closed_signal": connection,
        "_under_way": connection.http,
        "_starting": connection._opener,
        "_room": connection.pool,
        "_slots": connection.pool,
        "adapter": shared_adapter(),
        "_lock": shared_adapter(),
    }
    connection.check_open()
    before: dict[str, Any] = {name: getattr(part, name) for name, part in parts.items()}
    assert in_child(
        lambda: (
            not connection.used
            and all(getattr(part, name) is not before[name] for name, part in parts.items())
        )
    )
    assert all(getattr(part, name) is before[name] for name, part in parts.items())


@pytest.mark.parametrize("use", [Connection.check_open, Connection.close])
def test_first_use_without_the_hook(
    use: Callable[[Connection], None], connection: Connection
) -> None:
    """Where the hook does not run, a connection is reset before it is used, or closed."""

    def is_reset() -> bool:
        inherited = connection._closed_signal
        fork._process = os.getppid()  # as if the hook had not run
        use(connection)
        return connection._closed_signal is not inherited

    assert in_child(is_reset)
    inherited = connection._closed_signal
    use(connection)
    assert connection._closed_signal is inherited  # nobody forked the parent


def test_inherited_things_are_kept() -> None:
    """What was inherited is not collected, because that would close it."""
    kept = Leaky()
    gone = weakref.ref(kept)
    before = len(fork._leaked)
    fork.leak_until_exit(kept)
    del kept
    gc.collect()
    assert gone() is not None
    del fork._leaked[before:]


class Leaky:
    """Something that a fork passes on."""
