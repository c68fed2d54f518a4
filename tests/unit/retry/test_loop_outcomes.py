"""Outcomes that are not known, limits, lockouts and wrong tokens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from buttdial_sync import Client, DeliveryReceipt, FailedMessage, RetryLoop, RetryReport, SendResult
from buttdial_sync.retry import MemoryRepository
from tests.fakes import clear_faults, failed_logins
from tests.unit.retry.world import TOKEN, URL, Failing, World, world


@pytest.fixture
def hosted() -> Iterator[World]:
    with world() as made:
        yield made


def interrupted(here: World) -> None:
    """Leave a row as a process does that died while it sent."""
    here.add("a")
    here.repository.fetch_due(1)
    here.repository.begin_attempt("a", 1, here.clock())
    here.go_on(here.repository.lease)


def test_an_interrupted_attempt_is_repeated_with_its_key(hosted: World) -> None:
    """Where the server honours keys, a row whose process died is sent again with the same key."""
    interrupted(hosted)
    assert hosted.loop().run_once().delivered == 1
    assert hosted.row().retry_count == 2
    assert [call.idempotency_key for call in hosted.fake.delivered] == ["buttdial-sync-a"]


def test_a_receipt_that_is_there_before_the_message_is_given_up(open_source: World) -> None:
    """It was sent: nobody is told that it may not have been."""
    interrupted(open_source)
    key = open_source.row().idempotency_key or "buttdial-sync-a"
    receipt = DeliveryReceipt(message_sid="SM-1", status="delivered", idempotency_key=key)
    assert open_source.repository.record_receipt(receipt)
    told: list[str] = []
    report = open_source.loop(on_dead_letter=lambda _, error: told.append(error)).run_once()
    assert (report.dead, report.taken, told) == (0, 1, [])
    assert open_source.row().status == "delivered"


def test_an_interrupted_attempt_is_not_repeated_without_keys(open_source: World) -> None:
    """Elsewhere it may have been sent: the row is given up and says so; nothing is sent."""
    interrupted(open_source)
    report = open_source.loop().run_once()
    assert report.dead == 1
    assert open_source.fake.sent_messages == []
    assert (open_source.row().last_error or "").startswith("outcome unknown, it may have been sent")


def test_a_host_may_risk_sending_twice(open_source: World) -> None:
    """With on_unknown="retry" it is sent again all the same."""
    interrupted(open_source)
    assert open_source.loop(on_unknown="retry").run_once().delivered == 1


def test_a_server_that_cannot_be_asked(hosted: World) -> None:
    """While nobody can say whether keys are honoured, the row waits and spends nothing."""
    interrupted(hosted)
    hosted.fake.fault("refuse", on="stream", count=9)
    assert hosted.loop().run_once().postponed == 1
    assert hosted.row().retry_count == 1
    assert hosted.row().attempt_started_at is not None
    clear_faults(hosted.fake)
    hosted.go_on(60)
    assert hosted.loop().run_once().delivered == 1


def test_a_lost_answer_without_keys(open_source: World) -> None:
    """An attempt whose answer is lost is the last one, and the row says why."""
    open_source.add("a")
    open_source.fake.fault("cut")
    assert open_source.loop().run_once().dead == 1
    assert "may have been sent" in (open_source.row().last_error or "")
    assert "honours no keys" in (open_source.row().last_error or "")
    assert open_source.bodies == ["a"]


def test_lost_answers_with_keys(hosted: World) -> None:
    """The row stays marked as unknown until an answer comes; people get one message."""
    hosted.add("a")
    hosted.fake.fault("cut", count=3)
    loop = hosted.loop()
    assert loop.run_once().retried == 1
    assert hosted.row().attempt_started_at is not None
    hosted.go_on(120)
    assert loop.run_once().delivered == 1
    assert hosted.bodies == ["a"]


def test_an_exhausted_unknown_row_says_so(hosted: World) -> None:
    """Given up after a lost answer and a plain failure, the reason has both."""
    hosted.add("a", max_retries=2)
    hosted.fake.fault("cut", count=3, delivered=False)
    loop = hosted.loop()
    loop.run_once()
    hosted.go_on(120)
    hosted.fake.on_send(error="closed for today")
    assert loop.run_once().dead == 1
    reason = "outcome unknown, it may have been sent: closed for today"
    assert hosted.row().last_error == reason


LIMIT = "Rate limit exceeded: per-minute (10/10). Resets in up to 60 seconds."


def test_a_rate_limit_pauses_without_spending_attempts(hosted: World) -> None:
    """One message hits the limit; it and the others of its agent wait, and nothing is counted."""
    for msg_id in ("a", "b", "c"):
        hosted.add(msg_id)
    hosted.fake.on_send(error=LIMIT)
    report = hosted.loop().run_once()
    assert (report.postponed, report.paused_until) == (3, hosted.clock() + timedelta(seconds=60))
    assert len(hosted.fake.sent_messages) == 1
    assert [hosted.row(each).retry_count for each in "abc"] == [0, 0, 0]
    assert [hosted.minutes_until_due(each) for each in "abc"] == [1, 1, 1]


def test_drain_waits_for_a_limit(hosted: World) -> None:
    """drain goes on when the limit ends, so all messages go out."""
    for number in range(5):
        hosted.add(f"m{number}")
    hosted.fake.on_send()
    hosted.fake.on_send(error=LIMIT)
    report = hosted.loop().drain()
    assert (report.delivered, report.paused_until) == (5, None)
    assert hosted.slept == [61]


def test_drain_does_not_wait_longer_than_it_may(hosted: World) -> None:
    """With a timeout it reports the pause instead."""
    hosted.add("a")
    hosted.fake.on_send(error=LIMIT)
    report = hosted.loop().drain(timeout=30)
    assert report.paused_until is not None
    assert hosted.slept == []


def test_a_limit_of_one_agent_does_not_stop_the_others(hosted: World) -> None:
    """The tool's own limit is the agent's: messages of other agents go out."""
    hosted.add("a", agent_id="one", agent_token="one")
    hosted.add("b", agent_id="two", agent_token="two")
    hosted.fake.on_send(error=LIMIT)
    report = hosted.loop().run_once()
    assert (report.postponed, report.delivered) == (1, 1)


def test_a_limiter_of_the_server_stops_everything(hosted: World) -> None:
    """An HTTP 429 on posting is for this address: other agents wait too."""
    hosted.add("a", agent_id="one", agent_token="one")
    hosted.add("b", agent_id="two", agent_token="two")
    hosted.fake.fault("status", status=429, body="Too many requests", headers={"Retry-After": "40"})
    report = hosted.loop().run_once()
    assert report.postponed == 2
    assert len(hosted.fake.calls) == 1
    assert hosted.minutes_until_due("b") == pytest.approx(40 / 60)


@pytest.mark.parametrize("workers", [1, 8])
def test_a_wrong_token_does_not_stop_the_others(workers: int) -> None:
    """One failed login for a wrong token, however many messages and threads; the others go out."""
    with world(tokens=["good"]) as here:
        for number in range(9):
            here.add(f"bad{number}", agent_id="one", agent_token="bad")
            here.add(f"good{number}", agent_id="two", agent_token="good")
        loop = here.loop(workers=workers)
        report = loop.run_once()
        assert (report.delivered, report.postponed) == (9, 9)
        assert failed_logins(here.fake) == 1
        assert here.row("bad0").retry_count == 0
        here.go_on(120)
        assert loop.run_once().postponed == 9
        assert failed_logins(here.fake) == 1


@pytest.mark.parametrize(
    "code",
    ["TOKEN_REVOKED", "AUTH_TOKEN_REVOKED", "AUTH_FORBIDDEN", "AUTH_NONCE_REPLAY", "NOBODY_KNOWS"],
)
def test_every_refused_login_rests(hosted: World, code: str) -> None:
    """Whatever a 401 says, five messages of a token cost one login and no attempt."""
    for number in range(5):
        hosted.add(f"m{number}")
    hosted.fake.fault(
        "status", on="stream", status=401, body={"code": code, "error": "no"}, count=9
    )
    report = hosted.loop().run_once()
    assert report.postponed == 5
    assert report.remediation
    assert len(hosted.fake.requests) == 1
    assert {hosted.row(f"m{number}").attempts for number in range(5)} == {0}


@pytest.mark.parametrize(
    ("result", "step"),
    [
        (SendResult(outcome="sent", message_sid="SM-1"), "delivered"),
        (SendResult(outcome="rejected", error_type="AuthError"), "retried"),
        (SendResult(outcome="not_sent", stage_failed="config"), "dead"),
        (SendResult(outcome="rejected", retry_after=5.0), "postponed"),
        (SendResult(outcome="unknown"), "retried"),
    ],
)
def test_results_of_a_hosts_own_client(hosted: World, result: SendResult, step: str) -> None:
    """Without an exception the outcome, the stage and the time decide; a name does not."""

    class Own:
        agent_id = None
        timeout = 5.0

        def send_message(self, **_: Any) -> SendResult:
            return result

        def honours_idempotency_key(self, **_: Any) -> bool:
            return True

    hosted.add("a")
    client: Any = Own()
    assert getattr(RetryLoop(hosted.repository, client).run_once(), step) == 1


def test_many_wrong_tokens_do_not_lead_to_a_lockout() -> None:
    """Before the last failed login that the server allows, only proven tokens are used."""
    with world(tokens=["good"]) as here:
        here.add("good", agent_id="a", agent_token="good")  # the agents take turns by their ids
        for number in range(15):
            here.add(f"bad{number}", agent_id=f"a{number}", agent_token=f"bad{number}")
        loop = here.loop()
        report = loop.run_once()
        assert (report.delivered, report.postponed) == (1, 15)
        assert failed_logins(here.fake) == 9  # this server does not forget them at a good login
        here.add("again", agent_id="a", agent_token="good")
        assert loop.run_once().delivered == 1


def test_a_fresh_token_is_used_at_once() -> None:
    """token_for is asked before each attempt, so a rotated token is not used stale."""
    with world(tokens=["new"]) as here:
        tokens = iter(["old", "new"])
        here.add("a", agent_id="one")
        loop = here.loop(token_for=lambda agent_id: next(tokens))
        assert loop.run_once().postponed == 1
        here.go_on(120)
        assert loop.run_once().delivered == 1


def test_a_missing_token_spends_nothing(hosted: World) -> None:
    """A message of another agent is not sent as the client's own."""
    hosted.add("a", agent_id="another")
    assert hosted.loop().run_once().postponed == 1
    assert hosted.row().last_error == "no token for agent another: give the loop token_for"
    assert (hosted.row().retry_count, hosted.fake.requests) == (0, [])


