"""The table of the published SDK: its old rows are sent, after a change or as it stands."""

from __future__ import annotations

import re
import sqlite3
import textwrap
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import Client, ConfigError, RetryLoop
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing import LoopbackServer
from tests.integration.contrib.running import environment, python

sqlalchemy = pytest.importorskip("sqlalchemy")

from sqlalchemy import Engine, create_engine, text  # noqa: E402

from buttdial_sync.retry.sqlalchemy import SQLAlchemyRepository  # noqa: E402

PAGE = Path(__file__).parents[3] / "docs" / "migrating.rst"
SQL = re.compile(r"^\.\. code-block:: sql\n((?:\s*\n| +.*\n)+)", re.MULTILINE)
COLUMNS = """
    recipient TEXT NOT NULL, body TEXT NOT NULL, channel TEXT DEFAULT 'whatsapp',
    agent_name TEXT DEFAULT '', agent_token TEXT DEFAULT '',
    thread_id TEXT, entity_id TEXT, reply_msg_id TEXT,
    retry_count INT DEFAULT 0, max_retries INT DEFAULT 5, last_error TEXT,
    status TEXT DEFAULT 'pending',
"""
ON_POSTGRESQL = f"""
    CREATE TABLE failed_messages (
        id UUID PRIMARY KEY DEFAULT gen_random_uuid(), {COLUMNS}
        created_at TIMESTAMPTZ DEFAULT NOW(),
        next_retry_at TIMESTAMPTZ DEFAULT NOW() + INTERVAL '60 seconds',
        resolved_at TIMESTAMPTZ
    )
"""
ON_SQLITE = f"""
    CREATE TABLE failed_messages (
        id TEXT PRIMARY KEY, {COLUMNS}
        created_at TEXT DEFAULT CURRENT_TIMESTAMP, next_retry_at TEXT, resolved_at TEXT
    )
"""
IDS = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(4)]


def statements(number: int) -> str:
    """Return a block of SQL of the page: PostgreSQL's is the first, SQLite's the second."""
    return textwrap.dedent(SQL.findall(PAGE.read_text("utf-8"))[number])


def old_rows(now: datetime) -> list[dict[str, Any]]:
    """Return what the published worker left: a new one, a tried one, a later one, a dead one."""
    row = {
        "recipient": "+14155550123",
        "agent_name": "Maya",
        "agent_token": "agent-token",
        "retry_count": 0,
        "last_error": None,
        "status": "pending",
        "due": now - timedelta(minutes=1),
    }
    return [
        {**row, "id": IDS[0], "body": "new"},
        {**row, "id": IDS[1], "body": "tried", "retry_count": 3, "last_error": "refused"},
        {**row, "id": IDS[2], "body": "later", "due": now + timedelta(hours=1)},
        {**row, "id": IDS[3], "body": "dead", "status": "dead"},
    ]


INSERT = """
    INSERT INTO failed_messages
        (id, recipient, body, agent_name, agent_token, retry_count, last_error, status,
         next_retry_at)
    VALUES (:id, :recipient, :body, :agent_name, :agent_token, :retry_count, :last_error, :status,
            :due)
"""


@pytest.fixture
def postgresql(postgres_url: str) -> Iterator[Engine]:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text(ON_POSTGRESQL))
        connection.execute(text(INSERT), old_rows(datetime.now(timezone.utc)))
    yield engine
    with engine.begin() as connection:
        tables = "failed_messages, failed_messages_receipts, failed_messages_pauses"
        connection.execute(text(f"DROP TABLE IF EXISTS {tables}, buttdial_leases"))
    engine.dispose()


