"""Messages in the host's database, by way of Django's ORM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connections, router, transaction
from django.db.models import Count, Q

from buttdial_sync.errors import ArgumentValueError
from buttdial_sync.errors.moments import as_utc, utc_now
from buttdial_sync.models.failed import FailedStatus
from buttdial_sync.retry.rows import COLUMNS, LEASE, TIME_FIELDS, Row
from buttdial_sync.retry.table import DEFAULT_LEASE, Condition, TableRepository, id_taken


class DatabaseRepository(TableRepository):
    """
    A repository in a table of the host's database, with Django's connections and router.

    For PostgreSQL and other databases with ``FOR UPDATE SKIP LOCKED``, and for SQLite. Safe to
    share between threads and across forks.

    ``add`` takes part in the transaction that is open in this thread: so
    :meth:`Outbox.enqueue` inside ``transaction.atomic`` writes a message that is there when the
    host commits. What has to be on disk before a message leaves is a transaction of its own, and
    raises ``RuntimeError`` inside one of the host's, before anything is sent.

    Args:
        lease: How long a fetched message is kept from the others, in seconds; longer than the
            client's ``timeout``.
        keep_tokens: Whether the tokens of agents are written into the rows.
        using: The database's alias; that of the router when None.
        clock: Tells the time, aware.
    """

    def __init__(
        self,
        *,
        lease: float = DEFAULT_LEASE,
        keep_tokens: bool = False,
        using: str | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(lease=lease, keep_tokens=keep_tokens, clock=clock)
        self._using = using

    @property
    def alias(self) -> str:
        """The alias of the database."""
        return self._using or str(router.db_for_write(_model()))

    def _insert(self, row: Row) -> None:
        begins_attempt = row["attempt_started_at"] is not None
        try:
            with self._transaction(durable=begins_attempt):
                self._rows().bulk_create([_model()(**_as_stored(row))])
        except IntegrityError:
            raise ArgumentValueError(id_taken(row["id"])) from None

    def _claim(self, now: datetime, leased_until: datetime, limit: int) -> list[Row]:
        moment = _stored(now)
        database = connections[self.alias]
        with self._transaction():
            if database.vendor == "sqlite":
                # SQLite fails at once if a transaction reads first and then has to wait for another
                # writer. So take the write lock first, with an update that changes no row.
                self._rows().filter(pk="").update(leased_until=None)
            due = (
                self._rows()
                .filter(_is_free(moment), status="pending", next_retry_at__lte=moment)
                .order_by("next_retry_at", "created_at")
                .select_for_update(skip_locked=database.features.has_select_for_update_skip_locked)
            )
            found = list(due.values(*COLUMNS)[:limit])
            ids = [row["id"] for row in found]
            if ids:
                self._rows().filter(pk__in=ids).update(leased_until=_stored(leased_until))
        return [_loaded(row) for row in found]

    def _update(self, msg_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        rows = self._rows().filter(pk=msg_id, status__in=condition.statuses)
        if condition.retry_count is not None:
            rows = rows.filter(retry_count=condition.retry_count)
        if condition.no_lease_at is not None:
            rows = rows.filter(_is_free(_stored(condition.no_lease_at)))
        # An operator's change may be part of a request's transaction. An attempt's must not: it has
        # to be on disk before the message leaves.
        is_operators = condition.no_lease_at is not None
        with self._transaction(durable=not is_operators):
            return bool(rows.update(**_as_stored(changes)))

    def _find(self, msg_id: str) -> Row | None:
        found = self._rows().filter(pk=msg_id).values(*COLUMNS).first()
        return None if found is None else _loaded(found)

    def _newest(self, status: FailedStatus | None, limit: int) -> list[Row]:
        rows = self._rows() if status is None else self._rows().filter(status=status)
        newest = rows.order_by("-created_at", "-id").values(*COLUMNS)[:limit]
        return [_loaded(row) for row in newest]

    def _leased(self, now: datetime) -> list[Row]:
        leased = self._rows().filter(status="pending", leased_until__gt=_stored(now))
        return [_loaded(row) for row in leased.values(*COLUMNS)]

    def _counts(self) -> Mapping[str, int]:
        counted = self._rows().order_by().values_list("status").annotate(Count("pk"))
        return dict(counted)

    def _transaction(self, *, durable: bool = True) -> AbstractContextManager[object]:
        block: AbstractContextManager[object] = transaction.atomic(self.alias, durable=durable)
        return block

    def _rows(self) -> Any:
        return _model().objects.using(self.alias)


def _is_free(moment: datetime) -> Any:
    return Q(**{f"{LEASE}__isnull": True}) | Q(**{f"{LEASE}__lte": moment})


def _as_stored(row: Mapping[str, Any]) -> Row:
    return {name: _stored(value) for name, value in row.items()}


def _stored(value: Any) -> Any:
    """Times are UTC: without a zone where the project has none, which local times would break."""
    if not isinstance(value, datetime):
        return value
    moment = value.astimezone(timezone.utc)
    return moment if settings.USE_TZ else moment.replace(tzinfo=None)


def _loaded(stored: Mapping[str, Any]) -> Row:
    row: Row = dict(stored)
    for name in TIME_FIELDS:
        if row[name] is not None:
            row[name] = as_utc(row[name])
    return row


@lru_cache
def _model() -> Any:
    # The models can be imported only after the apps were loaded, this module before.
    from buttdial_sync.contrib.django.models import OutboxMessage

    return OutboxMessage
