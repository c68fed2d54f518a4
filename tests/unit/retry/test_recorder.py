"""What a result means for a row, and what the row says afterwards."""

from __future__ import annotations

from datetime import timedelta
from functools import wraps
from typing import Any

import pytest

from buttdial_sync import (
    ArgumentValueError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    FailedMessage,
    LoginPostponedError,
    RetryReport,
    SendResult,
)
from buttdial_sync.errors import (
    AgentSuspended,
    ArgumentTypeError,
    AuthError,
    AuthLockedOutError,
    ComplianceError,
    RateLimitError,
    ServerError,
    TransportError,
)
from buttdial_sync.retry import MemoryRepository
from buttdial_sync.retry.verdicts import (
    concerns_agent,
    concerns_everybody,
    deliver,
    is_outage,
    verdict_of,
)
from buttdial_sync.stores.schema import Condition
from tests.fakes import clear_faults
from tests.unit.retry.world import Failing, World


def result_of(kind: type[ButtDialError], **fields: Any) -> SendResult:
    return SendResult.of(kind("no", **fields))


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (SendResult(outcome="sent"), "delivered"),
        (SendResult(outcome="unknown"), "unknown"),
        (result_of(AuthError, outcome="unknown"), "unknown"),
        (result_of(AuthLockedOutError), "locked_out"),
        (result_of(AuthError), "refused"),
        (result_of(RateLimitError), "limited"),
        (result_of(ArgumentTypeError), "hopeless"),
        (result_of(ArgumentValueError), "hopeless"),
        (result_of(ConfigError), "not_tried"),
        (result_of(ClientClosedError), "not_tried"),
        (result_of(ComplianceError), "hopeless"),
        (result_of(ComplianceError, code="CALLING_HOURS"), "too_early"),
        (result_of(AgentSuspended, code="AGENT_SUSPENDED"), "needs_operator"),
        (SendResult(outcome="rejected"), "failed"),
        (result_of(ComplianceError, retry_after=5.0), "failed"),
        (result_of(ComplianceError, stage="tool_call", retry_after=5.0), "limited"),
        (result_of(ComplianceError, stage="tool_call"), "hopeless"),
        (result_of(TransportError), "unreachable"),
        (result_of(ServerError, outcome="not_sent"), "unreachable"),
        (result_of(ServerError, outcome="rejected"), "failed"),
        (result_of(ServerError, outcome="rejected", status_code=502), "failed"),
        (result_of(ServerError, outcome="rejected", status_code=503), "unreachable"),
        (result_of(ServerError, outcome="rejected", status_code=504), "failed"),
        (SendResult(outcome="not_sent", stage_failed="config"), "hopeless"),
        (SendResult(outcome="not_sent", stage_failed="transport"), "unreachable"),
        (SendResult(outcome="not_sent"), "failed"),
        (SendResult(outcome="rejected", retry_after=0.0), "limited"),
    ],
)
def test_verdicts(result: SendResult, verdict: str) -> None:
    """The kind of the error decides; else the stage, and whether the server names a time."""
    assert verdict_of(result) == verdict


@pytest.mark.parametrize(
    ("stage", "everybody"),
    [("server", False), ("session", True), ("tool_call", True), (None, True)],
)
def test_whom_a_limit_concerns(stage: Any, everybody: bool) -> None:
    """A tool's own limit is one agent's."""
    result = SendResult(outcome="rejected", stage_failed=stage)
    assert concerns_everybody(result) is everybody


@pytest.mark.parametrize(
    ("code", "all_of_it"),
    [
        ("AGENT_SUSPENDED", True),
        ("AGENT_NOT_FOUND", True),
        ("AGENT_NOT_PROVISIONED", True),
        ("NOT_PROVISIONED", True),
        ("QUOTA_EXCEEDED", True),
        ("DO_NOT_CONTACT", False),
        (None, False),
    ],
)
def test_what_concerns_an_agent(code: str | None, all_of_it: bool) -> None:
    """Its other messages would be refused for the same reason."""
    assert concerns_agent(SendResult(outcome="rejected", error_code=code)) is all_of_it


def test_a_postponed_login_concerns_its_token() -> None:
    """Other tokens are used meanwhile."""
    assert not concerns_everybody(result_of(LoginPostponedError, stage="session"))


