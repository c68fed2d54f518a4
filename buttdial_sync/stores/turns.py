"""
Agents that take turns: which of them have rows to claim, and which rows of an agent are next.

A table of a million rows is claimed from with an index whose first columns are the agent and the
priority. So the rows of an agent that rests cost nothing, neither do those that are due later, and
the agent with the most rows does not delay the others. All rows of a table that takes turns have
``agent_id``, ``priority`` and ``ordering_key``; each may be NULL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from buttdial_sync.stores.schema import Claim, TableIndex, Turn

AGENT = "coalesce(agent_id, '')"
PRIORITY = "coalesce(priority, 0)"
IS_PENDING = "status = 'pending'"
IS_FREE = "(leased_until IS NULL OR leased_until <= :now)"
OF_PAIR = f"{AGENT} = pairs.agent AND {PRIORITY} = pairs.level"
_IS_DUE = "next_retry_at <= :now"
_IS_NOT_A_TIME = "next_retry_at > '9999-13'"  # a text that sorts after every time
TURNS_INDEX = "turns"
IN_ORDER = "SELECT set_config('enable_sort', 'off', true), set_config('jit', 'off', true)"
"""
Has PostgreSQL read rows by the index that has their order, until the transaction ends.

Its statistics may be from a time when nothing was pending. Then it takes any index that begins with
the status, reads all pending rows for each look, and sorts them. Compiling statements that take
milliseconds would take longer than they do.
"""
TURN_INDEXES = {
    TURNS_INDEX: TableIndex((AGENT, PRIORITY, "next_retry_at", "created_at"), IS_PENDING),
    "ordered": TableIndex(
        ("ordering_key", "created_at"), f"{IS_PENDING} AND ordering_key IS NOT NULL"
    ),
}
"""The indexes of a table that takes turns."""


def turns_statement(table: str, hint: str = "") -> str:
    """
    Return the statement that lists agents and priorities with a row that is due and free.

    It looks each pair up in the index, so that it costs as much for a million rows as for one.

    Args:
        table: The table, quoted.
        hint: What makes SQLite use the index: it knows nothing about how values are distributed.

    Returns:
        SQL with the parameter ``:now``; its rows are pairs.
    """

    def has(when: str) -> str:
        return (
            f"EXISTS (SELECT 1 FROM {table} WHERE {IS_PENDING} AND {OF_PAIR} AND {when} "  # noqa: S608 - names of ours
            f"AND {IS_FREE})"
        )

    found = f"({has(_IS_DUE)} OR {has(_IS_NOT_A_TIME)})" if hint else has(_IS_DUE)
    return f"{pairs_of(table, hint)} SELECT agent, level FROM pairs WHERE {found}"  # noqa: S608 - names of ours


def pairs_of(table: str, hint: str) -> str:
    """
    Return the beginning of a statement: ``pairs``, of each agent and priority with a pending row.

    Its columns are ``agent``, ``level`` (the priority) and ``due`` (when the first row is due).

    Args:
        table: The table, quoted.
        hint: What makes SQLite use the index; empty for other databases.
    """
    if not hint:
        return _pairs_by_jumps(table)

    def found(what: str, where: str = "", order: str = "") -> str:
        return (
            f"(SELECT {what} FROM {table} {hint} WHERE {IS_PENDING}{where} "  # noqa: S608 - names of ours
            f"ORDER BY {what}{order} LIMIT 1)"
        )

    first_agent, next_agent = found(AGENT), found(AGENT, f" AND {AGENT} > agents.agent")
    of_agent, lower = f" AND {AGENT} = agents.agent", f" AND {AGENT} = levels.agent"
    first_priority = found(PRIORITY, of_agent, " DESC")
    next_priority = found(PRIORITY, f"{lower} AND {PRIORITY} < levels.level", " DESC")
    first_due = found("next_retry_at", f"{lower} AND {PRIORITY} = levels.level")
    return (
        f"WITH RECURSIVE agents(agent) AS (SELECT {first_agent} "  # noqa: S608 - names of ours
        f"UNION ALL SELECT {next_agent} FROM agents WHERE agents.agent IS NOT NULL), "
        f"levels(agent, level) AS (SELECT agents.agent, {first_priority} FROM agents "
        f"WHERE agents.agent IS NOT NULL "
        f"UNION ALL SELECT levels.agent, {next_priority} FROM levels "
        "WHERE levels.level IS NOT NULL), "
        f"pairs(agent, level, due) AS (SELECT levels.agent, levels.level, {first_due} FROM levels "
        "WHERE levels.level IS NOT NULL)"
    )


def _pairs_by_jumps(table: str) -> str:
    """Return the same for PostgreSQL, which finds each pair after the one before in one look."""

    def first(where: str = "") -> str:
        return (
            f"SELECT {AGENT}, {PRIORITY}, next_retry_at FROM {table} "  # noqa: S608 - names of ours
            f"WHERE {IS_PENDING}{where} ORDER BY {AGENT}, {PRIORITY}, next_retry_at LIMIT 1"
        )

    following = first(f" AND ({AGENT}, {PRIORITY}) > (pairs.agent, pairs.level)")
    return (
        f"WITH RECURSIVE pairs(agent, level, due) AS (({first()}) "  # noqa: S608 - names of ours
        f"UNION ALL SELECT found.* FROM pairs CROSS JOIN LATERAL ({following}) AS found)"
    )


def next_statement(table: str, lock: str = "") -> str:
    """
    Return the statement that finds an agent's next rows of a priority, oldest due first.

    A row with an ``ordering_key`` is not found while an older pending one of its agent has it, or a
    leased one: an older row may become visible late, or be revived, while a newer one is sent.
    On SQLite, whose times are text, also one whose time is another text is found, after the others:
    who reads it gives it up.

    Args:
        table: The table, quoted.
        lock: What locks the rows that are found; empty for SQLite.

    Returns:
        SQL with the parameters ``:agent``, ``:priority``, ``:now`` and ``:limit``; its rows are
        ids.
    """

    def found(when: str) -> str:
        return (
            f"SELECT found.id FROM {table} AS found WHERE {IS_PENDING} "  # noqa: S608 - names of ours
            f"AND {AGENT} = :agent AND {PRIORITY} = :priority AND {when} AND {IS_FREE} "
            "AND (ordering_key IS NULL OR NOT EXISTS ("
            f"SELECT 1 FROM {table} AS other WHERE other.status = 'pending' "
            "AND other.ordering_key = found.ordering_key "
            "AND coalesce(other.agent_id, '') = coalesce(found.agent_id, '') "
            "AND (other.leased_until > :now "
            "OR (other.created_at, other.id) < (found.created_at, found.id)))) "
            f"ORDER BY next_retry_at, created_at LIMIT :limit {lock}"
        )

    if lock:
        return found(_IS_DUE)
    return (
        f"SELECT found.id FROM (SELECT * FROM ({found(_IS_DUE)}) "  # noqa: S608 - names of ours
        f"UNION ALL SELECT * FROM ({found(_IS_NOT_A_TIME)})) AS found LIMIT :limit"
    )


def as_turns(pairs: Iterable[Sequence[object]]) -> list[Turn]:
    """Return the turns of agents and their priorities, by the agents' ids."""
    priorities: dict[str, list[Any]] = {}
    for agent, priority in pairs:
        priorities.setdefault(str(agent), []).append(priority)
    return [
        Turn(agent, tuple(sorted(priorities[agent], key=_rank, reverse=True)))
        for agent in sorted(priorities)
    ]


def _rank(priority: Any) -> tuple[bool, Any]:
    """Put what is not a number first, as SQLite does: its row has to be fetched to be given up."""
    if isinstance(priority, int | float):
        return False, priority
    return True, str(priority)


def take_turns(claim: Claim, find_next: Callable[[str, Any, int], list[str]]) -> list[str]:
    """
    Return the ids of the rows to claim.

    Args:
        claim: What is wanted.
        find_next: Finds ids of an agent, of a priority, at most so many.
    """
    ids: list[str] = []
    for turn in claim.turns:
        share = min(claim.share, claim.at_most.get(turn.agent, claim.share))
        left = min(share, claim.limit - len(ids))
        for priority in turn.priorities:
            if left <= 0:
                break
            found = find_next(turn.agent, priority, left)
            ids += found
            left -= len(found)
    return ids
