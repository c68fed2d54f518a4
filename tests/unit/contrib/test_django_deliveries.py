"""The delivery log in a database."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext

from buttdial_sync.contrib.django import DatabaseDeliveryLog
from buttdial_sync.contrib.django.models import Delivery
from tests.unit.inbound.log_contract import (
    LEASE,
    Advance,
    DeliveryLogContract,
    assert_busy,
    claimed,
)

pytestmark = pytest.mark.usefixtures("database")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> DatabaseDeliveryLog:
    return DatabaseDeliveryLog(now=clock)


class TestDatabaseDeliveryLog(DeliveryLogContract):
    """The log in a database does what every log has to do."""

    @pytest.fixture
    def advance(self, clock: Clock) -> Advance:
        def advance(seconds: float) -> None:
            clock.now += timedelta(seconds=seconds)

        return advance


def test_without_autocommit_nothing_is_claimed(log: DatabaseDeliveryLog) -> None:
    """Nobody would commit the claim, so that another worker would get it too."""
    transaction.set_autocommit(False)
    try:
        with pytest.raises(RuntimeError, match="autocommit is off"):
            log.claim("a", LEASE)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    with transaction.atomic():  # a transaction of the host's
        assert log.claim("a", LEASE)


def test_another_worker_is_told_to_wait(log: DatabaseDeliveryLog, clock: Clock) -> None:
    """While a claim is good, another log of the same database does not get it."""
    claimed(log)
    assert_busy(DatabaseDeliveryLog(now=clock))


def test_a_release_is_one_statement(log: DatabaseDeliveryLog) -> None:
    """Nothing can happen between finding one's own claim and deleting it."""
    token = claimed(log)
    deleted: list[object] = []
    pre_delete.connect(lambda **_: deleted.append(1), sender=Delivery, weak=False, dispatch_uid="t")
    try:
        with CaptureQueriesContext(connection) as queries:
            log.release("a", token)
    finally:
        pre_delete.disconnect(sender=Delivery, dispatch_uid="t")
    assert len(queries) == 1


def test_a_claim_that_was_released_in_between_is_not_a_repetition(
    log: DatabaseDeliveryLog,
) -> None:
    """Another had the row while we inserted, and failed before we looked: come again."""
    other = claimed(log)

    def release(execute: Any, statement: str, *rest: Any) -> Any:
        if statement.startswith("UPDATE"):
            log.release("a", other)
        return execute(statement, *rest)

    with connection.execute_wrapper(release):
        assert_busy(log)
    assert claimed(log)


def test_a_row_of_an_earlier_release(log: DatabaseDeliveryLog, clock: Clock) -> None:
    """A claim without a token, of a worker that is being replaced, ends with its lease."""
    Delivery.objects.create(key="a", leased_until=clock.now + timedelta(seconds=LEASE))
    assert_busy(log)
    clock.now += timedelta(seconds=LEASE)
    log.done("a", claimed(log))
    assert log.claim("a", LEASE) is None


def test_claiming_inside_a_transaction_leaves_it_usable(log: DatabaseDeliveryLog) -> None:
    """A claim that fails does not spoil a transaction that the host has open."""
    log.done("a", claimed(log))
    with transaction.atomic():
        assert log.claim("a", LEASE) is None
        assert Delivery.objects.count() == 1


def test_old_deliveries_are_deleted(log: DatabaseDeliveryLog, clock: Clock) -> None:
    """The table does not grow for ever: each process deletes what is a week old."""
    claimed(log, "old")
    clock.now += timedelta(days=8)
    claimed(DatabaseDeliveryLog(now=clock), "new")
    assert [row.key for row in Delivery.objects.all()] == ["new"]


def test_migrations_are_complete() -> None:
    """The models are what the migrations make."""
    call_command("makemigrations", "buttdial_sync", check=True, dry_run=True, stdout=StringIO())
