"""The log of what was handed over, in a file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier

import pytest

from buttdial_sync import DeliveryInProgressError, DeliveryLog, InboundHandler, SQLiteDeliveryLog
from buttdial_sync.errors import ClientClosedError, ConfigError
from buttdial_sync.models.inbound import InboundMessage
from buttdial_sync.testing.simulate import message_payload
from tests.unit.inbound.log_contract import LEASE, Advance, DeliveryLogContract, claimed


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deliveries.db"


@pytest.fixture
def log(path: Path, clock: Clock) -> Iterator[DeliveryLog]:
    with SQLiteDeliveryLog(path, clock=clock) as opened:
        yield opened


class TestSQLiteDeliveryLog(DeliveryLogContract):
    """The log in a file does what every log has to do."""

    @pytest.fixture
    def advance(self, clock: Clock) -> Advance:
        def advance(seconds: float) -> None:
            clock.now += timedelta(seconds=seconds)

        return advance


def test_processes_share_it(log: DeliveryLog, path: Path, clock: Clock) -> None:
    """Another one that opens the file knows the claims, and what is done."""
    token = claimed(log)
    log.done("b", claimed(log, "b"))
    with SQLiteDeliveryLog(path, clock=clock) as other:
        with pytest.raises(DeliveryInProgressError):
            other.claim("a", LEASE)
        assert other.claim("b", LEASE) is None
        other.done("a", token)
    assert log.claim("a", LEASE) is None


def test_one_of_many_threads_gets_a_claim(path: Path, clock: Clock) -> None:
    """Each with a connection of its own, as processes have."""
    begin = Barrier(4)

    def claim_all(_: int) -> int:
        with SQLiteDeliveryLog(path, clock=clock) as log:
            begin.wait(30)
            return sum(won(log, f"d{number}") for number in range(20))

    def won(log: DeliveryLog, delivery_id: str) -> bool:
        try:
            return log.claim(delivery_id, LEASE) is not None
        except DeliveryInProgressError:
            return False

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(claim_all, range(4))) == 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_shares_it(log: DeliveryLog) -> None:
    """It knows what its parent did, and the parent what it did."""
    log.done("parent", claimed(log, "parent"))
    child = os.fork()
    if not child:
        good = log.claim("parent", LEASE) is None
        log.done("child", log.claim("child", LEASE) or "")
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert log.claim("child", LEASE) is None


def test_old_deliveries_are_forgotten(log: DeliveryLog, path: Path, clock: Clock) -> None:
    """A week after they were done, and claims of processes that died as well."""
    log.done("old", claimed(log, "old"))
    assert log.claim("died", LEASE)
    clock.now += timedelta(seconds=1)
    log.done("newer", claimed(log, "newer"))
    clock.now += timedelta(days=7)
    assert log.claim("another", LEASE)
    with closing(sqlite3.connect(path)) as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM buttdial_deliveries")]
    assert sorted(ids) == ["another", "newer"]
    log.done("old", "a token of long ago")  # its handler took a week
    assert log.claim("old", LEASE) is None


def test_what_is_old_goes_once_an_hour(path: Path, clock: Clock) -> None:
    """Not with each delivery, which would wait for it. The file is closed at the end."""
    with SQLiteDeliveryLog(path, keep_for=timedelta(minutes=1), clock=clock) as log:
        log.done("old", claimed(log, "old"))
        clock.now += timedelta(minutes=59)
        assert log.claim("old", LEASE) is None
        clock.now += timedelta(minutes=1)
        assert log.claim("old", LEASE)
    with pytest.raises(ClientClosedError):
        log.claim("a", LEASE)


def test_two_workers_and_a_repetition(path: Path, clock: Clock) -> None:
    """A webhook that comes again at another worker is handed over once."""
    handled: list[str] = []

    def keep(message: InboundMessage) -> None:
        handled.append(message.text)

    answers = []
    for _ in range(2):
        with SQLiteDeliveryLog(path, clock=clock) as log:
            inbound = InboundHandler(delivery_log=log)
            inbound.on_message(keep)
            answers.append(inbound.dispatch(message_payload(1)))
    assert len(handled) == 1
    assert [(each.handled, each.repeated) for each in answers] == [(1, 0), (0, 1)]


def test_a_file_that_cannot_be_used(tmp_path: Path, log: SQLiteDeliveryLog) -> None:
    """It is refused at once; a closed log says so."""
    with pytest.raises(ConfigError, match="cannot be used"):
        SQLiteDeliveryLog(tmp_path / "missing" / "deliveries.db")
    assert "deliveries.db" in repr(log)
    log.close()
    log.close()
    with pytest.raises(ClientClosedError):
        log.claim("a", LEASE)