@pytest.fixture(params=["with T and zone", "as SQLite writes it"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "failed.db"
    rows = old_rows(datetime.now(timezone.utc))
    for row in rows:
        moment = row["due"].isoformat()
        row["due"] = moment if "zone" in request.param else moment[:19].replace("T", " ")
    connection = sqlite3.connect(path)
    connection.execute(ON_SQLITE)
    connection.executemany(INSERT, rows)
    connection.commit()
    connection.close()
    return path


@pytest.fixture
def client(loopback_server: LoopbackServer) -> Iterator[Client]:
    with Client(loopback_server.base_url, agent_token="agent-token") as made:
        yield made


def check_sent(server: LoopbackServer) -> None:
    """The two rows that were due went out, under the name that the published worker gave."""
    sent = server.fake.delivered
    assert sorted(str(message.body) for message in sent) == ["new", "tried"]
    assert {message.args["senderName"] for message in sent} == {"Maya"}


def test_postgresql(postgresql: Engine, client: Client, loopback_server: LoopbackServer) -> None:
    """The page's statements make the table one of ours; without them it is refused."""
    repository = SQLAlchemyRepository(postgresql, table_name="failed_messages")
    with pytest.raises(ConfigError, match=r"lacks the columns .* id that is UUID") as caught:
        repository.create_table()
    assert "ALTER COLUMN id TYPE VARCHAR(255)" in str(caught.value.remediation)
    with postgresql.begin() as connection:
        connection.execute(text(statements(0)))
    repository.create_table()
    assert RetryLoop(repository, client).drain().delivered == 2
    check_sent(loopback_server)
    rows = {message.id: message for message in repository.list()}
    assert [rows[each].status for each in IDS] == ["delivered", "delivered", "pending", "dead"]
    assert (rows[IDS[1]].retry_count, rows[IDS[1]].message_sid is None) == (4, False)
    with postgresql.begin() as connection:  # an insert of the host's, as it was
        connection.execute(text("INSERT INTO failed_messages (recipient, body) VALUES ('+1', 'x')"))
    assert repository.count_pending() == 2


def test_what_create_table_says(postgresql: Engine) -> None:
    """The statements of the error make the same change."""
    repository = SQLAlchemyRepository(postgresql, table_name="failed_messages")
    with pytest.raises(ConfigError) as caught:
        repository.create_table()
    remedy = str(caught.value.remediation)
    with postgresql.begin() as connection:
        connection.execute(text(remedy.removeprefix("Change it: ")))
    repository.create_table()
    assert {message.id for message in repository.fetch_due(5)} == set(IDS[:2])


def test_sqlite_file(file: Path, client: Client, loopback_server: LoopbackServer) -> None:
    """Of a file the columns are added by themselves; the page's statements correct the times."""
    connection = sqlite3.connect(file)
    connection.executescript(statements(1))
    connection.close()
    with SQLiteRepository(file, table="failed_messages") as repository:
        assert RetryLoop(repository, client).drain().delivered == 2
        check_sent(loopback_server)
        statuses = {message.id: message.status for message in repository.list()}
    assert [statuses[each] for each in IDS] == ["delivered", "delivered", "pending", "dead"]


def test_sqlite_by_way_of_sqlalchemy(
    file: Path, client: Client, loopback_server: LoopbackServer
) -> None:
    """The same through an engine of the host's."""
    connection = sqlite3.connect(file)
    connection.executescript(statements(1))
    connection.close()
    engine = create_engine(f"sqlite:///{file}")
    repository = SQLAlchemyRepository(engine, table_name="failed_messages")
    repository.create_table()
    assert RetryLoop(repository, client).drain().delivered == 2
    check_sent(loopback_server)
    engine.dispose()


def test_the_moved_example(
    postgresql: Engine, loopback_server: LoopbackServer, tmp_path: Path
) -> None:
    """The published repository over the table as it stands, with leases in a table beside it."""
    fake = loopback_server.fake
    url = postgresql.url.render_as_string(hide_password=False)
    env = environment(loopback_server, tmp_path, DATABASE_URL=url)
    fake.on_send(error="try later")
    first = python("retry.py", folder="moving", env=env)
    assert first.strip() == "1 sent, 0 given up, 1 later"
    with postgresql.begin() as connection:
        connection.execute(text("UPDATE failed_messages SET next_retry_at = now()"))
        # An ended lease lasts another second, and the next program may begin sooner.
        connection.execute(text("UPDATE buttdial_leases SET leased_until = NULL"))
    second = python("retry.py", folder="moving", env=env)
    assert second.strip() == "2 sent, 0 given up, 0 later"
    with postgresql.connect() as connection:
        rows = connection.execute(text("SELECT id, status, retry_count FROM failed_messages"))
        found = {str(row.id): (row.status, row.retry_count) for row in rows}
    assert [found[each][0] for each in IDS] == [*["delivered"] * 3, "dead"]
    assert sorted(found[each][1] for each in IDS[:2]) in ([1, 5], [2, 4])
    assert sorted(str(message.body) for message in fake.delivered) == ["later", "new", "tried"]
