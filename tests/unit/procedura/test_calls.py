"""Which frame belongs to which call."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buttdial_sync.errors import AuthError, ButtDialError, DeadlineExceededError, StreamLostError
from buttdial_sync.procedura.calls import CallTable, ModuleCall
from buttdial_sync.transport.deadline import Deadline

PATIENCE = 20.0
NOW = 0.001


def soon() -> Deadline:
    return Deadline(PATIENCE)


def begun(table: CallTable, mode: Any = "sync", seconds: float = PATIENCE) -> ModuleCall:
    call = table.new_call(mode)
    table.begin(call, Deadline(seconds))
    return call


def sent(table: CallTable, mode: Any = "sync") -> ModuleCall:
    call = begun(table, mode)
    call.is_sent = True
    return call


def frames_of(call: ModuleCall) -> list[Any]:
    """What a call has got so far."""
    found = []
    while (frame := call.next(Deadline(NOW))) is not None:
        found.append(frame)
    return found


def started(table: CallTable, job: str) -> ModuleCall:
    call = sent(table, "async")
    table.take({"id": call.id, "job_id": job, "status": "started"})
    call.next(soon())
    return call


def test_request_ids() -> None:
    """Eight hexadecimal digits, none twice."""
    table = CallTable()
    calls = [sent(table) for _ in range(500)]
    assert len({call.id for call in calls}) == 500
    assert {len(bytes.fromhex(call.id)) for call in calls} == {4}


def naming() -> CallTable:
    """A table whose server has shown that it names requests."""
    table = CallTable()
    table.discard(started(table, "job-of-before"))
    return table


def test_frames_by_request() -> None:
    """Each call gets its own, in order."""
    table = naming()
    one, two = sent(table, "async"), sent(table, "async")
    table.take({"id": two.id, "status": "started"})
    table.take({"id": one.id, "status": "started"})
    table.take({"id": two.id, "status": "finished", "result": 2})
    assert [frame["status"] for frame in frames_of(one)] == ["started"]
    assert [frame["status"] for frame in frames_of(two)] == ["started", "finished"]
    assert (one.is_done, two.is_done) == (False, True)


def test_who_waits_for_a_result_is_not_woken_for_less() -> None:
    """But it is known that the request was acknowledged."""
    table = CallTable()
    call = sent(table)
    table.take({"id": call.id, "status": "ack"})
    table.take({"id": call.id, "status": "running"})
    assert call.is_bound
    assert call.next(Deadline(NOW)) is None
    table.take({"id": call.id, "status": "error"})
    assert [frame["status"] for frame in frames_of(call)] == ["error"]
    assert call.is_done


@pytest.mark.parametrize("key", ["id", "job_id"])
@pytest.mark.parametrize("job", ["job-1", 17])
def test_frames_by_job(key: str, job: Any) -> None:
    """Once the first frame has named the job, under either name; numbers too."""
    table = CallTable()
    call = sent(table, "async")
    table.take({"id": call.id, "job_id": job, "status": "started"})
    table.take({key: job, "status": "running"})
    table.take({key: job, "status": "finished"})
    assert [frame["status"] for frame in frames_of(call)] == ["started", "running", "finished"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_frames_that_come_before_their_job_is_known(mode: Any) -> None:
    """They are parked, and come after the frame that names the job."""
    table = CallTable()
    call = sent(table, mode)
    table.take({"job_id": "j", "status": "running", "n": 1})
    table.take({"job_id": "j", "status": "finished"})
    assert frames_of(call) == []
    table.take({"id": call.id, "job_id": "j", "status": "started"})
    expected = ["started", "running", "finished"] if mode == "async" else ["finished"]
    assert [frame["status"] for frame in frames_of(call)] == expected
    assert call.is_done


@given(st.permutations(range(6)))
def test_frames_in_any_order(order: list[int]) -> None:
    """Whatever comes first, each call gets all of its own."""
    table = naming()
    calls = [sent(table, "async"), sent(table, "async")]
    frames: list[Any] = []
    for number, call in enumerate(calls):
        job = f"job-{number}"
        frames += [
            {"id": call.id, "job_id": job, "status": "started"},
            {"job_id": job, "status": "running"},
            {"id": job, "status": "running"},
        ]
    for index in order:
        table.take(frames[index])
    assert [len(frames_of(call)) for call in calls] == [3, 3]


def test_started_that_names_no_request() -> None:
    """It belongs to the one stream that waits for it, not to a call that waits for a result."""
    table = CallTable()
    sent(table)
    stream = sent(table, "async")
    table.take({"job_id": "j", "status": "started"})
    table.take({"job_id": "j", "status": "finished"})
    assert [frame["status"] for frame in frames_of(stream)] == ["started", "finished"]


def test_streams_start_one_after_the_other_until_requests_are_named() -> None:
    """Otherwise nobody would know whose ``started`` it is."""
    table = CallTable()
    first = sent(table, "async")
    with pytest.raises(DeadlineExceededError) as caught:
        begun(table, "async", NOW)
    assert caught.value.outcome == "not_sent"
    begun(table, "sync", NOW)  # results do not wait
    table.take({"id": first.id, "status": "started"})
    for _ in range(3):
        sent(table, "async")


def test_stream_waits_for_the_one_before_it() -> None:
    """And goes on as soon as that one has started."""
    table = CallTable()
    first = sent(table, "async")
    begun: list[ModuleCall] = []
    waiting = threading.Thread(target=lambda: begun.append(sent(table, "async")))
    waiting.start()
    table.take({"job_id": "one", "status": "started"})
    waiting.join(PATIENCE)
    table.take({"job_id": "two", "status": "started"})
    assert [frame["job_id"] for frame in frames_of(first)] == ["one"]
    assert [frame["job_id"] for frame in frames_of(begun[0])] == ["two"]


def test_server_that_stops_naming_requests() -> None:
    """A start that may be one of two is parked, until one of them has its own."""
    table = CallTable()
    started(table, "job-0")
    one, two = sent(table, "async"), sent(table, "async")
    table.take({"job_id": "job-1", "status": "started"})
    table.take({"job_id": "job-1", "status": "finished"})
    assert (frames_of(one), frames_of(two)) == ([], [])
    table.take({"id": two.id, "job_id": "job-2", "status": "started"})
    assert [frame["status"] for frame in frames_of(one)] == ["started", "finished"]
    assert [frame["job_id"] for frame in frames_of(two)] == ["job-2"]


def test_stream_given_up_before_it_started() -> None:
    """Its late ``started`` would be another's: the connection is not used on."""
    table = CallTable()
    assert not table.discard(sent(table, "async"))
    unsent = begun(table, "async")
    assert table.discard(unsent)
    started(table, "job")
    assert table.discard(sent(table, "async"))
    assert table.discard(sent(table))


