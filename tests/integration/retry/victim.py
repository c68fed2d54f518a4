"""
A process that is killed: ``python -m tests.integration.retry.victim ROLE URL DATABASE [STEP]``.

``outbox`` sends one message and stops at a step, ``drain`` sends what is due. What it reached it
says on its standard output.
"""

from __future__ import annotations

import signal
import sys
from datetime import datetime
from typing import Any

from buttdial_sync import Client, FailedMessage, Outbox, RetryLoop
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.retry.table import TableRepository

TOKEN = "agent-token"
KEY = "order-1"


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def wait_for_the_end() -> None:
    while True:
        signal.pause()


def open_repository(database: str, **options: Any) -> TableRepository:
    if "://" not in database:
        return SQLiteRepository(database, **options)
    from sqlalchemy import create_engine

    from buttdial_sync.retry.sqlalchemy import SQLAlchemyRepository

    return SQLAlchemyRepository(create_engine(database), **options)


class Stopping:
    """A repository that stops for ever before or after a call."""

    def __init__(self, inner: TableRepository, step: str) -> None:
        self._inner = inner
        self._step = step
        self.lease = inner.lease

    def add_once(self, message: FailedMessage) -> FailedMessage:
        self._reached("before add")
        stored = self._inner.add_once(message)
        self._reached("after add")
        return stored

    def mark_delivered(self, msg_id: str, message_sid: str | None, retry_count: int) -> bool:
        self._reached("before settling")
        done = self._inner.mark_delivered(msg_id, message_sid, retry_count)
        self._reached("after settling")
        return done

    def begin_attempt(self, msg_id: str, retry_count: int, started_at: datetime) -> bool:
        return self._inner.begin_attempt(msg_id, retry_count, started_at)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _reached(self, step: str) -> None:
        if step == self._step:
            say(step)
            wait_for_the_end()


def main(role: str, url: str, database: str, step: str = "") -> None:
    """Do what the role says."""
    with Client(url, agent_id="agent-1", agent_token=TOKEN, timeout=120.0) as client:
        repository = open_repository(database)
        if role == "outbox":
            stopping: Any = Stopping(repository, step)
            Outbox(client, stopping).send_message("+1", "Hello", idempotency_key=KEY)
            return
        say("ready")
        sys.stdin.readline()
        report = RetryLoop(repository, client, workers=2, batch_size=10).drain()
        say(f"delivered {report.delivered}")


if __name__ == "__main__":
    main(*sys.argv[1:])
