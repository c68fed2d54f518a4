"""Handing due messages out, and what a pass tells."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from buttdial_sync import FailedMessage, RetryReport
from buttdial_sync.retry.report import Recorded, Tally
from buttdial_sync.retry.worker import DueMessages
from tests.fakes import clear_faults
from tests.unit.retry.world import TOKEN, Failing, World

SECONDS = 10.0
LIMIT = "Rate limit exceeded: per-minute (10/10). Resets in up to 60 seconds."


def messages(*ids: str) -> list[FailedMessage]:
    return [FailedMessage(id=each, recipient="+14155550123", body=each) for each in ids]


class Batches:
    """Gives batches out, one for each call; notes how many were wanted."""

    def __init__(self, *batches: Sequence[FailedMessage]) -> None:
        self.batches = list(batches)
        self.wanted: list[int] = []

    def __call__(self, limit: int) -> Sequence[FailedMessage]:
        self.wanted.append(limit)
        return self.batches.pop(0) if self.batches else ()


def due_of(
    fetch: Any, *, once: bool = False, batch_size: int = 2, tally: Tally | None = None
) -> DueMessages:
    return DueMessages(fetch, tally or Tally(), threading.Event(), once=once, batch_size=batch_size)


def taken(due: DueMessages) -> list[str]:
    ids = []
    while (message := due.next()) is not None:
        ids.append(message.id)
    return ids


def test_batch_after_batch() -> None:
    """Until nothing is due; a short batch is not the end."""
    fetch, tally = Batches(messages("a", "b"), messages("c"), messages("d", "e")), Tally()
    assert taken(due_of(fetch, tally=tally)) == ["a", "b", "c", "d", "e"]
    assert fetch.wanted == [2, 2, 2, 2]
    assert tally.report == RetryReport(fetched=5)


def test_a_single_batch() -> None:
    """One call, whatever it brings."""
    fetch = Batches(messages("a", "b"), messages("c"))
    due = due_of(fetch, once=True)
    assert taken(due) == ["a", "b"]
    assert due.next() is None
    assert fetch.wanted == [2]


def test_what_was_fetched_is_handed_out_after_the_end() -> None:
    """It is leased: somebody has to put it back."""
    fetch = Batches(messages("a", "b"), messages("c"))
    due = due_of(fetch)
    assert due.next() is not None
    due.end()
    assert taken(due) == ["b"]
    assert fetch.wanted == [2]


def test_the_end_comes_while_another_thread_fetches() -> None:
    """What that one brings is handed out; it is the last."""
    batches = Batches(messages("a", "b"), messages("c"))

    def fetch(limit: int) -> Sequence[FailedMessage]:
        due.end()
        return batches(limit)

    due = due_of(fetch)
    assert taken(due) == ["a", "b"]
    assert batches.wanted == [2]


def test_a_stop_ends_the_fetching() -> None:
    """What was fetched is handed out, so that it is put back."""
    fetch, stopping = Batches(messages("a", "b"), messages("c")), threading.Event()
    due = DueMessages(fetch, Tally(), stopping, once=False, batch_size=2)
    assert due.next() is not None
    stopping.set()
    assert taken(due) == ["b"]
    assert fetch.wanted == [2]


def test_who_waits_for_a_slow_database_is_let_go_by_a_stop() -> None:
    """A thread that finds another one fetching does not outlast the stop."""
    stopping = threading.Event()
    found: list[Any] = []

    def fetch(_: int) -> list[FailedMessage]:
        stopping.set()
        found.append(due.next())
        return []

    due = DueMessages(fetch, Tally(), stopping, once=False, batch_size=2)
    assert due.next() is None
    assert found == [None]


def test_one_thread_fetches_for_all() -> None:
    """The others get from what it brings."""
    fetching, go_on = threading.Event(), threading.Event()
    batches = Batches(messages("a", "b"))
    got: list[Any] = []

    def fetch(limit: int) -> Sequence[FailedMessage]:
        fetching.set()
        assert go_on.wait(10)
        return batches(limit)

    due = due_of(fetch, once=True)
    threads = [threading.Thread(target=lambda: got.append(due.next())) for _ in range(3)]
    threads[0].start()
    assert fetching.wait(10)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert sorted(each.id if each else "" for each in got) == ["", "a", "b"]
    assert batches.wanted == [2]


def test_those_like_one_are_taken_back() -> None:
    """Of the same agent, or all; but not one that cannot be read, which is to be told."""
    first, same, other, unreadable = (
        attrs.evolve(each, agent_id="two" if each.id == "c" else "one", unreadable=why)
        for each, why in zip(messages("a", "b", "c", "d"), (None, None, None, "no"), strict=True)
    )
    due = due_of(Batches([first, same, other, unreadable]))
    assert due.next() is first
    assert due.take(first) == [same]
    assert due.take(None) == [other]
    assert taken(due) == ["d"]


def test_fetching_that_fails_is_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """It is told with its kind, and logged with its traceback."""

    def fetch(_: int) -> Sequence[FailedMessage]:
        raise OSError("the disk is full")

    tally = Tally()
    due = due_of(fetch, tally=tally)
    assert due.next() is None
    assert due.next() is None
    assert tally.report == RetryReport(errors=1, last_error="fetch_due failed: OSError")
    assert "the repository failed to fetch messages" in caplog.text
    assert "the disk is full" in caplog.text


def test_fetching_that_fails_while_a_message_is_in_hand() -> None:
    """Those behind it are not waited for: the repository cannot be asked for them."""
    batches: list[list[FailedMessage]] = [[attrs.evolve(messages("a")[0], ordering_key="chat")]]
    tally = Tally()
    due = due_of(lambda _: batches.pop(), tally=tally)
    assert taken(due) == ["a"]
    assert due.next() is None
    assert tally.report == RetryReport(
        fetched=1, errors=1, last_error="fetch_due failed: IndexError"
    )


def test_what_waits_behind_a_message_in_hand() -> None:
    """A thread that finds nothing else waits for that one's end, and fetches again."""
    first, second = (attrs.evolve(each, ordering_key="chat") for each in messages("a", "b"))
    batches, asked, got = Batches([first], [], [second]), threading.Event(), list[Any]()

    def fetch(limit: int) -> Sequence[FailedMessage]:
        if len(batches.wanted) == 1:
            asked.set()
        return batches(limit)

    due = due_of(fetch)
    assert due.next() is first
    waiting = threading.Thread(target=lambda: got.append(due.next()))
    waiting.start()
    assert asked.wait(SECONDS)
    due.done(first)
    waiting.join(SECONDS)
    assert got == [second]


