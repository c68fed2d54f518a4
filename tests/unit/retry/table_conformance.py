"""What every repository of ours does beside the interfaces that a host implements."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import attrs
import pytest

from buttdial_sync import ArgumentValueError, DeliveryReceipt
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry.pauses import Pause
from buttdial_sync.retry.rows import as_row
from buttdial_sync.retry.table import TableRepository
from buttdial_sync.stores import figures
from buttdial_sync.stores.schema import Condition
from buttdial_sync.testing.conformance import LEASE, RepositoryConformance


class TableConformance(RepositoryConformance):
    def turns(self, limit: int, **options: Any) -> list[str]:
        """Fetch, and return the ids."""
        repository = cast("TableRepository", self.repository)
        return [message.id for message in repository.fetch_due(limit, **options)]

    def test_agents_take_turns(self) -> None:
        """However many messages one of them has, each has its share of a batch."""
        for number in range(8):
            self.add(f"a{number}", agent_id="a", due=number - 100.0)
        for agent in ("b", "c"):
            self.add(agent, agent_id=agent)
        self.add("nobody's")
        assert self.turns(8) == ["nobody's", "a0", "a1", "b", "c"]
        assert self.turns(3) == ["a2", "a3", "a4"]
        assert self.turns(10) == ["a5", "a6", "a7"]

    def test_the_turn_goes_round(self) -> None:
        """One message at a time is another agent's each time, or one that names no agent."""
        for agent in (None, "b", "c"):
            for number in range(2):
                self.add(f"{agent}{number}", agent_id=agent, due=number - 10.0)
        assert [self.turns(1) for _ in range(7)] == [
            ["None0"], ["b0"], ["c0"], ["None1"], ["b1"], ["c1"], [],
        ]  # fmt: skip

    def test_an_agent_may_have_a_smaller_share(self) -> None:
        """As many as a limit leaves it; the others have theirs."""
        for number in range(5):
            for agent in ("a", "b"):
                self.add(f"{agent}{number}", agent_id=agent, due=number - 10.0)
        assert self.turns(6, at_most={"a": 1}) == ["a0", "b0", "b1", "b2"]
        assert self.turns(6, at_most={"a": 9}) == ["a1", "a2", "a3", "b3", "b4"]

    def test_agents_that_rest_are_not_fetched(self) -> None:
        """Their rows are not touched."""
        self.add("a", agent_id="a", due=-10.0)
        self.add("b", agent_id="b")
        self.add("nobody's", due=-20.0)
        assert self.turns(10, except_agents=("a", "")) == ["b"]
        assert self.turns(10, except_agents=("a",)) == ["nobody's"]
        assert self.stored("a").leased_until is None
        assert self.turns(10) == ["a"]

    def test_the_highest_priority_comes_first(self) -> None:
        """A code overtakes a broadcast of the same agent, and what is not due yet delays nobody."""
        for msg_id, priority, due in (
            ("broadcast", 0, -30.0), ("later", 9, 60.0), ("less", -1, -60.0), ("code", 5, 0.0),
            ("older", 0, -40.0),
        ):  # fmt: skip
            self.add(msg_id, agent_id="a", priority=priority, due=due)
        assert self.turns(2) == ["code", "older"]
        assert self.turns(10) == ["broadcast", "less"]
        self.clock.move(60)
        assert self.turns(10) == ["later"]

    def test_messages_with_the_same_ordering_key_go_one_by_one(self) -> None:
        """A later one waits for an earlier one in flight, and while that waits for its retry."""
        for msg_id, key in (("first", "+1"), ("second", "+1"), ("other", "+2"), ("free", None)):
            self.clock.move(0.001)
            self.add(msg_id, agent_id="a", ordering_key=key)
        self.add("same key of another agent", agent_id="b", ordering_key="+1")
        assert self.turns(10) == ["first", "other", "free", "same key of another agent"]
        assert self.turns(10) == []
        assert self.repository.begin_attempt("first", 1, self.clock())
        later = self.clock() + timedelta(seconds=60)
        assert self.repository.increment_retry("first", 1, "busy", later)
        assert self.turns(10) == []
        self.clock.move(60)
        assert self.turns(10) == ["first"]
        assert self.repository.begin_attempt("first", 2, self.clock())
        assert self.repository.mark_delivered("first", "SM-1", 2)
        assert self.turns(10) == ["second"]

    def test_an_older_message_that_comes_late_waits_for_the_one_in_flight(self) -> None:
        """Its transaction was slow, or somebody revived it: two of a key are never sent at once."""
        now = self.clock()
        self.clock.move(1)
        self.add("second", ordering_key="k")
        assert self.turns(10) == ["second"]
        self.clock.move(-1)
        self.add("first", ordering_key="k")
        self.add("other", ordering_key="k2")
        assert self.stored("first").created_at == now
        self.clock.move(1)
        assert self.turns(10) == ["other"]
        assert self.repository.begin_attempt("second", 1, self.clock())
        assert self.turns(10) == []
        later = self.clock() + timedelta(seconds=1)
        assert self.repository.increment_retry("second", 1, "busy", later)
        self.clock.move(1)
        assert self.turns(10) == ["first"]

    def test_what_was_given_up_holds_up_nothing(self) -> None:
        """A dead message does not hold up those behind it, whatever their priorities."""
        self.add("first", ordering_key="k")
        self.clock.move(1)
        self.add("second", ordering_key="k", priority=7, due=-60.0)
        assert self.turns(10) == ["first"]
        assert self.repository.mark_dead("first", 0, "too late")
        assert self.turns(10) == ["second"]

    def test_the_same_time_is_ordered_too(self) -> None:
        """Of two that were written in the same microsecond one is fetched."""
        self.add("b", ordering_key="k")
        self.add("a", ordering_key="k")
        assert self.turns(10) == ["a"]

    def test_messages_that_name_no_agent_are_one_queue(self) -> None:
        """Whether the host writes an empty text for that, or nothing."""
        self.add("first", agent_id="", ordering_key="k")
        self.clock.move(1)
        self.add("second", agent_id=None, ordering_key="k", due=-60.0)
        assert self.turns(10) == ["first"]

    def test_a_row_of_an_earlier_release(self) -> None:
        """It lacks some numbers: it is fetched, fenced and recorded as all others are."""
        repository = cast("TableRepository", self.repository)
        moments = dict.fromkeys(("created_at", "next_retry_at"), self.clock())
        missing = dict.fromkeys(("attempt_number", "priority", "seconds_waited"))
        for msg_id in ("numbered", "published"):
            row = as_row(FailedMessage(id=msg_id, recipient="+1", body="x"))
            repository.store.insert({**row, **moments, **missing})
        assert sorted(self.turns(2)) == ["numbered", "published"]
        assert repository.begin_attempt("numbered", 1, self.clock(), attempt_number=1)
        assert not repository.begin_attempt("numbered", 1, self.clock(), attempt_number=1)
        assert repository.mark_delivered("numbered", "SM-1", 1, attempt_number=1)
        assert repository.begin_attempt("published", 1, self.clock())
        assert self.stored("published").attempt_number == 1

    def test_a_key_of_an_agent_is_there_once(self) -> None:
        """What is written twice is one row, and the second writer learns which."""
        repository = cast("TableRepository", self.repository)
        first = self.add("a", agent_id="one", idempotency_key="key")
        again = attrs.evolve(first, id="b", body="the same")
        assert repository.add_once(again) == first
        assert repository.add_new([again]) == 0
        with pytest.raises(ArgumentValueError, match="'b'"):
            repository.add(again)
        other = attrs.evolve(again, agent_id="two")
        assert repository.add_once(other) == other
        nobodys = attrs.evolve(again, id="c", agent_id=None)
        assert repository.add_once(nobodys) == nobodys
        assert repository.add_new([attrs.evolve(nobodys, id="d")]) == 0
        assert repository.add_once(attrs.evolve(nobodys, id="e", agent_id="")) == nobodys
        with pytest.raises(ArgumentValueError, match="'c'"):
            repository.add_once(attrs.evolve(nobodys, idempotency_key="other"))
        assert len(repository.list()) == 3

    def test_without_a_key_there_may_be_many(self) -> None:
        """Rows without a key do not collide, nor do they with those of an earlier release."""
        assert self.add("a").idempotency_key is None
        assert self.add("b", agent_id="one").idempotency_key is None
        self.add("c", agent_id="one")

    def test_a_purged_key_is_free(self) -> None:
        """What is forgotten does not hold its key."""
        repository = cast("TableRepository", self.repository)
        self.add("a", idempotency_key="key")
        repository.dismiss("a")
        self.clock.move(60)
        assert repository.purge(30) == 1
        self.add("b", idempotency_key="key")

    def test_released_in_one_statement(self) -> None:
        """What was fetched for nothing is due again; what was begun or taken over is not."""
        repository = cast("TableRepository", self.repository)
        for number, msg_id in enumerate(("a", "b", "c")):
            self.add(msg_id, due=number - 10.0)
        fetched = repository.fetch_due(3)
        assert repository.begin_attempt("b", 1, self.clock.move(1))
        assert repository.release(fetched) == 2
        assert self.turns(3) == ["a", "c"]
        assert repository.release(fetched) == 0
        assert self.stored("b").attempt_started_at == self.clock()
        assert repository.release([]) == 0

    def test_pauses(self) -> None:
        """A paused agent's messages are not fetched until it is resumed; so with all of them."""
        repository = cast("TableRepository", self.repository)
        self.add("a", agent_id="one")
        self.add("b", agent_id="two")
        self.add("nobody's")
        assert repository.pause("one", reason="wrong text")
        began = self.clock()
        self.clock.move(1)
        assert not repository.pause("one", reason="again")
        assert repository.pause("")
        assert repository.paused() == (
            Pause(agent_id="", since=self.clock()),
            Pause(agent_id="one", since=began, reason="wrong text"),
        )
        assert self.turns(10) == ["b"]
        assert repository.resume("one")
        assert not repository.resume("one")
        assert repository.pause()
        assert self.turns(10) == []
        assert repository.resume()
        assert self.turns(10) == ["a"]
        assert repository.resume("")
        assert self.turns(10) == ["nobody's"]
        assert repository.paused() == ()
        assert repository.pause("one", reason="second time")
        assert [pause.reason for pause in repository.paused()] == ["second time"]
        assert not repository.resume("nobody")

    def test_what_is_new_of_a_row_comes_back(self) -> None:
        """Priority, order and expiry are kept."""
        later = self.clock() + timedelta(hours=1)
        message = self.add("a", priority=-3, ordering_key="k", expires_at=later, seconds_waited=9)
        assert self.repository.fetch_due(1)[0] == message
        assert self.stored("a").leased_until == self.clock() + timedelta(seconds=LEASE)

    def test_it_says_what_is_leased(self) -> None:
        """Pending rows that somebody has now are named, with the end of their lease."""
        repository = cast("TableRepository", self.repository)
        for number, msg_id in enumerate(("a", "b", "done", "free")):
            self.add(msg_id, due=number - 4.0)
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

    @pytest.mark.parametrize("end", ["none", "refused", "unknown", "limited"])
    def test_delivered_by_an_older_attempt(self, end: str) -> None:
        """The first sender wakes up after another one has tried it again: it knows better."""
        repository = cast("TableRepository", self.repository)
        self.add("a")
        self.due()
        assert repository.begin_attempt("a", 1, self.clock(), attempt_number=1)
        self.clock.move(LEASE)
        (message,) = repository.fetch_due(1)
        assert repository.begin_attempt("a", 2, self.clock(), attempt_number=2)
        if end == "limited":
            assert repository.postpone(message, 2, "limit", self.clock(), attempt_number=2)
        elif end != "none":
            assert repository.mark_dead("a", 2, end, unknown=end == "unknown", attempt_number=2)
        assert repository.mark_delivered("a", "SM-1", 1, attempt_number=1)
        found = self.stored("a")
        assert (found.status, found.message_sid) == ("delivered", "SM-1")
        assert (found.attempt_started_at, found.last_error) == (None, None)
        assert not repository.mark_dead("a", 2, "late", attempt_number=2)
        assert not repository.mark_delivered("a", "SM-2", 2, attempt_number=2)
        assert not repository.begin_attempt("a", 3, self.clock(), attempt_number=3)
        assert self.stored("a") == found
        assert self.due() == []

    def test_delivered_by_an_older_attempt_after_it_was_dismissed(self) -> None:
        """A person has decided: the row stays as it is."""
        repository = cast("TableRepository", self.repository)
        self.add("a")
        self.due()
        assert repository.begin_attempt("a", 1, self.clock(), attempt_number=1)
        self.clock.move(LEASE)
        assert repository.dismiss("a")
        assert not repository.mark_delivered("a", "SM-1", 1, attempt_number=1)
        assert self.stored("a").status == "dismissed"

    def test_delivered_late_by_who_gives_no_number(self) -> None:
        """The published arguments do not show whose attempt it was: the count is the fence."""
        self.begun()
        self.clock.move(LEASE)
        self.due()
        assert self.repository.begin_attempt("a", 2, self.clock())
        assert self.repository.mark_dead("a", 2, "refused")
        assert not self.repository.mark_delivered("a", "SM-1", 1)
        assert self.stored("a").status == "dead"

    def test_who_waited_does_not_go_by_what_it_read_before(self) -> None:
        """An attempt that outlived its lease was not sent: who took its row over keeps that."""
        self.begun()
        self.clock.move(LEASE)
        (taken_over,) = self.repository.fetch_due(1)
        assert taken_over.attempt_started_at is not None
        due = self.clock() + timedelta(seconds=30)
        assert self.repository.increment_retry("a", 1, "refused", due)
        before = self.stored("a")
        assert (before.attempt_started_at, before.next_retry_at) == (None, due)
        assert not self.repository.mark_dead("a", 1, "no recorded end", unknown=True)
        assert not self.repository.postpone(taken_over, 1, "wait", self.clock())
        assert self.stored("a") == before

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

    def test_a_lease_that_was_given_back_is_not_extended(self) -> None:
        """A thread that extends leases may come late: the message is free for the next attempt."""
        repository = cast("TableRepository", self.repository)
        fetched = self.begun()
        repository.postpone(fetched, 1, "limit", self.clock())
        assert not repository.extend_lease("a", 1)
        assert self.due() == ["a"]

    def test_many_messages_at_once(self) -> None:
        """Those that are there are found, also more than a statement of SQLite takes."""
        repository = cast("TableRepository", self.repository)
        messages = [FailedMessage(id=f"m{n:04}", recipient="+1", body="x") for n in range(1000)]
        assert repository.add_new(messages[:990]) == 990
        assert repository.add_new(messages) == 10
        found = repository.get_many([*(message.id for message in messages[:999]), "nobody"])
        assert sorted(message.id for message in found) == [each.id for each in messages[:999]]
        assert repository.get_many([]) == []

    def test_ids_between_others(self) -> None:
        """Whatever the database's order of texts, hexadecimal ids of one length are found."""
        repository = cast("TableRepository", self.repository)
        for msg_id in ("row-0a-0", "row-0a-f", "row-0b-7", "row-zz-1", "other"):
            self.add(msg_id)
        bounds = [(f"row-{n:02x}-0", f"row-{n:02x}-f") for n in range(1000)]
        assert sorted(repository.store.ids_between(bounds)) == ["row-0a-0", "row-0a-f", "row-0b-7"]
        assert repository.store.ids_between([]) == []

    def give_up(self, msg_id: str, error: str, *, unknown: bool = False) -> None:
        """Leave a dead row, after its only attempt."""
        repository = cast("TableRepository", self.repository)
        self.add(msg_id, max_retries=1)
        assert repository.begin_attempt(msg_id, 1, self.clock())
        assert repository.mark_dead(msg_id, 1, error, unknown=unknown)

    def test_many_are_tried_again(self) -> None:
        """What was given up is due, with an attempt left; not what may have been sent."""
        repository = cast("TableRepository", self.repository)
        self.give_up("a", "connection Refused, 100%")
        self.clock.move(100)
        later = self.clock()
        self.give_up("b", "connection refused")
        self.give_up("doubt", "refused", unknown=True)
        self.give_up("c", "no consent")
        assert repository.retry_all(since=later, error_like="REFUSED", dry_run=True) == 1
        assert repository.count_in_doubt(error_like="refused") == 1
        assert self.stored("b").status == "dead"
        assert repository.retry_all(since=later, error_like="REFUSED") == 1
        assert repository.retry_all(error_like="0%") == 1
        assert repository.retry_all(error_like="_") == 0
        for msg_id in ("a", "b"):
            row = self.stored(msg_id)
            assert (row.status, row.max_retries, row.resolved_at) == ("pending", 2, None)
        assert {message.id for message in repository.fetch_due(10)} == {"a", "b"}
        assert (self.stored("c").status, self.stored("doubt").status) == ("dead", "dead")
        assert repository.retry_all(even_if_sent=True, error_like="refused") == 1
        doubt = self.stored("doubt")
        assert (doubt.status, doubt.attempt_started_at) == ("pending", None)

    def test_many_since_a_time(self) -> None:
        """It counts when a message was given up; while it waits, when it was written."""
        repository = cast("TableRepository", self.repository)
        self.add("given up")
        self.add("waits")
        later = self.clock.move(100)
        self.add("new")
        assert repository.mark_dead("given up", 0, "no")
        assert repository.retry_all(since=later + timedelta(microseconds=1)) == 0
        assert repository.retry_all(since=later) == 1
        assert repository.dismiss_all("pending", since=later) == 1
        assert self.stored("new").status == "dismissed"

    def test_the_first_of_an_order(self) -> None:
        """The oldest pending one of the same agent and key, whether or not it is due."""
        repository = cast("TableRepository", self.repository)
        for msg_id, agent_id, key in (
            ("other", "agent-2", "k"),
            ("else", "agent-1", "l"),
            ("a", "agent-1", "k"),
            ("b", "agent-1", "k"),
            ("nobody's", None, "k"),
        ):
            self.clock.move(1)
            self.add(msg_id, due=60.0, agent_id=agent_id, ordering_key=key)
        self.clock.move(-1000)
        self.add("free", agent_id="agent-1")

        def first(msg_id: str) -> str | None:
            found = repository.first_in_order(self.stored(msg_id))
            return None if found is None else found.id

        assert [first(msg_id) for msg_id in ("a", "b", "other", "nobody's", "free")] == [
            "a",
            "a",
            "other",
            "nobody's",
            None,
        ]
        assert repository.mark_delivered("a", "SM-1", 0)
        assert first("a") == "b"
        assert repository.dismiss("b")
        assert first("a") is None

    def test_many_of_an_agent(self) -> None:
        """The other agents' messages stay as they are, and so do those that name no agent."""
        repository = cast("TableRepository", self.repository)
        for msg_id, agent_id in (("a", "agent-1"), ("b", "agent-2"), ("c", ""), ("d", None)):
            self.add(msg_id, agent_id=agent_id)
        assert repository.dismiss_all("pending", agent_id="agent-1", dry_run=True) == 1
        assert repository.dismiss_all("pending", agent_id="agent-1") == 1
        assert repository.dismiss_all("pending", agent_id="agent") == 0
        assert [self.stored(msg_id).status for msg_id in "abcd"] == ["dismissed", *["pending"] * 3]
        assert repository.dismiss_all("pending", agent_id="") == 2
        assert self.stored("b").status == "pending"
        for msg_id, agent_id in (("e", "agent-1"), ("f", "agent-2")):
            self.add(msg_id, agent_id=agent_id, max_retries=1)
            assert repository.begin_attempt(msg_id, 1, self.clock())
            assert repository.mark_dead(msg_id, 1, "no", unknown=True)
        assert repository.count_in_doubt(agent_id="agent-2") == 1
        assert repository.retry_all(agent_id="agent-2") == 0
        assert repository.retry_all(agent_id="agent-2", even_if_sent=True) == 1
        assert (self.stored("e").status, self.stored("f").status) == ("dead", "pending")

    def test_many_are_dismissed(self) -> None:
        """Dead ones or pending ones, but none that is being sent and none in doubt."""
        repository = cast("TableRepository", self.repository)
        self.give_up("dead", "no")
        self.give_up("doubt", "unknown", unknown=True)
        self.add("sending", due=-1.0)
        self.add("waiting")
        assert [message.id for message in repository.fetch_due(1)] == ["sending"]
        assert repository.dismiss_all("pending") == 1
        assert repository.dismiss_all() == 1
        found = {msg_id: self.stored(msg_id).status for msg_id in ("dead", "doubt", "sending")}
        assert found == {"dead": "dismissed", "doubt": "dead", "sending": "pending"}
        assert repository.dismiss_many(["doubt", "sending", "nobody"]) == 1
        assert self.stored("doubt").attempt_started_at is not None
        for wrong in ("delivered", "dismissed"):
            with pytest.raises(ArgumentValueError, match="status"):
                repository.dismiss_all(cast("Any", wrong))
        with pytest.raises(ArgumentValueError, match="aware"):
            repository.retry_all(since=self.clock().replace(tzinfo=None))

    def test_chosen_messages_are_tried_again(self) -> None:
        """Of these ids, only the dead and the pending ones change."""
        repository = cast("TableRepository", self.repository)
        self.give_up("dead", "no")
        self.give_up("doubt", "unknown", unknown=True)
        self.add("done")
        assert repository.mark_delivered("done", "SM", 0)
        assert repository.retry_many(["dead", "doubt", "done"]) == 1
        assert self.stored("dead").status == "pending"
        assert repository.retry_many(["doubt"], even_if_sent=True) == 1

    def test_a_thousand_at_a_time(self) -> None:
        """All of them are changed, each once; an end may be set between the portions."""
        repository = cast("TableRepository", self.repository)
        messages = [FailedMessage(id=f"m{n:04}", recipient="+1", body="x") for n in range(2100)]
        repository.add_new(messages)
        assert repository.dismiss_all("pending", dry_run=True) == 2100
        assert repository.dismiss_all("pending", at_most=10) == 1000
        assert repository.dismiss_all("pending") == 1100
        assert repository.stats()["dismissed"] == 2100

    def test_a_large_batch(self) -> None:
        """More than one statement of the oldest SQLite takes is fetched, in order, and put back."""
        repository = cast("TableRepository", self.repository)
        messages = [FailedMessage(id=f"m{n:03}", recipient="+1", body="x") for n in range(950)]
        now = self.clock()
        repository.add_new([attrs.evolve(each, next_retry_at=now) for each in messages])
        later = attrs.evolve(messages[0], id="later", next_retry_at=self.clock.move(1))
        repository.add(later)
        fetched = repository.fetch_due(1000)
        assert {message.id for message in fetched[:-1]} == {message.id for message in messages}
        assert fetched[-1].id == "later"
        assert repository.release(fetched) == 951
        assert repository.leased() == {}

    def test_figures(self) -> None:
        """How much waits and for how long, by agent; how much was sent; what is in doubt."""
        repository = cast("TableRepository", self.repository)
        nothing = repository.figures()
        assert (nothing.flow, nothing.agents, nothing.oldest_due_at) == ("idle", (), None)
        self.add("late", agent_id="agent-2", priority=5)
        self.add("later", agent_id="agent-2", due=3600, last_error="a limit")
        self.add("limited", agent_id="agent-1", due=60, last_error="rate limited")
        self.add("sent", agent_id="agent-1", due=0)
        self.add("elsewhere", status="delivered")
        self.add("unnamed", due=7200)
        assert repository.mark_delivered("sent", "SM", 0)
        self.give_up("certain", "no")
        self.give_up("doubt", "lost", unknown=True)
        self.clock.move(30)
        measured = repository.figures()
        told = {status: str(count) for status, count in measured.counts.items()}
        assert told == {"pending": "4", "delivered": "2", "dead": "2", "dismissed": "0"}
        assert (str(measured.in_doubt), measured.flow) == ("1", "flowing")
        assert measured.oldest_due_seconds == pytest.approx(30.0)
        assert (str(measured.sent_last_minute), str(measured.sent_last_hour)) == ("1", "1")
        assert measured.sent_per_minute == pytest.approx(1 / 60)
        waiting = {each.agent_id: each for each in measured.agents}
        assert {name: str(each.pending) for name, each in waiting.items()} == {
            "": "1",
            "agent-1": "1",
            "agent-2": "2",
        }
        assert waiting["agent-1"].last_error == "rate limited"
        assert waiting["agent-2"].last_error == "a limit"
        assert waiting[""].last_error is None
        assert waiting["agent-2"].next_due_at == self.stored("late").next_retry_at
        self.clock.move(31)
        assert repository.figures().sent_last_minute.value == 0
        self.clock.move(300)
        assert repository.figures().flow == "stopped"
        assert repository.mark_delivered("limited", "SM", 0)
        assert repository.figures().flow == "behind"

    def test_why_an_agent_waits(self) -> None:
        """One message met the limit; those that are due before it were never tried."""
        repository = cast("TableRepository", self.repository)
        for number in range(60):
            self.add(f"untried-{number}", agent_id="agent-1")
        self.add("limited", agent_id="agent-1", due=60, last_error="rate limited")
        (agent,) = repository.figures().agents
        assert (agent.last_error, agent.next_due_at) == ("rate limited", self.clock())

    def test_why_an_agent_waits_among_others(self) -> None:
        """Neither the first nor the last message says it, but one near them."""
        repository = cast("TableRepository", self.repository)
        for due in (-2.0, -1.0, 0.0, 1.0, 2.0):
            self.add(f"due-{due}", agent_id="agent-1", due=due, last_error=None if due else "no")
        (agent,) = repository.figures().agents
        assert agent.last_error == "no"

    def test_figures_of_many_agents(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that wait longest are told."""
        repository = cast("TableRepository", self.repository)
        monkeypatch.setattr(figures, "MOST_AGENTS", 2)
        for number, due in enumerate((-10, -30, -20, 60)):
            self.add(f"m{number}", agent_id=f"agent-{number}", due=due)
            self.add(f"n{number}", agent_id=f"agent-{number}", due=70, priority=3)
        measured = repository.figures()
        assert [each.agent_id for each in measured.agents] == ["agent-1", "agent-2"]
        assert [str(each.pending) for each in measured.agents] == ["2", "2"]
        assert measured.oldest_due_seconds == pytest.approx(30.0)

    def test_figures_end_at_their_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is more than is counted is said to be more."""
        repository = cast("TableRepository", self.repository)
        messages = [
            FailedMessage(id=f"m{n}", recipient="+1", body="x", status=status)
            for status in ("pending", "dead")
            for n in range(40)
        ]
        monkeypatch.setattr(figures, "MOST", 30)
        monkeypatch.setattr(figures, "_OF_AGENTS", 20)
        repository.add_new([attrs.evolve(each, id=f"{each.status}{each.id}") for each in messages])
        measured = repository.figures()
        told = {status: str(count) for status, count in measured.counts.items()}
        assert told == {"pending": "30+", "delivered": "0", "dead": "30+", "dismissed": "0"}
        (agent,) = measured.agents
        assert (agent.pending.value >= 20, measured.in_doubt.value) == (True, 0)

    def test_purging(self) -> None:
        """What was resolved long ago is deleted; dead letters only on demand, pending never."""
        repository = cast("TableRepository", self.repository)
        for msg_id in ("old", "dead", "dismissed", "young", "waiting"):
            self.add(msg_id)
        self.add("nobody knows when", status="delivered")
        repository.mark_delivered("old", "SM-1", 0)
        repository.mark_dead("dead", 0, "no")
        assert repository.dismiss("dismissed")
        self.clock.move(100)
        repository.mark_delivered("young", "SM-2", 0)
        assert repository.purge(100) == 0
        assert repository.purge(100, []) == 0
        self.clock.move(1)
        assert repository.purge(timedelta(seconds=100), ["dismissed"]) == 1
        assert repository.purge(100) == 1
        assert sorted(self._ids()) == ["dead", "nobody knows when", "waiting", "young"]
        assert repository.purge(100, ["dead", "delivered", "dismissed"]) == 1
        self.clock.move(1000)
        assert repository.purge(100) == 1
        assert sorted(self._ids()) == ["nobody knows when", "waiting"]

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

    def receipt(self, status: str, sid: str = "SM-1", **fields: Any) -> bool:
        repository = cast("TableRepository", self.repository)
        return repository.record_receipt(DeliveryReceipt(message_sid=sid, status=status, **fields))

    def told(self, msg_id: str = "a") -> tuple[Any, ...]:
        found = self.stored(msg_id)
        return found.status, found.receipt_status, found.receipt_at, found.receipt_error

    def test_a_receipt_finds_its_row(self) -> None:
        """By the id that the server gave; the row says when it was and why it failed."""
        self.begun()
        self.repository.mark_delivered("a", "SM-1", 1)
        happened = self.clock() - timedelta(seconds=5)
        assert self.receipt("failed", timestamp=happened, error="no\0credit", error_code="63016")
        assert self.told() == ("delivered", "failed", happened, "no\ufffdcredit")
        assert not self.receipt("read", sid="SM-2")
        now = self.clock.move(5)
        assert self.receipt("delivered")
        assert self.told() == ("delivered", "delivered", now, None)

    def test_only_a_code(self) -> None:
        """It is better than nothing."""
        self.begun()
        self.repository.mark_delivered("a", "SM-1", 1)
        assert self.receipt("undelivered", error_code="30003")
        assert self.told()[3] == "30003"

    @pytest.mark.parametrize("order", ["sent delivered read", "read delivered sent"])
    @pytest.mark.parametrize("early", [0, 1, 3])
    def test_receipts_in_any_order(self, order: str, early: int) -> None:
        """The last one counts, however they come, before the answer of the send and after it."""
        self.begun()
        for status in order.split()[:early]:
            assert not self.receipt(status)
        assert self.told()[:2] == ("pending", None)
        self.repository.mark_delivered("a", "SM-1", 1)
        for status in order.split()[early:]:
            assert self.receipt(status)
        assert self.told()[:2] == ("delivered", "read")

    def test_an_early_receipt_is_joined(self) -> None:
        """All of it, when the answer of the send tells the message's id."""
        self.begun()
        happened = self.clock()
        assert not self.receipt("failed", timestamp=happened, error="blocked")
        self.clock.move(5)
        self.repository.mark_delivered("a", "SM-1", 1)
        assert self.told() == ("delivered", "failed", happened, "blocked")

    def test_an_early_receipt_is_joined_later(self) -> None:
        """Also if the database failed between the answer of the send and the look for it."""
        self.begun()
        self.receipt("read")
        early = cast("TableRepository", self.repository)._early
        assert early is not None
        find, failures = early.store.find, [OSError("no database")]

        def fail_once(row_id: str) -> Any:
            if failures:
                raise failures.pop()
            return find(row_id)

        early.store.find = fail_once  # type: ignore[method-assign]
        with pytest.raises(OSError, match="no database"):
            self.repository.mark_delivered("a", "SM-1", 1)
        assert self.told()[:2] == ("delivered", None)
        assert not self.repository.mark_delivered("a", "SM-1", 1)
        assert self.told()[:2] == ("delivered", "read")
        assert not self.repository.mark_delivered("a", "SM-2", 1)
        assert self.stored("a").message_sid == "SM-1"

    def test_an_early_receipt_of_another_message(self) -> None:
        """An attempt that comes too late does not give the row what became of its own message."""
        self.begun()
        self.repository.mark_delivered("a", "SM-1", 1)
        self.receipt("read", sid="SM-2")
        assert not self.repository.mark_delivered("a", "SM-2", 1)
        assert self.told()[:2] == ("delivered", None)

    def test_an_early_receipt_of_a_row_that_another_proves_to_be_sent(self) -> None:
        """Of two receipts only the second names the key: the row has what the first one says."""
        self.add("a", idempotency_key="key-1")
        self.due()
        assert self.repository.begin_attempt("a", 1, self.clock())
        self.repository.mark_dead("a", 1, "lost", unknown=True)
        assert not self.receipt("read")
        assert self.receipt("sent", idempotency_key="key-1")
        assert self.told()[:2] == ("delivered", "read")

    def test_an_early_receipt_of_a_row_that_is_not_given_up_yet(self) -> None:
        """The second one gives the row its id, and with it what the first one says."""
        self.add("a", idempotency_key="key-1")
        self.due()
        assert self.repository.begin_attempt("a", 1, self.clock())
        assert not self.receipt("failed")
        assert self.receipt("sent", idempotency_key="key-1")
        assert self.told()[:2] == ("pending", "failed")
        self.repository.mark_dead("a", 1, "lost", unknown=True)
        assert self.told()[:2] == ("delivered", "failed")

    @pytest.mark.parametrize("is_given_up", [False, True])
    def test_an_early_one_that_a_receipt_could_not_join(self, is_given_up: bool) -> None:
        """
        It ended after the row had got its id, and before it was asked for others.

        It is joined when the receipt comes again, or else when the row is given up.
        """
        self.add("a", idempotency_key="key-1")
        self.due()
        assert self.repository.begin_attempt("a", 1, self.clock())
        assert not self.receipt("read")
        store = cast("TableRepository", self.repository).store
        find, failures = store.find, [OSError("no database")]

        def fail_once(row_id: str) -> Any:
            if failures:
                raise failures.pop()
            return find(row_id)

        store.find = fail_once  # type: ignore[method-assign]
        with pytest.raises(OSError, match="no database"):
            self.receipt("sent", idempotency_key="key-1")
        assert self.told()[:2] == ("pending", "sent")
        if is_given_up:
            assert not self.repository.mark_dead("a", 1, "lost", unknown=True)
        else:
            assert self.receipt("sent", idempotency_key="key-1")
        assert self.told()[1] == "read"

    def test_a_receipt_by_its_key(self) -> None:
        """Where the server sends it back, the row is found before the answer has come."""
        self.add("a", idempotency_key="key-1")
        self.add("b")
        self.due()
        for msg_id, key in (("a", "key-1"), ("b", "buttdial-sync-b")):
            assert self.repository.begin_attempt(msg_id, 1, self.clock())
            assert self.receipt("sent", sid=f"SM-{msg_id}", idempotency_key=key)
            assert self.told(msg_id)[:2] == ("pending", "sent")
        assert not self.receipt("sent", sid="SM-3", idempotency_key="key-2")
        assert not self.receipt("sent", sid="SM-4", idempotency_key="buttdial-sync-c")
        assert not self.receipt("sent", sid="SM-5", idempotency_key="b")  # a key of another's

    def test_the_id_counts_before_the_key(self) -> None:
        """A key of ours that names no row does not hide the row that has the message's id."""
        self.begun()
        self.repository.mark_delivered("a", "SM-1", 1)
        assert self.receipt("read", idempotency_key="buttdial-sync-nobody")
        assert self.told()[1] == "read"

    def test_an_early_receipt_of_a_row_that_is_gone(self) -> None:
        """The answer of a send may come after its row was purged."""
        assert not self.receipt("read")
        assert not self.repository.mark_delivered("purged", "SM-1", 1)

    def test_a_receipt_proves_that_it_was_sent(self) -> None:
        """A row that was given up because nobody knew is delivered; one that was refused is not."""
        for msg_id, unknown in (("lost", True), ("refused", False)):
            self.add(msg_id, idempotency_key=msg_id)
            self.due()
            assert self.repository.begin_attempt(msg_id, 1, self.clock())
            self.repository.mark_dead(msg_id, 1, "no", **({"unknown": True} if unknown else {}))
            assert self.receipt("read", sid=f"SM-{msg_id}", idempotency_key=msg_id)
        assert self.told("lost")[:2] == ("delivered", "read")
        found = self.stored("lost")
        assert (found.message_sid, found.last_error) == ("SM-lost", None)
        assert found.attempt_started_at is None
        assert not self.repository.force_retry("lost")
        assert self.told("refused")[:2] == ("dead", "read")

    def test_a_key_that_two_agents_used(self) -> None:
        """A receipt without a recipient may be for either: it waits for the answer of its own."""
        for msg_id, agent in (("a", "one"), ("b", "two")):
            self.add(msg_id, agent_id=agent, recipient=f"+1{agent}", idempotency_key="key-1")
            self.clock.move(1)
        self.due()
        for msg_id in ("a", "b"):
            assert self.repository.begin_attempt(msg_id, 1, self.clock())
        self.repository.mark_dead("b", 1, "lost", unknown=True)
        assert not self.receipt("read", sid="SM-a", idempotency_key="key-1")
        assert self.repository.mark_delivered("a", "SM-a", 1)
        assert self.told("a")[1] == "read"
        assert self.told("b")[:2] == ("dead", None)
        assert not self.receipt("sent", "SM-x", idempotency_key="key-1", recipient="+1three")
        assert self.receipt("sent", "SM-b", idempotency_key="key-1", recipient="whatsapp:1TWO")
        assert self.told("b")[:2] == ("delivered", "sent")

    def test_a_receipt_of_another_message_with_the_key(self) -> None:
        """The row has another id from the server, so it is not the message of the receipt."""
        self.add("a", idempotency_key="key-1")
        self.due()
        assert self.repository.begin_attempt("a", 1, self.clock())
        assert self.repository.mark_delivered("a", "SM-1", 1)
        assert not self.receipt("read", sid="SM-2", idempotency_key="key-1")
        assert self.told("a")[1] is None

    def test_a_key_of_too_many_agents(self) -> None:
        """Not all of them are looked at, so nobody knows whether there is one more."""
        for number in range(100):
            self.add(f"m{number}", agent_id=f"{number}", recipient="+2", idempotency_key="key-1")
        repository = cast("TableRepository", self.repository)
        repository.store.update("m7", {"recipient": "+1"}, Condition())
        told = {"idempotency_key": "key-1", "recipient": "+1"}
        assert not self.receipt("sent", **told)
        assert repository.dismiss_many(["m8"])
        self.clock.move(1)
        assert repository.purge(0.5, ["dismissed"]) == 1
        assert self.receipt("sent", sid="SM-2", **told)
        assert self.told("m7")[1] == "sent"

    @pytest.mark.parametrize("again", [False, True])
    def test_a_receipt_that_comes_before_its_row_is_given_up(self, again: bool) -> None:
        """It proves that the message was sent, though the answer got lost then or before."""
        self.add("a", idempotency_key="key-1")
        self.due()
        assert self.repository.begin_attempt("a", 1, self.clock())
        assert self.receipt("delivered", idempotency_key="key-1")
        if again:
            assert self.repository.increment_retry("a", 1, "lost", self.clock(), True)
            self.due()
        assert not self.repository.mark_dead("a", 1, "lost", unknown=True)
        assert self.told()[:2] == ("delivered", "delivered")
        found = self.stored("a")
        assert (found.attempt_started_at, found.last_error) == (None, None)
        assert found.message_sid == "SM-1"

    def test_a_receipt_of_a_refused_message_proves_nothing(self) -> None:
        """The server said itself that it did not take this one."""
        self.add("a", idempotency_key="key-1")
        assert self.receipt("failed", idempotency_key="key-1")
        assert self.repository.mark_dead("a", 0, "no")
        assert self.told()[:2] == ("dead", "failed")

    def test_the_same_receipt_once_more(self) -> None:
        """It came while the row was given up: the row is delivered when a receipt says so again."""
        repository = cast("TableRepository", self.repository)
        self.add("a", idempotency_key="key-1")
        self.due()
        assert self.repository.begin_attempt("a", 1, self.clock())
        assert self.repository.mark_dead("a", 1, "lost", unknown=True)
        is_dead = Condition(statuses=("dead",))
        assert repository.store.update("a", {"receipt_status": "delivered"}, is_dead)
        assert self.receipt("delivered", idempotency_key="key-1")
        assert self.told()[:2] == ("delivered", "delivered")
        assert self.stored("a").message_sid == "SM-1"

    def test_early_receipts_are_forgotten(self) -> None:
        """After a day: most are of messages that were not sent from here."""
        repository = cast("TableRepository", self.repository)
        self.begun()
        assert not self.receipt("sent", sid="x" * 300)
        early = repository._early
        assert early is not None
        assert early.store.count("kept") == 1
        self.clock.move(24 * 3600 + 1)
        early._count = iter([0])  # type: ignore[assignment]
        assert not self.receipt("sent")
        assert early.store.count("kept") == 1
        self.repository.mark_delivered("a", "SM-1", 1)
        assert self.told()[1] == "sent"

    def test_a_long_id_of_a_message(self) -> None:
        """Databases' indexes hold no long texts; it is found by its beginning."""
        self.begun()
        self.repository.mark_delivered("a", "x" * 300, 1)
        assert self.stored("a").message_sid == "x" * 255
        assert self.receipt("read", sid="x" * 300)

    def test_a_receipt_overtaken_while_it_was_written(self) -> None:
        """An earlier one that another process writes in between is replaced, a later one stays."""
        repository = cast("TableRepository", self.repository)
        self.begun()
        self.repository.mark_delivered("a", "SM-1", 1)
        find_by, meanwhile = repository.store.find_by, ["sent"]

        def find_then_write(column: str, value: str) -> Any:
            row = find_by(column, value)
            if meanwhile:
                assert self.receipt(meanwhile.pop())
            return row

        repository.store.find_by = find_then_write  # type: ignore[method-assign]
        assert self.receipt("failed")
        assert self.told()[1] == "failed"
        meanwhile.append("read")
        assert self.receipt("delivered")
        assert self.told()[1] == "read"

    @pytest.mark.parametrize("moment", ["before it is kept", "after it is kept"])
    def test_the_answer_comes_while_a_receipt_is_kept(self, moment: str) -> None:
        """At whichever moment: one of the two sees what the other wrote."""
        repository = cast("TableRepository", self.repository)
        self.begun()
        early = repository._early
        assert early is not None
        insert_new = early.store.insert_new

        def insert(rows: Any) -> int:
            if moment.startswith("before"):
                self.repository.mark_delivered("a", "SM-1", 1)
            inserted = insert_new(rows)
            if moment.startswith("after"):
                self.repository.mark_delivered("a", "SM-1", 1)
            return inserted

        early.store.insert_new = insert  # type: ignore[method-assign]
        assert self.receipt("sent")
        assert self.told()[:2] == ("delivered", "sent")

    def test_a_receipt_of_what_may_have_been_sent_stays(self) -> None:
        """A new try is with the same key; unless it is sent again whether it was sent or not."""
        self.add("a", idempotency_key="key-1")
        self.due()
        assert self.repository.begin_attempt("a", 1, self.clock())
        assert self.receipt("read", idempotency_key="key-1")
        assert self.repository.increment_retry("a", 1, "lost", self.clock(), True)
        assert self.repository.force_retry("a")
        assert self.told()[:2] == ("pending", "read")
        repository = cast("TableRepository", self.repository)
        assert self.stored("a").message_sid == "SM-1"
        assert repository.force_retry("a", even_if_sent=True)
        assert self.told()[:2] == ("pending", None)
        assert self.stored("a").message_sid is None

    def test_a_new_try_has_no_receipt_yet(self) -> None:
        """What became of an earlier attempt says nothing about it."""
        self.add("a", idempotency_key="key-1")
        assert self.receipt("failed", idempotency_key="key-1", error="no")
        assert self.repository.force_retry("a")
        assert self.told() == ("pending", None, None, None)
