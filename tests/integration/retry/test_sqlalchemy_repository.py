"""The conformance suite over SQLAlchemy, on PostgreSQL and SQLite; plans and transactions."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from freezegun import freeze_time

from buttdial_sync import ArgumentValueError, Client, ConfigError, FailedMessage, Outbox
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing.conformance import START, Clock, SettableClock

sqlalchemy = pytest.importorskip("sqlalchemy")

from sqlalchemy import (  # noqa: E402
    Engine,
    MetaData,
    create_engine,
    create_mock_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.exc import OperationalError  # noqa: E402
from sqlalchemy.orm import Session  # noqa: E402

from buttdial_sync.inbound.sqlalchemy_inbox import (  # noqa: E402
    SQLAlchemyInbox,
    make_inbox_table,
)
from buttdial_sync.retry.rows import as_row  # noqa: E402
from buttdial_sync.retry.sqlalchemy import (  # noqa: E402
    SQLAlchemyRepository,
    make_table,
    opened,
)
from buttdial_sync.stores import figures  # noqa: E402
from tests.unit.inbound.inbox_conformance import InboxConformance  # noqa: E402
from tests.unit.retry.table_conformance import TableConformance  # noqa: E402

ROWS = 20_000
OF_AGENTS = "Sort Key: (min(known"  # of a thousand agents at most, not of rows


@pytest.fixture(scope="class")
def on_postgresql(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[None]:
    request.cls.engine = create_engine(postgres_url)
    yield
    request.cls.engine.dispose()


@pytest.fixture(scope="class")
def on_sqlite(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    path = tmp_path_factory.mktemp("sqlalchemy") / "outbox.db"
    request.cls.engine = create_engine(f"sqlite:///{path}")
    yield
    request.cls.engine.dispose()


class OverSQLAlchemy(TableConformance):
    engine: Engine

    def make_repository(self, clock: Clock, lease: float) -> SQLAlchemyRepository:
        repository = SQLAlchemyRepository(
            self.engine, metadata=MetaData(), table_name="host_outbox", clock=clock, lease=lease
        )
        for store in repository._stores:
            store.table.drop(self.engine, checkfirst=True)
        repository.create_table()
        return repository


@pytest.mark.usefixtures("on_postgresql")
class TestPostgreSQL(OverSQLAlchemy):
    pass


@pytest.mark.usefixtures("on_sqlite")
class TestSQLiteByWayOfSQLAlchemy(OverSQLAlchemy):
    pass


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    made = create_engine(postgres_url)
    with made.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS buttdial_outbox, buttdial_outbox_receipts"))
    yield made
    made.dispose()


def many(count: int) -> list[FailedMessage]:
    """Rows of which one in a thousand is due and pending."""
    return [
        FailedMessage(
            id=f"m{number}",
            recipient="+1",
            body="x",
            status="pending" if number % 2 else "delivered",
            created_at=START,
            next_retry_at=START + timedelta(seconds=number - 1000),
        )
        for number in range(count)
    ]


def test_postgresql_looks_up_due_messages_in_the_index(engine: Engine) -> None:
    """Fetching due messages among many reads an index, in order, without a sort of them all."""
    repository = SQLAlchemyRepository(engine, clock=SettableClock())
    repository.create_table()
    with engine.begin() as connection:
        connection.execute(insert(repository.table), [as_row(each) for each in many(ROWS)])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE buttdial_outbox"))
    sent: list[Any] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2:4]))
    assert len(repository.fetch_due(20)) == 20
    looks = [each for each in sent if each[0].startswith(("WITH", "SELECT found"))]
    assert len(looks) == 2
    with engine.connect() as connection:
        for query, values in looks:
            rows = connection.exec_driver_sql(f"EXPLAIN {query}", values)
            plan = "\n".join(rows.scalars())
            assert "using buttdial_outbox_turns on" in plan, plan
            assert "Seq Scan" not in plan, plan
            assert "Sort" not in plan, plan


@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_a_thousand_rows_are_one_statement(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Loading costs one statement and one commit; those that are there already are counted out."""
    on_sqlite = database == "sqlite"
    url = f"sqlite:///{tmp_path / 'outbox.db'}" if on_sqlite else None
    engine = create_engine(url) if url else request.getfixturevalue("engine")
    repository = SQLAlchemyRepository(engine, clock=SettableClock())
    repository.create_table()
    messages = [
        FailedMessage(id=f"m{number}", recipient="+1", body="x", subject="s" if number else None)
        for number in range(1000)
    ]
    repository.add(messages[7])
    seen: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    event.listen(engine, "commit", lambda _: seen.append("COMMIT"))
    assert repository.add_new(messages) == 999
    assert [statement[:6] for statement in seen] == ["INSERT", "COMMIT"]
    assert len(repository.get_many([message.id for message in messages])) == 1000
    assert repository.add_new(messages[:1]) == 0
    engine.dispose()


