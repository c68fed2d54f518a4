"""Receipts of messages: in the rows of the messages, and those that came before their rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import count

from buttdial_sync.errors.scrubbing import storable
from buttdial_sync.models.inbound import DeliveryReceipt
from buttdial_sync.stores.schema import LIST_INDEXES, ROW_COLUMNS, Column, Condition, Row, Schema
from buttdial_sync.stores.store import Store
from buttdial_sync.stores.table import as_key, cut

# Receipts may overtake each other; and what reached the recipient has reached him.
_ORDER: Mapping[str | None, int] = {
    None: -1, "queued": 0, "sent": 1, "failed": 2, "undelivered": 2, "delivered": 3, "read": 4,
}  # fmt: skip
_KEPT = "kept"
_KEPT_FOR = timedelta(days=1)
_KEPT_PER_PURGE = 1000
_PURGED_AT_ONCE = 1000


def receipts_schema(outbox_table: str) -> Schema:
    """Describe the table of receipts that come before the ids of the messages of a table."""
    of_receipt = Column("receipt_status"), Column("receipt_at", "time"), Column("receipt_error")
    return Schema(
        table=f"{outbox_table}_receipts",
        columns=(*ROW_COLUMNS, *of_receipt),
        indexes={"resolved": LIST_INDEXES["resolved"]},
    )


def receipt_columns(receipt: DeliveryReceipt, now: datetime) -> Row:
    """Return what a row keeps of a receipt."""
    error = receipt.error or receipt.error_code
    return {
        "receipt_status": receipt.status,
        "receipt_at": receipt.timestamp or now,
        "receipt_error": None if error is None else cut(storable(error)),
    }


def early_columns(early: Row) -> Row:
    """Return what a message's row gets of a receipt that came before."""
    return {name: early[name] for name in ("receipt_status", "receipt_at", "receipt_error")}


def fits(receipt: DeliveryReceipt, row: Row) -> bool:
    """Whether a row that was found by its key may be the message that a receipt is for."""
    is_other = row["message_sid"] not in {None, "", as_key(receipt.message_sid)}
    recipient = _plain(receipt.recipient or "")
    return not is_other and recipient in {"", _plain(row["recipient"])}


def _plain(recipient: str) -> str:
    """Return a recipient without what servers add or leave out, as in ``whatsapp:+1415...``."""
    return recipient.rpartition(":")[2].strip().lstrip("+").casefold()


def write_receipt(store: Store, row: Row, columns: Row, statuses: tuple[str, ...]) -> None:
    """
    Write a receipt into a row, unless the row has a later one; atomic among processes.

    Args:
        store: Has the row.
        row: As it was read.
        columns: What :func:`receipt_columns` returned.
        statuses: The row must have one of these.
    """
    found = row
    # Another process may write its receipt in between, but only a later one than was read: so this
    # ends after as many rounds as there are statuses.
    while _is_later(columns["receipt_status"], found["receipt_status"]):
        condition = Condition(statuses=statuses, values={"receipt_status": found["receipt_status"]})
        if store.update(row["id"], columns, condition):
            return
        again = store.find(row["id"])
        if again is None or again["receipt_status"] == found["receipt_status"]:
            return  # the row was deleted, or resolved in another way
        found = again


class EarlyReceipts:
    """
    Receipts that came before the answer that tells their message's id. Safe between threads.

    They are deleted after a day: most are of messages that were not sent from this table.

    Args:
        store: Has the rows, of the schema :func:`receipts_schema`.

    Attributes:
        store: Has the rows.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._count = count()

    def keep(self, message_sid: str, columns: Row) -> None:
        """Keep a receipt until somebody asks for it."""
        now = self.store.now()
        if next(self._count) % _KEPT_PER_PURGE == 0:  # the first one of a process purges too
            self.store.delete([_KEPT], now - _KEPT_FOR, _PURGED_AT_ONCE)
        key = as_key(message_sid)
        row = {"id": key, "status": _KEPT, "created_at": now, "resolved_at": now, **columns}
        if not self.store.insert_new([row]):
            earlier = self.store.find(key)
            if earlier is not None:
                write_receipt(self.store, earlier, columns, (_KEPT,))


def _is_later(status: str, known: str | None) -> bool:
    return _ORDER.get(status, 0) > _ORDER.get(known, 0)
