"""What every repository of ours does beside the interfaces that a host implements."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import cast

import attrs

from buttdial_sync.models.failed import FailedMessage
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

    def test_two_attempts_never_have_the_same_number(self) -> None:
        """A change of an attempt that was put back long ago does nothing to a later attempt."""
        repository = cast("TableRepository", self.repository)
        self.add("a")
        (first,) = repository.fetch_due(1)
        assert repository.begin_attempt("a", 1, self.clock(), attempt_number=1)
        limit = self.clock() + timedelta(seconds=30)
        assert repository.postpone(first, 1, "limit", limit, attempt_number=1)
        self.clock.move(30)
        (second,) = repository.fetch_due(1)
        assert (second.retry_count, second.attempt_number) == (0, 1)
        assert repository.begin_attempt("a", 1, self.clock(), attempt_number=2)
        before = self.stored("a")
        late: list[Callable[[], bool]] = [
            lambda: repository.postpone(first, 1, "limit", limit, attempt_number=1),
            lambda: repository.increment_retry("a", 1, "late", limit, attempt_number=1),
            lambda: repository.mark_dead("a", 1, "late", attempt_number=1),
            lambda: repository.mark_delivered("a", "SM-1", 1, attempt_number=1),
            lambda: repository.begin_attempt("a", 2, self.clock(), attempt_number=2),
        ]
        for call in late:
            assert not call()
            assert self.stored("a") == before
        assert self.due() == []
        assert repository.mark_delivered("a", "SM-2", 1, attempt_number=2)

    def test_the_number_grows_for_who_gives_none(self) -> None:
        """A host that calls the published methods is fenced by the count, as it always was."""
        fetched = self.begun()
        self.repository.postpone(fetched, 1, "limit", self.clock())
        self.due()
        assert self.repository.begin_attempt("a", 1, self.clock())
        assert self.stored("a").attempt_number == 2

    def test_a_lease_can_be_extended(self) -> None:
        """By who has it: not after another has taken over, or when all is done."""
        repository = cast("TableRepository", self.repository)
        self.begun()
        self.clock.move(LEASE - 1)
        assert repository.extend_lease("a", 1)
        self.clock.move(LEASE - 1)
        assert self.due() == []
        assert not repository.extend_lease("a", 0)
        self.clock.move(1)
        assert self.due() == ["a"]
        assert repository.begin_attempt("a", 2, self.clock(), attempt_number=2)
        assert not repository.extend_lease("a", 1)
        repository.mark_dead("a", 2, "no")
        assert not repository.extend_lease("a", 2)

    def test_purging(self) -> None:
        """What was resolved long ago is deleted; dead letters only on demand, pending never."""
        repository = cast("TableRepository", self.repository)
        for msg_id in ("old", "dead", "dismissed", "young", "waiting"):
            self.add(msg_id)
        repository.mark_delivered("old", "SM-1", 0)
        repository.mark_dead("dead", 0, "no")
        assert repository.dismiss("dismissed")
        self.clock.move(100)
        repository.mark_delivered("young", "SM-2", 0)
        assert repository.purge(100) == 0
        self.clock.move(1)
        assert repository.purge(timedelta(seconds=100), ["dismissed"]) == 1
        assert repository.purge(100) == 1
        assert sorted(self._ids()) == ["dead", "waiting", "young"]
        assert repository.purge(100, ["dead", "delivered", "dismissed"]) == 1
        self.clock.move(1000)
        assert repository.purge(100) == 1
        assert self._ids() == ["waiting"]

    def test_purging_many(self) -> None:
        """In portions, each of them a transaction."""
        repository = cast("TableRepository", self.repository)
        message = FailedMessage(id="", recipient="+1", body="x", status="dismissed")
        repository.add_new(
            [
                attrs.evolve(message, id=f"m{number}", resolved_at=self.clock())
                for number in range(1500)
            ]
        )
        self.clock.move(2)
        assert repository.purge(1) == 1500
        assert repository.stats()["dismissed"] == 0
