"""What every repository of ours does beside the interfaces that a host implements."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

from buttdial_sync.retry.table import TableRepository
from buttdial_sync.testing.conformance import LEASE, RepositoryConformance


class TableConformance(RepositoryConformance):
    def test_it_says_what_is_leased(self) -> None:
        """Pending rows that somebody has now are named, with the end of their lease."""
        repository = cast("TableRepository", self.repository)
        for msg_id in ("a", "b", "done", "free"):
            self.add(msg_id)
        assert repository.leased() == {}
        fetched = repository.fetch_due(3)
        assert [message.id for message in fetched] == ["a", "b", "done"]
        began = self.clock.move(10)
        assert repository.begin_attempt("b", 1, began)
        assert repository.begin_attempt("done", 1, began)
        repository.mark_delivered("done", "SM-1", 1)
        lease = timedelta(seconds=LEASE)
        first = began - timedelta(seconds=10) + lease
        assert repository.leased() == {"a": first, "b": began + lease}
        self.clock.move(LEASE - 10)
        assert repository.leased() == {"b": began + lease}
