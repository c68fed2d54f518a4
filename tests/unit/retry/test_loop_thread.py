"""The loop's own thread: starting, stopping, forks."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

import pytest

from buttdial_sync import ArgumentValueError, RetryLoop
from tests.unit.retry.world import TOKEN, Failing, World

SECONDS = 10.0


class Sleeper:
    """Sleeps until the test lets it go on."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.sleeping = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self.sleeping.release()
        assert self.go_on.acquire(timeout=SECONDS)

    def wait(self) -> None:
        assert self.sleeping.acquire(timeout=SECONDS)


def ended(loop: RetryLoop, sleeper: Sleeper) -> bool:
    loop.stop(0)
    sleeper.go_on.release()
    return loop.stop(SECONDS)


def test_it_warms_up_and_repeats(here: World) -> None:
    """It waits for the warm-up, sends all that is due, and then an interval, a little spread."""
    sleeper = Sleeper()
    for number in range(45):
        here.add(f"m{number}")
    loop = here.loop(sleep=sleeper)
    loop.start(interval=60, warmup=30)
    loop.start()
    sleeper.wait()
    assert loop.running
    assert here.fake.sent_messages == []
    sleeper.go_on.release()
    sleeper.wait()
    assert len(here.bodies) == 45
    assert sleeper.asked == [30, pytest.approx(60)]
    assert ended(loop, sleeper)
    assert not loop.running


def test_failures_slow_it_down(here: World) -> None:
    """With a repository that raises each time the pauses grow, within bounds."""
    sleeper = Sleeper()
    loop = here.loop(Failing(here.repository, "fetch_due"), sleep=sleeper)
    loop.start(interval=0.01, warmup=0)
    for _ in range(11):
        sleeper.wait()
        sleeper.go_on.release()
    sleeper.wait()
    assert sleeper.asked[:4] == pytest.approx([2, 4, 8, 16])
    assert max(sleeper.asked) == pytest.approx(300)
    assert ended(loop, sleeper)


