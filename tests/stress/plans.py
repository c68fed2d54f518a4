"""
How PostgreSQL looks at a large outbox: ``python -m tests.stress.plans --rows 1000000``.

Each statement of the loop, the figures, the lists, a purge and a bulk retry is explained; the
program ends with 1 if one of them reads the whole table. It prints how long each
call took. It starts a PostgreSQL of its own, or takes the address of an empty database.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from statistics import median
from typing import Any

import attrs
from sqlalchemy import Connection, Engine, create_engine, event, text

from buttdial_sync.retry.sqlalchemy import SQLAlchemyRepository
from tests.integration.retry import postgres

_WEEK = 7 * 86_400.0
_TIMES = 15
_FILL = """
INSERT INTO buttdial_outbox (id, recipient, body, channel, agent_id, agent_token, status,
    retry_count, max_retries, attempt_number, priority, created_at, next_retry_at, resolved_at,
    last_error, attempt_started_at, idempotency_key, unique_key)
SELECT 'm' || n, '+14155550123', repeat('x', 120), 'sms', 'agent-' || ((n / 100) % :agents), '',
    status, 0, 5, 0, (n / 10007) % 2, written, written + interval '1 second',
    CASE WHEN status <> 'pending' THEN written + interval '2 seconds' END,
    CASE WHEN status = 'dead' THEN 'the channel failed' END,
    CASE WHEN status = 'dead' AND n % 3 = 0 THEN written END, md5(n::text), md5(n::text)
FROM (
    SELECT n, now() - interval '30 days' * (1 - n::float / :rows) AS written,
        CASE WHEN n % 100 < 4 THEN 'pending' WHEN n % 100 < 6 THEN 'dead' ELSE 'delivered' END
        AS status
    FROM generate_series(1, :rows) AS n
) AS made
"""


@attrs.define
class Seen:
    """
    What a call did.

    Attributes:
        milliseconds: How long it took, each time.
        plans: Of its statements that read or change the outbox.
    """

    milliseconds: list[float] = attrs.field(factory=list)
    plans: list[str] = attrs.field(factory=list)

    @property
    def faults(self) -> list[str]:
        """The plans that read the whole table."""
        return [plan for plan in self.plans if "Seq Scan on buttdial_outbox" in plan]


def fill(engine: Engine, rows: int, agents: int) -> SQLAlchemyRepository:
    """Make the table: 4 % pending, 2 % dead, the others delivered within thirty days."""
    repository = SQLAlchemyRepository(engine)
    repository.create_table()
    with engine.begin() as connection:
        connection.execute(text(_FILL), {"rows": rows, "agents": agents})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE buttdial_outbox"))
    return repository


def calls_of(repository: SQLAlchemyRepository) -> Mapping[str, Callable[[], object]]:
    """Return what is looked at, by name; each leaves the table much as it was."""
    return {
        "fetch_due": lambda: repository.release(repository.fetch_due(20)),
        "figures": repository.figures,
        "list": repository.list,
        "list pending": lambda: repository.list("pending"),
        "list dead": lambda: repository.list("dead"),
        "list delivered": lambda: repository.list("delivered"),
        "leased": repository.leased,
        "retry_all": lambda: repository.retry_all("dead", error_like="nothing", at_most=1),
        "retry_many": lambda: repository.retry_many(["m5", "m105"]),
        "purge": lambda: repository.purge(5 * _WEEK),
    }


def look(engine: Engine, repository: SQLAlchemyRepository, times: int = 1) -> dict[str, Seen]:
    """Make each call, explain its statements as they are made, and time it without that."""
    found: dict[str, Seen] = {}
    for name, call in calls_of(repository).items():
        seen = found[name] = Seen()
        with _explaining(engine, seen.plans):
            call()
        for _ in range(times):
            began = time.perf_counter()
            call()
            seen.milliseconds.append((time.perf_counter() - began) * 1000)
    return found


@contextmanager
def _explaining(engine: Engine, plans: list[str]) -> Iterator[None]:
    def explain(connection: Connection, _: Any, query: str, values: Any, *__: Any) -> None:
        if "buttdial_outbox" not in query or query.startswith("EXPLAIN"):
            return
        # On the same connection, because the plan depends on its settings.
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(f"EXPLAIN {query}", values)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", explain)


def main() -> int:
    """Fill a database and look at it; return 1 if a statement reads the whole table."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.plans", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--url", help="SQLAlchemy's address of an empty database")
    chosen = parser.parse_args()
    faults: list[str] = []
    with ExitStack() as stack:
        engine = create_engine(chosen.url or stack.enter_context(postgres.running()))
        stack.callback(engine.dispose)
        repository = fill(engine, chosen.rows, chosen.agents)
        for name, seen in look(engine, repository, _TIMES).items():
            least, middle = min(seen.milliseconds), median(seen.milliseconds)
            sys.stdout.write(f"{name:<16}{least:>8.1f} to {middle:.1f} ms\n")
            faults += seen.faults
    sys.stdout.write("".join(f"\n{plan}\n" for plan in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
