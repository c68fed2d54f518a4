"""A disk that is full: nothing leaves that is not written down, and what left is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from buttdial_sync import FailedMessage
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing import FakeButtDialServer
from tests.unit.retry.world import World

_SPACE = 1_000_000


@pytest.fixture
def world(fake_server: FakeButtDialServer) -> Iterator[World]:
    made = World(fake_server)
    yield made
    made.client.close()


class Disk:
    """SQLite's own limit of pages stands for the space that is left."""

    def __init__(self, repository: SQLiteRepository) -> None:
        self._repository = repository

    def _limit(self, pages: int) -> None:
        with self._repository.store.writing() as connection:
            in_use = connection.execute("PRAGMA page_count").fetchone()[0]
        with self._repository.store._locked() as connection:
            connection.execute(f"PRAGMA max_page_count = {in_use + pages}")

    def fill(self) -> None:
        # What fits into the pages that are there already still fits.
        self._limit(0)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            self._repository.add_new(
                [
                    FailedMessage(id=f"{number}", recipient="+1", body="x" * 3000)
                    for number in range(1000)
                ]
            )

    def empty(self) -> None:
        self._limit(_SPACE)


@pytest.fixture
def repository(tmp_path: Path, world: World) -> Iterator[SQLiteRepository]:
    with SQLiteRepository(tmp_path / "outbox.db", clock=world.clock) as made:
        yield made


def test_sending_on_a_full_disk(world: World, repository: SQLiteRepository) -> None:
    """The message is refused before anything leaves; with space again it is sent."""
    disk = Disk(repository)
    disk.fill()
    outbox = world.outbox(repository)
    for send in (outbox.send_message, outbox.enqueue):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            send("+14155550123", "Hello" * 2000)
    assert world.fake.requests == []
    disk.empty()
    assert outbox.send_message("+14155550123", "Hello" * 2000).ok
    assert len(world.fake.delivered) == 1


def test_a_loop_on_a_full_disk(world: World, repository: SQLiteRepository) -> None:
    """Messages that are there are sent, because their rows change in place; nothing goes twice."""
    for number in range(3):
        repository.add(FailedMessage(id=f"m{number}", recipient="+1", body="x"))
    disk = Disk(repository)
    disk.fill()
    report = world.loop(repository).drain()
    assert report.delivered + report.errors >= 1
    disk.empty()
    world.go_on(2 * repository.lease)
    world.loop(repository, on_unknown="dead").drain()
    keys = [each.idempotency_key for each in world.fake.delivered]
    assert (len(keys), len(set(keys))) == (3, 3)
    assert repository.stats()["pending"] == 0