@pytest.mark.parametrize(("unsettled", "goes_on"), [(5, True), (6, False)])
def test_two_batches_that_could_not_be_recorded(unsettled: int, goes_on: bool) -> None:
    """A repository that leases nothing would hand the same rows out again and again."""
    tally = Tally()
    for _ in range(unsettled):
        tally.count(Recorded(step="taken"))
    due = due_of(Batches(messages("a")), batch_size=3, tally=tally)
    assert (due.next() is not None) is goes_on


def test_a_repository_that_leases_nothing(here: World) -> None:
    """Six times for a batch of three, then the pass is over."""
    here.add("a")

    class Forgetful(Failing):
        def fetch_due(self, limit: int) -> Any:
            return here.repository.list()[:limit]

    report = here.loop(Forgetful(here.repository, "begin_attempt"), batch_size=3).drain()
    assert (report.fetched, report.errors) == (6, 6)


def test_what_is_logged(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """A context, a repository and a token that fail, each with the cause."""

    def fail(*_: Any) -> Any:
        raise RuntimeError("the host's mistake")

    here.loop(around_pass=fail).run_once()
    assert "around_pass failed" in caplog.text
    assert "the host's mistake" in caplog.text
    caplog.clear()
    here.add("a", agent_id="other")
    here.loop(token_for=fail).run_once()
    assert "message a waits: token_for failed: RuntimeError" in caplog.text
    assert "the host's mistake" in caplog.text
    caplog.clear()
    here.add("b", agent_id="third")
    here.loop().run_once()
    assert "message b waits: no token for agent third" in caplog.text


def test_those_behind_a_limit_say_why(here: World) -> None:
    """They have the reason of the one that hit it."""
    for msg_id in ("a", "b"):
        here.add(msg_id)
    here.fake.on_send(error=LIMIT)
    here.loop().run_once()
    assert here.row("a").last_error == here.row("b").last_error == LIMIT


def test_a_limit_without_a_time(here: World) -> None:
    """A minute, for the one that hit it and for those behind it."""
    for msg_id in ("a", "b"):
        here.add(msg_id)
    here.fake.on_send(error="Rate limit exceeded")
    report = here.loop().run_once()
    assert report.paused_until is not None
    assert [here.minutes_until_due(each) for each in "ab"] == [1, 1]


def test_a_failure_proves_nothing_about_the_token(here: World) -> None:
    """Only an answer of the server does: the next message probes it again."""
    for msg_id in ("a", "b"):
        here.add(msg_id, agent_id="one")
    probing: list[bool] = []

    def pace() -> None:
        probing.append(loop._token_limits._turn(TOKEN).prober is not None)

    loop = here.loop(pace=pace, token_for=lambda _: TOKEN)
    here.fake.fault("refuse", on="stream", count=99)
    loop.run_once()
    clear_faults(here.fake)
    here.add("c", agent_id="one")
    here.go_on(10)
    loop.run_once()
    assert probing == [True, True, False, False]


def test_attempts_that_are_spent(here: World) -> None:
    """Nothing is sent any more; a row that never had a reason says so."""
    here.add("a", retry_count=1, max_retries=1)
    here.add("b", retry_count=2, max_retries=1, last_error="busy")
    assert here.loop().run_once().dead == 2
    assert here.row("a").last_error == "no attempt is left; the last: never recorded"
    assert here.row("b").last_error == "no attempt is left; the last: busy"
    assert here.fake.sent_messages == []


def test_pace_is_not_kept_where_nothing_is_sent(here: World) -> None:
    """Given up and postponed messages cost no turn."""
    paced: list[None] = []
    here.add("a", retry_count=1, max_retries=1)
    here.add("b", agent_id="other")
    here.loop(pace=lambda: paced.append(None)).run_once()
    assert paced == []


def test_a_trial_that_the_repository_ends(here: World) -> None:
    """After an outage one message goes on trial; if it cannot, another thread's may."""
    here.add("a")
    repository = Failing(here.repository, "begin_attempt", times=0)
    loop = here.loop(repository)
    here.fake.fault("refuse", on="stream", count=99)
    assert loop.run_once().postponed == 1
    clear_faults(here.fake)
    here.go_on(120)
    repository._left = 1
    assert (loop.run_once().errors, here.bodies) == (1, [])
    here.go_on(3600)
    elsewhere = threading.Thread(target=loop.run_once, daemon=True)
    elsewhere.start()
    elsewhere.join(SECONDS)
    loop.stop(timeout=SECONDS)
    assert here.bodies == ["a"]


def test_those_behind_an_agent_that_needs_an_operator(here: World, caplog: Any) -> None:
    """Their rows say why they wait, and the log says what to do."""
    for msg_id in ("a", "b"):
        here.add(msg_id, agent_id="one")
    here.fake.on_send(error='Agent "one" is not active', remediation="Ask billing.")
    here.loop(token_for=lambda _: TOKEN).run_once()
    assert len(here.fake.sent_messages) == 1
    assert here.row("b").last_error == here.row("a").last_error
    assert here.row("b").last_error == 'Agent "one" is not active'
    assert 'wait for an operator: Agent "one" is not active Ask billing.' in caplog.text


def test_an_agent_without_a_token_rests(here: World) -> None:
    """Its other messages are not even fetched."""
    for msg_id in ("a", "b", "c"):
        here.add(msg_id, agent_id="other")
    here.add("mine")
    report = here.loop(batch_size=1).drain()
    assert (report.fetched, report.postponed, here.bodies) == (2, 1, ["mine"])


def test_what_cannot_be_read_is_told_with_its_reason(here: World) -> None:
    """The reason is the row's own where it has one."""
    told: list[tuple[str, str]] = []
    without, own = (
        attrs.evolve(each, unreadable="TypeError: odd", last_error=error)
        for each, error in zip(messages("a", "b"), (None, "not a time"), strict=True)
    )

    class Odd(Failing):
        def fetch_due(self, limit: int) -> Any:
            return [without, own] if not told else []

    loop = here.loop(
        Odd(here.repository), on_dead_letter=lambda message, error: told.append((message.id, error))
    )
    assert loop.run_once().dead == 2
    assert told == [("a", "TypeError: odd"), ("b", "not a time")]
