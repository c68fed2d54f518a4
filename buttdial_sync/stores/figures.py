"""
Figures of an outbox, which cost as much for a million rows as for ten thousand.

Nothing here reads a whole table. A count ends at :data:`MOST` and says so, what is oldest is looked
up in an index, and agents are found by jumping from one to the next in the index of turns. Of those
the ones that wait longest are looked at. There is no index of what may have been sent: it would
have to change with each attempt, which today changes none (on PostgreSQL the row then stays in its
page).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter
from typing import Any, Literal

import attrs

from buttdial_sync.stores.schema import PENDING, Row
from buttdial_sync.stores.turns import IS_PENDING, OF_PAIR, pairs_of

MOST = 10_000
"""How far is counted."""
MOST_IN_DOUBT = 1000
"""How many of the newest dead messages are looked at."""
MOST_AGENTS = 100
"""Of how many agents is told what waits."""
_MOST_PAIRS = 1000
_OF_AGENTS = 2000
_LOOKED_AT = 40
_LATE = 300.0
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)

Flow = Literal["idle", "flowing", "behind", "stopped"]
Select = Callable[[str, Mapping[str, datetime]], Sequence[Sequence[Any]]]
"""Runs a statement with ``:name`` parameters, which are times."""
AsTime = Callable[[Any], Any]
"""Returns a time as aware, whatever the database has for it; what is no time, as it is."""


@attrs.frozen
class Count:
    """
    How many there are, counted so far and no further.

    Attributes:
        value: How many at least.
        has_more: Whether there are more.
    """

    value: int
    has_more: bool = False

    @classmethod
    def up_to(cls, most: int, counted: int) -> Count:
        """Return what was counted to one more than ``most``."""
        return cls(min(counted, most), counted > most)

    def __add__(self, other: Count) -> Count:
        return Count(self.value + other.value, self.has_more or other.has_more)

    def __str__(self) -> str:
        return f"{self.value}+" if self.has_more else str(self.value)


@attrs.frozen(kw_only=True)
class AgentFigures:
    """
    What waits for an agent.

    Attributes:
        agent_id: The agent; empty for messages that name none.
        pending: How many messages wait. Of all agents together some 2,000 are counted.
        next_due_at: When the first of them is due, or was.
        last_error: Why they wait: of one of the first of them, or one of the last, because who met
            a limit is due when that ends. None if none of these was tried yet.
    """

    agent_id: str
    pending: Count
    next_due_at: datetime
    last_error: str | None


@attrs.frozen(kw_only=True)
class Figures:
    """
    How an outbox is.

    Attributes:
        measured_at: When they were measured (aware).
        counts: How many messages there are of each status; counted to 10,000 each.
        in_doubt: How many dead messages may have been sent, of the newest 1,000 dead ones.
        sent_last_minute: How many were delivered to the server in the last minute.
        sent_last_hour: And in the last hour.
        sent_per_minute: In the last hour; if more than 10,000 were sent in it, in the time that
            the last 10,000 took.
        agents: What waits, by agent, for the 100 agents that wait longest, of at most 1,000 agents
            and priorities; by their ids.
    """

    measured_at: datetime
    counts: Mapping[str, Count]
    in_doubt: Count
    sent_last_minute: Count
    sent_last_hour: Count
    sent_per_minute: float
    agents: tuple[AgentFigures, ...]

    @property
    def oldest_due_at(self) -> datetime | None:
        """Since when the message is due that has waited longest, or None when none is due."""
        due = [each.next_due_at for each in self.agents if each.next_due_at <= self.measured_at]
        return min(due, default=None)

    @property
    def oldest_due_seconds(self) -> float:
        """How long that message has waited, in seconds; 0 when none is due."""
        since = self.oldest_due_at
        return 0.0 if since is None else (self.measured_at - since).total_seconds()

    @property
    def flow(self) -> Flow:
        """
        Whether messages flow.

        ``"idle"``: nothing is due. ``"flowing"``: what is due is sent within five minutes.
        ``"behind"``: messages are sent, but the oldest one waits longer. ``"stopped"``: it waits
        longer, and none was sent in the last minute.
        """
        if self.oldest_due_at is None:
            return "idle"
        if self.oldest_due_seconds <= _LATE:
            return "flowing"
        return "behind" if self.sent_last_minute.value else "stopped"


def measure(
    select: Select, as_time: AsTime, table: str, statuses: Sequence[str], now: datetime, hint: str
) -> Figures:
    """
    Measure a table of outgoing messages.

    Args:
        select: Runs a statement.
        as_time: Reads a time.
        table: The table, quoted.
        statuses: What a row may be.
        now: The time, aware.
        hint: What makes SQLite use the index of turns; empty for PostgreSQL.
    """
    counts = ", ".join(
        "(SELECT count(*) FROM (SELECT 1 AS one FROM "  # noqa: S608 - names of ours
        f"{table} WHERE status = '{status}' ORDER BY created_at, id LIMIT {MOST + 1}) AS counted)"
        for status in statuses
    )
    doubts = (
        f"SELECT count(*) FROM (SELECT attempt_started_at FROM {table} WHERE status = 'dead' "  # noqa: S608 - names of ours
        f"ORDER BY created_at DESC, id DESC LIMIT {MOST_IN_DOUBT}) AS counted "
        "WHERE attempt_started_at IS NOT NULL"
    )
    [counted], [(in_doubt,)] = select(f"SELECT {counts}", {}), select(doubts, {})
    found = dict(zip(statuses, counted, strict=True))
    [(sent_last_minute, _)], [(sent_last_hour, first_sent)] = (
        select(_sent_since(table), {"since": now - time}) for time in (_MINUTE, _HOUR)
    )
    return Figures(
        measured_at=now,
        counts={status: Count.up_to(MOST, found[status]) for status in statuses},
        in_doubt=Count(in_doubt, found["dead"] > MOST_IN_DOUBT),
        sent_last_minute=Count.up_to(MOST, sent_last_minute),
        sent_last_hour=Count.up_to(MOST, sent_last_hour),
        sent_per_minute=_rate(sent_last_hour, as_time(first_sent), now),
        agents=_agents(select, as_time, table, hint),
    )


def measure_rows(rows: Iterable[Row], statuses: Sequence[str], now: datetime) -> Figures:
    """Measure rows in memory, where all may be read."""
    rows = list(rows)
    pending = (row for row in rows if row["status"] == PENDING)
    waiting = sorted(pending, key=itemgetter("next_retry_at"))
    sent = [row["resolved_at"] for row in rows if row["status"] == "delivered"]
    # A host may have written a row as delivered, without a time.
    minute, hour = (
        sum(at is not None and at > now - time for at in sent) for time in (_MINUTE, _HOUR)
    )
    in_doubt = sum(
        row["status"] == "dead" and row["attempt_started_at"] is not None for row in rows
    )
    return Figures(
        measured_at=now,
        counts={
            status: Count.up_to(MOST, sum(row["status"] == status for row in rows))
            for status in statuses
        },
        in_doubt=Count(in_doubt),
        sent_last_minute=Count.up_to(MOST, minute),
        sent_last_hour=Count.up_to(MOST, hour),
        sent_per_minute=hour / 60,
        agents=_by_agent(
            (row["agent_id"] or "", row["next_retry_at"], row["last_error"], 1, MOST)
            for row in waiting
        ),
    )


def _sent_since(table: str) -> str:
    return (
        f"SELECT count(*), min(resolved_at) FROM (SELECT resolved_at FROM {table} "  # noqa: S608 - names of ours
        "WHERE status = 'delivered' AND resolved_at > :since "
        f"ORDER BY resolved_at DESC LIMIT {MOST + 1}) AS counted"
    )


def _rate(sent: int, first: object, now: datetime) -> float:
    if sent <= MOST or not isinstance(first, datetime):
        return sent / 60
    return sent * 60 / max((now - first).total_seconds(), 1.0)


def _agents(select: Select, as_time: AsTime, table: str, hint: str) -> tuple[AgentFigures, ...]:
    """Measure what waits, by agent; what is counted is shared out among them."""
    share = f"(SELECT {_OF_AGENTS} / count(*) FROM chosen)"  # noqa: S608 - numbers of ours
    near = f"(SELECT {_LOOKED_AT} / count(*) + 1 FROM chosen)"  # noqa: S608 - numbers of ours
    rows = f"FROM {table} {hint} WHERE {IS_PENDING} AND {OF_PAIR}"
    first, last = (
        f"{rows} ORDER BY next_retry_at {order}, created_at {order}" for order in ("ASC", "DESC")
    )
    # Only one message met the limit or the outage, and is due when that ends.
    early, late = (
        f"(SELECT last_error FROM (SELECT last_error {end} LIMIT {near}) AS near "  # noqa: S608 - names of ours
        "WHERE last_error IS NOT NULL LIMIT 1)"
        for end in (first, last)
    )
    statement = (
        f"{pairs_of(table, hint)}, "  # noqa: S608 - names of ours
        f"known AS (SELECT agent, level, due FROM pairs LIMIT {_MOST_PAIRS}), "
        "agents_chosen AS (SELECT agent FROM known GROUP BY agent "
        f"ORDER BY min(due), agent LIMIT {MOST_AGENTS}), "
        "chosen AS (SELECT known.agent, known.level, known.due "
        "FROM known JOIN agents_chosen ON known.agent = agents_chosen.agent) "
        f"SELECT pairs.agent, pairs.due, coalesce({early}, {late}), "
        f"(SELECT count(*) FROM (SELECT 1 AS one {first} LIMIT {share} + 1) AS counted), {share} "
        "FROM chosen AS pairs"
    )
    return _by_agent((agent, as_time(due), *rest) for agent, due, *rest in select(statement, {}))


def _by_agent(found: Iterable[Sequence[Any]]) -> tuple[AgentFigures, ...]:
    agents: dict[str, AgentFigures] = {}
    for agent, due, error, depth, most in found:
        if not isinstance(due, datetime):  # a person wrote what cannot be read
            continue
        pending = Count.up_to(most, depth)
        new = AgentFigures(agent_id=agent, pending=pending, next_due_at=due, last_error=error)
        known = agents.get(agent)
        if known is not None:
            new = attrs.evolve(
                min(known, new, key=attrgetter("next_due_at")),
                pending=known.pending + pending,
                last_error=known.last_error or error,
            )
        agents[agent] = new
    waiting_longest = sorted(agents.values(), key=attrgetter("next_due_at"))[:MOST_AGENTS]
    return tuple(sorted(waiting_longest, key=attrgetter("agent_id")))