def test_a_lockout_pauses_everything() -> None:
    """Locked out, nothing more is sent until the time that the server names."""
    with world(tokens=[TOKEN]) as here:
        for msg_id in ("a", "b"):
            here.add(msg_id)
        lockout = {"code": "AUTH_LOCKED_OUT", "retryAfterSeconds": 600, "error": "locked"}
        here.fake.fault("status", on="stream", status=429, body=lockout)
        report = here.loop().run_once()
        assert report == RetryReport(
            fetched=2,
            postponed=2,
            paused_until=here.clock() + timedelta(seconds=600),
            last_error="locked",
        )
        assert len(here.fake.requests) == 1
        assert [here.row(each).retry_count for each in "ab"] == [0, 0]


def parked(here: World) -> None:
    """Give a message up that a server without keys has taken, without an answer."""
    here.add("a")
    here.fake.fault("cut")
    assert here.loop().run_once().dead == 1
    assert here.bodies == ["a"]


def test_a_retry_by_hand_does_not_send_twice(open_source: World) -> None:
    """Without keys it is parked again, with the same reason, however often somebody tries."""
    parked(open_source)
    reason = open_source.row().last_error
    for _ in range(3):
        assert open_source.repository.force_retry("a")
        assert open_source.loop().run_once().dead == 1
    assert open_source.row().last_error == reason
    assert open_source.bodies == ["a"]


