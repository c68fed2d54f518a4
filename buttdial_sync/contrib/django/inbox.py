"""The inbox of a Django project: what came in, in the host's database."""

from __future__ import annotations

from datetime import timedelta

from buttdial_sync.contrib.django.conf import app_settings
from buttdial_sync.contrib.django.store import DatabaseStore, fresh_connections
from buttdial_sync.inbound.inbox import WEEK, Inbox, inbox_schema
from buttdial_sync.stores.table import DEFAULT_LEASE
from buttdial_sync.stores.times import Clock


class DatabaseInbox(Inbox):
    """
    An inbox in a table of the host's database, with Django's connections and router.

    For PostgreSQL and SQLite; ``manage.py check`` refuses MySQL and MariaDB. Safe to share between
    threads and across forks. ``write`` takes part in the transaction that is open in this thread.

    Args:
        lease: As in :class:`~buttdial_sync.Inbox`.
        keep_for: As there.
        using: The database's alias; that of the router when None.
        clock: Tells the time, aware; PostgreSQL's own, or this machine's, when None.
    """

    store: DatabaseStore

    def __init__(
        self,
        *,
        lease: float = DEFAULT_LEASE,
        keep_for: timedelta = WEEK,
        using: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        store = DatabaseStore(inbox_schema(), "InboxEvent", using=using, clock=clock)
        super().__init__(store, lease=lease, keep_for=keep_for, around=fresh_connections)


def get_inbox() -> DatabaseInbox | None:
    """
    Return an inbox of the settings; None if ``INBOX`` is False.

    It keeps nothing itself but the order of what it writes, so each call may make another.

    Raises:
        ArgumentValueError: The lease is wrong.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    configured = app_settings()
    if configured.inbox is False:
        return None
    lease = {} if configured.lease is None else {"lease": configured.lease}
    return DatabaseInbox(**{**lease, **configured.inbox})
