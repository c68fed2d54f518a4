"""The delivery log in the host's database, which all workers share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.db import IntegrityError, connections, router, transaction
from django.utils import timezone

from buttdial_sync.inbound.deliveries import DeliveryInProgressError

_CLAIMS_PER_PURGE = 1000

# These two run for each webhook, and the ORM takes longer over each of them than the database does.
_INSERT = "INSERT INTO {table} ({leased_until}, {key}, {done_at}) VALUES (%s, %s, NULL)"
_DONE = "UPDATE {table} SET {done_at} = %s WHERE {key} = %s"


class DatabaseDeliveryLog:
    """
    A :class:`~buttdial_sync.DeliveryLog` in the database. Safe to share between threads and forks.

    A claim is a row with a unique key, or the taking over of one whose lease has run out; either is
    one statement, so of several workers one wins, on SQLite and PostgreSQL alike. A claim must be
    seen by the other workers at once: do not claim inside a transaction.

    Args:
        keep: How long deliveries are remembered. Each process deletes older ones now and then.
        now: The time, for tests.
    """

    def __init__(
        self,
        *,
        keep: timedelta = timedelta(days=7),
        now: Callable[[], datetime] = timezone.now,
    ) -> None:
        self._keep = keep
        self._now = now
        self._claims = itertools.count()

    def claim(self, delivery_id: str, lease: float) -> bool:
        """
        Claim a delivery for ``lease`` seconds.

        Returns:
            True when it is the caller's to hand over, False when it was handed over before.

        Raises:
            DeliveryInProgressError: Another's claim is still good.
        """
        now = self._now()
        if next(self._claims) % _CLAIMS_PER_PURGE == 0:
            _rows().filter(leased_until__lt=now - self._keep).delete()
        leased_until = now + timedelta(seconds=lease)
        if _insert(delivery_id, leased_until):
            return True
        others = _rows().filter(key=delivery_id)
        if others.filter(done_at=None, leased_until__lte=now).update(leased_until=leased_until):
            return True
        if others.filter(done_at=None).exists():
            raise DeliveryInProgressError(delivery_id)
        return False

    def done(self, delivery_id: str) -> None:
        """Note that it was handed over."""
        _execute(_connection(), _DONE, self._now(), delivery_id)

    def release(self, delivery_id: str) -> None:
        """Give a claim back."""
        _rows().filter(key=delivery_id, done_at=None).delete()


def _insert(key: str, leased_until: datetime) -> bool:
    connection = _connection()
    # A failed statement spoils a transaction that is open, so there it needs a savepoint.
    is_inside = connection.in_atomic_block
    try:
        with transaction.atomic(using=connection.alias) if is_inside else nullcontext():
            _execute(connection, _INSERT, leased_until, key)
    except IntegrityError:
        return False
    return True


def _execute(connection: Any, statement: str, moment: datetime, key: str) -> None:
    values = connection.ops.adapt_datetimefield_value(moment), key
    with connection.cursor() as cursor:
        cursor.execute(_written(statement, connection.alias), values)


@lru_cache
def _written(statement: str, alias: str) -> str:
    quote, meta = connections[alias].ops.quote_name, _model()._meta
    columns = {field.name: quote(field.column) for field in meta.fields}
    return statement.format(table=quote(meta.db_table), **columns)


def _rows() -> Any:
    return _model().objects.using(_connection().alias)


def _connection() -> Any:
    return connections[router.db_for_write(_model())]


@lru_cache
def _model() -> Any:
    # The models can be imported only after the apps were loaded, this module before.
    from buttdial_sync.contrib.django.models import Delivery

    return Delivery
