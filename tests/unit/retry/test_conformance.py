"""The conformance suite over the repositories that need no server."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import attrs
import pytest

from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry import MemoryRepository, SQLiteRepository
from buttdial_sync.testing.conformance import Clock, RepositoryConformance
from tests.unit.retry.table_conformance import TableConformance


class TestMemory(TableConformance):
    def make_repository(self, clock: Clock, lease: float) -> MemoryRepository:
        return MemoryRepository(clock=clock, lease=lease)


class TestSQLite(TableConformance):
    repository: SQLiteRepository

    def make_repository(self, clock: Clock, lease: float) -> SQLiteRepository:
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name) / "outbox.db"
        return SQLiteRepository(path, clock=clock, lease=lease)

    def teardown_method(self) -> None:
        self.repository.close()
        self.directory.cleanup()


def test_a_broken_repository_is_told() -> None:
    """The suite fails for a repository that leases nothing."""

    class Broken(MemoryRepository):
        @property
        def lease(self) -> float:
            return 0.0

    class Suite(RepositoryConformance):
        def make_repository(self, clock: Clock, lease: float) -> MemoryRepository:
            return Broken(clock=clock, lease=lease)

    suite = Suite()
    suite.setup_method()
    with pytest.raises(AssertionError, match="the lease: 0"):
        suite.test_it_says_its_lease()


@pytest.mark.parametrize(
    "test",
    [
        "test_force_retry_keeps_that_it_may_have_been_sent",
        "test_force_retry_of_an_interrupted_attempt",
    ],
)
def test_a_repository_that_forgets_is_told(test: str) -> None:
    """The suite fails for one whose ``force_retry`` empties ``attempt_started_at`` unasked."""

    class Forgetful(MemoryRepository):
        def force_retry(self, msg_id: str, *, even_if_sent: bool = False) -> bool:
            return super().force_retry(msg_id, even_if_sent=True)

    class Suite(RepositoryConformance):
        def make_repository(self, clock: Clock, lease: float) -> MemoryRepository:
            return Forgetful(clock=clock, lease=lease)

    suite = Suite()
    suite.setup_method()
    with pytest.raises(AssertionError, match="attempt_started_at"):
        getattr(suite, test)()


class Careless(MemoryRepository):
    """Says None to all ends, and knows no orders and no times."""

    def add(self, message: FailedMessage) -> None:
        super().add(
            attrs.evolve(message, priority=0, ordering_key=None, expires_at=None, seconds_waited=0)
        )

    def mark_delivered(self, *args: Any, **options: Any) -> None:  # type: ignore[override]
        super().mark_delivered(*args, **options)

    def mark_dead(self, *args: Any, **options: Any) -> None:  # type: ignore[override]
        super().mark_dead(*args, **options)

    def increment_retry(self, *args: Any, **options: Any) -> bool:
        super().increment_retry(*args, **options)
        return False


@pytest.mark.parametrize(
    ("test", "complaint"),
    [
        ("test_every_field_comes_back", "priority=0"),
        ("test_settling_is_fenced", "has to return False"),
        ("test_a_settled_message_stays_settled", "has to return False"),
        ("test_retried", "has to return True or None"),
    ],
)
def test_a_careless_repository_is_told(test: str, complaint: str) -> None:
    """The suite fails for one that loses fields, or does not say whether it changed a row."""

    class Suite(RepositoryConformance):
        def make_repository(self, clock: Clock, lease: float) -> MemoryRepository:
            return Careless(clock=clock, lease=lease)

    suite = Suite()
    suite.setup_method()
    with pytest.raises(AssertionError, match=complaint):
        getattr(suite, test)()