def test_postgresql_measures_without_reading_the_table(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each statement of the figures walks along an index, and ends at its limit."""
    monkeypatch.setattr(figures, "MOST", 100)  # as far from the number of rows as in a large table
    repository = SQLAlchemyRepository(engine, clock=SettableClock())
    repository.create_table()
    with engine.begin() as connection:
        connection.execute(insert(repository.table), [as_row(each) for each in many(ROWS)])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE buttdial_outbox"))
    sent: list[Any] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2:4]))
    measured = repository.figures()
    statements = [(query, values) for query, values in sent if "buttdial_outbox" in query]
    assert str(measured.counts["pending"]) == "100+"
    assert len(statements) == 5
    with engine.connect() as connection:
        for query, values in statements:
            rows = connection.exec_driver_sql(f"EXPLAIN {query}", values)
            plan = "\n".join(rows.scalars())
            assert "Seq Scan" not in plan, plan
            assert "Sort Key" not in plan.replace(OF_AGENTS, ""), plan


def test_postgresql_uses_the_index_of_turns_when_its_statistics_are_old(engine: Engine) -> None:
    """A burst of messages after the last ANALYZE, which saw none pending, is not sorted."""
    repository = SQLAlchemyRepository(engine, clock=SettableClock())
    repository.create_table()
    sent_before = [attrs.evolve(each, status="delivered") for each in many(ROWS)]
    with engine.begin() as connection:
        connection.execute(insert(repository.table), [as_row(each) for each in sent_before])
        connection.execute(text("ALTER TABLE buttdial_outbox SET (autovacuum_enabled = false)"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE buttdial_outbox"))
    burst = [FailedMessage(id=f"b{number}", recipient="+1", body="x") for number in range(3000)]
    repository.add_new(burst)
    plans: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def explain(connection: Any, _: Any, query: str, values: Any, *__: Any) -> None:
        if query.startswith(("WITH RECURSIVE", "SELECT found")):
            # On the same connection, because the plan depends on its settings.
            with connection.connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {query}", values)
                plans.append("\n".join(row[0] for row in cursor.fetchall()))

    repository.figures()
    assert len(repository.fetch_due(10)) == 10
    assert len(plans) == 3
    for plan in plans:
        assert "buttdial_outbox_turns" in plan, plan
        assert "Sort Key" not in plan.replace(OF_AGENTS, ""), plan


def test_postgresql_skips_what_another_transaction_holds(engine: Engine) -> None:
    """Fetching does not wait for a row that another transaction has locked."""
    repository = SQLAlchemyRepository(engine, clock=SettableClock())
    repository.create_table()
    for msg_id in ("a", "b"):
        repository.add(FailedMessage(id=msg_id, recipient="+1", body="x"))
    with engine.begin() as holder:
        holder.execute(text("SELECT * FROM buttdial_outbox WHERE id = 'a' FOR UPDATE"))
        assert [each.id for each in repository.fetch_due(10)] == ["b"]
    assert [each.id for each in repository.fetch_due(10)] == ["a"]


def test_purging_spares_what_is_revived_meanwhile(engine: Engine) -> None:
    """A purge that waits for the transaction of an operator looks at the row again."""
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    clock = SettableClock()
    repository = SQLAlchemyRepository(engine, clock=clock)
    repository.create_table()
    repository.add(FailedMessage(id="a", recipient="+1", body="x"))
    assert repository.mark_dead("a", 0, "given up")
    clock.move(100 * 86400)
    deleted: list[int] = []
    purge = threading.Thread(
        target=lambda: deleted.append(repository.purge(timedelta(days=90), ["dead"]))
    )
    with engine.begin() as operator:
        operator.execute(
            text("UPDATE buttdial_outbox SET status = 'pending', resolved_at = NULL WHERE id = 'a'")
        )
        purge.start()
        wait_until_somebody_waits(engine)
    purge.join(30)
    assert deleted == [0]
    assert repository.stats()["pending"] == 1


def wait_until_somebody_waits(engine: Engine) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    for _ in range(3000):
        with engine.connect() as connection:
            if connection.execute(waiting).scalar_one():
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits for a lock")


def test_enqueued_within_the_hosts_session(engine: Engine) -> None:
    """A message is there if the host's transaction commits, and only then."""
    repository = SQLAlchemyRepository(engine)
    repository.create_table()
    with Client("https://butt-dial.test", agent_token="t") as client:
        outbox = Outbox(client, repository)
        with Session(engine) as session:
            outbox.enqueue("+14155550123", "one", within=session)
            assert repository.count_pending() == 0
            session.rollback()
        assert repository.list() == []
        with Session(engine) as session:
            first, again = (
                outbox.enqueue("+14155550123", "two", idempotency_key="key", within=session)
                for _ in range(2)
            )
            assert again.id == first.id
            session.commit()
    assert [each.body for each in repository.fetch_due(10)] == ["two"]


def test_errors_of_the_database_show_no_token(tmp_path: Path) -> None:
    """What was to be written stays out of the error that says that it could not be."""
    engine = create_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    repository = SQLAlchemyRepository(engine, keep_tokens=True)
    message = FailedMessage(id="a", recipient="+1", body="private", agent_token="secret-token")
    with pytest.raises(OperationalError, match="no such table") as caught:
        repository.add(message)
    assert "parameters hidden" in str(caught.value)
    assert not {"private", "secret-token"} & set(re.findall(r"[\w-]+", str(caught.value)))
    engine.dispose()


def test_a_host_may_describe_the_table_once(engine: Engine) -> None:
    """Two repositories share the table of one metadata."""
    metadata = MetaData()
    first = SQLAlchemyRepository(engine, metadata=metadata)
    assert SQLAlchemyRepository(engine, metadata=metadata).table is first.table


def test_one_file_serves_both_repositories(tmp_path: Path) -> None:
    """What SQLiteRepository wrote SQLAlchemyRepository reads, times included, and back."""
    path, clock = tmp_path / "outbox.db", SettableClock()
    engine = create_engine(f"sqlite:///{path}")
    with SQLiteRepository(path, clock=clock) as plain:
        plain.add(FailedMessage(id="a", recipient="+1", body="x", template_vars={"a": "b"}))
        mapped = SQLAlchemyRepository(engine, clock=clock)
        assert mapped.get("a") == plain.get("a")
        assert mapped.begin_attempt("a", 1, clock())
        found = plain.get("a")
        assert found is not None
        assert found.attempt_started_at == START
        assert mapped.get("a") == found
    engine.dispose()


def test_processes_on_sqlite_wait_for_each_other(tmp_path: Path) -> None:
    """A fetch begins as a writer, so it waits for another writer instead of failing."""
    path = tmp_path / "outbox.db"
    engine = create_engine(f"sqlite:///{path}")
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with SQLiteRepository(path) as plain:
        plain.add(FailedMessage(id="a", recipient="+1", body="x"))
        SQLAlchemyRepository(engine).fetch_due(1)
    first_of_claim = [each.split()[0] for each in statements].index("UPDATE")
    assert statements[first_of_claim + 1].startswith("SELECT found.id")
    engine.dispose()


def test_sqlite_looks_up_due_messages_in_the_index(tmp_path: Path) -> None:
    """So does the plain SQLite repository, in order, without a sort."""
    with SQLiteRepository(tmp_path / "outbox.db", clock=SettableClock()) as repository:
        repository.add_new(many(ROWS))
        connection = repository.store._connected()
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        assert len(repository.fetch_due(20)) == 20
        connection.set_trace_callback(None)
        looks = [each for each in statements if each.startswith(("WITH", "SELECT found"))]
        assert len(looks) == 2
        for query in looks:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {query}")
            plan = "\n".join(row[3] for row in rows)
            assert "USING INDEX buttdial_outbox_turns (<expr>=? AND <expr>=? AND next" in plan, plan
            assert "INDEX buttdial_outbox_listed" not in plan, plan
            assert "TEMP B-TREE" not in plan, plan


def test_sqlite_within_the_hosts_transaction(tmp_path: Path) -> None:
    """A message is there if the host's sqlite3 transaction commits, and only then."""
    path = tmp_path / "outbox.db"
    with (
        SQLiteRepository(path) as repository,
        Client("https://butt-dial.test", agent_token="t") as client,
    ):
        outbox = Outbox(client, repository)
        host = sqlite3.connect(path)
        outbox.enqueue("+14155550123", "one", within=host)
        host.rollback()
        outbox.enqueue("+14155550123", "two", within=host)
        host.commit()
        host.close()
        assert [each.body for each in repository.fetch_due(10)] == ["two"]


def test_an_address_that_cannot_be_read() -> None:
    """It is an error of the configuration, which repeats nothing of the address."""
    with (
        pytest.raises(ConfigError, match="address cannot be used") as caught,
        opened("postgresql://user:password@host:s3cret/db"),
    ):
        pass
    assert "s3cret" not in str(caught.value)


def test_opened_for_a_program(tmp_path: Path) -> None:
    """The tables are made; what the database says is an error that repeats no address."""
    disposed: list[Engine] = []
    with opened(f"sqlite:///{tmp_path / 'outbox.db'}") as repository:
        assert repository.count_pending() == 0
        assert repository.paused() == ()
        event.listen(repository.store._engine, "engine_disposed", disposed.append)
    assert len(disposed) == 1
    with (
        pytest.raises(ConfigError, match="the database failed: OperationalError") as caught,
        opened(f"sqlite:///{tmp_path / 'missing' / 'outbox.db'}"),
    ):
        pass
    assert "missing" not in f"{caught.value} {caught.value.remediation}"
    assert "Check that it is up" in str(caught.value.remediation)


def test_the_tables_of_a_hosts_migrations() -> None:
    """All three are described in its metadata, so that a migration makes them."""
    metadata = MetaData()
    assert make_table(metadata, "mail").name == "mail"
    assert set(metadata.tables) == {"mail", "mail_receipts", "mail_pauses"}
    assert make_inbox_table(metadata, "post") is metadata.tables["post"]


def test_a_table_of_an_earlier_release(tmp_path: Path) -> None:
    """It is told which columns are missing, with statements that add them; then it works."""
    engine = create_engine(f"sqlite:///{tmp_path / 'outbox.db'}")
    repository = SQLAlchemyRepository(engine)
    repository.create_table()
    repository.add(FailedMessage(id="a", recipient="+1", body="x"))
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE buttdial_outbox DROP COLUMN attempt_number"))
    with pytest.raises(ConfigError, match="lacks the columns attempt_number") as raised:
        repository.create_table()
    remedy = str(raised.value.remediation)
    assert remedy == ("Change it: ALTER TABLE buttdial_outbox ADD COLUMN attempt_number INTEGER;")
    with engine.begin() as connection:
        connection.execute(text(remedy.removeprefix("Change it: ")))
    repository.create_table()
    (found,) = repository.fetch_due(1)
    assert (found.id, found.attempt_number) == ("a", 0)
    assert repository.begin_attempt("a", 1, START, attempt_number=1)
    assert not repository.begin_attempt("a", 1, START, attempt_number=1)
    engine.dispose()


def test_a_time_written_by_hand_harms_its_own_row(tmp_path: Path) -> None:
    """On SQLite, where a time is text: the row is given up, and the others are fetched."""
    engine = create_engine(f"sqlite:///{tmp_path / 'outbox.db'}")
    repository = SQLAlchemyRepository(engine)
    repository.create_table()
    for msg_id in ("bad", "good"):
        repository.add(FailedMessage(id=msg_id, recipient="+1", body="x"))
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE buttdial_outbox SET created_at = 'in May' WHERE id = 'bad'")
        )
    fetched = {each.id: each.unreadable for each in repository.fetch_due(5)}
    assert fetched == {"bad": "TypeError: created_at is not a time", "good": None}
    assert [each.id for each in repository.list("dead")] == ["bad"]
    engine.dispose()


