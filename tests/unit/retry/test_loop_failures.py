"""Repositories and hooks that raise each time: told, logged, and the loop goes on."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any, cast

import pytest

from buttdial_sync import FailedMessage, RetryLoop, RetryReport, SendResult
from buttdial_sync.retry import MemoryRepository, SQLiteRepository
from buttdial_sync.retry.recorder import doubling_minutes
from buttdial_sync.retry.rows import as_row
from buttdial_sync.stores.schema import Condition
from tests.unit.retry.world import Failing, Interrupted, World

SECONDS = 10.0


def fail(*_args: Any) -> Any:
    raise RuntimeError("the host's mistake")


def test_fetching_fails(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """run_once and drain end with a report that says so."""
    loop = here.loop(Failing(here.repository, "fetch_due"))
    for report in (loop.run_once(), loop.drain()):
        assert (report.errors, report.last_error) == (1, "fetch_due failed: OSError")
    assert "the disk is full" in caplog.text


def test_an_attempt_that_cannot_be_recorded_is_not_made(here: World) -> None:
    """Without the record of its beginning no message leaves."""
    here.add("a")
    assert here.loop(Failing(here.repository, "begin_attempt")).run_once().errors == 1
    assert here.fake.sent_messages == []


def test_a_beginning_that_a_host_cannot_read_again(here: World) -> None:
    """A repository without ``get`` cannot say whether it was recorded: its lease runs out."""

    class WriteOnly(Failing):
        def __getattr__(self, name: str) -> Any:
            if name == "get":
                raise AttributeError(name)
            return super().__getattr__(name)

    here.add("a")
    report = here.loop(WriteOnly(here.repository, "begin_attempt")).run_once()
    assert (report.errors, report.last_error) == (1, "message a: OSError")
    assert here.slept == []
    assert here.row().leased_until is not None


@pytest.mark.parametrize("method", ["begin_attempt", "mark_delivered"])
def test_a_repository_that_fails_each_time_ends_the_drain(here: World, method: str) -> None:
    """Nothing turns in a circle, not even over a repository that leases nothing."""
    here.add("a")

    class Forgetful(Failing):
        def fetch_due(self, limit: int) -> Any:
            return here.repository.list()[:limit]

    report = here.loop(Forgetful(here.repository, method), batch_size=3).drain()
    assert report.delivered == 0
    assert report.errors
    assert report.fetched < 60


def test_recording_the_end_is_tried_again(here: World) -> None:
    """A database that is busy for a moment loses no end."""
    here.add("a")
    broken = Failing(here.repository, "mark_delivered", times=2)
    assert here.loop(broken).run_once() == RetryReport(fetched=1, delivered=1)
    assert len(here.slept) == 2


class LostAnswers(Failing):
    """Some methods do what they have to, and then raise once: the database's answer was lost."""

    def _raise_or(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        done = method(*args, **options)
        return super()._raise_or(lambda: done)


def test_a_dead_letter_is_told_although_the_database_s_answer_was_lost(here: World) -> None:
    """The second try finds the row settled, by the first one: that counts, and the hook is told."""
    told: list[str] = []
    here.add("a", channel="pigeon")
    here.add("b")
    lossy = LostAnswers(here.repository, "mark_dead", "mark_delivered", times=2)
    loop = here.loop(lossy, on_dead_letter=lambda message, _: told.append(message.id))
    report = loop.run_once()
    assert (report.dead, report.delivered, report.taken) == (1, 1, 0)
    assert told == ["a"]


def test_postponing_again_does_not_undo_what_another_began(here: World) -> None:
    """An attempt that does not count leaves its number to the next one, which may be under way."""
    here.add("a")
    here.fake.on_send(error="Rate limit exceeded: per-minute (10/10). Resets in up to 60 seconds.")
    others: list[bool] = []

    def sleep(_: float) -> None:
        here.go_on(61.0)
        (row,) = here.repository.fetch_due(1)
        others.append(here.repository.begin_attempt(row.id, row.retry_count + 1, here.clock()))

    lossy = LostAnswers(here.repository, "postpone", times=1)
    assert here.loop(lossy, sleep=sleep).run_once().postponed == 1
    assert others == [True]
    assert (here.row().retry_count, here.row().attempt_started_at) == (1, here.clock())
    assert here.repository.fetch_due(1) == []


def test_a_row_that_is_broken_while_its_end_is_recorded(here: World) -> None:
    """What the server did with the message is known, and recorded all the same."""
    with SQLiteRepository(":memory:", clock=here.clock) as repository:
        repository.add(FailedMessage(id="a", recipient="+14155550123", body="x"))

        def sleep(_: float) -> None:
            repository.store.update("a", {"next_retry_at": "12:30"}, Condition())

        broken = Failing(repository, "mark_delivered", times=1)
        assert here.loop(broken, sleep=sleep).run_once().delivered == 1
        assert repository.stats()["delivered"] == 1


def test_a_beginning_that_was_not_recorded_undoes_nothing_of_another(here: World) -> None:
    """Another begins the attempt of this number meanwhile: it must not be put back under it."""
    here.add("a")
    others: list[bool] = []

    def sleep(_: float) -> None:
        here.go_on(here.repository.lease + 1)
        (row,) = here.repository.fetch_due(1)
        others.append(here.repository.begin_attempt(row.id, row.retry_count + 1, here.clock()))

    class Down(Failing):
        """It fails for long enough that the lease ends."""

        def get(self, msg_id: str) -> Any:
            if not others:
                raise OSError("the disk is full")
            return here.repository.get(msg_id)

    down = Down(here.repository, "begin_attempt", times=1)
    assert here.loop(down, sleep=sleep).run_once().errors == 1
    assert others == [True]
    assert (here.row().retry_count, here.row().attempt_started_at) == (1, here.clock())
    assert here.repository.fetch_due(1) == []


def test_a_beginning_whose_acknowledgement_was_lost_is_undone(here: World) -> None:
    """Nothing was sent, so the row must not say that it may have been."""
    here.add("a")
    lossy = LostAnswers(here.repository, "begin_attempt", times=1)
    assert here.loop(lossy).run_once().errors == 1
    assert (here.row().retry_count, here.row().attempt_started_at) == (0, None)
    here.go_on(60.0)
    assert here.loop().run_once().delivered == 1


def test_what_no_row_can_hold(here: World) -> None:
    """A server's strange text does not leave an attempt without a recorded end."""
    with SQLiteRepository(":memory:", clock=here.clock) as repository:
        for msg_id in ("a", "b"):
            repository.add(FailedMessage(id=msg_id, recipient="+14155550123", body="x"))
        here.fake.on_send(error="cut \ud83d and \0")
        here.fake.on_send(sid="SM-\ud83d")
        report = here.loop(repository).run_once()
        assert (report.retried, report.delivered, report.errors) == (1, 1, 0)
        refused, sent = repository.get("a"), repository.get("b")
        assert refused is not None
        assert (refused.last_error, refused.attempt_started_at) == ("cut \ufffd and \ufffd", None)
        assert sent is not None
        assert sent.message_sid == "SM-\ufffd"


def test_one_bad_row_does_not_stop_the_others(here: World) -> None:
    """The rest of the batch is sent."""
    for msg_id in ("a", "b", "c"):
        here.add(msg_id)
    broken = Failing(here.repository, "begin_attempt", times=1)
    report = here.loop(broken).run_once()
    assert (report.errors, report.delivered) == (1, 2)


def test_hooks_that_raise(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """on_dead_letter, token_for and progress may raise; each is logged."""
    here.add("a", channel="pigeon")
    here.add("b", agent_id="other")
    loop = here.loop(on_dead_letter=fail, token_for=fail)
    report = loop.drain(fail)
    assert (report.dead, report.postponed) == (1, 1)
    assert here.row("b").last_error == "token_for failed: RuntimeError"
    assert "on_dead_letter failed" in caplog.text
    assert "progress failed" in caplog.text
    assert caplog.text.count("the host's mistake") >= 3


@pytest.mark.parametrize(
    ("hook", "fields", "step"),
    [
        ("on_dead_letter", {"channel": "pigeon"}, "dead"),
        ("backoff", {}, "retried"),
        ("pace", {}, "postponed"),
    ],
)
def test_a_hook_that_raises_is_counted(
    here: World, caplog: pytest.LogCaptureFixture, hook: str, fields: dict[str, Any], step: str
) -> None:
    """Beside what became of the message, the report and the log say which hook failed."""
    here.add("a", **fields)
    here.fake.on_send(error="busy")
    report = here.loop(**{hook: fail}).run_once()
    assert (report.errors, getattr(report, step), report.processed) == (1, 1, 1)
    assert f"{hook} failed: RuntimeError" in str(report.last_error)
    assert f"{hook} failed" in caplog.text
    assert "the repository failed" not in caplog.text


def test_a_pace_that_raises_puts_the_message_back(here: World) -> None:
    """It is free again and due in a minute; no attempt was made."""
    here.add("a")
    here.loop(pace=fail).run_once()
    assert here.repository.leased() == {}
    assert here.minutes_until_due() == 1
    assert (here.row().attempts, here.row().last_error, here.fake.sent_messages) == (0, None, [])


def test_a_progress_that_raises_is_counted(here: World) -> None:
    """Each call that raised counts, and what went wrong with a message is told first."""
    for msg_id in ("a", "b"):
        here.add(msg_id)
    report = here.loop().drain(fail)
    assert (report.delivered, report.errors) == (2, 2)
    assert report.last_error == "progress failed: RuntimeError"
    here.fake.on_send(error="busy")
    here.add("c")
    assert here.loop().drain(fail).last_error == "busy"


def test_a_slow_progress_holds_up_nobody(here: World) -> None:
    """While the host looks at one report, another thread goes on; no report is left out."""
    for number in range(4):
        here.add(f"m{number}")
    told: list[int] = []

    def look(report: RetryReport) -> None:
        if not told:
            assert here.fake.wait_for(lambda: len(here.fake.delivered) == 4, 10.0)
        told.append(report.processed)

    report = here.loop(workers=2).drain(look)
    assert (report.delivered, report.errors) == (4, 0)
    assert told == [1, 2, 3, 4]


def test_a_client_that_fails_otherwise(here: World) -> None:
    """A mistake inside the client counts as unknown: the message may have been sent."""
    here.add("a")
    here.fake.on_tool("comms_send_message", {"messageId": "SM-1"})

    def broken(**_: Any) -> Any:
        raise RuntimeError("a mistake of ours")

    here.client.send_message = broken  # type: ignore[method-assign,assignment]
    assert here.loop().run_once().retried == 1
    assert here.row().attempt_started_at is not None


@pytest.mark.parametrize("workers", [1, 3])
def test_around_each_pass(here: World, workers: int) -> None:
    """The context is entered and left in each thread that takes part."""
    entered: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    here.add("a")
    assert here.loop(around_pass=around, workers=workers).run_once().delivered == 1
    assert (entered.count("in"), entered.count("out")) == (workers, workers)


def test_a_context_that_raises(here: World) -> None:
    """Then nothing is sent, and the report says so."""
    here.add("a")
    report = here.loop(around_pass=fail).run_once()
    assert (report.errors, report.last_error) == (1, "around_pass failed: RuntimeError")
    assert here.row().retry_count == 0


def test_pace_is_kept(here: World) -> None:
    """pace is called before each attempt."""
    paced: list[int] = []
    for msg_id in ("a", "b"):
        here.add(msg_id)
    here.loop(pace=lambda: paced.append(len(here.fake.sent_messages))).run_once()
    assert paced == [0, 1]


def test_progress_that_raises_while_fetching_fails(here: World) -> None:
    """Both are told, and drain still returns."""
    loop = here.loop(Failing(here.repository, "fetch_due"))
    assert loop.drain(fail).last_error == "fetch_due failed: OSError"


def test_a_row_that_cannot_be_read(here: World) -> None:
    """It is given up with the reason, and the others of its batch are sent."""
    with SQLiteRepository(":memory:", clock=here.clock) as repository:
        broken = as_row(FailedMessage(id="a", recipient="+14155550123", body="a"))
        times = {"created_at": here.clock(), "next_retry_at": here.clock()}
        repository.store.insert({**broken, **times, "template_vars": "{"})
        repository.add(FailedMessage(id="b", recipient="+14155550123", body="b"))
        assert here.loop(repository).drain().delivered == 1
        assert (repository.stats()["dead"], repository.stats()["delivered"]) == (1, 1)


def test_stopped_while_it_waits_for_its_pace(here: World) -> None:
    """No attempt begins after a stop; the message is put back as it was."""
    here.add("a")
    loops: list[RetryLoop] = []
    loop = here.loop(pace=lambda: loops[0].stop(0))
    loops.append(loop)
    assert loop.run_once().postponed == 1
    assert (here.row().retry_count, here.fake.sent_messages) == (0, [])


def test_a_commit_that_fails(here: World) -> None:
    """The transaction is rolled back, so that the next call works."""
    message = FailedMessage(id="a", recipient="+14155550123", body="a")
    with SQLiteRepository(":memory:", clock=here.clock) as repository:
        with pytest.raises(KeyboardInterrupt), repository.store.writing():
            raise KeyboardInterrupt
        connection = repository.store._connected()
        connection.set_authorizer(
            lambda _, what, *__: sqlite3.SQLITE_DENY if what == "COMMIT" else sqlite3.SQLITE_OK
        )
        with pytest.raises(sqlite3.DatabaseError):
            repository.add(message)
        connection.set_authorizer(lambda *_: sqlite3.SQLITE_OK)  # None needs Python 3.11
        repository.add(message)
        assert repository.count_pending() == 1


@pytest.mark.parametrize(
    ("pause", "minutes"),
    [(90, 1.5), (90.0, 1.5), (timedelta(minutes=7), 7), (0, 0), (-3600, 0), (timedelta(-1), 0)],
)
def test_own_backoff(pause: Any, minutes: float, here: World) -> None:
    """Seconds or a timedelta; a pause that is over already means now, not earlier."""
    here.add("a")
    here.fake.on_send(error="closed for today")
    here.loop(backoff=lambda _: pause).run_once()
    assert here.minutes_until_due() == minutes


@pytest.mark.parametrize("pause", [1e20, float("nan"), float("inf"), "soon", None])
def test_backoff_that_is_no_pause(
    pause: Any, here: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A pause that no calendar can hold is told, and the usual one is taken; the row is settled."""
    here.add("a")
    here.fake.on_send(error="closed for today")
    assert here.loop(backoff=lambda _: pause).run_once().retried == 1
    assert "backoff failed" in caplog.text
    assert here.minutes_until_due() == 2


@pytest.mark.parametrize(
    ("attempt", "minutes"), [(1, 2), (2, 4), (5, 32), (10, 1024), (11, 1440), (10_000, 1440)]
)
def test_usual_backoff(attempt: int, minutes: int) -> None:
    """It doubles from two minutes on, up to a day."""
    assert doubling_minutes(attempt) == timedelta(minutes=minutes)


def test_given_up_by_another_process(here: World) -> None:
    """Whoever gave the message up tells its host; who only found it taken does not."""
    told: list[str] = []

    class Taken(Failing):
        def mark_dead(self, *_: Any) -> bool:
            return False

    here.add("a", channel="pigeon")
    loop = here.loop(Taken(here.repository), on_dead_letter=lambda each, _: told.append(each.id))
    report = loop.run_once()
    assert (report.taken, report.dead, told) == (1, 0, [])
    here.go_on(here.repository.lease)
    assert here.loop(on_dead_letter=lambda each, _: told.append(each.id)).run_once().dead == 1
    assert told == ["a"]


def test_fetching_that_fails_for_several_workers(here: World) -> None:
    """The first failure ends the pass for all of them."""
    broken = Failing(here.repository, "fetch_due")
    report = here.loop(broken, workers=3).run_once()
    assert (report.errors, broken.calls) == (1, 1)


def test_a_context_that_raises_in_one_of_two_threads(here: World) -> None:
    """The pass is over: the other thread fetches nothing more."""
    told = threading.Event()
    numbers = count()

    @contextmanager
    def around() -> Iterator[None]:
        if next(numbers) == 0:
            raise RuntimeError("the host's mistake")
        assert told.wait(5)
        yield

    here.add("a")
    report = here.loop(around_pass=around, workers=2).drain(lambda _: told.set())
    assert (report.errors, report.fetched) == (1, 0)
    assert here.row().status == "pending"


def test_put_back_as_it_was(here: World) -> None:
    """A message that a stop put back is due when it was due."""
    here.add("a")
    due = here.row().next_retry_at
    here.go_on(30)
    loops: list[RetryLoop] = []
    loop = here.loop(pace=lambda: loops[0].stop(0))
    loops.append(loop)
    assert loop.run_once().postponed == 1
    assert here.row().next_retry_at == due


def test_what_was_not_begun_when_the_process_ends_is_put_back(here: World) -> None:
    """Ctrl-C leaves no leases behind, except that of the message that it interrupted."""

    def interrupted(_message: FailedMessage, _reason: str) -> None:
        raise KeyboardInterrupt

    here.add("a", channel="pigeon")
    for number in range(5):
        here.add(f"m{number}")
    loop = here.loop(on_dead_letter=interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.run_once()
    assert here.bodies == []
    assert len(here.repository.fetch_due(10)) == 5


def test_a_hook_that_ends_the_process_in_one_of_several_threads(here: World) -> None:
    """The caller gets it, as it does from one thread, and what was not begun is put back."""
    for number in range(6):
        here.add(f"m{number}")
    with pytest.raises(SystemExit, match="of a hook"):
        here.loop(pace=lambda: sys.exit("of a hook"), workers=2).run_once()
    assert here.bodies == []
    assert len(here.repository.fetch_due(10)) >= 4


def test_a_hook_that_sends_with_its_own_loop() -> None:
    """It does not wait for the message that it was told of: that has its end only after it."""
    failed = SendResult(outcome="not_sent", error="wrong", error_code="SERVER_ERROR")
    results = [failed, SendResult(outcome="sent", message_sid="SM-1")]

    class Own:
        """A host's own client."""

        timeout, agent_id = 5.0, "agent-1"

        def honours_idempotency_key(self, **_: Any) -> bool:
            return False

        def send_message(self, *_: Any, **__: Any) -> SendResult:
            return results.pop(0)

    def tell_somebody(_message: FailedMessage, _reason: str) -> None:
        repository.add(FailedMessage(id="alert", recipient="+14155550123", body="x"))
        reports.append(loop.run_once())

    reports: list[RetryReport] = []
    repository = MemoryRepository()
    repository.add(FailedMessage(id="a", recipient="+14155550123", body="x", max_retries=1))
    loop = RetryLoop(repository, cast("Any", Own()), on_dead_letter=tell_somebody)
    once = threading.Thread(target=loop.run_once, daemon=True)
    once.start()
    once.join(SECONDS)
    assert [report.delivered for report in reports] == [1]
    assert loop.stop()


@pytest.mark.parametrize("works_first", [False, True])
def test_ctrl_c_while_an_answer_is_recorded(open_source: World, works_first: bool) -> None:
    """The server has said what became of the message, so its row says it too."""
    open_source.add("a")
    rows = Interrupted(open_source.repository, "mark_delivered", works_first=works_first)
    with pytest.raises(KeyboardInterrupt):
        open_source.loop(rows).run_once()
    assert open_source.row().status == "delivered"


def test_ctrl_c_while_the_database_is_down(
    open_source: World, caplog: pytest.LogCaptureFixture
) -> None:
    """One more try, and then the process ends."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    open_source.add("a")
    broken = Failing(open_source.repository, "mark_delivered")
    with pytest.raises(KeyboardInterrupt):
        open_source.loop(broken, sleep=interrupt).run_once()
    assert broken.calls == 2
    assert "message a: its end could not be recorded" in caplog.text
