"""
Messages through Celery: written down, handed out, sent by any number of workers.

Set BUTT_DIAL_BASE_URL and BUTT_DIAL_AGENT_TOKEN; CELERY_BROKER_URL if Redis is not on this machine.
Then, in examples/celery_app:

    celery -A outbox worker
    celery -A outbox beat
    python enqueue.py +14155550123 "Your order is on its way"

A shop on several machines puts SQLAlchemyRepository or Django's DatabaseRepository in the place of
SQLiteRepository, which is for one machine.
"""

import os

from celery import Celery

from buttdial_sync import InboundHandler, InboundMessage, shared_client
from buttdial_sync.contrib.celery import ButtDialTasks
from buttdial_sync.retry import SQLiteRepository

app = Celery("outbox", broker=os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/0"))
app.conf.broker_connection_retry_on_startup = True

inbound = InboundHandler()


def make_repository() -> SQLiteRepository:
    """Open the outbox, separately in each worker."""
    return SQLiteRepository(os.environ.get("OUTBOX", "outbox.db"))


tasks = ButtDialTasks(
    app,
    client=shared_client,  # one for each worker process
    repository=make_repository,
    inbound=inbound,
    interval=float(os.environ.get("SWEEP_EVERY", "60")),
)


@inbound.on_message
def answer(message: InboundMessage) -> None:
    """Answer a message, from any worker."""
    result = shared_client().send_message(
        message.sender,
        f"We got your message: {message.text}",
        channel="sms",
        idempotency_key=f"answer-{message.channel}-{message.id}",
    )
    if result.failed:
        raise RuntimeError(result.error)  # Celery tries it again
