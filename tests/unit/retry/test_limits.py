"""Limits, rates, pauses and expiry: what they cost, and whom they delay."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from buttdial_sync import ArgumentTypeError, ArgumentValueError, FailedMessage
from buttdial_sync.testing import ToolFailure
from tests.unit.retry.test_outage import Counting
from tests.unit.retry.world import TOKEN, Failing, World

LIMIT = "Rate limit exceeded: per-minute (10/10). Resets in up to 60 seconds."


class Limiter:
    """A server's limit of ten messages of an agent in a minute."""

    def __init__(self, here: World) -> None:
        self.here = here
        self.sent: dict[str, list[float]] = {"limited": [], "other": []}
        self.refused = 0

    def __call__(self, arguments: dict[str, Any]) -> Any:
        times = self.sent[arguments["body"].split()[0]]
        now = self.here.seconds
        if times is self.sent["limited"] and sum(each > now - 60 for each in times) >= 10:
            self.refused += 1
            return ToolFailure(LIMIT)
        times.append(now)
        return {"messageId": f"SM-{len(times)}"}


def add_many(here: World, count: int) -> Limiter:
    limiter = Limiter(here)
    here.fake.on_tool("comms_send_message", limiter)
    for number in range(count):
        here.add(f"l{number:04}", agent_id="limited", body=f"limited {number}")
    for number in range(10):
        here.add(f"o{number}", agent_id="other", body=f"other {number}")
    return limiter


def test_a_limit_costs_little_and_delays_nobody_else(here: World) -> None:
    """600 messages at ten a minute: before, each waiting row was written once a window."""
    limiter = add_many(here, 600)
    counting = Counting(here.repository)
    report = here.loop(counting, token_for=lambda _: TOKEN).drain()
    assert (report.delivered, report.dead) == (610, 0)
    assert limiter.sent["other"] == [0.0] * 10
    # Three rows a message: leased, begun, delivered. The limit is met once in a hundred messages.
    assert limiter.refused <= 8
    assert counting.writes <= 3 * report.delivered + 3 * limiter.refused + 2 * 20 + 10


def test_batches_for_others(here: World) -> None:
    """Nothing of an agent that rests; then, while nobody begins, twice its limit and one more."""
    add_many(here, 100)
    loop = here.loop(token_for=lambda _: TOKEN, batch_size=40)
    assert loop.run_once().delivered == 10
    assert [batch for batch in loop.fetch_batches(5, 1000) if batch[0].agent_id == "limited"] == []
    here.go_on(61.0)
    batches = list(loop.fetch_batches(5, 1000))
    handed_out = Counter(message.agent_id for batch in batches for message in batch)
    assert handed_out == {"limited": 21, "other": 10}
    assert {len(batch) for batch in batches[:-1]} == {5}
    assert [len(batch) for batch in here.loop().fetch_batches(4, 6)] == [4, 2]


def test_batches_of_a_repository_that_fails(here: World) -> None:
    """Who distributes the messages hears of it."""
    with pytest.raises(OSError, match="full"):
        list(here.loop(Failing(here.repository, "fetch_due")).fetch_batches(5, 10))


class Minutes:
    """A server that takes so many messages of an agent in a minute, or in other seconds."""

    def __init__(self, here: World, limit: int, seconds: int = 60) -> None:
        self.here = here
        self.limit = limit
        self.seconds = seconds
        self.sent: dict[str, list[float]] = {}

    def __call__(self, arguments: dict[str, Any]) -> Any:
        times = self.sent.setdefault(arguments["body"], [])
        now = self.here.seconds
        if sum(each > now - self.seconds for each in times) >= self.limit:
            return ToolFailure(LIMIT.replace("60 seconds", f"{self.seconds} seconds"))
        times.append(now)
        return {"messageId": "SM-1"}


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize(("agents", "each"), [(1, 200), (3, 100)])
@pytest.mark.parametrize("limit", [1, 10, 60])
def test_three_writes_a_message(
    here: World, limit: int, agents: int, each: int, is_known: bool
) -> None:
    """At any limit, the server's or our own: leased, begun, delivered, and three in a hundred."""
    server = Minutes(here, limit)
    here.fake.on_tool("comms_send_message", server)
    counting = Counting(here.repository)
    rate = float(limit) if is_known else None
    loop = here.loop(counting, token_for=lambda agent: f"token-{agent}", rate=rate)

    def send(first: int, end: int) -> None:
        for number in range(first, end):
            for agent in range(agents):
                here.add(f"m{number}-{agent}", agent_id=f"a{agent}", body=f"a{agent}")
        assert loop.drain().delivered == agents * (end - first)

    known = 2 * limit + 1
    send(0, known)  # the loop learns the limit
    counting.writes = 0
    began = here.seconds
    send(known, known + each)
    assert counting.writes <= 3.03 * agents * each + 3 * agents
    # And nobody waits longer than the limit asks for.
    assert here.seconds - began <= (each / limit + 1) * (60 + 1)
    assert max(map(len, server.sent.values())) == known + each