@pytest.mark.parametrize(
    ("result", "outage"),
    [
        (result_of(TransportError, outcome="unknown"), True),
        (result_of(ServerError, outcome="unknown"), True),
        (result_of(TransportError, outcome="not_sent"), False),  # a verdict of its own
        (result_of(AuthError, outcome="unknown"), False),
        (SendResult(outcome="unknown"), False),
    ],
)
def test_what_may_be_an_outage(result: SendResult, outage: bool) -> None:
    """Nobody knows what became of the message, and the server said nothing."""
    assert is_outage(result) is outage


class Broken:
    """A client of a host that raises."""

    agent_id = None
    timeout = 5.0

    def __init__(self, error: Exception) -> None:
        self.error = error

    def send_message(self, **_: Any) -> SendResult:
        raise self.error


class Answers:
    """A client that gives a result."""

    agent_id = None
    timeout = 5.0

    def __init__(self, result: SendResult) -> None:
        self.result = result

    def send_message(self, **_: Any) -> SendResult:
        return self.result


def test_a_result_can_be_stored() -> None:
    """Databases refuse NUL and half characters; the end of an attempt has to be written."""
    message = FailedMessage(id="a", recipient="+1", body="x")
    plain: Any = Answers(SendResult(outcome="sent", message_sid="S1"))
    assert deliver(plain, message, None) is plain.result
    odd: Any = Answers(SendResult(outcome="rejected", error="no\0", message_sid="S\ud800"))
    result = deliver(odd, message, None)
    assert (result.outcome, result.error, result.message_sid) == ("rejected", "no\ufffd", "S\ufffd")


def test_what_a_client_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Ours says what became of the message; of any other error nobody knows."""
    message = FailedMessage(id="a", recipient="+1", body="x")
    ours: Any = Broken(ArgumentValueError("to is wrong"))
    result = deliver(ours, message, None)
    assert (result.outcome, result.error) == ("not_sent", "to is wrong")
    assert result.idempotency_key == "buttdial-sync-a"
    assert caplog.text == ""
    other: Any = Broken(OSError("the client's mistake"))
    result = deliver(other, message, None)
    assert (result.outcome, result.error) == ("unknown", "the client failed: OSError")
    assert (result.error_type, result.idempotency_key) == ("OSError", "buttdial-sync-a")
    assert "message a: the client failed" in caplog.text
    assert "the client's mistake" in caplog.text


@pytest.mark.parametrize(
    ("fraction", "pauses"), [(0.0, [0.2, 0.4]), (0.5, [0.3, 0.6]), (1.0, [0.4, 0.8])]
)
def test_the_pauses_between_writings(
    here: World, fraction: float, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """They grow, so that a database that is busy for a moment loses no end."""
    here.add("a")
    broken = Failing(here.repository, "mark_delivered", times=2)
    loop = here.loop(broken, random_fraction=lambda: fraction)
    assert loop.run_once() == RetryReport(fetched=1, delivered=1)
    assert here.slept == pytest.approx(pauses)
    assert caplog.text.count("the repository failed, once more: OSError") == 2


def test_an_end_that_cannot_be_written(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """After ten leases the repository's own error is told, with its traceback."""
    here.add("a")
    broken = Failing(here.repository, "mark_delivered")
    report = here.loop(broken).run_once()
    assert report == RetryReport(fetched=1, errors=1, last_error="message a: OSError")
    assert sum(here.slept) == pytest.approx(10 * here.repository.lease, abs=30)
    assert (broken.calls, max(here.slept)) == (len(here.slept) + 1, 22.5)
    assert "message a: the repository failed" in caplog.text
    assert "the disk is full" in caplog.text


def test_an_end_that_cannot_be_written_before_a_stop(here: World) -> None:
    """Who stops the loop waits for three more tries, and not for ten leases."""
    here.add("a")
    broken = Failing(here.repository, "mark_delivered")
    tries: list[int] = []

    def stop_at_the_second(seconds: float) -> None:
        tries.append(broken.calls)
        if broken.calls == 2:
            loop.stop(0)
        here.sleep(seconds)

    loop = here.loop(broken, sleep=stop_at_the_second)
    assert loop.run_once().errors == 1
    assert tries == [1, 2, 3, 4, 5]
    assert broken.calls == 6


@pytest.mark.parametrize("answer", [None, True])
def test_a_repository_that_says_nothing(here: World, answer: bool | None) -> None:
    """Only False means that somebody else has the message."""

    class Quiet(Failing):
        def mark_delivered(self, *args: Any) -> bool | None:
            here.repository.mark_delivered(*args)
            return answer

    here.add("a")
    assert here.loop(Quiet(here.repository)).run_once() == RetryReport(fetched=1, delivered=1)


