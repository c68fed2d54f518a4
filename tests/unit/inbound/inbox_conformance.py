"""What every inbox does, over whichever store."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs

from buttdial_sync import (
    Attachment,
    DeliveryReceipt,
    InboundMessage,
    Location,
    StatusUpdate,
    UnreadableEvent,
)
from buttdial_sync.inbound.inbox import Inbox
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.stores.schema import Condition
from buttdial_sync.testing.conformance import Clock, SettableClock

LEASE = 300.0
SECONDS = 30.0


def message(msg_id: str | None, sender: str = "+1", **fields: Any) -> InboundMessage:
    return InboundMessage(id=msg_id, sender=sender, channel="sms", verified=True, **fields)


def id_of(event: InboundEvent | None) -> str | None:
    return getattr(event, "id", None)


class InboxConformance:
    def make_inbox(self, clock: Clock, lease: float) -> Inbox:
        raise NotImplementedError

    def setup_method(self) -> None:
        self.clock = SettableClock()
        self.inbox = self.make_inbox(self.clock, LEASE)

    def write(self, *ids: str, sender: str = "+1") -> None:
        assert self.inbox.write([message(each, sender) for each in ids]) == len(ids)

    def write_late(self, msg_id: str) -> None:
        """Write as another process does, whose clock is five seconds late."""
        self.clock.move(-5)
        assert Inbox(self.inbox.store).write([message(msg_id)]) == 1
        self.clock.move(5)

    def take(self) -> str | None:
        stored = self.inbox.take()
        return None if stored is None else id_of(stored.event)

    def test_every_field_comes_back(self) -> None:
        """Also what no database can hold as it is: NUL, half a character."""
        now = datetime(2026, 5, 1, 12, 30, 0, 123456, tzinfo=timezone.utc)
        events: list[InboundEvent] = [
            InboundMessage(
                id="a", sender="+1", channel="whatsapp", text="Größe ✓ '\"\\", type="location",
                attachments=(Attachment(filename="a.png", size=3),), is_group=True,
                location=Location(latitude=1.5, longitude=-2.0), contacts=({"n": 1},),
                agent_id="agent-1", session={"k": [1, None]}, received_at=now, source="queue",
                verified=True, raw={"odd": "\x00 \ud800", "n": 1.5},
            ),
            DeliveryReceipt(message_sid="s", status="read", channel="sms", timestamp=now),
            StatusUpdate(kind="outbound_failed", detail="why", id="u", text="x"),
            UnreadableEvent(reason="no sender", id="b", raw={"body": 7}),
        ]  # fmt: skip
        assert self.inbox.write(events) == 4
        for event in events:
            stored = self.inbox.take()
            assert stored is not None
            assert stored.event == event
            assert getattr(stored.event, "raw", None) == getattr(event, "raw", None)
            assert (stored.kind, stored.attempt_number) == (type(event).__name__, 1)
            for name in ("channel", "sender", "agent_id"):
                assert getattr(stored, name) == getattr(event, name, None)
        assert self.inbox.take() is None

    def test_an_event_is_stored_once(self) -> None:
        """However it comes; what is unsigned does not stand for what is signed."""
        first = message("a", text="first")
        assert self.inbox.write([first, first]) == 1
        assert self.inbox.write([message("a", text="second", source="push")]) == 0
        assert self.inbox.write([attrs.evolve(first, verified=False)]) == 1
        assert self.inbox.write([]) == 0
        texts = [getattr(each.event, "text", None) for each in self.inbox.list()]
        assert texts == ["first", "first"]
        assert self.inbox.write([message(None), message(None)]) == 2

    def test_a_page_is_stored_whole_or_not_at_all(self) -> None:
        """What cannot be written leaves nothing of its page behind."""
        broken = attrs.evolve(message("b"), raw=object())
        try:
            self.inbox.write([message("a"), broken])
        except TypeError:
            assert self.inbox.stats()["pending"] == 0
        else:
            raise AssertionError("an object was written")

    def test_one_sender_is_handled_in_order(self) -> None:
        """The next one is free when the one before is handled; others do not wait."""
        self.write("a1", "a2", "a3")
        self.write("b1", sender="+2")
        first, other = self.inbox.take(), self.inbox.take()
        assert first is not None
        assert other is not None
        assert (id_of(first.event), id_of(other.event)) == ("a1", "b1")
        assert self.take() is None
        assert self.inbox.mark_handled(first)
        assert self.take() == "a2"
        assert self.take() is None
        assert self.inbox.stats() == {"pending": 3, "handled": 1, "dead": 0, "dismissed": 0}

    def test_an_older_one_that_is_written_late_waits(self) -> None:
        """A slow process, or one whose clock is late, writes it while a younger one is handled."""
        self.write("a2", "a3")
        first = self.inbox.take()
        assert first is not None
        self.write_late("a1")
        assert self.take() is None
        self.write("b1", sender="+2")
        assert self.take() == "b1"
        assert self.inbox.mark_handled(first)
        assert self.take() == "a1"

    def test_an_older_one_that_is_written_late_goes_first(self) -> None:
        """While none of its sender is being handled."""
        self.write("a2")
        self.write_late("a1")
        assert self.take() == "a1"
        assert self.take() is None

    def test_a_failure_holds_up_its_sender_only(self) -> None:
        """Until its time, or until it is given up."""
        self.write("a1", "a2")
        stored = self.inbox.take()
        assert stored is not None
        later = self.clock() + timedelta(seconds=30)
        assert self.inbox.keep(stored, "broken", later, self.clock())
        assert self.take() is None
        self.write("b1", sender="+2")
        assert self.take() == "b1"
        self.clock.move(30)
        again = self.inbox.take()
        assert again is not None
        assert (id_of(again.event), again.retry_count, again.last_error) == ("a1", 2, "broken")
        assert again.first_failed_at == later - timedelta(seconds=30)
        assert self.inbox.mark_dead(again, "broken")
        assert self.take() == "a2"
        assert [each.last_error for each in self.inbox.list("dead")] == ["broken"]

    def test_a_lease_that_ran_out_is_taken_over(self) -> None:
        """And who had it cannot record anything any more."""
        self.write("a")
        first = self.inbox.take()
        assert first is not None
        self.clock.move(LEASE - 1)
        assert self.inbox.extend_lease(first.id, first.attempt_number)
        self.clock.move(LEASE - 1)
        assert self.take() is None
        self.clock.move(1)
        second = self.inbox.take()
        assert second is not None
        assert (second.attempt_number, second.retry_count) == (2, 2)
        for change in (self.inbox.mark_handled, self.inbox.put_back):
            assert not change(first)
        assert not self.inbox.mark_dead(first, "late")
        assert not self.inbox.extend_lease(first.id, first.attempt_number)
        assert self.inbox.mark_handled(second)

    def test_a_lease_that_was_given_back_is_not_extended(self) -> None:
        """The thread that extends leases may come late: the event is free for the next attempt."""
        self.write("a")
        now = self.clock()
        for give_back in (
            lambda stored: self.inbox.keep(stored, "failed", now, now),
            lambda stored: self.inbox.postpone(stored, "busy", now),
            self.inbox.put_back,
        ):
            stored = self.inbox.take()
            assert stored is not None
            assert give_back(stored)
            assert not self.inbox.extend_lease(stored.id, stored.attempt_number)
            assert self.inbox.leased() == {}

    def test_put_back(self) -> None:
        """At once free again; the attempt does not count, but its number is never used again."""
        self.write("a")
        first = self.inbox.take()
        assert first is not None
        assert self.inbox.put_back(first)
        second = self.inbox.take()
        assert second is not None
        assert (second.retry_count, second.attempt_number) == (1, 2)

    def test_dead_letters(self) -> None:
        """They can be retried, dismissed and purged, but not while they are being handled."""
        self.write("a")
        stored = self.inbox.take()
        assert stored is not None
        assert not self.inbox.force_retry(stored.id)
        assert not self.inbox.dismiss(stored.id)
        assert self.inbox.mark_dead(stored, "broken")
        assert self.inbox.force_retry(stored.id)
        again = self.inbox.take()
        assert again is not None
        assert (again.retry_count, again.first_failed_at) == (1, None)
        assert self.inbox.mark_dead(again, "broken")
        assert self.inbox.dismiss(stored.id)
        assert not self.inbox.force_retry(stored.id)
        assert not self.inbox.force_retry("nobody")
        self.clock.move(10)
        assert self.inbox.purge(9) == 1
        assert self.inbox.get(stored.id) is None

    def test_a_row_that_cannot_be_read_harms_itself(self) -> None:
        """It becomes a dead letter and is listed as it is; the others are handed out."""
        self.write("a1", "a2")
        bad = self.inbox.list()[-1]
        assert self.inbox.store.update(bad.id, {"payload": "{"}, Condition())
        taken = self.inbox.take()
        assert taken is not None
        assert (taken.id, taken.event, taken.status) == (bad.id, None, "dead")
        assert str(taken.unreadable).startswith("JSONDecodeError")
        assert [each.unreadable for each in self.inbox.list("dead")] == [taken.unreadable]
        assert self.take() == "a2"
        assert self.inbox.force_retry(bad.id)

    def test_threads_get_each_event_once_and_in_order(self) -> None:
        """Whoever takes: of one sender the next one comes when the one before is handled."""
        senders, each = 6, 5
        for number in range(each):
            self.inbox.write([message(f"{who}-{number}", f"+{who}") for who in range(senders)])
        got: list[tuple[str, int]] = []
        failures: list[Exception] = []

        def work() -> None:
            try:
                with self.inbox.around():
                    while (stored := self.inbox.take()) is not None:
                        who, _, number = str(id_of(stored.event)).partition("-")
                        got.append((who, int(number)))
                        assert self.inbox.mark_handled(stored)
            except Exception as error:  # noqa: BLE001 - told by the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        work()
        assert failures == []
        assert len(got) == senders * each
        for who in map(str, range(senders)):
            assert [number for name, number in got if name == who] == list(range(each))
