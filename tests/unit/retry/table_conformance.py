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

    def test_what_was_delivered_late_is_delivered(self) -> None:
        """A sender that slept beyond its lease corrects whoever gave its message up."""
        self.begun()
        self.clock.move(LEASE)
        self.due()
        assert self.repository.mark_dead("a", 1, "no recorded end", unknown=True)
        assert not self.repository.increment_retry("a", 1, "late", self.clock())
        assert self.repository.mark_delivered("a", "SM-1", 1)
        found = self.stored("a")
        assert (found.status, found.message_sid) == ("delivered", "SM-1")
        assert (found.attempt_started_at, found.last_error) == (None, None)
        assert not self.repository.force_retry("a")

    def test_what_was_delivered_late_by_an_older_attempt_is_not(self) -> None:
        """The fence holds for rows that are dead too: a later attempt may have ended otherwise."""
        self.begun()
        self.clock.move(LEASE)
        self.due()
        assert self.repository.begin_attempt("a", 2, self.clock())
        assert self.repository.mark_dead("a", 2, "refused")
        assert not self.repository.mark_delivered("a", "SM-1", 1)
        assert self.stored("a").status == "dead"

    def test_dismissed_although_it_may_have_been_sent(self) -> None:
        """Who looks at the row later, or wants to send it anew, can see that."""
        began = self.clock()
        self.begun()
        self.clock.move(LEASE)
        assert self.repository.dismiss("a")
        found = self.stored("a")
        assert (found.status, found.attempt_started_at) == ("dismissed", began)
