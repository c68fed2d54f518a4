"""Which agents rest, and how many of their messages are fetched: rates, limits that are learnt."""

from __future__ import annotations

import math
from typing import Any

import pytest

from buttdial_sync import ArgumentTypeError, ArgumentValueError
from buttdial_sync.retry.agents import Agents
from buttdial_sync.retry.circuit import Blocked

DAY = 86_400.0


class Bench:
    """Agents and their clock."""

    def __init__(self, rate: Any = None) -> None:
        self.now = 1000.0
        self.agents = Agents(rate, lambda: self.now)

    def begin(self, count: int, agent_id: str | None = "a") -> None:
        """Begin so many attempts, all of which may."""
        for _ in range(count):
            assert self.agents.begin(agent_id) is None

    def met_limit(self, taken: int, seconds: float = 60.0) -> None:
        """Begin so many attempts, and one more that the server limits."""
        self.begin(taken + 1)
        self.agents.limited("a", seconds, "limit")


@pytest.fixture
def here() -> Bench:
    return Bench()


def test_an_agent_rests(here: Bench) -> None:
    """Until the latest of the ends, and the others do not."""
    here.agents.rest("a", 30.0, "first")
    here.agents.rest("a", 10.0, "second")
    here.agents.rest(None, 5.0, "nameless")
    here.now += 4.0
    assert here.agents.begin("a") == Blocked("second", 26.0)
    assert here.agents.begin(None) == Blocked("nameless", 1.0)
    assert here.agents.resting() == ["a", ""]
    here.begin(1, "b")
    here.now += 1.0
    here.begin(1, None)
    assert here.agents.resting() == ["a"]
    assert here.agents.pause == 0.0  # a rest may end in another way than with time
    here.now += 25.0
    here.begin(1)
    assert here.agents.resting() == []


@pytest.mark.parametrize("rate", [True, "5", {"a": None, "b": "5"}])
def test_a_rate_is_a_number(rate: Any) -> None:
    """Or there is none."""
    with pytest.raises(ArgumentTypeError, match="rate must be a number"):
        Agents(rate, lambda: 0.0)


@pytest.mark.parametrize("rate", [0, -1.0, math.inf, math.nan, {"a": 5.0, "b": 0}])
def test_a_rate_is_above_nothing(rate: Any) -> None:
    """Nothing would ever be sent."""
    with pytest.raises(ArgumentValueError, match="rate must be above 0"):
        Agents(rate, lambda: 0.0)


@pytest.mark.parametrize(
    ("rate", "at_once", "seconds"),
    [(2, 2, 60.0), (2.9, 2, 60.0), (1, 1, 60.0), (1.5, 1, 60.0), (0.5, 1, 120.0), (0.1, 1, 600.0)],
)
def test_a_rate(rate: float, at_once: int, seconds: float) -> None:
    """So many in any minute; less than one is a longer pause."""
    here = Bench(rate)
    here.begin(at_once)
    here.begin(at_once, "asked late")
    here.now += 10.0
    reason = f"the rate of {rate:g} a minute is used up"
    assert here.agents.begin("a") == Blocked(reason, seconds - 10.0)
    assert here.agents.pause == seconds - 10.0
    here.begin(at_once, "b")
    here.now += seconds - 10.5
    assert here.agents.begin("a") == here.agents.begin("asked late") == Blocked(reason, 0.5)
    here.now += 0.5
    here.begin(at_once)


def test_rates_by_agent() -> None:
    """An agent without a rate has none; messages that name no agent are those of ""."""
    here = Bench({"a": 1, "": 2})
    here.begin(1)
    here.begin(2, None)
    here.begin(50, "b")
    assert here.agents.begin("a") is not None
    assert here.agents.begin(None) is not None
    assert here.agents.shares() == {"a": 1, "": 1}


def test_what_may_be_fetched_within_a_rate() -> None:
    """What is left of this minute, and one at least: else nobody would learn that it is over."""
    here = Bench(3.7)
    assert here.agents.shares() == {}
    here.begin(1)
    assert here.agents.shares() == {"a": 2}
    here.begin(2)
    assert here.agents.shares() == {"a": 1}
    here.now += 59.0
    assert here.agents.shares() == {"a": 1}
    here.now += 1.0
    assert here.agents.shares() == {"a": 3}


def test_an_agent_that_has_used_its_rate_up() -> None:
    """After a message that met it, the next ones are not fetched: no row has to wait for it."""
    here = Bench(2)
    here.begin(2)
    assert here.agents.full() == []  # not met yet
    assert here.agents.begin("a") is not None
    here.now += 60.0
    here.begin(1)
    assert here.agents.full() == []
    here.begin(1)
    assert here.agents.full() == ["a"]
    assert here.agents.resting() == ["a"]
    assert here.agents.pause == 0.0
    here.agents.wait("a")
    assert here.agents.pause == 60.0
    assert here.agents.begin("a") == Blocked("the rate of 2 a minute is used up", 60.0)
    here.now += 60.0
    assert (here.agents.full(), here.agents.resting(), here.agents.pause) == ([], [], 0.0)
    here.begin(1)


