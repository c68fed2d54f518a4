"""The inbox over the stores that need no server."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from buttdial_sync import (
    AccountVerified,
    ArgumentTypeError,
    ArgumentValueError,
    ClientClosedError,
    MemoryInbox,
    SQLiteInbox,
)
from buttdial_sync.inbound.inbox import Inbox
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.testing.conformance import Clock, SettableClock
from tests.unit.inbound.inbox_conformance import InboxConformance, message


class TestMemory(InboxConformance):
    def make_inbox(self, clock: Clock, lease: float) -> Inbox:
        return MemoryInbox(clock=clock, lease=lease)


class TestSQLite(InboxConformance):
    inbox: SQLiteInbox

    def make_inbox(self, clock: Clock, lease: float) -> SQLiteInbox:
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name) / "inbox.db"
        return SQLiteInbox(path, clock=clock, lease=lease)

    def teardown_method(self) -> None:
        self.inbox.close()
        self.directory.cleanup()


def test_a_verified_account_is_not_written() -> None:
    """It holds a token."""
    inbox = MemoryInbox()
    event = AccountVerified(org_id="o", team_token="secret")
    with pytest.raises(ArgumentTypeError, match="token"):
        inbox.write([message("a"), event])
    assert inbox.stats()["pending"] == 0


def test_order_survives_a_clock_that_stands_or_goes_back() -> None:
    """Events of one process keep their order."""
    clock = SettableClock()
    inbox = MemoryInbox(clock=clock)
    inbox.write([message("a"), message("b")])
    clock.move(-60)
    inbox.write([message("c")])
    clock.move(120)
    for wanted in ("a", "b", "c"):
        stored = inbox.take()
        assert stored is not None
        assert stored.event == message(wanted)
        inbox.mark_handled(stored)


def test_a_file_may_be_an_outbox_too(tmp_path: Path) -> None:
    """Each has its table; a closed inbox says so."""
    path = tmp_path / "messages.db"
    with SQLiteInbox(path) as inbox, SQLiteRepository(path) as outbox:
        inbox.write([message("a")])
        outbox.add(FailedMessage(id="a", recipient="+1", body="x"))
        assert (inbox.count_pending(), outbox.count_pending()) == (1, 1)
        assert repr(inbox) == f"SQLiteInbox({os.fspath(path)!r})"
    with SQLiteInbox(path) as again:
        assert again.count_pending() == 1
    with pytest.raises(ClientClosedError):
        again.count_pending()


@pytest.mark.parametrize("lease", [0, -1.0])
def test_a_lease_that_is_none(tmp_path: Path, lease: float) -> None:
    """It is refused before a file is made."""
    with pytest.raises(ArgumentValueError, match="lease"):
        SQLiteInbox(tmp_path / "inbox.db", lease=lease)
    assert not list(tmp_path.iterdir())
