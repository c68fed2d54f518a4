"""Agents that take turns: in which order, and how many rows each gets."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from buttdial_sync.stores.schema import Claim, Turn
from buttdial_sync.stores.turns import as_turns, take_turns

NOW = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)


def claim(*turns: Turn, **options: Any) -> Claim:
    return Claim(now=NOW, leased_until=NOW + timedelta(minutes=5), turns=turns, **options)


class Rows:
    """So many rows of each agent and priority; notes what is asked for."""

    def __init__(self, **of_agent: dict[int, int]) -> None:
        self._left = of_agent
        self.asked: list[tuple[str, int, int]] = []

    def find_next(self, agent: str, priority: int, limit: int) -> list[str]:
        self.asked.append((agent, priority, limit))
        count = min(limit, self._left[agent].get(priority, 0))
        return [f"{agent}{priority}-{number}" for number in range(count)]


def test_higher_priorities_come_first() -> None:
    """What is not a number comes before them: its row has to be fetched to be given up."""
    pairs = [("b", 0), ("a", 1), ("a", "high"), ("a", 7), ("a", 2.5)]
    assert as_turns(pairs) == [Turn("a", ("high", 7, 2.5, 1)), Turn("b", (0,))]


def test_each_agent_has_a_share() -> None:
    """Lower priorities get what is left of it; nobody is asked for nothing."""
    rows = Rows(a={5: 1, 1: 9}, b={0: 9}, c={0: 9})
    turns = Turn("a", (5, 1, 0)), Turn("b", (0,)), Turn("c", (0,))
    found = take_turns(claim(*turns, limit=5, share=2), rows.find_next)
    assert found == ["a5-0", "a1-0", "b0-0", "b0-1", "c0-0"]
    assert rows.asked == [("a", 5, 2), ("a", 1, 1), ("b", 0, 2), ("c", 0, 1)]


def test_an_agent_with_a_limit_gets_less() -> None:
    """Never more than its share, however high its limit is."""
    rows = Rows(a={0: 9}, b={0: 9}, c={0: 9})
    turns = Turn("a", (0,)), Turn("b", (0,)), Turn("c", (0,))
    limits = {"a": 1, "b": 5, "c": 0}
    found = take_turns(claim(*turns, limit=9, share=2, at_most=limits), rows.find_next)
    assert found == ["a0-0", "b0-0", "b0-1"]
    assert rows.asked == [("a", 0, 1), ("b", 0, 2)]
