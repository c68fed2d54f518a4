"""What every store does with the rows of a plain table, beside what outbox and inbox need."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from buttdial_sync import SQLiteDeliveryLog, SQLiteInbox
from buttdial_sync.retry import LeasedRepository, SQLiteRepository
from buttdial_sync.stores.memory import MemoryStore
from buttdial_sync.stores.schema import WORK_COLUMNS, Claim, Column, Condition, Row, Schema
from buttdial_sync.stores.sqlite import SQLiteStore
from buttdial_sync.stores.store import Store
from tests.forks import exit_code, forked

NOW = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
LEASED_UNTIL = NOW + timedelta(seconds=300)
SCHEMA = Schema(table="work", columns=(*WORK_COLUMNS, Column("word")))


@pytest.fixture(params=["memory", "sqlite", "sqlalchemy"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(SCHEMA)
    elif request.param == "sqlite":
        made = SQLiteStore(":memory:", SCHEMA)
        yield made
        made.close()
    else:
        sqlalchemy = pytest.importorskip("sqlalchemy")
        from buttdial_sync.stores.sqlalchemy import SQLAlchemyStore

        engine = sqlalchemy.create_engine("sqlite://")
        over = SQLAlchemyStore(engine, SCHEMA)
        over.create_table()
        yield over
        engine.dispose()


def row(row_id: str, *, due: float = 0.0, **columns: Any) -> Row:
    """Return a pending row that is due so many seconds from now."""
    usual: Row = dict.fromkeys(SCHEMA.names)
    usual.update(status="pending", retry_count=0, attempt_number=0, created_at=NOW)
    return {**usual, "id": row_id, "next_retry_at": NOW + timedelta(seconds=due), **columns}


def test_a_claim(store: Store) -> None:
    """Without groups and turns: as many as wanted of what is due and free, oldest due first."""
    for each in (row("later", due=1), row("b", due=-1), row("c"), row("a", due=-2)):
        store.insert(each)
    claim = Claim(now=NOW, leased_until=LEASED_UNTIL, limit=2)
    first, second = store.claim(claim), store.claim(claim)
    assert [each["id"] for each in first] == ["a", "b"]
    assert {(each["leased_until"], each["attempt_number"]) for each in first} == {(LEASED_UNTIL, 0)}
    assert [each["id"] for each in second] == ["c"]
    assert store.claim(claim) == []


@pytest.mark.parametrize(
    ("condition", "is_met"),
    [
        (Condition(), True),
        (Condition(statuses=("dead",)), False),
        (Condition(statuses=("dead", "pending")), True),
        (Condition(retry_count=2), True),
        (Condition(retry_count=0), False),
        (Condition(attempt_number=0), True),  # a row of an earlier release has none
        (Condition(attempt_number=1), False),
        (Condition(no_lease_at=LEASED_UNTIL), True),
        (Condition(no_lease_at=LEASED_UNTIL - timedelta(seconds=1)), False),
        (Condition(values={"word": "a"}), True),
        (Condition(values={"word": "b"}), False),
        (Condition(values={"word": None}), False),
        (Condition(values={"word": "a", "last_error": None}), True),
        (Condition(values={"word": "a", "last_error": "no"}), False),
        (Condition(present=("word",)), True),
        (Condition(present=("word", "last_error")), False),
    ],
)
def test_a_condition(store: Store, condition: Condition, is_met: bool) -> None:
    """A row is changed only if it is as all parts of the condition say."""
    store.insert(row("a", retry_count=2, attempt_number=None, leased_until=LEASED_UNTIL, word="a"))
    store.insert(row("other"))
    assert store.update("a", {"word": "changed"}, condition) is is_met
    found, other = store.find("a"), store.find("other")
    assert found is not None
    assert found["word"] == ("changed" if is_met else "a")
    assert other == row("other")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_while_the_lock_is_held() -> None:
    """A child has a copy of the rows in memory, and does not wait for a thread that it lacks."""
    store = MemoryStore(SCHEMA)
    store.insert(row("a"))

    def in_child() -> None:
        assert store._lock.acquire(blocking=False)

    with store._lock:
        child = forked(in_child)
    assert exit_code(child) == 0


@pytest.mark.parametrize(
    "kind",
    [Store, SQLiteStore, SQLiteRepository, SQLiteInbox, SQLiteDeliveryLog, LeasedRepository],
)
def test_close_waits_equally_long_everywhere(kind: type[Any]) -> None:
    """Ten seconds for a call of another thread."""
    assert inspect.signature(kind.close).parameters["timeout"].default == 10.0
