"""
What every repository has to do, as tests that a host runs against its own.

::

    from buttdial_sync.testing.conformance import RepositoryConformance

    class TestMyRepository(RepositoryConformance):
        def make_repository(self, clock, lease):
            return MyRepository(clock=clock, lease=lease)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

import attrs

from buttdial_sync.errors import ArgumentValueError
from buttdial_sync.models.failed import FailedMessage, FailedStatus
from buttdial_sync.retry.repository import AdminFailedMessageRepository, OutboxRepository

LEASE = 300.0
START = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=timezone.utc)
_SECONDS_FOR_THREADS = 30.0
_THREADS = 4

Clock = Callable[[], datetime]


class FullRepository(AdminFailedMessageRepository, OutboxRepository, Protocol):
    """Everything that the suite tries."""


class SettableClock:
    """A clock that does not move by itself."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def move(self, seconds: float) -> datetime:
        """Go on, or back; return the new time."""
        self.now += timedelta(seconds=seconds)
        return self.now


class RepositoryConformance:
    """
    The suite. Subclass it, with a name that begins with ``Test``, and give :meth:`make_repository`.

    Each test gets an empty repository. One test uses threads: a host whose test database cannot be
    reached from threads overrides :meth:`test_nobody_gets_what_another_fetched`.
    """

    def make_repository(self, clock: Clock, lease: float) -> FullRepository:
        """
        Return an empty repository.

        Args:
            clock: What it has to read the time from.
            lease: How long it has to keep a fetched message from others, in seconds.
        """
        raise NotImplementedError

    def setup_method(self) -> None:
        """Make a clock and an empty repository before each test."""
        self.clock = SettableClock()
        self.repository = self.make_repository(self.clock, LEASE)

    def add(self, msg_id: str, *, due: float = 0.0, **fields: Any) -> FailedMessage:
        """Write a message that is due in some seconds, and return it."""
        message = attrs.evolve(
            FailedMessage(id=msg_id, recipient="+14155550123", body="Hello"),
            created_at=self.clock(),
            next_retry_at=self.clock() + timedelta(seconds=due),
            **fields,
        )
        self.repository.add(message)
        return message

    def stored(self, msg_id: str) -> FailedMessage:
        """Return a message as it is in the repository."""
        found = [message for message in self.repository.list(limit=1000) if message.id == msg_id]
        _equal(len(found), 1, f"messages with the id {msg_id}")
        return found[0]

    def due(self, limit: int = 10) -> list[str]:
        """Fetch, and return the ids."""
        return [message.id for message in self.repository.fetch_due(limit)]

    def begun(self, msg_id: str = "a") -> FailedMessage:
        """Add, fetch and begin a message; return it as it was fetched."""
        self.add(msg_id)
        fetched = self.repository.fetch_due(1)[0]
        _true(self.repository.begin_attempt(msg_id, 1, self.clock()), "begin_attempt says True")
        return fetched

    def test_it_says_its_lease(self) -> None:
        """The lease can be asked for."""
        _equal(self.repository.lease, LEASE, "the lease")

    def test_every_field_comes_back(self) -> None:
        """Messages are fetched as they were added, with special texts, large bodies and times."""
        message = self.add(
            "a",
            agent_name="Ana",
            agent_id="agent-1",
            idempotency_key="key",
            thread_id="thread",
            entity_id="entity",
            reply_msg_id="reply",
            media_url="https://a.example/b.png",
            subject="Größe ✓ '\"\\",
            html="<b>Hello</b>",
            template_id="template",
            template_vars={"name": "Zoë", "empty": ""},
            sender_sid="sender",
            sender_name="Shop",
            language="en",
            fallback_channels=("sms", "email"),
            scheduled_at="2026-04-01T00:00:00Z",
            target_gender="unknown",
            last_error="refused",
            retry_count=2,
            max_retries=7,
            priority=3,
            ordering_key="order-7",
            expires_at=self.clock() + timedelta(days=1, microseconds=1),
            seconds_waited=90,
        )
        large = attrs.evolve(
            message,
            id="large",
            body="ü" * (1024 * 1024),
            idempotency_key="another",
            ordering_key="order-8",
        )
        self.repository.add(large)
        found = {each.id: each for each in self.repository.fetch_due(10)}
        _equal(found["a"], message, "the message")
        _equal(found["large"], large, "the large message")

    def test_an_id_is_taken_once(self) -> None:
        """A second message with the same id is refused, and the first stays."""
        self.add("a")
        _raises(ArgumentValueError, lambda: self.add("a", thread_id="other"))
        _equal(self.stored("a").thread_id, None, "the thread of the first")

    def test_oldest_due_first(self) -> None:
        """Due messages come in the order of their times, and not more than asked for."""
        for msg_id, due in (("b", -20.0), ("c", -10.0), ("a", -30.0), ("d", 10.0)):
            self.add(msg_id, due=due)
        _equal(self.due(2), ["a", "b"], "the first two")
        _equal(self.due(2), ["c"], "the rest that is due")
        self.clock.move(10.0)
        _equal(self.due(2), ["d"], "what is due later")

    def test_a_message_without_a_time_is_due_at_once(self) -> None:
        """``next_retry_at`` may be None."""
        self.repository.add(FailedMessage(id="a", recipient="+1", body="x"))
        _equal(self.due(), ["a"], "what is due")

    def test_a_lease_keeps_a_message_until_it_ends(self) -> None:
        """Fetched messages come again only when their lease is over."""
        self.add("a")
        _equal(self.due(), ["a"], "the first fetch")
        self.clock.move(LEASE - 1)
        _equal(self.due(), [], "while the lease runs")
        self.clock.move(1)
        _equal(self.due(), ["a"], "when it is over")

    def test_beginning_starts_the_lease_anew(self) -> None:
        """An attempt has a whole lease, and the row says when it began."""
        self.add("a")
        self.due()
        began = self.clock.move(LEASE - 1)
        _true(self.repository.begin_attempt("a", 1, began), "begin_attempt says True")
        _equal(self.stored("a").attempt_started_at, began, "attempt_started_at")
        _equal(self.stored("a").retry_count, 1, "retry_count")
        self.clock.move(LEASE - 1)
        _equal(self.due(), [], "while the lease runs")
        self.clock.move(1)
        again = self.repository.fetch_due(1)[0]
        _equal(again.attempt_started_at, began, "attempt_started_at after a lease that ran out")
        _equal(again.retry_count, 1, "retry_count after a lease that ran out")

    def test_only_one_begins(self) -> None:
        """Of two that fetched the same message one after the other, one may send it."""
        self.add("a")
        self.due()
        self.clock.move(LEASE)
        self.due()
        _true(self.repository.begin_attempt("a", 1, self.clock()), "the first begins")
        _true(not self.repository.begin_attempt("a", 1, self.clock()), "the second does not")

    def test_a_message_added_with_an_attempt_is_leased(self) -> None:
        """An outbox's message is kept from others while its writer sends it."""
        self.add("a", attempt_started_at=self.clock())
        _equal(self.due(), [], "while the lease runs")
        self.clock.move(LEASE)
        _equal(self.due(), ["a"], "when it is over")

    def test_delivered(self) -> None:
        """A delivered message is done, and has the server's id."""
        self.begun()
        _done(self.repository.mark_delivered("a", "SM-1", 1))
        found = self.stored("a")
        _equal((found.status, found.message_sid), ("delivered", "SM-1"), "the row")
        _equal((found.resolved_at, found.attempt_started_at), (self.clock(), None), "its times")
        self._is_done()

    def test_delivered_without_an_id(self) -> None:
        """A server may give no id."""
        self.begun()
        self.repository.mark_delivered("a", None, 1)
        _equal(self.stored("a").status, "delivered", "the status")

    def test_retried(self) -> None:
        """A failed message is due at its time, with the attempt counted and closed."""
        self.begun()
        later = self.clock() + timedelta(minutes=2)
        _done(self.repository.increment_retry("a", 1, "refused", later))
        found = self.stored("a")
        _equal((found.status, found.retry_count), ("pending", 1), "the row")
        _equal((found.last_error, found.next_retry_at), ("refused", later), "why and when")
        _equal(found.attempt_started_at, None, "attempt_started_at")
        _equal(self.due(), [], "before its time")
        self.clock.move(120)
        _equal(self.due(), ["a"], "at its time")

    def test_retried_with_an_unknown_outcome(self) -> None:
        """A message that may have been sent keeps its mark."""
        self.begun()
        began = self.clock()
        self.repository.increment_retry("a", 1, "lost", self.clock.move(1), unknown=True)
        _equal(self.stored("a").attempt_started_at, began, "attempt_started_at")
        _equal(self.due(), ["a"], "what is due")

    def test_dead(self) -> None:
        """A message that was given up says why, and is not due any more."""
        self.begun()
        _done(self.repository.mark_dead("a", 1, "no consent"))
        found = self.stored("a")
        _equal((found.status, found.last_error), ("dead", "no consent"), "the row")
        _equal(found.attempt_started_at, None, "attempt_started_at")
        self._is_done()

    def test_dead_with_an_unknown_outcome(self) -> None:
        """A message that was given up and may have been sent keeps its mark."""
        self.begun()
        began = self.clock()
        self.clock.move(1)
        self.repository.mark_dead("a", 1, "lost", unknown=True)
        found = self.stored("a")
        _equal((found.status, found.attempt_started_at), ("dead", began), "the row")
        self._is_done()

    def test_postponed_after_it_began(self) -> None:
        """An attempt that does not count leaves the row as it was fetched, due later."""
        fetched = self.begun()
        later = self.clock() + timedelta(seconds=30)
        _done(self.repository.postpone(fetched, 1, "limit", later))
        found = self.stored("a")
        _equal((found.retry_count, found.attempt_started_at), (0, None), "the attempt")
        _equal(found.last_error, "limit", "the reason")
        self.clock.move(30)
        _equal(self.due(), ["a"], "at its time")

    def test_postponed_before_it_began(self) -> None:
        """A message that was fetched and not tried is free again."""
        self.add("a", last_error="before")
        fetched = self.repository.fetch_due(1)[0]
        self.repository.postpone(fetched, 0, None, self.clock())
        _equal(self.stored("a").last_error, "before", "the reason")
        _equal(self.due(), ["a"], "what is due")

    def test_settling_is_fenced(self) -> None:
        """A process that lost a message to another one cannot change it."""
        fetched = self.begun()
        self.clock.move(LEASE)
        self.due()
        _true(self.repository.begin_attempt("a", 2, self.clock()), "another takes it over")
        before = self.stored("a")
        late: Sequence[Callable[[], bool | None]] = (
            lambda: self.repository.mark_delivered("a", "SM-1", 1),
            lambda: self.repository.increment_retry("a", 1, "late", self.clock()),
            lambda: self.repository.mark_dead("a", 1, "late"),
            lambda: self.repository.postpone(fetched, 1, "late", self.clock()),
            lambda: self.repository.begin_attempt("a", 2, self.clock()),
        )
        for call in late:
            _refused(call())
            _equal(self.stored("a"), before, "the row")

    def test_a_settled_message_stays_settled(self) -> None:
        """The end of an attempt is recorded once."""
        self.begun()
        self.repository.mark_delivered("a", "SM-1", 1)
        _refused(self.repository.mark_dead("a", 1, "late"))
        _refused(self.repository.increment_retry("a", 1, "late", self.clock()))
        _equal(self.stored("a").status, "delivered", "the status")

    def test_nobody_gets_what_another_fetched(self) -> None:
        """Threads that fetch at once get each message once."""
        count = 40
        for number in range(count):
            self.add(f"m{number}")
        got: list[str] = []
        failures: list[Exception] = []
        barrier = threading.Barrier(_THREADS)

        def fetch() -> None:
            try:
                barrier.wait(_SECONDS_FOR_THREADS)
                for _ in range(count):
                    got.extend(self.due(3))
            except Exception as error:  # noqa: BLE001 - told by the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=fetch, daemon=True) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_SECONDS_FOR_THREADS)
        _equal(failures, [], "failures")
        _equal(sorted(got), sorted(f"m{number}" for number in range(count)), "what was fetched")

    def test_list_is_newest_first(self) -> None:
        """The admin's list is ordered, filtered and bounded."""
        for msg_id in ("a", "b", "c"):
            self.add(msg_id)
            self.clock.move(1)
        self.repository.dismiss("b")
        _equal(self._ids(), ["c", "b", "a"], "all")
        _equal(self._ids("pending"), ["c", "a"], "the pending ones")
        _equal(self._ids(limit=1), ["c"], "one")
        _equal(self.repository.count_pending(), 2, "the number of pending ones")

    def test_force_retry_revives(self) -> None:
        """A dead message is due at once, with an attempt left."""
        self._dead(unknown=False)
        _true(self.repository.force_retry("a"), "force_retry says True")
        self._is_revived(None)

    def test_force_retry_keeps_that_it_may_have_been_sent(self) -> None:
        """A dead message that may have been sent is due with its mark and its key."""
        began = self._dead(unknown=True)
        _true(self.repository.force_retry("a"), "force_retry says True")
        self._is_revived(began)

    def test_force_retry_even_if_sent(self) -> None:
        """Only ``even_if_sent`` removes the mark; the key stays."""
        self._dead(unknown=True)
        _true(self.repository.force_retry("a", even_if_sent=True), "force_retry says True")
        self._is_revived(None)

    def test_force_retry_of_an_interrupted_attempt(self) -> None:
        """A message whose sender died keeps the mark too, and loses it only on demand."""
        self.begun()
        began = self.clock()
        self.clock.move(LEASE)
        _true(self.repository.force_retry("a"), "force_retry says True")
        _equal(self.stored("a").attempt_started_at, began, "attempt_started_at")
        _true(self.repository.force_retry("a", even_if_sent=True), "force_retry says True")
        _equal(self.stored("a").attempt_started_at, None, "attempt_started_at on demand")

    def test_force_retry_makes_a_pending_message_due(self) -> None:
        """A message that waits need not wait."""
        self.add("a", due=600.0)
        _true(self.repository.force_retry("a"), "force_retry says True")
        _equal(self.due(), ["a"], "what is due")

    def test_dismissed(self) -> None:
        """A dismissed message is not sent, and cannot be revived or dismissed again."""
        self.add("a")
        _true(self.repository.dismiss("a"), "dismiss says True")
        _equal(self.stored("a").status, "dismissed", "the status")
        _true(not self.repository.dismiss("a"), "dismiss says False")
        _true(not self.repository.force_retry("a"), "force_retry says False")
        _equal(self.due(), [], "what is due")

    def test_nobody_meddles_with_a_message_on_its_way(self) -> None:
        """While a lease runs a message can be neither dismissed nor made due."""
        self.begun()
        _true(not self.repository.dismiss("a"), "dismiss says False")
        _true(not self.repository.force_retry("a"), "force_retry says False")
        self.clock.move(LEASE)
        _true(self.repository.dismiss("a"), "dismiss says True after the lease")

    def test_what_is_not_there(self) -> None:
        """An unknown id is nobody's message."""
        _true(not self.repository.begin_attempt("a", 1, self.clock()), "begin_attempt says False")
        _true(not self.repository.force_retry("a"), "force_retry says False")
        _true(not self.repository.dismiss("a"), "dismiss says False")
        self.repository.mark_delivered("a", "SM-1", 1)
        _equal(self._ids(), [], "what is there")

    def _dead(self, *, unknown: bool) -> datetime:
        """Leave a message that was given up; return when its attempt began."""
        began = self.clock()
        self.add("a", retry_count=5, attempt_started_at=began, idempotency_key="key")
        self.clock.move(LEASE)
        self.due()
        self.repository.mark_dead("a", 5, "lost", unknown=unknown)
        return began

    def _is_revived(self, began: datetime | None) -> None:
        found = self.repository.fetch_due(1)[0]
        _true(found.max_retries > found.retry_count, "an attempt is left")
        _equal((found.status, found.resolved_at), ("pending", None), "the row")
        _equal(found.attempt_started_at, began, "attempt_started_at")
        _equal(found.idempotency_key, "key", "the key")

    def _is_done(self) -> None:
        self.clock.move(10 * LEASE)
        _equal(self.due(), [], "what is due")

    def _ids(self, status: FailedStatus | None = None, limit: int = 50) -> list[str]:
        return [message.id for message in self.repository.list(status, limit)]


def _equal(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found!r} instead of {wanted!r}")


def _true(value: object, what: str) -> None:
    if not value:
        raise AssertionError(f"not so: {what}")


def _refused(answer: bool | None) -> None:
    if answer is not False:
        raise AssertionError(f"it has to return False where it changes nothing, not {answer!r}")


def _done(answer: bool | None) -> None:
    if answer is False:
        raise AssertionError("it has to return True or None where it changes the row, not False")


def _raises(kind: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"no {kind.__name__} was raised")
