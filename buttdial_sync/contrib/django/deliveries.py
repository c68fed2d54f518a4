"""The delivery log in the host's database, which all workers share."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.apps import apps
from django.db import IntegrityError, connections, router, transaction
from django.utils import timezone

from buttdial_sync.contrib.django.store import check_autocommit
from buttdial_sync.inbound.deliveries import DeliveryInProgressError

_CLAIMS_PER_PURGE = 1000

# These run for each webhook, and the ORM takes longer over each of them than the database does.
_INSERT = (
    "INSERT INTO {table} ({leased_until}, {done_at}, {key}, {claim_token}) VALUES (%s, %s, %s, %s)"
)
_DONE = "UPDATE {table} SET {done_at} = %s WHERE {key} = %s"
# One statement: the ORM's delete() reads first where the host listens to the signals of deletions.
_RELEASE = "DELETE FROM {table} WHERE {key} = %s AND {claim_token} = %s AND {done_at} IS NULL"


class DatabaseDeliveryLog:
    """
    A :class:`~buttdial_sync.DeliveryLog` in the database. Safe to share between threads and forks.

    To claim means to insert a row with a unique key, or to take over a row whose lease has run out.
    Either is one statement, so one of several workers wins, on SQLite and on PostgreSQL. The other
    workers must see a claim at once: do not claim inside a transaction.

    Args:
        keep: How long deliveries are remembered. Each process deletes older ones from time to time.
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

    def claim(self, delivery_id: str, lease: float) -> str | None:
        """
        Claim a delivery for ``lease`` seconds.

        Returns:
            The claim's token if the caller is to hand it over, None if it was handed over before.

        Raises:
            DeliveryInProgressError: Another worker's claim has not ended.
            RuntimeError: Autocommit is off: other workers would not see the claim.
        """
        now = self._now()
        if next(self._claims) % _CLAIMS_PER_PURGE == 0:  # the first claim of a process purges too
            _rows().filter(leased_until__lt=now - self._keep).delete()
        connection, leased_until = _connection(), now + timedelta(seconds=lease)
        if not connection.in_atomic_block:
            check_autocommit(connection.alias)
        token = os.urandom(16).hex()
        if _insert(connection, _stored(connection, leased_until), None, delivery_id, token):
            return token
        others = _rows().filter(key=delivery_id)
        if others.filter(done_at=None, leased_until__lte=now).update(
            leased_until=leased_until, claim_token=token
        ):
            return token
        if others.exclude(done_at=None).exists():
            return None
        # Another worker has it, or has just given it back. Neither proves that it was handed over,
        # so the sender has to try again.
        raise DeliveryInProgressError(delivery_id)

    def done(self, delivery_id: str, token: str) -> None:
        """Note that it was handed over, even if another worker has the claim now."""
        connection = _connection()
        now = _stored(connection, self._now())
        # Normally the first statement is enough. There is no row if this worker outlived its lease
        # and another one took over, failed and released: then insert a finished row. If that fails,
        # a third worker has just claimed it, and now there is a row to update.
        if not (
            _execute(connection, _DONE, now, delivery_id)
            or _insert(connection, now, now, delivery_id, token)
        ):
            _execute(connection, _DONE, now, delivery_id)

    def release(self, delivery_id: str, token: str) -> None:
        """Give a claim back, if it still has this token."""
        _execute(_connection(), _RELEASE, delivery_id, token)


def _insert(connection: Any, *values: Any) -> bool:
    execute = _execute
    if connection.in_atomic_block:
        # A failed statement spoils a transaction that is open, so there it needs a savepoint.
        execute = transaction.atomic(using=connection.alias)(_execute)
    try:
        execute(connection, _INSERT, *values)
    except IntegrityError:
        return False
    return True


def _execute(connection: Any, statement: str, *values: Any) -> int:
    """Execute a statement; return how many rows it changed."""
    with connection.cursor() as cursor:
        cursor.execute(_written(statement, connection.alias), values)
        changed: int = cursor.rowcount
    return changed


def _stored(connection: Any, time: datetime) -> Any:
    """Return a time as the database stores it."""
    return connection.ops.adapt_datetimefield_value(time)


@lru_cache
def _written(statement: str, alias: str) -> str:
    quote, meta = connections[alias].ops.quote_name, _model()._meta
    columns = {field.name: quote(field.column) for field in meta.fields}
    return statement.format(table=quote(meta.db_table), **columns)


def _rows() -> Any:
    return _model().objects.using(_connection().alias)


def _connection() -> Any:
    return connections[router.db_for_write(_model())]


def _model() -> Any:
    # Models can be imported only after the apps were loaded, this module before.
    return apps.get_model("buttdial_sync", "Delivery")
