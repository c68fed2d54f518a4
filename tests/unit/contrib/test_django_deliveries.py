"""The delivery log in a database."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import transaction

from buttdial_sync.contrib.django import DatabaseDeliveryLog
from buttdial_sync.contrib.django.models import Delivery
from buttdial_sync.inbound.deliveries import DeliveryInProgressError

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


def test_another_worker_is_told_to_wait(log: DatabaseDeliveryLog, clock: Clock) -> None:
    """While a claim is good, another log of the same database does not get it."""
    assert log.claim("a", 60.0)
    with pytest.raises(DeliveryInProgressError):
        DatabaseDeliveryLog(now=clock).claim("a", 60.0)


def test_a_crashed_workers_claim_ends_with_its_lease(
    log: DatabaseDeliveryLog, clock: Clock
) -> None:
    """After the lease one other gets the claim, and the next one does not."""
    log.claim("a", 60.0)
    clock.now += timedelta(seconds=60)
    assert log.claim("a", 60.0)
    with pytest.raises(DeliveryInProgressError):
        log.claim("a", 60.0)


def test_what_is_done_stays_done(log: DatabaseDeliveryLog, clock: Clock) -> None:
    """What was handed over is not claimed again, whatever its lease was, nor given back."""
    log.claim("a", 60.0)
    log.done("a")
    log.release("a")
    clock.now += timedelta(hours=1)
    assert not log.claim("a", 60.0)


def test_a_released_claim_is_free_at_once(log: DatabaseDeliveryLog) -> None:
    """After a failure the sender's retry comes through."""
    log.claim("a", 60.0)
    log.release("a")
    assert log.claim("a", 60.0)
    log.release("never claimed")


def test_claiming_inside_a_transaction_leaves_it_usable(log: DatabaseDeliveryLog) -> None:
    """A claim that fails does not spoil a transaction that the host has open."""
    log.claim("a", 60.0)
    log.done("a")
    with transaction.atomic():
        assert not log.claim("a", 60.0)
        assert Delivery.objects.count() == 1


def test_old_deliveries_are_deleted(log: DatabaseDeliveryLog, clock: Clock) -> None:
    """The table does not grow for ever: each process deletes what is a week old."""
    log.claim("old", 60.0)
    clock.now += timedelta(days=8)
    DatabaseDeliveryLog(now=clock).claim("new", 60.0)
    assert [row.key for row in Delivery.objects.all()] == ["new"]


def test_migrations_are_complete() -> None:
    """The models are what the migrations make."""
    call_command("makemigrations", "buttdial_sync", check=True, dry_run=True, stdout=StringIO())