def test_a_pass_that_fails(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """The next one sends."""
    sleeper = Sleeper()
    failures = [RuntimeError("the clock has stopped")]

    def clock() -> datetime:
        if failures:
            raise failures.pop()
        return here.clock()

    here.add("a")
    loop = here.loop(sleep=sleeper, clock=clock)
    loop.start(warmup=0)
    sleeper.wait()
    assert here.bodies == []
    assert "a pass of the retry loop failed" in caplog.text
    sleeper.go_on.release()
    sleeper.wait()
    assert here.bodies == ["a"]
    assert ended(loop, sleeper)
    assert "has ended" not in caplog.text


def test_a_hook_that_ends_the_thread(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged: threading itself says nothing about sys.exit()."""
    here.add("a", channel="pigeon")
    loop = here.loop(sleep=None, on_dead_letter=lambda *_: sys.exit("no"))
    loop.start(warmup=0)
    thread = loop._thread
    assert thread is not None
    thread.join(SECONDS)
    assert not loop.running
    assert caplog.text.count("the retry loop has ended") == 1


def test_without_threads_for_its_workers(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that gives none for a moment does not end the loop, nor delay a message."""
    sleeper = Sleeper()
    start = threading.Thread.start
    refused: list[str] = []

    def start_or_refuse(thread: threading.Thread) -> None:
        if thread.name == "buttdial-sync-retry-2" and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_refuse)
    loop = here.loop(sleep=sleeper, workers=4)
    for msg_id in ("a", "b"):
        here.add(msg_id)
        if not loop.running:
            loop.start(warmup=0)
        sleeper.wait()
        assert here.row(msg_id).status == "delivered"
        sleeper.go_on.release()
    assert refused == ["buttdial-sync-retry-2"]
    assert ended(loop, sleeper)


def test_stop_wakes_a_sleeping_loop(here: World) -> None:
    """stop() ends the pause; calling it again, or before start(), is safe."""
    loop = here.loop(sleep=None)
    assert loop.stop()
    loop.start(interval=3600, warmup=3600)
    assert loop.stop(SECONDS)
    assert loop.stop()
    loop.start(interval=3600, warmup=3600)
    with loop:
        assert (loop.running, loop.is_running) == (True, True)
    assert (loop.running, loop.is_running) == (False, False)


def test_with_starts_it(here: World) -> None:
    """Like a listener, the loop runs inside the block, and has ended after it."""
    sleeper = Sleeper()
    loop = here.loop(sleep=sleeper)
    with loop as entered:
        sleeper.wait()
        assert entered is loop
        assert loop.running
        assert sleeper.asked == [30]
        loop.stop(0)
        sleeper.go_on.release()
    assert not loop.running


def test_stop_from_a_hook(here: World) -> None:
    """A hook may stop the loop that calls it; what was not tried is put back."""
    told = threading.Event()
    loops: list[RetryLoop] = []

    def give_up(*_: Any) -> None:
        loops[0].stop()
        told.set()

    here.add("a", channel="pigeon")
    for number in range(5):
        here.add(f"m{number}")
    loops.append(here.loop(sleep=None, on_dead_letter=give_up))
    loops[0].start(interval=3600, warmup=0)
    assert told.wait(SECONDS)
    assert loops[0].stop(SECONDS)
    assert here.bodies == []
    assert len(here.repository.fetch_due(10)) == 5


def test_stop_ends_a_drain_of_another_thread(here: World) -> None:
    """drain() returns after the message under way; the rest is put back."""
    loops: list[RetryLoop] = []

    def answer(_args: dict[str, Any]) -> dict[str, Any]:
        threading.Thread(target=loops[0].stop).start()
        return {"messageId": "SM-1"}

    here.fake.on_tool("comms_send_message", answer)
    for number in range(50):
        here.add(f"m{number}")
    loops.append(here.loop(sleep=None))
    report = loops[0].drain()
    assert report.delivered + here.repository.count_pending() == 50


class Gate:
    """An answer of the server that waits until the test lets it through."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, _args: dict[str, Any]) -> dict[str, Any]:
        self.reached.set()
        assert self.go_on.wait(SECONDS)
        return {"messageId": "SM-1"}


@pytest.mark.parametrize("way", ["run_once", "drain", "run_message"])
def test_stop_waits_for_a_pass_of_another_thread(here: World, way: str) -> None:
    """True means that nothing is being sent any more, whoever was sending."""
    gate = Gate()
    here.fake.on_tool("comms_send_message", gate)
    here.add("a")
    loop = here.loop(sleep=None)
    arguments = here.repository.fetch_due(1) if way == "run_message" else ()
    thread = threading.Thread(target=getattr(loop, way), args=tuple(arguments))
    thread.start()
    assert gate.reached.wait(SECONDS)
    assert not loop.stop(0)
    gate.go_on.set()
    assert loop.stop(SECONDS)
    assert here.row().status == "delivered"
    thread.join(SECONDS)


@pytest.mark.parametrize("way", ["start", "run_once", "drain"])
def test_stop_waits_for_what_is_being_sent(here: World, way: str) -> None:
    """Called while the server works on a message, it comes back when the row has its end."""
    happened: list[str] = []
    here.add("a")
    loop = here.loop(sleep=None)

    def stop() -> None:
        ended = loop.stop(6 * SECONDS)
        happened.append(f"stopped: {ended}, {here.row().status}")

    stopper, asked = threading.Thread(target=stop), threading.Event()

    def answer(_args: dict[str, Any]) -> dict[str, Any]:
        stopper.start()
        asked.set()
        stopper.join(0.2)  # who does not wait is through by then
        happened.append("answered" if stopper.is_alive() else "it did not wait")
        return {"messageId": "SM-1"}

    here.fake.on_tool("comms_send_message", answer)
    if way == "start":
        loop.start(interval=3600, warmup=0)
        assert asked.wait(6 * SECONDS)
    else:
        getattr(loop, way)()
    stopper.join(6 * SECONDS)
    assert happened == ["answered", "stopped: True, delivered"]


def test_stop_from_a_hook_does_not_claim_the_end(here: World) -> None:
    """The pass that called the hook is not over yet."""
    answers: list[bool] = []
    loops: list[RetryLoop] = []
    here.add("a")
    loops.append(here.loop(sleep=None, pace=lambda: answers.append(loops[0].stop())))
    loops[0].run_once()
    assert answers == [False]
    assert loops[0].stop()


def test_stop_interrupts_start(here: World) -> None:
    """A signal handler may call stop() while the interrupted thread is inside start()."""
    loop = here.loop(sleep=None)
    answers: list[bool] = []

    def interrupt(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is threading.Thread.start.__code__:
            sys.setprofile(None)
            answers.append(loop.stop(0))

    def interrupted_start() -> None:
        sys.setprofile(interrupt)
        loop.start(interval=3600, warmup=3600)

    thread = threading.Thread(target=interrupted_start, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert answers, "stop() waits for the lock that its own thread has"
    assert loop.stop(SECONDS)
    assert not loop.running


def test_stop_wakes_who_waits_for_a_token(here: World) -> None:
    """A thread that waits until another has tried their token puts its message back at once."""
    gate = Gate()
    here.fake.on_tool("comms_send_message", gate)
    both = threading.Barrier(2)
    put_back = threading.Event()

    class Told(Failing):
        def postpone(self, *args: Any) -> Any:
            done = here.repository.postpone(*args)
            put_back.set()
            return done

    def token_for(_agent_id: str) -> str:
        both.wait(SECONDS)
        return TOKEN

    for msg_id in ("a", "b"):
        here.add(msg_id, agent_id="agent-1")
    loop = here.loop(Told(here.repository), sleep=None, workers=2, token_for=token_for)
    loop.start(interval=3600, warmup=0)
    assert gate.reached.wait(SECONDS)
    assert not loop.stop(0)
    assert put_back.wait(SECONDS), "it waited for the answer"
    assert here.bodies == []
    gate.go_on.set()
    assert loop.stop(SECONDS)
    assert here.repository.stats()["pending"] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_says_that_it_does_not_run(here: World) -> None:
    """The child's loop is idle and says so once, with the remedy; the parent's goes on."""
    loop = here.loop(sleep=None)
    loop.start(interval=3600, warmup=3600)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        import logging

        try:
            handler = logging.StreamHandler(os.fdopen(writing, "w"))
            logging.getLogger("buttdial_sync").addHandler(handler)
            loop._reset_after_fork()
            running = loop.running
            handler.emit(logging.makeLogRecord({"msg": f"running={running}"}))
            handler.flush()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert said == "running=False\n"
    assert loop.running
    assert loop.stop(SECONDS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_the_warning_comes_once(here: World) -> None:
    """It is written when the fork happens, and names start()."""
    import logging

    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w", buffering=1)
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("buttdial_sync")
    logger.addHandler(handler)
    loop = here.loop(sleep=None)
    loop.start(interval=3600, warmup=3600)
    child = os.fork()
    if not child:
        loop.run_once()
        os._exit(0)
    os.waitpid(child, 0)
    logger.removeHandler(handler)
    stream.close()
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    assert said.count("the retry loop runs in the parent") == 1
    assert "Call start()" in said
    assert loop.stop(SECONDS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_hook_that_forks(here: World) -> None:
    """The child comes out of the pass that its parent began."""
    children: list[int] = []

    @contextmanager
    def around() -> Iterator[None]:
        children.append(os.fork())
        yield

    ended = 1
    try:
        here.loop(around_pass=around).run_once()
        ended = 0
    finally:
        if children == [0]:
            os._exit(ended)
    _, status = os.waitpid(children[0], 0)
    assert status == 0


def started_again_while_it_sends(here: World) -> RetryLoop:
    """Return a loop whose first thread was stopped, replaced while it sent, and has ended."""
    sending, go_on = threading.Event(), threading.Event()

    def pace() -> None:
        sending.set()
        assert go_on.wait(SECONDS)

    here.add("a")
    loop = here.loop(sleep=None, pace=pace)
    loop.start(interval=3600, warmup=0)
    assert sending.wait(SECONDS)
    before = loop._thread
    assert before is not None
    assert not loop.stop(0)
    loop.start(interval=3600, warmup=3600)
    go_on.set()
    before.join(SECONDS)
    assert not before.is_alive()
    return loop


def test_started_again_while_the_stopped_thread_still_works(here: World) -> None:
    """start() after a stop() that did not wait begins a new thread, which goes on."""
    loop = started_again_while_it_sends(here)
    assert loop.running
    assert loop.stop(SECONDS)


WARNING = "the retry loop runs in the parent"


def test_a_child_of_a_stopped_loop_is_told_nothing(
    here: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not run, as it did not in the parent."""
    sleeper = Sleeper()
    loop = here.loop(sleep=sleeper)
    loop._reset_after_fork()
    loop.start()
    sleeper.wait()
    assert ended(loop, sleeper)
    loop._reset_after_fork()
    assert WARNING not in caplog.text


def test_a_child_of_a_loop_that_was_started_again_is_told(
    here: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of the thread before does not count."""
    loop = started_again_while_it_sends(here)
    now, stops = loop._thread, loop._stops_thread
    loop._reset_after_fork()
    assert caplog.text.count(WARNING) == 1
    assert not loop.running
    stops.set()
    assert now is not None
    now.join(SECONDS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_replaced(here: World) -> None:
    """What ends the thread from outside of a pass has not stopped the loop: it can be started."""
    ends, sleeper = [SystemExit], Sleeper()

    def sleep(seconds: float) -> None:
        if ends:
            raise ends.pop()
        sleeper(seconds)

    here.add("a")
    loop = here.loop(sleep=sleep)
    loop.start(interval=3600, warmup=0)
    first = loop._thread
    assert first is not None
    first.join(SECONDS)
    lived = loop.running
    here.add("b")
    loop.start(interval=3600, warmup=0)
    sleeper.wait()
    assert here.bodies == ["a", "b"]
    assert (lived, loop.running) == (False, True)
    assert ended(loop, sleeper)


@pytest.mark.parametrize(("fraction", "share"), [(0.0, 0.9), (1.0, 1.1)])
def test_the_pauses_are_spread(here: World, fraction: float, share: float) -> None:
    """By a tenth in both directions; the usual interval is a minute."""
    sleeper = Sleeper()
    loop = here.loop(sleep=sleeper, random_fraction=lambda: fraction)
    loop.start()
    for _ in range(2):
        sleeper.wait()
        sleeper.go_on.release()
    sleeper.wait()
    assert sleeper.asked == pytest.approx([30, 60 * share, 60 * share])
    assert ended(loop, sleeper)


def test_a_success_ends_the_slowness(here: World) -> None:
    """The pauses after failures are never shorter than the interval, and begin anew."""
    sleeper = Sleeper()
    broken = Failing(here.repository, "fetch_due", times=3)
    loop = here.loop(broken, sleep=sleeper)
    loop.start(interval=3, warmup=0)
    for _ in range(3):
        sleeper.wait()
        sleeper.go_on.release()
    sleeper.wait()
    assert sleeper.asked == pytest.approx([3, 4, 8, 3])
    assert ended(loop, sleeper)


def test_a_pass_that_fails_as_a_whole(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """A clock of the host that raises does not end the thread; it is logged, and waited for."""
    sleeper = Sleeper()

    def clock() -> Any:
        raise OSError("no time")

    loop = here.loop(sleep=sleeper, clock=clock)
    loop.start(interval=0.01, warmup=0)
    sleeper.wait()
    sleeper.go_on.release()
    sleeper.wait()
    assert sleeper.asked == pytest.approx([2, 4])
    assert ended(loop, sleeper)
    assert caplog.text.count("a pass of the retry loop failed") == 2
    assert "no time" in caplog.text


@pytest.mark.parametrize("options", [{"interval": 0}, {"interval": -1}, {"warmup": -1}])
def test_pauses_that_nobody_can_keep(here: World, options: dict[str, Any]) -> None:
    """They are refused in the caller's thread."""
    loop = here.loop()
    with pytest.raises(ArgumentValueError):
        loop.start(**options)
    assert not loop.running


def test_repr_says_whether_it_runs(here: World) -> None:
    """And on which repository."""
    sleeper = Sleeper()
    loop = here.loop(sleep=sleeper)
    assert repr(loop).endswith(", running=False)")
    loop.start()
    sleeper.wait()
    assert repr(loop).endswith(", running=True)")
    assert ended(loop, sleeper)
