"""
The published SDK's example "with-retry", moved: its repository without async, and a loop over it.

The table failed_messages stays as it is. Leases are kept in a table beside it, because the four
methods have none. Set DATABASE_URL, for example to postgresql+psycopg://me@localhost/shop.

    python retry.py
"""

import os
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine, create_engine, text

from buttdial_sync import Client, FailedMessage, RetryLoop
from buttdial_sync.retry import LeasedRepository


class SqlAlchemyFailedMessageRepository:
    """The four methods over the table failed_messages, as they were."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def fetch_due(self, limit: int) -> Sequence[FailedMessage]:
        """Return what is due."""
        query = """
            SELECT id, recipient, body, channel, agent_name, agent_token, thread_id, entity_id,
                   reply_msg_id, retry_count, max_retries, last_error, created_at, next_retry_at
            FROM failed_messages
            WHERE status = 'pending' AND next_retry_at <= CURRENT_TIMESTAMP
            ORDER BY next_retry_at LIMIT :limit
        """
        with self.engine.connect() as connection:
            rows = connection.execute(text(query), {"limit": limit}).mappings()
            return [FailedMessage(**row) for row in rows]

    def mark_delivered(self, msg_id: str, message_sid: str, retry_count: int) -> None:
        """Record that it was sent."""
        self._change(
            "status = 'delivered', resolved_at = CURRENT_TIMESTAMP, retry_count = :count",
            {"id": msg_id, "count": retry_count},
        )

    def increment_retry(
        self, msg_id: str, retry_count: int, error: str, next_retry_at: datetime
    ) -> None:
        """Record a failed attempt, and when the next one is."""
        self._change(
            "retry_count = :count, last_error = :error, next_retry_at = :due",
            {"id": msg_id, "count": retry_count, "error": error, "due": next_retry_at},
        )

    def mark_dead(self, msg_id: str, retry_count: int, error: str) -> None:
        """Give it up."""
        self._change(
            "status = 'dead', resolved_at = CURRENT_TIMESTAMP, retry_count = :count,"
            " last_error = :error",
            {"id": msg_id, "count": retry_count, "error": error},
        )

    def _change(self, changes: str, values: dict[str, object]) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                text(f"UPDATE failed_messages SET {changes} WHERE id = :id"),  # noqa: S608 - ours
                values,
            )


def main() -> None:
    """Send what is due, and say what became of it."""
    engine = create_engine(os.environ["DATABASE_URL"])
    repository = LeasedRepository(SqlAlchemyFailedMessageRepository(engine), engine=engine)
    repository.create_table()
    with Client.from_env() as client:
        report = RetryLoop(repository, client).drain()  # in a service: start(interval=60.0)
    print(f"{report.delivered} sent, {report.dead} given up, {report.retried} later")
    engine.dispose()


if __name__ == "__main__":
    main()
