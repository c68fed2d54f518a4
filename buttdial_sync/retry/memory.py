"""Messages in memory: for tests, and for hosts that can afford to lose them."""

from __future__ import annotations

from buttdial_sync.retry.pauses import pauses_schema
from buttdial_sync.retry.receipts import receipts_schema
from buttdial_sync.retry.rows import TABLE_NAME, outbox_schema
from buttdial_sync.retry.table import TableRepository
from buttdial_sync.stores.memory import MemoryStore
from buttdial_sync.stores.table import DEFAULT_LEASE
from buttdial_sync.stores.times import Clock


class MemoryRepository(TableRepository):
    """
    A repository of one process. Safe to share between threads; all is lost when the process ends.

    Args:
        lease: As in :class:`~buttdial_sync.retry.table.TableRepository`.
        keep_tokens: As there.
        clock: Tells the time, aware.
    """

    def __init__(
        self,
        *,
        lease: float = DEFAULT_LEASE,
        keep_tokens: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            MemoryStore(outbox_schema(), clock),
            lease=lease,
            keep_tokens=keep_tokens,
            early_receipts=MemoryStore(receipts_schema(TABLE_NAME), clock),
            pauses=MemoryStore(pauses_schema(TABLE_NAME), clock),
        )
