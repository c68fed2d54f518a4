"""
An order and the message about it, in one transaction: both are there, or neither.

Set BUTT_DIAL_BASE_URL and BUTT_DIAL_AGENT_TOKEN, and DATABASE_URL for another database than a file
here, such as postgresql+psycopg://shop@localhost/shop. Then:

    python order.py +14155550123 "2 apples"

A web application only enqueues; "buttdial-sync outbox drain", a cron job or a RetryLoop sends.
"""

import os
import sys

from sqlalchemy import String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from buttdial_sync import Client, Outbox, RetryLoop
from buttdial_sync.retry import SQLAlchemyRepository


class Base(DeclarativeBase):
    """The shop's tables."""


class Order(Base):
    """An order."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    what: Mapped[str] = mapped_column(String(200))


def main(to: str, what: str) -> int:
    """Take the order, then send what waits; return the exit code."""
    engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))
    # In the shop's own metadata, so that its migrations know the table.
    repository = SQLAlchemyRepository(engine, metadata=Base.metadata)
    Base.metadata.create_all(engine)
    with Client.from_env() as client:
        outbox = Outbox(client, repository)
        with Session(engine) as session:
            session.add(Order(what=what))
            outbox.enqueue(to, f"You ordered: {what}", channel="sms", within=session)
            session.commit()
        report = RetryLoop(repository, client).drain()
    engine.dispose()
    print(f"{report.delivered} sent, {repository.count_pending()} waiting")
    return 0 if report.delivered else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