@pytest.mark.parametrize("name", ["mysql", "mariadb"])
def test_mysql_is_refused(name: str) -> None:
    """Leases and fences were never tested there."""
    engine = create_mock_engine(f"{name}+mysqldb://", lambda *_: None)
    with pytest.raises(ConfigError, match=f"{name} is not supported"):
        SQLAlchemyRepository(engine)  # type: ignore[arg-type]


def test_leases_follow_the_clock_of_postgresql(engine: Engine) -> None:
    """Not that of a machine: two of them need not agree."""
    repository = SQLAlchemyRepository(engine)
    repository.create_table()
    with engine.connect() as connection:
        before = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    with freeze_time(before - timedelta(days=1)):
        late = SQLAlchemyRepository(engine)
        late.add(FailedMessage(id="a", recipient="+1", body="x"))
        assert len(late.fetch_due(1)) == 1
    with engine.connect() as connection:
        after = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    (until,) = repository.leased().values()
    lease = timedelta(seconds=repository.lease)
    assert before - timedelta(seconds=1) <= until - lease <= after


def test_times_do_not_depend_on_the_zone_of_a_session(postgres_url: str) -> None:
    """Some hosts set their own zone: a time comes back as it was written, also in another one."""
    zones = ("Asia/Tokyo", "America/New_York")
    engines = [
        create_engine(postgres_url, connect_args={"options": f"-c timezone={zone}"})
        for zone in zones
    ]
    tokyo, new_york = (SQLAlchemyRepository(engine, clock=SettableClock()) for engine in engines)
    tokyo.table.drop(engines[0], checkfirst=True)
    tokyo.create_table()
    tokyo.add(FailedMessage(id="a", recipient="+1", body="x", created_at=START))
    for repository, engine in zip((tokyo, new_york), engines, strict=True):
        found = repository.get("a")
        assert found is not None
        assert found.created_at == START
        with engine.connect() as connection:
            times = repository.table.c.created_at, repository.table.c.resolved_at
            assert tuple(connection.execute(select(*times)).one()) == (START, None)
    for engine in engines:
        engine.dispose()