def test_late_frames_of_calls_that_ended() -> None:
    """They are dropped: they fill no park, and belong to nobody else."""
    table = CallTable()
    ended = started(table, "job-1")
    table.discard(ended)
    waiting = sent(table, "async")
    for number in range(1000):
        table.take({"job_id": "job-1", "status": "running", "n": number})
        table.take({"id": ended.id, "status": "started"})
    assert frames_of(waiting) == []
    assert table.count == 1


def test_frames_of_unknown_jobs_have_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    """Over it the calls whose job is not known end as unknown, with a line in the log."""
    table = CallTable()
    known = started(table, "mine")
    unknown = sent(table)
    for number in range(257):
        table.take({"job_id": f"other-{number}", "status": "running"})
    with pytest.raises(StreamLostError) as caught:
        unknown.next(soon())
    assert caught.value.outcome == "unknown"
    table.take({"job_id": "mine", "status": "finished"})
    assert [frame["status"] for frame in frames_of(known)] == ["finished"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_stream_that_nobody_reads_has_a_limit() -> None:
    """Its memory is bounded, and it says that something is missing."""
    table = CallTable()
    call = started(table, "job")
    for number in range(10_001):
        table.take({"job_id": "job", "status": "running", "n": number})
    for _ in range(10_000):
        assert call.next(soon()) is not None
    with pytest.raises(StreamLostError, match="the rest is lost"):
        call.next(soon())


def test_frames_without_an_address_are_ignored() -> None:
    """They can be nobody's."""
    table = CallTable()
    call = sent(table)
    for frame in ({"status": "running"}, {"id": None, "status": "ack"}, {"id": [1]}):
        table.take(frame)
    assert frames_of(call) == []


def lost(outcome: Any) -> ButtDialError:
    return StreamLostError("gone", outcome=outcome)


def test_end_of_the_connection() -> None:
    """Whoever waits fails as unknown, whose result is there gets it, later calls are not sent."""
    table = CallTable()
    waiting, answered = sent(table), sent(table)
    table.take({"id": answered.id, "status": "finished", "result": 1})
    table.end(lost)
    table.end(lambda _: AuthError("another reason"))
    with pytest.raises(StreamLostError) as caught:
        waiting.next(soon())
    assert caught.value.outcome == "unknown"
    assert frames_of(answered) == [{"id": answered.id, "status": "finished", "result": 1}]
    with pytest.raises(StreamLostError) as caught:
        begun(table, "sync")
    assert caught.value.outcome == "not_sent"


def test_end_while_a_stream_waits_for_its_turn() -> None:
    """It is told at once, and not sent."""
    table = CallTable()
    sent(table, "async")
    errors: list[ButtDialError] = []

    def begin() -> None:
        try:
            begun(table, "async")
        except ButtDialError as error:
            errors.append(error)

    waiting = threading.Thread(target=begin)
    waiting.start()
    table.end(lost)
    waiting.join(PATIENCE)
    assert [error.outcome for error in errors] == ["not_sent"]


def test_token_refused_instead_of_an_acknowledgement() -> None:
    """Then the request was refused; after an acknowledgement it is unknown."""
    table = CallTable()
    one, two = sent(table), sent(table)
    table.take({"id": two.id, "status": "ack"})
    table.end(lambda outcome: AuthError("4401", outcome=outcome))
    for call, outcome in ((one, "rejected"), (two, "unknown")):
        with pytest.raises(AuthError) as caught:
            call.next(soon())
        assert caught.value.outcome == outcome


def test_reset_after_a_fork() -> None:
    """The calls are the parent's: whoever waits in the child is told, without its locks."""
    table = CallTable()
    call = sent(table)
    with table._changed:
        table._reset_after_fork()
    with pytest.raises(StreamLostError, match="forked"):
        call.next(soon())
    with pytest.raises(StreamLostError):
        begun(table, "sync")


def test_frames_of_nobody_end_no_call_that_is_known() -> None:
    """Calls that the server has acknowledged by their id go on; the oldest strays are dropped."""
    table = CallTable()
    call = sent(table)
    table.take({"id": call.id, "status": "ack"})
    for number in range(2000):
        job = "job-of-somebody-else" if number < 600 else f"job-{number}"
        table.take({"job_id": job, "status": "running", "n": number})
    assert table._parked_count == sum(map(len, table._parked.values())) <= 256
    table.take({"id": call.id, "status": "finished", "result": 3})
    assert [frame["result"] for frame in frames_of(call)] == [3]
