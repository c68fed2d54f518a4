"""The short campaigns of the inbox: killed, and in order."""

from __future__ import annotations

import os
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import SQLiteInbox
from buttdial_sync.testing import FakeButtDialServer
from tests.integration.retry.postgres import binaries
from tests.stress.inbox_campaign import Victims, campaign, database_of, payload_of, post
from tests.stress.inbox_order import fill, hand_over

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals"),
]

needs_postgresql = pytest.mark.skipif(
    binaries() is None or find_spec("psycopg") is None, reason="needs PostgreSQL"
)

PAGE = 10


@pytest.mark.parametrize(
    ("dialect", "store", "kills"),
    [
        ("hosted", "sqlite", 2),
        ("open-source", "sqlite", 2),
        pytest.param("open-source", "postgresql", 1, marks=needs_postgresql),
        pytest.param("hosted", "django-postgresql", 1, marks=needs_postgresql),
    ],
)
def test_killed_at_any_moment(dialect: Any, store: str, kills: int) -> None:
    """
    No webhook is lost, and of the rest no more than a page for each kill.

    What the open-source server throws away when a stream is opened is not counted: no client can
    prevent it.
    """
    with database_of(store) as database:
        figures = campaign(
            dialect,
            database,
            messages=20 * kills,
            kills=kills,
            processes=1,
            seed=7,
            lease=300.0,
            failures=0.0,
        )
    assert figures.kills == kills
    assert figures.sent["webhook"] >= 6 * kills
    assert "webhook" not in figures.lost
    assert sum(figures.lost.values()) <= PAGE * kills + figures.emptied
    assert (figures.twice, figures.dead, figures.out_of_order) == (0, 0, 0)


def test_killed_right_after_the_answer(tmp_path: Path) -> None:
    """SIGKILL after the answer of a webhook loses nothing: it is on disk by then."""
    database, log = str(tmp_path / "inbox.db"), tmp_path / "log"
    log.touch()
    with FakeButtDialServer().listen() as server:
        victims = Victims(server.base_url, database, str(log), count=1, lease=300.0, failures=1.0)
        process, port = victims.running[0]
        for number in range(20):
            assert post(port, payload_of(number))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with SQLiteInbox(database) as inbox:
        texts = {getattr(stored.event, "text", None) for stored in inbox.list()}
    assert texts == {f"m{number}" for number in range(20)}


def test_told_to_end(tmp_path: Path) -> None:
    """After SIGTERM each message is handled, in the inbox, or on the server; the end is orderly."""
    database, log = str(tmp_path / "inbox.db"), tmp_path / "log"
    log.touch()
    count = 60
    with FakeButtDialServer().listen() as server:
        for number in range(count):
            payload = payload_of(number)
            server.fake.add_waiting(**{**payload, "externalId": payload["messageId"]})
        victims = Victims(server.base_url, database, str(log), count=1, lease=300.0, failures=0.0)
        process, _ = victims.running[0]
        assert server.fake.wait_for(lambda: len(server.fake.waiting) < count, 30.0)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
        left = {str(message["body"]) for message in server.fake.waiting}
    with SQLiteInbox(database) as inbox:
        stored = {str(getattr(each.event, "text", None)) for each in inbox.list(limit=count)}
        handled = inbox.stats()["handled"]
        assert not inbox.leased()
    assert stored | left == {f"m{number}" for number in range(count)}
    assert log.read_text("ascii").count("ends") == handled


def test_order_and_memory(tmp_path: Path) -> None:
    """Eight threads keep the order of each sender."""
    with SQLiteInbox(tmp_path / "inbox.db") as inbox:
        fill(inbox, messages=200, senders=20)
        got, _ = hand_over(inbox, workers=8)
        assert inbox.stats()["handled"] == 200
    assert len(got) == 20
    assert all(numbers == sorted(numbers) and len(numbers) == 10 for numbers in got.values())