def test_the_clock_is_asked_inside_of_the_hosts_transaction(postgres_url: str) -> None:
    """A pool of one connection is enough, and an id that is taken leaves the transaction alive."""
    engine = create_engine(postgres_url, pool_size=1, max_overflow=0, pool_timeout=5)
    repository = SQLAlchemyRepository(engine)
    repository.table.drop(engine, checkfirst=True)
    repository.create_table()
    fresh = SQLAlchemyRepository(engine)
    with engine.begin() as connection:
        fresh.within(connection).add(FailedMessage(id="a", recipient="+1", body="x"))
        with pytest.raises(ArgumentValueError, match="with the id 'a'"):
            fresh.within(connection).add(FailedMessage(id="a", recipient="+1", body="x"))
        fresh.within(connection).add(FailedMessage(id="b", recipient="+1", body="x"))
    assert repository.count_pending() == 2
    engine.dispose()


class InboxOverSQLAlchemy(InboxConformance):
    engine: Engine

    def make_inbox(self, clock: Clock, lease: float) -> SQLAlchemyInbox:
        inbox = SQLAlchemyInbox(self.engine, metadata=MetaData(), clock=clock, lease=lease)
        inbox.store.table.drop(self.engine, checkfirst=True)
        inbox.create_table()
        return inbox


@pytest.mark.usefixtures("on_postgresql")
class TestInboxOnPostgreSQL(InboxOverSQLAlchemy):
    pass


@pytest.mark.usefixtures("on_sqlite")
class TestInboxOnSQLiteByWayOfSQLAlchemy(InboxOverSQLAlchemy):
    pass
