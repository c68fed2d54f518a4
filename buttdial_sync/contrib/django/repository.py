"""Messages in the host's database, by way of Django's ORM."""

from __future__ import annotations

from functools import partial

from buttdial_sync.contrib.django.store import DatabaseStore
from buttdial_sync.retry.pauses import pauses_schema
from buttdial_sync.retry.receipts import receipts_schema
from buttdial_sync.retry.rows import TABLE_NAME, outbox_schema
from buttdial_sync.retry.table import TableRepository
from buttdial_sync.stores.table import DEFAULT_LEASE
from buttdial_sync.stores.times import Clock


class DatabaseRepository(TableRepository):
    """
    A repository in a table of the host's database, with Django's connections and router.

    For PostgreSQL and SQLite; ``manage.py check`` refuses MySQL and MariaDB. Safe to share between
    threads and across forks.

    ``add`` takes part in the transaction that is open in this thread: so
    :meth:`~buttdial_sync.Outbox.enqueue` inside ``transaction.atomic`` writes a message that is
    there when the host commits. What has to be on disk before a message leaves is a transaction of
    its own, and raises ``RuntimeError`` inside one of the host's, before anything is sent.

    Args:
        lease: How long a fetched message is kept from the others, in seconds; longer than the
            client's ``timeout``.
        keep_tokens: Whether the tokens of agents are written into the rows.
        using: The database's alias; that of the router when None.
        clock: Tells the time, aware; PostgreSQL's own when None, so that machines whose clocks
            differ agree about leases. On SQLite this machine's.
    """

    store: DatabaseStore

    def __init__(
        self,
        *,
        lease: float = DEFAULT_LEASE,
        keep_tokens: bool = False,
        using: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        # Their names in the database are the models'.
        table = partial(DatabaseStore, using=using, clock=clock)
        super().__init__(
            table(outbox_schema(), "OutboxMessage"),
            lease=lease,
            keep_tokens=keep_tokens,
            early_receipts=table(receipts_schema(TABLE_NAME), "OutboxReceipt"),
            pauses=table(pauses_schema(TABLE_NAME), "OutboxPause"),
        )

    @property
    def alias(self) -> str:
        """The alias of the database."""
        return self.store.alias