def test_a_limit_that_was_raised(here: World) -> None:
    """It is noticed within a hundred messages, and then the new one is learned."""
    server = Minutes(here, 10)
    here.fake.on_tool("comms_send_message", server)
    for number in range(600):
        here.add(f"m{number}", body="a")
    loop = here.loop()
    loop.drain(timeout=100)
    assert len(server.sent["a"]) == 20
    server.limit = 100
    loop.drain()
    minutes = Counter(int(each // 61) for each in server.sent["a"])
    assert len(minutes) <= 10 + 6
    assert max(minutes.values()) == 100


def test_a_limit_that_was_lowered(here: World) -> None:
    """It is met once, and known from then on."""
    server = Minutes(here, 60)
    here.fake.on_tool("comms_send_message", server)
    for number in range(150):
        here.add(f"m{number}", body="a")
    loop = here.loop()
    loop.drain(timeout=30)
    server.limit = 5
    report = loop.drain()
    assert report.delivered == 90
    assert report.postponed <= 20 + 1


def test_a_limit_of_more_than_is_counted(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for a smaller one."""
    monkeypatch.setattr("buttdial_sync.retry.agents._COUNTED", 20)
    here.fake.on_tool("comms_send_message", Minutes(here, 30))
    for number in range(240):
        here.add(f"m{number}", body="a")
    began = here.seconds
    assert here.loop().drain().delivered == 240
    assert here.seconds - began <= 8 * 61


def test_a_limit_beside_a_rate(here: World) -> None:
    """Five a minute by our own rate, and twenty in ten minutes by the server's limit."""
    server = Minutes(here, 20, 600)
    here.fake.on_tool("comms_send_message", server)
    for number in range(100):
        here.add(f"m{number}", body="a")
    began = here.seconds
    assert here.loop(rate=5).drain().delivered == 100
    assert here.seconds - began <= 4 * 600 + 18 * 61


@pytest.mark.parametrize("rate", [None, 1])
def test_a_limit_that_was_met_once(here: World, rate: float | None) -> None:
    """Somebody else had used it up: one refusal tells nothing about the next hours."""
    here.fake.on_send(error=LIMIT.replace("60 seconds", "3600 seconds"))
    for number in range(20):
        here.add(f"m{number}")
    began = here.seconds
    assert here.loop(rate=rate).drain().delivered == 20
    assert here.seconds - began <= 3601 + 21 * 61


def test_a_rate_that_is_never_used_up(here: World) -> None:
    """However large it is."""
    here.add("a")
    assert here.loop(rate=1e300).drain().delivered == 1


def test_no_wait_for_a_rate_that_is_just_used_up(here: World) -> None:
    """A drain ends when nothing is left to be sent."""
    for number in range(10):
        here.add(f"m{number}")
    began = here.seconds
    loop = here.loop(rate=10)
    report = loop.drain()
    assert (report.delivered, report.paused_until) == (10, None)
    assert here.seconds == began
    here.add("one more")
    assert loop.drain().delivered == 1
    assert here.seconds - began >= 60


def test_less_than_one_in_a_minute(here: World) -> None:
    """A rate of a quarter is one message every four minutes."""
    for number in range(3):
        here.add(f"m{number}")
    began = here.seconds
    assert here.loop(rate=0.25).drain().delivered == 3
    assert 480 <= here.seconds - began < 490


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan"), {"a": 0}])
def test_a_wrong_rate(here: World, rate: Any) -> None:
    """It is refused at once."""
    with pytest.raises(ArgumentValueError, match="rate"):
        here.loop(rate=rate)


def test_a_rate_that_is_no_number(here: World) -> None:
    """So is a text."""
    with pytest.raises(ArgumentTypeError, match="rate"):
        here.loop(rate="10")


def test_a_paused_agent(here: World) -> None:
    """Its messages wait, those of the others go, and it goes on afterwards."""
    here.add("a", agent_id="one")
    here.add("b", agent_id="two")
    assert here.repository.pause("one")
    loop = here.loop(token_for=lambda _: TOKEN)
    assert loop.drain().delivered == 1
    assert here.bodies == ["b"]
    here.go_on(7 * 86_400)
    assert here.repository.resume("one")
    assert loop.drain().delivered == 1
    assert here.row("a").retry_count == 1


def test_expired(here: World) -> None:
    """A message that comes too late is given up, with the reason, and the hook is told."""
    told: list[tuple[str, str]] = []

    def hook(message: FailedMessage, reason: str) -> None:
        told.append((message.id, reason))

    here.add("late", expires_at=here.clock() + timedelta(seconds=30), last_error="busy")
    here.add("in time", expires_at=here.clock() + timedelta(seconds=31))
    here.go_on(30)
    report = here.loop(on_dead_letter=hook).drain()
    assert (report.delivered, report.dead) == (1, 1)
    ((msg_id, reason),) = told
    assert msg_id == "late"
    assert reason.startswith("too late: it expired at 2026-03-29 01:30:30")
    assert reason.endswith("; before: busy")


def test_expired_before_the_next_attempt(here: World) -> None:
    """Nobody waits for an attempt that would come too late."""
    for msg_id, seconds in (("before", 90), ("then", 120), ("after", 121)):
        here.add(msg_id, expires_at=here.clock() + timedelta(seconds=seconds))
    here.fake.on_send(error="busy", count=3)
    assert here.loop().run_once().dead == 2
    assert here.row("after").status == "pending"
    for msg_id in ("before", "then"):
        told = here.row(msg_id).last_error or ""
        assert told.endswith("before another attempt; the last: busy")


def test_expired_while_it_waited_for_its_turn(here: World) -> None:
    """The time counts in which it waits for another attempt, or for the pace."""
    here.add("a", expires_at=here.clock() + timedelta(seconds=30))
    assert here.loop(pace=lambda: here.go_on(30)).run_once().dead == 1
    assert here.bodies == []
    assert (here.row().retry_count, here.row().attempt_started_at) == (0, None)


def test_expired_when_it_is_sent(here: World) -> None:
    """``send_message`` sends nothing then, and says so."""
    told: list[str] = []
    outbox = here.outbox(on_dead_letter=lambda _, reason: told.append(reason))
    result = outbox.send_message("+14155550123", "Your code", expires_at=here.clock())
    assert (result.outcome, result.error_code, result.queued) == ("not_sent", "EXPIRED", False)
    assert here.bodies == []
    assert told == [result.error]
    assert "; before" not in told[0]
    assert here.repository.list("dead")[0].last_error == result.error


def test_given_up_after_a_time(here: World) -> None:
    """The pauses between attempts count; an hour of the server's limit does not."""
    here.add("a", max_retries=100)
    loop = here.loop(backoff=lambda _: 600.0, give_up_after=timedelta(minutes=25))
    for _ in range(2):
        here.fake.on_send(error="busy")
        assert loop.run_once().retried == 1
        here.go_on(600)
    here.fake.on_send(error="Rate limit exceeded: per-hour. Resets in up to 3600 seconds.")
    assert loop.run_once().postponed == 1
    here.go_on(3700)
    assert here.row().seconds_waited == 1200
    here.fake.on_send(error="busy")
    assert loop.run_once().dead == 1
    assert here.row().last_error == "given up after attempts within 0:20:00; the last: busy"


@pytest.mark.parametrize("name", ["give_up_after", "key_lifetime"])
@pytest.mark.parametrize(("wrong", "kind"), [(0, ArgumentValueError), ("a day", ArgumentTypeError)])
def test_wrong_times(here: World, name: str, wrong: Any, kind: type[Exception]) -> None:
    """They are refused at once."""
    with pytest.raises(kind, match=name):
        here.loop(**{name: wrong})


def test_a_permanent_refusal_is_given_up_at_once(here: World) -> None:
    """Nobody who wrote STOP gets five more attempts."""
    here.add("a")
    here.fake.on_send(error="Recipient has opted out", code="DO_NOT_CONTACT")
    assert here.loop().run_once().dead == 1
    assert here.row().retry_count == 1


def test_calling_hours(here: World) -> None:
    """They are waited for, and spend nothing; others go on."""
    here.add("a")
    here.add("b")
    here.fake.on_send(error="outside of calling hours", code="CALLING_HOURS")
    report = here.loop().run_once()
    assert (report.postponed, report.delivered) == (1, 1)
    assert (here.row().retry_count, here.minutes_until_due()) == (0, 60)


def test_an_operator_is_told_once(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """An agent that is suspended waits with all its messages; nothing is given up."""
    caplog.set_level(logging.ERROR, "buttdial_sync.retry")
    for number in range(5):
        here.add(f"m{number}", agent_id="one")
    here.fake.on_send(error='Agent "one" is not active', count=100)
    loop = here.loop(token_for=lambda _: TOKEN)
    for _ in range(50):
        report = loop.run_once()
        assert report.dead == 0
        here.go_on(1000)
    assert report.remediation is not None
    assert caplog.text.count("messages of agent one wait for an operator: Agent") == 1
    assert {row.retry_count for row in here.repository.list()} == {0}
    here.fake.clear()
    assert loop.drain().delivered == 5


def test_an_operator_is_told_again(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """The server refused a message for itself in between, so the agent was active."""
    caplog.set_level(logging.ERROR, "buttdial_sync.retry")
    loop = here.loop(token_for=lambda _: TOKEN)
    here.add("a", agent_id="one")
    here.fake.on_send(error='Agent "one" is not active')
    assert loop.run_once().dead == 0
    assert here.minutes_until_due() == 15
    here.go_on(1000)
    here.fake.on_send(error="Recipient has opted out", code="DO_NOT_CONTACT")
    assert loop.run_once().dead == 1
    here.add("b", agent_id="one")
    here.fake.on_send(error='Agent "one" is not active')
    assert loop.run_once().dead == 0
    assert caplog.text.count("messages of agent one wait for an operator: Agent") == 2


def test_a_key_that_the_server_may_have_forgotten(here: World) -> None:
    """A message that may have been sent more than a day ago is not repeated."""
    here.add("young", idempotency_key="k1")
    here.add("old", idempotency_key="k2")
    for message in here.repository.fetch_due(2):
        assert here.repository.begin_attempt(message.id, 1, here.clock())
    here.go_on(86_400)
    assert here.repository.force_retry("young")
    loop = here.loop()
    assert loop.run_once().delivered == 2
    here.add("older", idempotency_key="k3", attempt_started_at=here.clock(), retry_count=1)
    here.go_on(86_401)
    assert loop.run_once().dead == 1
    assert (here.row("older").last_error or "").endswith("the server may have forgotten its key")


def test_the_first_attempt_in_doubt_is_remembered(here: World) -> None:
    """The key is as old as the first attempt with it, not as the last."""
    here.add("a", idempotency_key="k1")
    began = here.clock()
    here.fake.fault("cut", delivered=False)
    loop = here.loop(key_lifetime=timedelta(minutes=1))
    loop.run_once()
    if here.row().status == "pending":
        here.go_on(130)
        assert here.row().attempt_started_at == began
        assert loop.run_once().dead == 1


def test_stopping_waits_as_long_as_a_call_may_take(here: World) -> None:
    """What is being sent gets its recorded end."""
    assert here.loop()._timeout == here.client.timeout