def test_a_retry_by_hand_of_an_interrupted_attempt(open_source: World) -> None:
    """A row whose sender died says once why it is not repeated."""
    interrupted(open_source)
    reasons = set()
    for _ in range(3):
        assert open_source.repository.force_retry("a")
        assert open_source.loop().run_once().dead == 1
        reasons.add(open_source.row().last_error)
    (reason,) = reasons
    assert str(reason).count("may have been sent") == 1
    assert str(reason).endswith("this server honours no keys")
    assert open_source.fake.sent_messages == []


def test_a_retry_by_hand_with_keys(hosted: World) -> None:
    """Where the server honours keys the message is repeated with its key: people get one."""
    hosted.add("a", max_retries=1)
    hosted.fake.fault("cut", count=9)
    assert hosted.loop().run_once().dead == 1
    clear_faults(hosted.fake)
    assert hosted.row().attempt_started_at is not None
    assert hosted.repository.force_retry("a")
    assert hosted.loop().run_once().delivered == 1
    assert hosted.bodies == ["a"]


def test_the_last_attempt_was_interrupted(hosted: World) -> None:
    """The reason names the doubt, and not only how an earlier attempt failed."""
    hosted.add("a", retry_count=5, attempt_started_at=hosted.clock(), last_error="busy")
    hosted.clock.move(hosted.repository.lease)
    assert hosted.loop().run_once().dead == 1
    assert "may have been sent" in str(hosted.row().last_error)
    assert hosted.row().attempt_started_at is not None


