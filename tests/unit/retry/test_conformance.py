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
