"""
Claims deliveries in a database from several threads: ``claims.py DATABASE``.

That is a PostgreSQL server's host or the folder of its socket, or a SQLite file (``….db``).
"""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

from buttdial_sync import DeliveryInProgressError, DeliveryLog
from tests.integration.contrib.bare_project import postgresql, set_up_django, sqlite

THREADS = 8
DELIVERIES = 40
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
EXPECTED = {
    "new": 40,
    "while leased": 0,
    "lease over": 40,
    "late": ["busy", None],
    "done": [None, None],
    "rows": 42,
}
"""What has to come out, on each database."""


def main(database: str) -> dict[str, Any]:
    set_up_django((sqlite if database.endswith(".db") else postgresql)(database))
    return {
        "new": _wins(NOW),
        "while leased": _wins(NOW + timedelta(seconds=59)),
        "lease over": _wins(NOW + timedelta(seconds=60)),
        "late": _late(),
        **_inside_a_transaction(),
    }


def _wins(now: datetime) -> int:
    """Have all threads claim all deliveries; return how many claims were granted."""
    start = threading.Barrier(THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(lambda _: _claim_all(now, start), range(THREADS)))


def _claim_all(now: datetime, start: threading.Barrier) -> int:
    from django.db import connections

    log = _log_at(now)
    start.wait(20)
    won = sum(_claim(log, f"delivery-{number}") for number in range(DELIVERIES))
    connections.close_all()
    return won


def _log_at(now: datetime) -> DeliveryLog:
    from buttdial_sync.contrib.django import DatabaseDeliveryLog

    return DatabaseDeliveryLog(now=lambda: now)


def _claim(log: DeliveryLog, delivery_id: str) -> bool:
    try:
        return log.claim(delivery_id, 60.0) is not None
    except DeliveryInProgressError:
        return False


def _late() -> list[str | None]:
    """Have two workers outlive their leases: what a third finds after each of their steps."""
    first, second, third = (_log_at(NOW + timedelta(seconds=each)) for each in (0, 60, 120))
    tokens = [log.claim("late", 60.0) or "" for log in (first, second)]
    first.release("late", tokens[0])
    found = [_found(second)]
    second.release("late", tokens[1])
    first.done("late", tokens[0])
    second.release("late", tokens[1])
    return [*found, _found(third)]


def _found(log: DeliveryLog) -> str | None:
    try:
        return log.claim("late", 60.0) and "granted"
    except DeliveryInProgressError:
        return "busy"


def _inside_a_transaction() -> dict[str, Any]:
    from django.db import transaction

    from buttdial_sync.contrib.django.models import Delivery

    log = _log_at(NOW)
    log.done("delivery-0", "token")
    with transaction.atomic():
        log.done("new", "token")
        granted = [log.claim(key, 60.0) for key in ("delivery-0", "new")]
        return {"done": granted, "rows": Delivery.objects.count()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