def test_a_retry_by_hand_even_if_sent(open_source: World) -> None:
    """Who takes the risk of a second one gets it sent."""
    parked(open_source)
    assert open_source.repository.force_retry("a", even_if_sent=True)
    assert open_source.loop().run_once().delivered == 1
    assert open_source.bodies == ["a", "a"]


@pytest.mark.parametrize("max_retries", [1, 5])
def test_what_was_refused_is_not_marked(open_source: World, max_retries: int) -> None:
    """A plain refusal leaves no doubt: such a row is sent again when somebody asks for it."""
    open_source.add("a", max_retries=max_retries)
    open_source.fake.on_send(error="closed for today")
    open_source.loop().run_once()
    assert open_source.row().attempt_started_at is None
    assert open_source.repository.force_retry("a")
    assert open_source.loop().run_once().delivered == 1


def test_a_repository_without_the_new_arguments(open_source: World) -> None:
    """A host's repository with the published methods is given what it knows."""

    class Published(MemoryRepository):
        def mark_dead(self, msg_id: str, retry_count: int, error: str) -> bool:  # type: ignore[override]
            return super().mark_dead(msg_id, retry_count, error)

    repository = Published(clock=open_source.clock)
    repository.add(FailedMessage(id="a", recipient="+14155550123", body="x", max_retries=1))
    open_source.fake.on_send(error="closed for today")
    assert open_source.loop(repository).run_once().dead == 1


def test_a_report_says_what_to_do_about_a_token() -> None:
    """What a person has to act on is not covered by what went wrong after it."""
    with world(tokens=["good"]) as here:
        here.add("a", agent_id="one", agent_token="bad")
        here.add("b", agent_id="two", agent_token="good")
        here.fake.on_send(error="busy")
        report = here.loop().run_once()
        assert (report.postponed, report.retried) == (1, 1)
        assert "token" in str(report.last_error)
        assert str(report.remediation).startswith("Check the token")
        here.go_on(120)
        assert here.loop().run_once().remediation is not None


def test_a_client_without_a_token_spends_nothing() -> None:
    """The loop and the outbox keep a message that there is no token for."""
    with world() as here, Client(URL, agent_id="agent-1", timeout=5.0) as client:
        here.client = client
        here.add("a")
        assert here.loop().run_once().postponed == 1
        assert here.row().retry_count == 0
        assert here.row().attempt_started_at is None
        assert here.row().last_error == "no agent_token"
        result = here.outbox().send_message("+14155550123", "b")
        assert (result.queued, result.outcome) == (True, "not_sent")
        assert here.fake.requests == []


def test_a_lost_answer_stays_lost(hosted: World) -> None:
    """A plain "no" afterwards does not take the mark from the row, only the end of its attempts."""
    hosted.add("a")
    hosted.fake.fault("cut", count=3, delivered=False)
    loop = hosted.loop()
    assert loop.run_once().retried == 1
    hosted.go_on(120)
    hosted.fake.on_send(error="closed for today")
    assert loop.run_once().retried == 1
    assert hosted.row().attempt_started_at is not None
    assert hosted.row().retry_count == 2
    assert hosted.minutes_until_due() == 4


