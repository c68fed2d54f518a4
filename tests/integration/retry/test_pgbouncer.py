"""The outbox on PostgreSQL behind PgBouncer in transaction mode, set up as the manual says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from buttdial_sync import Client, FailedMessage, Outbox, RetryLoop
from buttdial_sync.testing import FakeButtDialServer
from tests.integration.retry import pgbouncer

pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg")

from sqlalchemy import create_engine

from buttdial_sync.retry.sqlalchemy import SQLAlchemyRepository

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        pgbouncer.program() is None, reason="needs pgbouncer: apt-get install pgbouncer"
    ),
]

ROOT = Path(__file__).resolve().parents[3]
COUNT = 100
WORKERS = 4


@pytest.fixture
def port(postgres_url: str) -> Iterator[int]:
    with pgbouncer.running(postgres_url) as port:
        yield port


def names() -> Iterator[str]:
    return (f"m{number}" for number in range(COUNT))


def test_sqlalchemy(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Each row is sent once and nothing fails, though statements meet other connections."""
    engine = create_engine(
        f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres",
        connect_args={"prepare_threshold": None},
    )
    repository = SQLAlchemyRepository(engine, table_name="behind_pgbouncer")
    repository.create_table()
    with (
        FakeButtDialServer().listen() as server,
        Client(server.base_url, agent_token="tok") as client,
    ):
        repository.add_new([FailedMessage(id=name, recipient="+1", body=name) for name in names()])
        with engine.begin() as transaction:
            outbox = Outbox(client, repository)
            outbox.enqueue("+1", "within", within=transaction)
        report = RetryLoop(repository, client, workers=WORKERS, batch_size=5).drain()
        sent = Counter(call.body for call in server.fake.delivered)
    engine.dispose()
    assert (report.delivered, report.errors) == (COUNT + 1, 0)
    # What fails is tried again, so it shows only in the log.
    assert "the repository failed" not in caplog.text
    assert sent == Counter([*names(), "within"])


def test_django(port: int) -> None:
    """The same with Django, which prepares nothing by itself."""
    pytest.importorskip("django")
    with FakeButtDialServer().listen() as server:
        done = subprocess.run(
            [sys.executable, "-m", "tests.integration.retry.django_drain", server.base_url],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PORT": str(port), "COUNT": str(COUNT)},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        sent = Counter(call.body for call in server.fake.delivered)
    assert json.loads(done.stdout) == {"delivered": COUNT, "errors": 0}
    assert "the repository failed" not in done.stderr
    assert sent == Counter(names())
