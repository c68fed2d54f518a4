"""How often the listeners of a process ask one server."""

from __future__ import annotations

from collections import Counter

from buttdial_sync.listening.request_budget import RequestBudget, budget_of, forget_request_budgets
from buttdial_sync.transport import fork


def test_turns_are_evenly_spaced() -> None:
    """The first is at once; who comes late gets one at once too."""
    budget = RequestBudget(20)
    assert [budget.next_turn(100.0) for _ in range(4)] == [100.0, 103.0, 106.0, 109.0]
    assert budget.next_turn(500.0) == 500.0
    assert budget.next_turn(500.0) == 503.0


def test_a_hundred_agents_at_one_address() -> None:
    """In an hour they make no more than twenty requests a minute, and all get the same share."""
    budget = RequestBudget(20)
    agents = range(100)
    due = dict.fromkeys(agents, 60.0)
    turns: dict[int, float] = {}
    made: list[tuple[float, int]] = []
    for second in range(3600):
        now = float(second)
        for agent in agents:
            if agent not in turns and now >= due[agent]:
                turns[agent] = budget.next_turn(now)
            if agent in turns and now >= turns[agent]:
                made.append((now, agent))
                due[agent] = now + 60.0
                del turns[agent]
    minutes = Counter(int(moment // 60) for moment, _ in made)
    assert max(minutes.values()) <= 20
    assert len(made) >= 20 * 58
    shares = Counter(agent for _, agent in made)
    assert max(shares.values()) - min(shares.values()) <= 1


def test_a_limit_doubles_the_pause() -> None:
    """At least what the server asks for; after successes the turns come closer again."""
    budget = RequestBudget(20)
    assert budget.next_turn(0.0) == 0.0
    budget.limited(1.0, None)
    assert [budget.next_turn(1.0) for _ in range(2)] == [7.0, 13.0]
    budget.limited(20.0, 90.0)
    assert [budget.next_turn(20.0) for _ in range(2)] == [110.0, 122.0]
    for _ in range(100):
        budget.succeeded()
    assert [budget.next_turn(900.0) for _ in range(2)] == [900.0, 903.0]
    for _ in range(20):
        budget.limited(900.0, None)
    first, second = budget.next_turn(5000.0), budget.next_turn(5000.0)
    assert second - first == 300.0
    budget.succeeded()
    first, second = budget.next_turn(9000.0), budget.next_turn(9000.0)
    assert second - first == 270.0


def test_a_limit_of_a_fast_budget() -> None:
    """Without a time of the server's it is the double pause, however short."""
    budget = RequestBudget(600)
    budget.limited(5.0, None)
    assert budget.next_turn(5.0) == 5.2


def test_one_budget_for_an_origin() -> None:
    """All listeners of the process share it."""
    first = budget_of("https://one.test", 20)
    assert budget_of("https://one.test", 20) is first
    assert budget_of("https://two.test", 20) is not first
    assert fork._registered[id(first)]() is first  # a child has a lock of its own
    forget_request_budgets()
    assert budget_of("https://one.test", 20) is not first