def test_taken_over_meanwhile(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """The row is another's by now; it is told what happened here."""

    class Lost(Failing):
        def increment_retry(self, *_: Any) -> bool:
            return False

    here.add("a")
    here.fake.on_send(error="busy")
    report = here.loop(Lost(here.repository)).run_once()
    assert report == RetryReport(fetched=1, taken=1, last_error="busy")
    assert "a message that is retried here has another end, or was taken over" in caplog.text


def test_a_message_given_up_is_logged(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """With the reason, though nobody listens for it."""
    here.add("a", max_retries=1)
    here.fake.on_send(error="no such number")
    assert here.loop().run_once().dead == 1
    assert "message a is given up: no such number" in caplog.text


def test_the_last_attempt_may_be_lost(here: World) -> None:
    """Also where keys are honoured, it is given up, and marked."""
    here.add("a", max_retries=1)
    here.fake.fault("cut", count=9)
    assert here.loop().run_once().dead == 1
    row = here.row()
    assert row.attempt_started_at is not None
    assert str(row.last_error).startswith("outcome unknown, it may have been sent: ")
    assert "honours no keys" not in str(row.last_error)


def test_an_interrupted_attempt_says_when_it_began(open_source: World) -> None:
    """Beside what went wrong before it."""
    open_source.add("a", last_error="busy")
    open_source.repository.fetch_due(1)
    began = open_source.clock()
    open_source.repository.begin_attempt("a", 1, began)
    open_source.go_on(open_source.repository.lease)
    assert open_source.loop().run_once().dead == 1
    assert open_source.row().last_error == (
        f"outcome unknown, it may have been sent: the attempt of {began} has no recorded end; "
        "busy; this server honours no keys"
    )


def test_the_pause_while_nobody_can_be_asked(here: World) -> None:
    """A minute; the row says why, and keeps its mark."""
    here.add("a")
    here.repository.fetch_due(1)
    here.repository.begin_attempt("a", 1, here.clock())
    here.go_on(here.repository.lease)
    here.fake.fault("refuse", on="stream", count=9)
    report = here.loop().run_once()
    assert report.postponed == 1
    assert report.last_error == "cannot find out whether the server honours keys"
    assert here.minutes_until_due() == 1
    clear_faults(here.fake)


def test_a_refused_token_waits_two_minutes(here: World) -> None:
    """The report has the server's advice, else ours."""
    advice = {"code": "AUTH_INVALID_TOKEN", "error": "no", "remediation": "Ask the operator."}
    for body, remedy in ((advice, "Ask the operator."), ({"error": "no"}, AuthError.remedy)):
        here.add(f"m{remedy}")
        later = {"Retry-After": "900"}
        here.fake.fault("status", on="stream", status=401, body=body, headers=later)
        report = here.loop().run_once()
        assert (report.postponed, report.remediation, report.last_error) == (1, remedy, "no")
        assert here.minutes_until_due(f"m{remedy}") == 2
        here.client.forget_refusals()


@pytest.mark.parametrize("lease", [5.0, 4.9])
def test_a_lease_that_is_too_short(here: World, lease: float) -> None:
    """It must be longer than the client's timeout, in both places."""
    repository = MemoryRepository(lease=lease, clock=here.clock)
    for make in (here.loop, here.outbox):
        with pytest.raises(ArgumentValueError, match=rf"lease \({lease:g} s\).*timeout \(5 s\)"):
            make(repository)
    here.loop(MemoryRepository(lease=5.1))


@pytest.mark.parametrize("lease", [None, "300"])
def test_a_repository_without_a_lease(here: World, lease: Any) -> None:
    """The remedy says where it belongs."""

    class Without:
        pass

    repository: Any = Without()
    repository.lease = lease
    with pytest.raises(ConfigError, match="has no lease") as raised:
        here.loop(repository)
    assert "FailedMessageRepository" in str(raised.value.remediation)


def test_put_back_without_a_time(here: World) -> None:
    """A host's row that has none is due now."""
    here.add("a")
    due: list[Any] = []

    class Host(Failing):
        def fetch_due(self, limit: int) -> list[FailedMessage]:
            return [FailedMessage(id="a", recipient="+14155550123", body="x")]

        def postpone(self, _message: object, _count: int, _error: object, when: Any) -> None:
            due.append(when)

    loops: list[Any] = []
    loops.append(here.loop(Host(here.repository), pace=lambda: loops[0].stop(0)))
    assert loops[0].run_once().postponed == 1
    assert due == [here.clock()]


def test_a_backoff_of_nothing(here: World) -> None:
    """Due at once, and not before; a pause of a second is kept to the second."""
    for pause, seconds in ((0, 0), (timedelta(seconds=1), 1), (-1, 0)):
        here.add(f"m{pause}")
        here.fake.on_send(error="busy")
        here.loop(backoff=lambda _, pause=pause: pause).run_once()
        assert here.minutes_until_due(f"m{pause}") * 60 == seconds
        here.repository.dismiss(f"m{pause}")


class LostAnswer:
    """A repository that carries a change out, and loses the answer; with or without ``get``."""

    def __init__(self, inner: Any, method: str, *, can_be_asked: bool = True) -> None:
        self._inner = inner
        self._method = method
        self._can_be_asked = can_be_asked
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        if name == "get" and not self._can_be_asked:
            raise AttributeError(name)
        method = getattr(self._inner, name)
        if name != self._method:
            return method

        @wraps(method)
        def lose(*args: Any, **options: Any) -> Any:
            self.calls += 1
            done = method(*args, **options)
            if self.calls == 1:
                raise OSError("the connection was cut after the commit")
            return done

        return lose


@pytest.mark.parametrize("can_be_asked", [True, False])
def test_a_late_postponement_leaves_the_attempt_of_another_alone(
    here: World, can_be_asked: bool
) -> None:
    """
    A message is not sent twice, however late the answer of a commit is repeated.

    A meets a limit and puts the message back; the commit succeeds, and its answer is lost. Before A
    asks again, B begins the next attempt. A's second change must not free the message for C.
    """
    here.add("a")
    limit = {"Retry-After": "40"}
    here.fake.fault("status", status=429, body="Too many requests", headers=limit)
    fetched_by_b: list[FailedMessage] = []

    def b_begins(seconds: float) -> None:
        here.sleep(seconds)
        if not fetched_by_b:
            here.go_on(120)
            fetched_by_b.extend(here.repository.fetch_due(1))
            (message,) = fetched_by_b
            number = message.attempt_number + 1
            begun = here.repository.begin_attempt(
                "a", message.retry_count + 1, here.clock(), attempt_number=number
            )
            assert begun

    lossy = LostAnswer(here.repository, "postpone", can_be_asked=can_be_asked)
    report = here.loop(lossy, sleep=b_begins).run_once()
    assert fetched_by_b, "the limit was not met"
    assert (report.postponed, report.taken) == ((1, 0) if can_be_asked else (0, 1))
    assert here.repository.fetch_due(1) == [], "C must not get what B is sending"
    assert here.row().attempt_started_at is not None
    assert here.repository.mark_delivered("a", "SM-1", 1, attempt_number=2)


def test_a_dead_letter_is_told_although_the_answer_was_lost(here: World) -> None:
    """The row says that it is dead, so the hook is called, once."""
    told: list[str] = []
    here.add("a", channel="pigeon")
    lossy = LostAnswer(here.repository, "mark_dead")
    loop = here.loop(lossy, on_dead_letter=lambda each, _: told.append(each.id))
    report = loop.run_once()
    assert (report.dead, report.taken, told) == (1, 0, ["a"])
    assert lossy.calls == 1


@pytest.mark.parametrize("is_retried", [False, True])
def test_what_was_recorded_is_not_taken(here: World, is_retried: bool) -> None:
    """A delivery or a failure whose commit lost its answer counts as what it is."""
    here.add("a")
    if is_retried:
        here.fake.on_send(error="closed for today")
    lossy = LostAnswer(here.repository, "increment_retry" if is_retried else "mark_delivered")
    report = here.loop(lossy).run_once()
    assert (report.retried, report.delivered, report.taken) == (is_retried, not is_retried, 0)
    # A delivery is told once more: that finds a receipt that came before the answer.
    assert lossy.calls == (1 if is_retried else 2)


def test_a_row_that_cannot_be_read_is_told(here: World) -> None:
    """As a dead letter, with what could be read of it; the others of its batch are sent."""
    told: list[tuple[str, str]] = []
    here.add("a")
    here.add("b")
    here.repository.store.update("a", {"template_vars": "{"}, Condition())
    loop = here.loop(on_dead_letter=lambda each, why: told.append((each.recipient, why)))
    report = loop.run_once()
    assert (report.dead, report.delivered) == (1, 1)
    ((recipient, why),) = told
    assert recipient == "+14155550123"
    assert why.startswith("the row cannot be read: JSONDecodeError")
    assert loop.run_once() == RetryReport()