def test_the_pause_of_several(here: Bench) -> None:
    """It is the first end of a limit that counts."""
    here.agents.limited("a", 30.0, "limit")
    here.agents.limited("b", 20.0, "limit")
    here.agents.limited("c", 0.5, "limit")
    assert here.agents.pause == 0.5
    here.now += 0.5
    assert here.agents.pause == 19.5
    here.now += 29.5
    assert here.agents.pause == 0.0


@pytest.mark.parametrize("taken", [1, 3, 4])
def test_a_limit_is_learnt(here: Bench, taken: int) -> None:
    """After the same number twice the agent rests without asking, for a hundred messages."""
    here.met_limit(taken)
    assert here.agents.begin("a") == Blocked("limit", 60.0)
    assert here.agents.shares() == {"a": 1}
    here.now += 60.0
    assert here.agents.shares() == {"a": taken}
    here.begin(taken - 1)
    assert here.agents.shares() == {"a": 1}
    here.begin(1)
    assert here.agents.full() == []  # met once
    here.met_limit(0)
    for sent in range(taken, 100, taken):
        here.now += 60.0
        here.begin(taken - 1)
        assert here.agents.full() == []
        here.begin(1)
        assert here.agents.full() == ["a"], sent
        assert here.agents.resting() == ["a"]
    here.now += 59.0
    assert here.agents.full() == ["a"]
    here.agents.wait("a")
    assert here.agents.begin("a") == Blocked("limit", 1.0)
    here.now += 1.0
    here.begin(taken)
    assert here.agents.full() == []  # the hundredth: one more is tried, to see


def test_another_number_is_learnt_anew(here: Bench) -> None:
    """It is known only after the same number twice in a row."""
    for taken in (3, 4, 3):
        here.met_limit(taken)
        here.now += 60.0
    here.begin(3)
    assert here.agents.full() == []


def test_a_limit_below_the_rate() -> None:
    """The smaller one counts."""
    here = Bench(10)
    here.met_limit(3)
    here.now += 60.0
    assert here.agents.shares() == {"a": 3}
    here = Bench(2)
    here.met_limit(1, seconds=1.0)
    here.now += 60.0
    here.begin(1)
    here.now += 1.0
    assert here.agents.shares() == {"a": 1}


def test_threads_that_meet_the_same_limit(here: Bench) -> None:
    """They are one meeting: the last one has the number of what the server took."""
    here.begin(5)
    here.agents.limited("a", 60.0, "limit")
    here.agents.limited("a", 60.0, "limit")
    here.now += 60.0
    here.begin(3)
    assert here.agents.full() == []
    here.met_limit(0)
    here.now += 60.0
    here.begin(2)
    assert here.agents.full() == []
    here.begin(1)
    assert here.agents.full() == ["a"]


def test_the_first_message_for_long(here: Bench) -> None:
    """That it was limited does not tell how many the server takes: one is tried at a time."""
    for _ in range(2):
        here.met_limit(0)
        assert here.agents.shares() == {"a": 1}
        here.now += 60.0
    here.begin(1)
    assert here.agents.full() == []
    assert here.agents.shares() == {"a": 1}
    here.now += 60.0
    here.met_limit(3)
    here.now += 600.0
    here.met_limit(0)
    here.now += 60.0
    assert here.agents.shares() == {"a": 3}  # as it was


def test_a_limit_with_a_longer_time(here: Bench) -> None:
    """What was sent within that time counts, and a minute at least."""
    here.begin(2)
    here.now += 100.0
    here.met_limit(3, seconds=100.0)
    here.now += 100.0
    assert here.agents.shares() == {"a": 3}
    here = Bench()
    here.begin(2)
    here.now += 59.0
    here.met_limit(3, seconds=1.0)
    here.now += 1.0
    assert here.agents.shares() == {"a": 5}


def test_a_limit_that_was_raised(here: Bench) -> None:
    """The server takes more than twice as many: it is learnt anew."""
    here.met_limit(2)
    here.now += 60.0
    here.begin(4)
    assert here.agents.shares() == {"a": 1}
    here.begin(1)
    assert here.agents.shares() == {}


def test_a_limit_that_was_not_counted(here: Bench) -> None:
    """A thousand attempts are remembered; a limit of more costs little in any case."""
    here.met_limit(998)
    here.now += 60.0
    assert here.agents.shares() == {"a": 998}
    here.met_limit(999)
    assert here.agents.shares() == {}


@pytest.mark.parametrize(
    ("rate", "counted"), [(None, 1000), (5, 1000), (5000.5, 5000), (2e6, 1_000_000)]
)
def test_how_many_attempts_are_remembered(rate: float | None, counted: int) -> None:
    """As many as the rate needs, within reason."""
    assert Bench(rate).agents._agent("a").sent_at.maxlen == counted


def test_agents_that_are_long_gone_are_forgotten(here: Bench) -> None:
    """Hosts may have tenants for years; who rests, or sent something within a day, stays."""
    for number in range(1001):
        here.begin(1, f"old-{number}")
    here.agents.rest("old-0", DAY + 1.0, "rests")
    here.now += DAY - 1.0
    here.begin(1, "old-1")
    here.begin(1, "b")
    assert len(here.agents._agents) == 1002
    for number in range(1001):
        here.begin(1, f"new-{number}")
    here.now += 1.0
    assert len(here.agents._agents) == 2003
    here.begin(1, "c")
    assert len(here.agents._agents) == 1005  # old-0, old-1, b, the new ones and c
