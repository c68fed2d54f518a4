"""Who waits for which answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from buttdial_sync.errors import ButtDialError, Outcome, StreamLostError
from buttdial_sync.transport.pending import PendingAnswers, Waiter


def lost(outcome: Outcome) -> ButtDialError:
    return StreamLostError("gone", outcome=outcome)


def answer(number: int) -> dict[str, Any]:
    return {"id": number, "result": {}}


@pytest.fixture
def table() -> PendingAnswers:
    return PendingAnswers()


def test_ids_count_from_one(table: PendingAnswers) -> None:
    """Ids start at 1, go up by one, and are not used again."""
    waiters = [table.register() for _ in range(3)]
    table.discard(waiters[2])
    assert [waiter.id for waiter in waiters] == [1, 2, 3]
    assert table.register().id == 4


def test_ids_are_unique_among_threads(table: PendingAnswers) -> None:
    """Threads that register at the same time get different ids."""
    found: list[Waiter] = []
    threads = [
        threading.Thread(target=lambda: found.extend(table.register() for _ in range(50)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert sorted(waiter.id for waiter in found) == list(range(1, 401))


def test_answers_come_in_any_order(table: PendingAnswers) -> None:
    """Each waiter gets the answer with its id."""
    first, second = table.register(), table.register()
    assert table.resolve(2, answer(2))
    assert table.resolve(1, answer(1))
    assert second.wait(0) == answer(2)
    assert first.wait(0) == answer(1)


def test_answer_wakes_a_thread(table: PendingAnswers) -> None:
    """A thread that waits is woken by its answer, and not by the end of its patience."""
    waiter = table.register()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(waiter.wait(3600)), daemon=True)
    thread.start()
    table.resolve(1, answer(1))
    thread.join(20)
    assert got == [answer(1)]


def test_no_answer_in_time(table: PendingAnswers) -> None:
    """Without an answer the wait ends with None, and the waiter can be forgotten."""
    waiter = table.register()
    assert waiter.wait(0) is None
    table.discard(waiter)
    table.discard(waiter)
    assert not table.resolve(1, answer(1))


def test_second_answer_is_nobodys(table: PendingAnswers) -> None:
    """Only the first answer with an id counts."""
    waiter = table.register()
    assert table.resolve(1, answer(1))
    assert not table.resolve(1, {"id": 1, "result": {"second": True}})
    assert waiter.wait(0) == answer(1)


@pytest.mark.parametrize("request_id", ["1", 1.0, True, None, [1], {"id": 1}, -1, 0])
def test_other_ids_match_nobody(table: PendingAnswers, request_id: object) -> None:
    """Ids are whole numbers that were given out; what merely looks like 1 is not 1."""
    waiter = table.register()
    assert not table.resolve(request_id, answer(1))
    assert waiter.wait(0) is None


def test_end_wakes_all(table: PendingAnswers) -> None:
    """When the stream ends each waiter is told why, and that its outcome is unknown."""
    waiters = [table.register() for _ in range(3)]
    table.end(lost)
    for waiter in waiters:
        with pytest.raises(StreamLostError, match="gone") as caught:
            waiter.wait(0)
        assert caught.value.outcome == "unknown"
    assert not table.resolve(1, answer(1))


def test_each_waiter_has_its_own_error(table: PendingAnswers) -> None:
    """Two threads never raise the same exception object."""
    waiters = [table.register(), table.register()]
    table.end(lost)
    errors = []
    for waiter in waiters:
        with pytest.raises(StreamLostError) as caught:
            waiter.wait(0)
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_nobody_registers_after_the_end(table: PendingAnswers) -> None:
    """After the end nothing can be asked, for certain; and the first reason stays."""
    usable = [table.usable]
    table.end(lost)
    table.end(lambda outcome: StreamLostError("later", outcome=outcome))
    table.refuse(lambda outcome: StreamLostError("later", outcome=outcome))
    assert [*usable, table.usable] == [True, False]
    with pytest.raises(StreamLostError, match="gone") as caught:
        table.register()
    assert caught.value.outcome == "not_sent"


def test_refused(table: PendingAnswers) -> None:
    """Who comes later fails at once; who waits gets an answer, or in the end the first reason."""
    answered, failed = table.register(), table.register()
    table.resolve(3, answer(3))
    table.refuse(lost)
    early = table.register()
    with pytest.raises(StreamLostError, match="gone") as caught:
        table.register()
    assert caught.value.outcome == "not_sent"
    assert not table.usable
    assert table.resolve(1, answer(1))
    assert failed.wait(0) is None
    table.end(lambda outcome: StreamLostError("later", outcome=outcome))
    assert (answered.wait(0), early.wait(0)) == (answer(1), answer(3))
    with pytest.raises(StreamLostError, match="gone") as caught:
        failed.wait(0)
    assert caught.value.outcome == "unknown"


def test_answer_before_the_end_counts(table: PendingAnswers) -> None:
    """A waiter that has its answer keeps it when the stream ends."""
    waiter = table.register()
    table.resolve(1, answer(1))
    table.end(lost)
    assert waiter.wait(0) == answer(1)


def test_early_answers_are_used_after_the_end(table: PendingAnswers) -> None:
    """A finished body that held the answers beforehand still answers, in the order of ids."""
    assert table.resolve(1, answer(1))
    assert table.resolve(2, answer(2))
    table.end(lost)
    for number in (1, 2):
        assert table.usable
        assert table.register().wait(0) == answer(number)
    assert not table.usable
    with pytest.raises(StreamLostError):
        table.register()


def test_early_answers_are_not_used_while_the_stream_lives(table: PendingAnswers) -> None:
    """On a live stream an answer to a question that was not asked yet is not trusted."""
    assert table.resolve(1, {"id": 1, "result": {"early": True}})
    waiter = table.register()
    assert waiter.wait(0) is None
    assert table.resolve(1, answer(1))
    assert waiter.wait(0) == answer(1)


def test_early_answer_is_used_when_the_stream_ends_later(table: PendingAnswers) -> None:
    """Asked after the answer but before the end: the answer counts once the stream has ended."""
    table.resolve(1, answer(1))
    waiter = table.register()
    table.end(lost)
    assert waiter.wait(0) == answer(1)


def test_early_answers_are_bounded(table: PendingAnswers) -> None:
    """A server that answers what nobody asked does not fill the memory; the oldest go."""
    for number in range(1, 1001):
        table.resolve(number, answer(number))
    table.end(lost)
    assert not table.usable
    with pytest.raises(StreamLostError):
        table.register()


@pytest.mark.parametrize("seconds", [0.0, 1e-7, 1e-6])
def test_little_time_is_waited_for_and_no_more(seconds: float) -> None:
    """A deadline that has almost passed ends the wait; a SimpleQueue would sometimes hang then."""

    def wait_often() -> None:
        for number in range(10_000):
            assert Waiter(number).wait(seconds) is None

    thread = threading.Thread(target=wait_often, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize(("answers", "first_is_kept"), [(256, True), (257, False)])
def test_how_many_early_answers_are_kept(
    answers: int, first_is_kept: bool, table: PendingAnswers
) -> None:
    """256 of them; with one more the oldest goes."""
    for number in range(1, answers + 1):
        table.resolve(number, answer(number))
    table.end(lost)
    assert table.usable is first_is_kept