def test_a_lost_answer_of_a_server_that_cannot_be_asked(open_source: World) -> None:
    """Nobody can say whether it honours keys: the message is kept, marked, until one can."""
    open_source.add("a")
    open_source.fake.fault("cut")

    def send_and_vanish(_: object) -> dict[str, str]:
        open_source.fake.fault("refuse", on="stream", count=99)
        return {"messageId": "SM-1"}

    open_source.fake.on_tool("comms_send_message", send_and_vanish)
    loop = open_source.loop()
    assert loop.run_once().retried == 1
    assert open_source.row().attempt_started_at is not None
    assert "may have been sent" in (open_source.row().last_error or "")
    clear_faults(open_source.fake)
    open_source.go_on(120)
    assert loop.run_once().dead == 1
    assert len(open_source.fake.sent_messages) == 1


def test_a_hopeless_message_that_may_have_been_sent(hosted: World) -> None:
    """It is given up, and the reason still says that an earlier attempt may have got through."""
    hosted.add("a", channel="pigeon")
    hosted.repository.fetch_due(1)
    hosted.repository.begin_attempt("a", 1, hosted.clock())
    hosted.go_on(hosted.repository.lease)
    assert hosted.loop().run_once().dead == 1
    assert (hosted.row().last_error or "").startswith("outcome unknown, it may have been sent: ")
    hosted.add("b", channel="pigeon")
    hosted.loop().run_once()
    assert "may have been sent" not in (hosted.row("b").last_error or "")


def test_a_refused_token_pauses_its_messages() -> None:
    """Two minutes for the one that was refused and for those that waited behind it."""
    with world(tokens=["good"]) as here:
        for msg_id in ("a", "b"):
            here.add(msg_id, agent_id="one", agent_token="bad")
        assert here.loop().run_once().postponed == 2
        assert [here.minutes_until_due(each) for each in "ab"] == [2, 2]


def test_a_missing_token_pauses_its_message(hosted: World) -> None:
    """Two minutes: somebody has to give the loop a token."""
    hosted.add("a", agent_id="another")
    hosted.loop().run_once()
    assert hosted.minutes_until_due() == 2


def test_a_limit_of_no_time(hosted: World) -> None:
    """A limit that names no seconds is waited for a second, or the loop would turn in a circle."""
    hosted.add("a")
    no_time = {"Retry-After": "0"}
    hosted.fake.fault("status", count=9, status=429, body="Too many requests", headers=no_time)
    assert hosted.loop().run_once().postponed == 1
    assert hosted.minutes_until_due() == pytest.approx(1 / 60)


def test_a_rejected_message_proves_its_token() -> None:
    """A "no" to a message is a "yes" to its token: it goes on when others are refused."""
    with world(tokens=["good"]) as here:
        here.add("no", agent_id="a", agent_token="good")  # the agents take turns by their ids
        for number in range(15):
            here.add(f"bad{number}", agent_id=f"a{number}", agent_token=f"bad{number}")
        here.fake.on_send(error="closed for today")
        loop = here.loop()
        report = loop.run_once()
        assert (report.retried, report.postponed) == (1, 15)
        here.add("yes", agent_id="a", agent_token="good")
        assert loop.run_once().delivered == 1
        assert failed_logins(here.fake) == 9  # this server does not forget them at a good login


def test_stopped_while_another_has_the_turn() -> None:
    """What waited for its token's turn when the loop was stopped is put back, not sent."""
    with world() as here:
        both_asked = threading.Semaphore(0)
        before = {}

        def token_for(_: str) -> str:
            both_asked.release()
            return TOKEN

        class Stopping(Failing):
            def begin_attempt(self, *args: Any) -> Any:
                for _ in "ab":
                    assert both_asked.acquire(timeout=5)
                loop.stop(0)
                return here.repository.begin_attempt(*args)

        for msg_id in ("a", "b"):
            here.add(msg_id, agent_id="one")
            before[msg_id] = here.row(msg_id).next_retry_at
        here.go_on(30)
        loop = here.loop(Stopping(here.repository), workers=2, token_for=token_for)
        report = loop.run_once()
        assert (report.delivered, report.postponed) == (1, 1)
        assert len(here.fake.sent_messages) == 1
        (left,) = [each for each in "ab" if here.row(each).status == "pending"]
        assert here.row(left).next_retry_at == before[left]
        assert here.row(left).retry_count == 0
