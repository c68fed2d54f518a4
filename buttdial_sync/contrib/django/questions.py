"""Questions to people for whose answers nobody waits, in the host's database."""

from __future__ import annotations

from typing import Any

from buttdial_sync.ailoop.answers import Prompt
from buttdial_sync.ailoop.questions import PendingQuestions, questions_schema
from buttdial_sync.contrib.django.conf import app_settings
from buttdial_sync.contrib.django.store import DatabaseStore, fresh_connections
from buttdial_sync.stores.table import DEFAULT_LEASE
from buttdial_sync.stores.times import Clock


class DatabaseQuestions(PendingQuestions):
    """
    Pending questions in a table of the host's database, with Django's connections and router.

    For PostgreSQL and SQLite; ``manage.py check`` refuses MySQL and MariaDB. Safe to share between
    threads and across forks. Asking raises ``RuntimeError`` inside ``transaction.atomic``, before
    anything is sent: a question whose row is rolled back would have an answer for nobody.

    Args:
        lease: As in :class:`~buttdial_sync.ailoop.PendingQuestions`.
        using: The database's alias; that of the router when None.
        clock: Tells the time, aware; PostgreSQL's own, or this machine's, when None.
    """

    store: DatabaseStore

    def __init__(
        self,
        *,
        lease: float = DEFAULT_LEASE,
        using: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        store = DatabaseStore(questions_schema(), "AiloopQuestion", using=using, clock=clock)
        super().__init__(store, lease, around=fresh_connections)

    def add(self, prompt: Prompt, about: Any, *, seconds: float, sending: float) -> None:
        """Write a question down, on disk: as :meth:`.PendingQuestions.add` does."""
        with self.store.durable():
            super().add(prompt, about, seconds=seconds, sending=sending)


def get_questions() -> DatabaseQuestions:
    """
    Return the questions of the settings. They keep nothing themselves: each call may make others.

    Raises:
        ArgumentValueError: The lease is wrong.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    return DatabaseQuestions(**app_settings().questions)
