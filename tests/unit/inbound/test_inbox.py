"""The inbox over the stores that need no server."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import (
    AccountVerified,
    ArgumentTypeError,
    ArgumentValueError,
    Client,
    ClientClosedError,
    ConfigError,
    InboundHandler,
    MemoryInbox,
    SQLiteDeliveryLog,
    SQLiteInbox,
    StoredEvent,
    UnreadableEvent,
    WaitingMessage,
)
from buttdial_sync.inbound.inbox import Inbox, inbox_schema
from buttdial_sync.listening.inbox_worker import HandingOver, drain_inbox
from buttdial_sync.models.converter import structure
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry import SQLiteRepository
from buttdial_sync.stores.memory import MemoryStore
from buttdial_sync.stores.schema import Condition
from buttdial_sync.stores.sqlite import SQLiteStore
from buttdial_sync.testing import FakeButtDialServer
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


class LosesAnswers(MemoryStore):
    """Writes, but what it says to an update gets lost."""

    def update(self, row_id: str, changes: Mapping[str, Any], condition: Condition) -> bool:
        super().update(row_id, changes, condition)
        raise ConnectionError("the connection broke")


def test_a_row_that_cannot_be_read_is_told_if_the_answer_is_lost() -> None:
    """It is dead, so that nobody would take it again."""
    inbox = Inbox(LosesAnswers(inbox_schema()))
    inbox.write([message("a")])
    with pytest.raises(ConnectionError):
        inbox.store.update(inbox.list()[0].id, {"payload": "{"}, Condition())
    taken = inbox.take()
    assert taken is not None
    assert (taken.status, taken.event) == ("dead", None)
    assert [each.id for each in inbox.list("dead")] == [taken.id]


def test_the_usual_times() -> None:
    """What was handled is known again for a week; a handler has five minutes."""
    assert MemoryInbox().keep_for == timedelta(days=7)
    assert MemoryInbox().lease == 300.0


class LockOfOthers:
    """A lock that another thread holds for longer than anybody waits."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def acquire(self, *, timeout: float) -> bool:
        self.waited.append(timeout)
        return False


def store_of(made: SQLiteInbox | SQLiteDeliveryLog) -> SQLiteStore:
    return made.store if isinstance(made, SQLiteInbox) else made._store


@pytest.mark.parametrize("kind", [SQLiteInbox, SQLiteDeliveryLog])
def test_the_usual_wait_for_another_process(
    kind: type[SQLiteInbox | SQLiteDeliveryLog], tmp_path: Path
) -> None:
    """Half a minute, if it writes into the file."""
    with kind(tmp_path / "events.db") as made:
        (wait,) = store_of(made)._connected().execute("PRAGMA busy_timeout").fetchone()
    assert wait == 30_000


