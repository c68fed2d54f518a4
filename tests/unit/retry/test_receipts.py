"""Which receipt a row keeps, and how long receipts wait for their messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from itertools import pairwise, product
from typing import Any

import pytest

from buttdial_sync import DeliveryReceipt
from buttdial_sync.retry.receipts import (
    EarlyReceipts,
    early_columns,
    receipt_columns,
    receipts_schema,
    write_receipt,
)
from buttdial_sync.stores.memory import MemoryStore
from buttdial_sync.stores.schema import Condition, Row

START = datetime(2026, 1, 2, tzinfo=timezone.utc)
# Those of one step stand for each other: the first one stays.
STEPS = (("queued", "unheard of"), ("sent",), ("failed", "undelivered"), ("delivered",), ("read",))


class Bench:
    """Receipts of the ids that come, and a clock."""

    def __init__(self) -> None:
        self.now = START
        self.store = MemoryStore(receipts_schema("outbox"), lambda: self.now)
        self.early = EarlyReceipts(self.store)

    def keep(self, status: str, sid: str = "SM-1") -> None:
        receipt = DeliveryReceipt(message_sid=sid, status=status, channel="sms")
        self.early.keep(sid, receipt_columns(receipt, self.now))

    def kept(self, sid: str = "SM-1") -> Row | None:
        return self.store.find(sid)


def kept_row(sid: str) -> Row:
    """A row without a receipt."""
    nothing = dict.fromkeys(("receipt_status", "receipt_at", "receipt_error"))
    return {"id": sid, "status": "kept", "created_at": START, "resolved_at": START, **nothing}


@pytest.fixture
def here() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [pair for first, then in pairwise(STEPS) for pair in product(first, then)],
)
def test_receipts_overtake_each_other(here: Bench, earlier: str, later: str) -> None:
    """The later step is kept, in whichever order they come."""
    for sid, order in (("a", (earlier, later)), ("b", (later, earlier))):
        for status in order:
            here.keep(status, sid)
        row = here.kept(sid)
        assert row is not None
        assert row["receipt_status"] == later


@pytest.mark.parametrize(
    ("first", "second"), [pair for step in STEPS for pair in product(step, step)]
)
def test_the_first_of_a_step_stays(here: Bench, first: str, second: str) -> None:
    """Once more is not later, and neither is another word for the same."""
    here.keep(first)
    here.now += timedelta(seconds=1)
    here.keep(second)
    row = here.kept()
    assert row is not None
    assert (row["receipt_status"], row["receipt_at"]) == (first, START)


@pytest.mark.parametrize("status", ["queued", "unheard of"])
def test_any_receipt_is_later_than_none(here: Bench, status: str) -> None:
    """Also one of a status that we do not know."""
    here.store.insert(kept_row("SM-1"))
    here.keep(status)
    row = here.kept()
    assert row is not None
    assert row["receipt_status"] == status


def test_the_table() -> None:
    """Its name is that of the outbox; what every row has is required."""
    schema = receipts_schema("outbox")
    assert schema.table == "outbox_receipts"
    columns = [(column.name, column.kind) for column in schema.columns if column.required]
    assert columns == [("id", "key"), ("status", "word"), ("created_at", "time")]
    assert [column.name for column in schema.columns] == [*kept_row("SM-1")]


def test_a_purge_is_short(here: Bench) -> None:
    """A thousand at most: others wait for the table."""
    here.store.insert_new([kept_row(str(number)) for number in range(1001)])
    here.now += timedelta(days=2)
    here.keep("sent")
    assert len(here.store._rows) == 2


class Busy(MemoryStore):
    """Another process changes the row before the first write."""

    def __init__(self, change: Callable[[MemoryStore], object]) -> None:
        super().__init__(receipts_schema("outbox"), lambda: START)
        self.meanwhile = [change]

    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        if self.meanwhile:
            self.meanwhile.pop()(self)
        return super().update(row_id, changes, condition)


KEPT = Condition(statuses=("kept",))


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda store: store.update("S", {"receipt_status": "sent"}, KEPT), "delivered"),
        (lambda store: store.update("S", {"receipt_status": "read"}, KEPT), "read"),
        (lambda store: store.update("S", {"status": "taken"}, KEPT), "queued"),
        (lambda store: store.delete(["kept"], START + timedelta(1), 9), None),
    ],
    ids=["an earlier one", "a later one", "it is resolved", "it is deleted"],
)
def test_processes_that_write_at_the_same_time(
    change: Callable[[MemoryStore], object], left: str | None
) -> None:
    """The latest receipt stays, and none is written into a row that is resolved."""
    early = EarlyReceipts(Busy(change))
    for status in ("queued", "delivered"):
        receipt = DeliveryReceipt(message_sid="S", status=status, channel="sms")
        early.keep("S", receipt_columns(receipt, START))
    row = early.store.find("S")
    assert (None if row is None else row["receipt_status"]) == left


def test_what_a_row_keeps() -> None:
    """The server's time, else ours; the words of an error, else its code."""
    told = START - timedelta(hours=1)
    receipt = DeliveryReceipt(
        message_sid="S",
        status="failed",
        channel="sms",
        timestamp=told,
        error="no\0",
        error_code="7",
    )
    assert receipt_columns(receipt, START) == {
        "receipt_status": "failed",
        "receipt_at": told,
        "receipt_error": "no\ufffd",
    }
    bare = DeliveryReceipt(message_sid="S", status="failed", channel="sms", error_code="7")
    assert receipt_columns(bare, START)["receipt_error"] == "7"
    assert receipt_columns(bare, START)["receipt_at"] == START


def test_what_changes_with_a_receipt(here: Bench) -> None:
    """Nothing but what the receipt says, and a message's row gets all of that."""
    here.keep("sent")
    row = here.kept()
    assert row is not None
    receipt = DeliveryReceipt(message_sid="SM-1", status="read", channel="sms")
    columns = receipt_columns(receipt, here.now)
    write_receipt(here.store, row, columns, ("kept",))
    written = here.kept()
    assert written == {**row, **columns}
    assert early_columns(written) == columns


def test_receipts_wait_for_a_day(here: Bench) -> None:
    """The thousandth after the last look deletes those that nobody asked for."""
    here.keep("sent", "old")
    here.now += timedelta(days=1)
    here.keep("sent", "kept")
    for number in range(998):
        here.keep("sent", str(number))
    assert here.kept("old") is not None
    here.now += timedelta(microseconds=1)
    here.keep("sent", "one more")
    assert here.kept("old") is None
    assert here.kept("kept") is not None
