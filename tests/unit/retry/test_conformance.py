"""The conformance suite over the repositories that need no server."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

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