@pytest.mark.parametrize("kind", [SQLiteInbox, SQLiteDeliveryLog])
def test_closing_waits_for_a_call_of_another_thread(
    kind: type[SQLiteInbox | SQLiteDeliveryLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds, unless the host says otherwise."""
    made = kind(tmp_path / "events.db")
    others = LockOfOthers()
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(store_of(made), "_lock", others)
        made.close()
        made.close(1.5)
    made.close()
    assert others.waited == [10.0, 1.5]


def test_an_event_is_known_again_by_a_later_release() -> None:
    """Its row has the same id, also in a file that is there already."""
    inbox = MemoryInbox()
    inbox.write([message("a1")])
    assert [each.id for each in inbox.list()] == ["15651c3d0fd7f3930aea80fb0b4a3796368dcac9"]


def test_a_listing_has_an_end() -> None:
    """The fifty newest, unless more are asked for."""
    inbox = MemoryInbox()
    inbox.write([message(str(number)) for number in range(51)])
    assert len(inbox.list()) == 50
    assert len(inbox.list(limit=51)) == 51


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_fork_while_another_thread_writes() -> None:
    """The child does not wait for a lock that nobody holds."""
    inbox = MemoryInbox()
    with inbox._lock:
        child = os.fork()
        if not child:
            os._exit(0 if inbox._lock.acquire(blocking=False) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_no_row_without_what_an_event_needs() -> None:
    """A database refuses it; the rest may be missing."""
    required = {"id", "status", "retry_count", "created_at", "next_retry_at"}
    required |= {"kind", "payload", "order_key"}
    assert {each.name for each in inbox_schema().columns if each.required} == required


def test_a_new_event() -> None:
    """Nothing was tried."""
    stored = StoredEvent(id="a")
    assert (stored.event, stored.status, stored.unreadable) == (None, "pending", None)
    assert (stored.retry_count, stored.attempt_number) == (0, 0)


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


def deferred(inbox: Inbox, **options: Any) -> InboundHandler:
    return InboundHandler(
        allow_unsigned=["butt-dial", "account"], inbox=inbox, deferred=True, **options
    )


def test_a_deferred_webhook_is_answered_at_once() -> None:
    """No handler runs in it; the same delivery again writes nothing; a worker hands over."""
    inbox, got = MemoryInbox(), list[str]()
    handler = deferred(inbox)
    handler.on_message(lambda event: got.append(event.text))
    body = b'{"messageId": "m", "channel": "sms", "from": "+1", "to": "+2", "body": "Hello"}'
    for stored in (1, 0):
        answer = handler.handle("butt-dial", body, {})
        assert (answer.status, json.loads(answer.body)["stored"]) == (200, stored)
    assert got == []
    assert drain_inbox(HandingOver(inbox=inbox, inbound=handler)) == 1
    assert got == ["Hello"]


def test_a_delivery_without_an_id_is_stored_once() -> None:
    """Its sender's id of the delivery stands for each of its events."""
    inbox = MemoryInbox()
    body = b'{"channel": "sms", "from": "+1", "to": "+2", "body": "Hello"}'
    for delivery in ("d1", "d1", "d2"):
        headers = {"X-BD-Delivery-Id": delivery}
        assert deferred(inbox).handle("butt-dial", body, headers).status == 200
    assert inbox.count_pending() == 2


def test_account_events_are_not_deferred() -> None:
    """They hold a token, which no row may have."""
    inbox, got = MemoryInbox(), list[str]()
    handler = deferred(inbox)
    handler.on_account_verified(lambda event: got.append(event.org_id))
    body = b'{"event": "account.verified", "orgId": "o", "teamToken": "secret"}'
    assert handler.handle("account", body, {}).status == 200
    assert (got, inbox.list()) == (["o"], [])


def test_an_inbox_that_fails_is_a_reason_to_try_again(tmp_path: Path) -> None:
    """The sender must not believe that the message was taken."""
    inbox = SQLiteInbox(tmp_path / "inbox.db")
    inbox.close()
    body = b'{"messageId": "m", "channel": "sms", "from": "+1", "body": "Hello"}'
    assert deferred(inbox).handle("butt-dial", body, {}).status == 500


WAITING = [
    structure(
        {"id": f"q{text}", "externalId": f"x{text}", "channel": "sms", "from": "+1", "body": text},
        WaitingMessage,
        source="a test",
    )
    for text in ("one", "two")
]


def test_waiting_messages_are_handed_over_once() -> None:
    """Also if a webhook brought one before: the provider's id tells, not the queue's."""
    handler, got = InboundHandler(allow_unsigned=["butt-dial"]), list[str]()
    handler.on_message(lambda event: got.append(event.text))
    body = b'{"messageId": "xone", "channel": "sms", "from": "+1", "to": "+2", "body": "one"}'
    assert handler.handle("butt-dial", body, {}).status == 200
    report = handler.dispatch_waiting(WAITING)
    assert (report.handled, report.repeated, report.failed) == (1, 1, 0)
    assert handler.dispatch_waiting(WAITING).repeated == 2
    assert got == ["one", "two"]


def test_waiting_messages_of_a_handler_with_an_inbox_are_written() -> None:
    """They have left the server, and a handler may fail."""
    inbox, got = MemoryInbox(), list[str]()
    handler = deferred(inbox)
    handler.on_message(lambda event: got.append(event.text))
    assert handler.dispatch_waiting(WAITING).handled == 0
    assert (got, inbox.count_pending()) == ([], 2)
    assert drain_inbox(HandingOver(inbox=inbox, inbound=handler)) == 2
    assert got == ["one", "two"]


def test_waiting_messages_before_a_stream_is_opened() -> None:
    """It fits before_open as it is: opening a stream loses none of them."""
    handler, got = InboundHandler(), list[str]()
    handler.on_message(lambda event: got.append(event.text))
    with FakeButtDialServer(dialect="open-source").listen() as server:
        for number in range(12):
            server.fake.add_waiting(body=str(number), externalId=f"x{number}")
        before_open = handler.dispatch_waiting
        with Client(server.base_url, agent_token="tok-1", before_open=before_open) as client:
            client.ping()
        assert server.fake.core.waiting.lost == 0
    assert got == [str(number) for number in range(12)]


@pytest.mark.parametrize("options", [{"deferred": True}, {"inbox": MemoryInbox()}])
def test_an_inbox_and_deferred_belong_together(options: dict[str, Any]) -> None:
    """One alone would do nothing."""
    with pytest.raises(ConfigError, match="belong together"):
        InboundHandler(**options)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"retry_count": "many"}, "TypeError: retry_count is not a number"),
        ({"attempt_number": None}, "TypeError: attempt_number is not a number"),
        ({"first_failed_at": "soon"}, "TypeError: first_failed_at is not a time"),
    ],
)
def test_a_row_whose_numbers_and_times_are_none(changes: dict[str, Any], reason: str) -> None:
    """Somebody wrote them by hand: the row is told, and a listing does not fail on it."""
    inbox = MemoryInbox()
    inbox.write([message("a1")])
    (stored,) = inbox.list()
    inbox.store.update(stored.id, changes, Condition())
    (found,) = inbox.list()
    assert (found.unreadable, found.event) == (reason, None)
    assert found.attempt_number == 0


def test_a_payload_with_a_value_that_is_none() -> None:
    """What an event holds is written by this library: the row is told, and not half handed over."""
    inbox = MemoryInbox()
    inbox.write([message("a1")])
    (stored,) = inbox.list()
    payload = {"id": "a1", "sender": "+1", "channel": "sms", "text": 5}
    inbox.store.update(stored.id, {"payload": json.dumps(payload)}, Condition())
    (found,) = inbox.list()
    assert found.event is None
    assert "text" in str(found.unreadable)


def test_a_token_in_an_event_that_lacks_a_part_is_not_stored() -> None:
    """A handler can still read it; a row, a task and a log cannot."""
    payload = {"event": "account.verified", "teamToken": "tt_secret", "ownerEmail": "a@b.example"}
    (event,) = InboundHandler().parse(payload)
    assert isinstance(event, UnreadableEvent)
    assert event.raw == payload
    assert "tt_secret" not in repr(event.raw)
    inbox = MemoryInbox()
    inbox.write([event])
    (row,) = inbox.store.newest(None, 5)
    assert json.loads(row["payload"])["raw"] == {**payload, "teamToken": "***"}
