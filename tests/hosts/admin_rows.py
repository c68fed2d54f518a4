"""
Fills the example's database with rows in every state, and a user for each permission.

Run it with the example's settings: ``python -m tests.hosts.admin_rows``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import django

PASSWORD = "of-the-operator"
LIMIT = "rate limited: 10 messages a minute; the next one in 300 s"
REFUSED = "The recipient has not consented (NO_CONSENT)"
UNKNOWN = "outcome unknown, it may have been sent: the connection broke before the answer came"


def main() -> None:
    django.setup()
    from django.contrib.auth.models import Permission, User

    from buttdial_sync.contrib.django.outbox import get_repository

    User.objects.create_superuser("operator", password=PASSWORD)
    looker = User.objects.create_user("looker", password=PASSWORD, is_staff=True)
    looker.user_permissions.set(Permission.objects.filter(codename="view_outboxmessage"))
    repository = get_repository()
    now = repository.store.now()
    repository.add_new(list(messages(now)))
    repository.pause("kitchen", reason="wrong prices in the menu")
    lease("row-busy", now + timedelta(hours=1))
    lease("row-unknown", None)  # it was written with one, as one that is being sent
    add_events(now)


def messages(now: datetime) -> Any:
    """One message in each state that there is, the newest last."""
    from buttdial_sync import FailedMessage

    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    rows: list[dict[str, Any]] = [
        {"id": "row-sent", "status": "delivered", "message_sid": "SM-42",
         "receipt_status": "read", "receipt_at": now - 50 * minute,
         "resolved_at": now - hour, "retry_count": 1, "body": "Your table for two is booked."},
        {"id": "row-undelivered", "status": "delivered", "message_sid": "SM-43",
         "receipt_status": "failed", "receipt_error": "the number is not on WhatsApp",
         "receipt_at": now - hour, "resolved_at": now - hour, "retry_count": 1},
        {"id": "row-dead", "status": "dead", "last_error": REFUSED, "retry_count": 1,
         "resolved_at": now - 30 * minute, "body": "Apples are 20 % off today."},
        {"id": "row-expired", "status": "dead", "resolved_at": now - 20 * minute,
         "expires_at": now - 25 * minute, "last_error": f"too late; before: {LIMIT}",
         "body": "Your code is 271828."},
        {"id": "row-unknown", "status": "dead", "last_error": UNKNOWN, "retry_count": 1,
         "attempt_started_at": now - 40 * minute, "resolved_at": now - 39 * minute,
         "body": "Your parcel has shipped."},
        {"id": "row-dismissed", "status": "dismissed", "resolved_at": now - 10 * minute,
         "last_error": REFUSED, "retry_count": 1},
        {"id": "row-waiting", "next_retry_at": now + 2 * hour, "body": "See you tomorrow."},
        {"id": "row-again", "next_retry_at": now + 8 * minute, "retry_count": 2,
         "attempt_number": 2, "last_error": "the recipient's phone is off", "seconds_waited": 600},
        {"id": "row-limited", "next_retry_at": now + 5 * minute, "last_error": LIMIT,
         "attempt_number": 1, "agent_id": "orders", "agent_name": "Orders"},
        {"id": "row-paused", "agent_id": "kitchen", "agent_name": "Kitchen",
         "body": "Today: lentil soup, 4.50."},
        {"id": "row-busy", "retry_count": 1, "attempt_number": 1, "attempt_started_at": now},
        {"id": "row-due", "agent_id": "orders", "agent_name": "Orders", "subject": "Your order",
         "thread_id": "order-7", "body": "Your order is on its way.", "agent_token": "never-shown"},
    ]  # fmt: skip
    for number, row in enumerate(rows):
        yield FailedMessage(**{
            "recipient": f"+1415555{number:04}", "body": "Hello", "channel": "whatsapp",
            "created_at": now - hour - minute + number * timedelta(seconds=1),
            "next_retry_at": now - 3 * minute, **row,
        })  # fmt: skip


def lease(row_id: str, until: datetime | None) -> None:
    from buttdial_sync.contrib.django.models import OutboxMessage

    OutboxMessage.objects.filter(pk=row_id).update(leased_until=until)


def add_events(now: datetime) -> None:
    """A question that was answered, and one that no handler could take."""
    from buttdial_sync.contrib.django.models import InboxEvent

    shared = {
        "kind": "InboundMessage", "channel": "whatsapp", "sender": "+14155550001",
        "order_key": "whatsapp:+14155550001", "attempt_number": 1, "next_retry_at": now,
        "created_at": now,
    }  # fmt: skip
    InboxEvent.objects.create(
        id="event-handled", status="handled", retry_count=1, resolved_at=now,
        payload='{"text": "Are you open?"}', **shared,
    )  # fmt: skip
    InboxEvent.objects.create(
        id="event-dead", status="dead", retry_count=5, first_failed_at=now, resolved_at=now,
        payload='{"text": "Where is my parcel?"}', last_error="KeyError: 'parcel'", **shared,
    )  # fmt: skip


if __name__ == "__main__":
    main()
