"""How an outbox is: what is counted, how far, and what that says of its flow."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

from buttdial_sync import FailedMessage
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.stores import figures
from buttdial_sync.stores.figures import (
    AgentFigures,
    Count,
    Figures,
    Flow,
    _by_agent,
    _rate,
    measure_rows,
)

NOW = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
STATUSES = ("pending", "delivered", "dead")


def row(status: str, **columns: Any) -> dict[str, Any]:
    usual = dict.fromkeys(
        ("agent_id", "resolved_at", "attempt_started_at", "last_error", "next_retry_at")
    )
    return {**usual, "status": status, **columns}


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("counted", "count", "told"),
    [(0, Count(0), "0"), (5, Count(5), "5"), (6, Count(5, True), "5+")],
)
def test_a_count(counted: int, count: Count, told: str) -> None:
    """It goes up to a number, and says if there are more."""
    assert Count.up_to(5, counted) == count
    assert str(count) == told


def test_counts_together() -> None:
    """There are more in all if there are more of one."""
    assert Count(2) + Count(3) == Count(5)
    assert Count(2, True) + Count(3) == Count(3) + Count(2, True) == Count(5, True)


def figures_of(oldest: float | None, sent: int) -> Figures:
    agents: tuple[AgentFigures, ...] = ()
    if oldest is not None:
        waits = AgentFigures(
            agent_id="a", pending=Count(1), next_due_at=ago(oldest), last_error=None
        )
        agents = (waits,)
    return Figures(
        measured_at=NOW,
        counts={},
        in_doubt=Count(0),
        sent_last_minute=Count(sent),
        sent_last_hour=Count(sent),
        sent_per_minute=0.0,
        agents=agents,
    )


@pytest.mark.parametrize(
    ("oldest", "sent", "flow", "seconds"),
    [
        (None, 0, "idle", 0.0),
        (-1.0, 0, "idle", 0.0),  # due in a second
        (0.0, 0, "flowing", 0.0),
        (300.0, 0, "flowing", 300.0),
        (301.0, 1, "behind", 301.0),
        (301.0, 0, "stopped", 301.0),
    ],
)
def test_flow(oldest: float | None, sent: int, flow: Flow, seconds: float) -> None:
    """What is due is sent within five minutes; or else messages are sent at least."""
    figures = figures_of(oldest, sent)
    assert (figures.flow, figures.oldest_due_seconds) == (flow, seconds)
    assert figures.oldest_due_at == (None if flow == "idle" else ago(seconds))


def test_rows_in_memory() -> None:
    """Each status, what may have been sent, and what was sent in a minute and in an hour."""
    found = measure_rows(
        [
            row("pending", agent_id="b", next_retry_at=ago(5), last_error="no"),
            row("pending", agent_id="b", next_retry_at=ago(9)),
            row("pending", next_retry_at=ago(7)),
            row("delivered", resolved_at=ago(59)),
            row("delivered", resolved_at=ago(60)),  # a minute ago is not in the last one
            row("delivered", resolved_at=ago(3599)),
            row("delivered", resolved_at=ago(3600)),
            row("delivered"),  # by a person, without a time
            row("dead", attempt_started_at=ago(9)),
            row("pending", attempt_started_at=ago(9), next_retry_at=ago(5), agent_id="b"),
            row("dead"),
        ],
        STATUSES,
        NOW,
    )
    assert found.measured_at == NOW
    assert found.counts == {"pending": Count(4), "delivered": Count(5), "dead": Count(2)}
    assert found.in_doubt == Count(1)
    assert (found.sent_last_minute, found.sent_last_hour) == (Count(1), Count(3))
    assert found.sent_per_minute == 3 / 60
    assert found.agents == (
        AgentFigures(agent_id="", pending=Count(1), next_due_at=ago(7), last_error=None),
        AgentFigures(agent_id="b", pending=Count(3), next_due_at=ago(9), last_error="no"),
    )
    assert found.oldest_due_seconds == 9.0


@pytest.mark.parametrize(("dead", "told"), [(1000, "1000"), (1001, "1000+")])
def test_what_is_in_doubt_among_the_newest_dead(dead: int, told: str) -> None:
    """A thousand dead messages are looked at; if there are more, that is said."""
    with SQLiteRepository(":memory:", clock=lambda: NOW) as repository:
        message = FailedMessage(id="", recipient="+1", body="x", status="dead")
        repository.add_new(
            [
                attrs.evolve(message, id=f"m{number}", attempt_started_at=NOW)
                for number in range(dead)
            ]
        )
        assert str(repository.figures().in_doubt) == told


def test_the_rate_of_more_than_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of the last ones, in the time that they took."""
    monkeypatch.setattr(figures, "MOST", 3)
    with SQLiteRepository(":memory:", clock=lambda: NOW) as repository:
        for number in range(9):
            repository.add(
                FailedMessage(
                    id=f"m{number}",
                    recipient="+1",
                    body="x",
                    status="delivered",
                    resolved_at=ago(10 * number),
                )
            )
        measured = repository.figures()
    assert str(measured.sent_last_hour) == "3+"
    assert measured.sent_per_minute == pytest.approx(4 / 30 * 60)


@pytest.mark.parametrize(
    ("sent", "first", "rate"),
    [
        (0, None, 0.0),
        (600, ago(3000), 10.0),  # in the hour
        (10_000, ago(10), 10_000 / 60),
        (10_001, ago(600), 1000.1),  # in the time that they took
        (10_001, ago(0.5), 600_060.0),  # a second at least
        (10_001, "soon", 10_001 / 60),  # nobody can read when
    ],
)
def test_the_rate(sent: int, first: object, rate: float) -> None:
    """How many were sent in a minute; if not all were counted, in the time that these took."""
    assert _rate(sent, first, NOW) == pytest.approx(rate)


def test_agents() -> None:
    """The parts of one are put together; those that wait longest are told, by their ids."""
    found: list[tuple[Any, ...]]
    found = [(f"agent-{number:03}", ago(number), None, 1, 20) for number in range(102)]
    found += [
        ("agent-101", ago(500), "no", 21, 20),
        ("agent-101", ago(1), "other", 3, 20),
        ("agent-050", "soon", "a person wrote this", 7, 20),
    ]
    agents = _by_agent(found)
    assert [each.agent_id for each in agents] == [f"agent-{number:03}" for number in range(2, 102)]
    assert agents[-1] == AgentFigures(
        agent_id="agent-101", pending=Count(24, True), next_due_at=ago(500), last_error="no"
    )
    assert agents[48].pending == Count(1)
