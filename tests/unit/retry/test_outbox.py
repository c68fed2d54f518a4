"""Messages that are written before they are sent."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import (
    ArgumentTypeError,
    ArgumentValueError,
    ConfigError,
    DeliveryReceipt,
    FailedMessage,
    InboundHandler,
    Outbox,
)
from buttdial_sync.retry import MemoryRepository, SQLiteRepository
from tests.unit.retry.world import TOKEN, Failing, Interrupted, World, world


def only_row(here: World) -> FailedMessage:
    (row,) = here.repository.list()
    return row


def test_sent_at_once(here: World) -> None:
    """A message that goes through is recorded as delivered, under the key that it went out with."""
    result = here.outbox().send_message("+14155550123", "Hello", thread_id="t")
    row = only_row(here)
    assert (result.ok, result.queued) == (True, False)
    assert (row.status, row.message_sid, row.thread_id) == ("delivered", result.message_sid, "t")
    assert (row.idempotency_key, row.agent_id) == (result.idempotency_key, "agent-1")
    assert here.fake.delivered[0].idempotency_key == row.idempotency_key


def test_the_row_is_there_before_the_message_leaves(here: World) -> None:
    """When the server sees the message, its row is leased and has its attempt recorded."""
    seen: list[Any] = []

    def answer(_args: dict[str, Any]) -> dict[str, Any]:
        seen.append((only_row(here).attempt_started_at, here.repository.fetch_due(1)))
        return {"messageId": "SM-1"}

    here.fake.on_tool("comms_send_message", answer)
    here.outbox().send_message("+14155550123", "Hello")
    assert seen == [(here.clock(), [])]


def test_a_failure_is_queued(here: World) -> None:
    """What failed is due in two minutes, and the loop sends it under the same key."""
    here.fake.on_send(error="busy")
    result = here.outbox().send_message("+14155550123", "Hello")
    assert (result.failed, result.queued, result.error) == (True, True, "busy")
    row = only_row(here)
    assert (row.attempts, row.attempt_started_at) == (1, None)
    assert row.next_retry_at == here.clock() + timedelta(minutes=2)
    here.go_on(120)
    assert here.loop().run_once().delivered == 1
    assert len({call.idempotency_key for call in here.fake.sent_messages}) == 1


def send_at_once(here: World, outbox: Outbox) -> None:
    outbox.send_message("+14155550123", "Hello")


def only_enqueue(here: World, outbox: Outbox) -> None:
    outbox.enqueue("+14155550123", "Hello")


def add_as_a_host(here: World, outbox: Outbox) -> None:
    here.add("a", max_retries=3)


@pytest.mark.parametrize("write", [send_at_once, only_enqueue, add_as_a_host])
def test_max_retries_counts_all_attempts(here: World, write: Any) -> None:
    """Whoever makes the first attempt, three are made in all; backoff gets 1, then 2."""
    here.fake.on_send(error="busy", count=9)
    pauses: list[int] = []

    def backoff(attempt: int) -> float:
        pauses.append(attempt)
        return 60.0

    write(here, here.outbox(max_retries=3, backoff=backoff))
    loop = here.loop(backoff=backoff)
    for _ in range(5):
        loop.run_once()
        here.go_on(60)
    row = only_row(here)
    assert (row.status, row.attempts, row.retry_count) == ("dead", 3, 3)
    assert len(here.fake.sent_messages) == 3
    assert pauses == [1, 2]


def test_an_attempt_that_does_not_count(here: World) -> None:
    """After a limit the row has as many attempts left as before, in both ways."""
    here.fake.on_send(error="Rate limit exceeded. Resets in up to 90 seconds.")
    here.outbox().send_message("+14155550123", "Hello")
    assert (only_row(here).attempts, only_row(here).attempt_started_at) == (0, None)


def test_a_limit_is_queued_until_its_end(here: World) -> None:
    """A rate limit makes the message due when the limit ends."""
    here.fake.on_send(error="Rate limit exceeded. Resets in up to 90 seconds.")
    assert here.outbox().send_message("+14155550123", "Hello").queued
    assert only_row(here).next_retry_at == here.clock() + timedelta(seconds=90)


def test_a_wrong_token_is_queued_too() -> None:
    """The message is safe, so a wrong token is reported instead of raised."""
    with world(tokens=["other"]) as here:
        result = here.outbox().send_message("+14155550123", "Hello")
        assert (result.failed, result.queued) == (True, True)
        assert result.error_type == "AuthInvalidTokenError"
        assert TOKEN not in repr(result)


def test_a_lost_answer_where_keys_are_honoured(here: World) -> None:
    """The row stays, marked as unknown; the loop finds out, and people get one message."""
    here.fake.fault("cut", count=3)
    result = here.outbox().send_message("+14155550123", "Hello")
    assert (result.unknown, result.queued) == (True, True)
    assert only_row(here).attempt_started_at is not None
    here.go_on(120)
    assert here.loop().run_once().delivered == 1
    assert here.bodies == ["Hello"]


def test_a_lost_answer_where_they_are_not() -> None:
    """The row is dead and says that it may have been sent."""
    with world("open-source") as here:
        here.fake.fault("cut")
        result = here.outbox().send_message("+14155550123", "Hello")
        assert (result.unknown, result.queued) == (True, False)
        assert only_row(here).status == "dead"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"to": " "}, ArgumentValueError),
        ({"to": "my brother"}, ArgumentValueError),
        ({"body": None}, ArgumentValueError),
        ({"channel": "pigeon"}, ArgumentValueError),
        ({"body": 5}, ArgumentTypeError),
        ({"template_vars": {"a": 1}}, ArgumentTypeError),
    ],
)
def test_what_cannot_be_sent_is_not_written(
    here: World, arguments: dict[str, Any], kind: type[Exception]
) -> None:
    """A wrong argument is told at once, by both methods, and leaves no row."""
    given = {"to": "+14155550123", "body": "Hello", **arguments}
    outbox = here.outbox()
    for method in (outbox.send_message, outbox.enqueue):
        with pytest.raises(kind):
            method(**given)
    assert (here.repository.list(), here.fake.requests) == ([], [])


def test_enqueue_only_writes(here: World) -> None:
    """Nothing is sent; the message is due at once, or when the host says."""
    outbox = here.outbox()
    later = here.clock() + timedelta(hours=1)
    written = outbox.enqueue("+14155550123", "Hello", subject="s")
    outbox.enqueue("+14155550123", "Later", send_after=later)
    assert here.fake.requests == []
    assert [each.id for each in here.repository.fetch_due(5)] == [written.id]


@pytest.mark.parametrize("paused", ["agent-1", None])
def test_a_send_while_it_is_paused(here: World, paused: str | None) -> None:
    """It is only written, whoever is paused: a loop sends it when somebody has resumed."""
    here.repository.pause("other")
    here.repository.pause(paused)
    outbox = here.outbox()
    for _ in range(2):
        result = outbox.send_message("+14155550123", "Hello", idempotency_key="k")
        assert (result.outcome, result.queued, result.ok) == ("not_sent", True, False)
    assert here.fake.delivered == []
    here.repository.resume(paused)
    assert here.loop().drain().delivered == 1
    assert outbox.send_message("+14155550123", "Hello").ok


def test_tokens_are_not_kept_unless_wanted(here: World) -> None:
    """A row has no token by default."""
    repository = MemoryRepository(clock=here.clock)
    here.outbox(repository).enqueue("+14155550123", "Hello", agent_id="a-2", agent_token="secret")
    here.outbox().enqueue("+14155550123", "Hello", agent_id="a-2", agent_token="secret")
    assert repository.list()[0].agent_token == ""
    assert only_row(here).agent_token == "secret"


def test_nothing_is_sent_that_could_not_be_written(here: World) -> None:
    """When the repository fails, the caller is told and no message leaves."""
    with pytest.raises(OSError, match="disk is full"):
        here.outbox(Failing(here.repository, "add_once")).send_message("+14155550123", "Hello")
    assert here.fake.requests == []


def test_an_end_that_cannot_be_recorded(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """The result stands; the row is resolved by the loop, and people get one message."""
    broken = Failing(here.repository, "mark_delivered")
    result = here.outbox(broken, random_fraction=lambda: 1.0).send_message("+14155550123", "Hello")
    assert (result.ok, result.queued, broken.calls) == (True, True, 5)
    # As long as the client may take for a call: 0.4 + 0.8 + 1.6 + 3.2 s.
    assert sum(here.slept) == pytest.approx(6.0)
    assert "could not be recorded" in caplog.text
    here.go_on(here.repository.lease)
    assert here.loop().run_once().delivered == 1
    assert here.bodies == ["Hello"]


@pytest.mark.parametrize("works_first", [False, True])
def test_ctrl_c_while_the_answer_is_recorded(open_source: World, works_first: bool) -> None:
    """The server has said what became of the message, so its row says it too."""
    rows = Interrupted(open_source.repository, "mark_delivered", works_first=works_first)
    with pytest.raises(KeyboardInterrupt):
        open_source.outbox(rows).send_message("+14155550123", "Hello")
    assert only_row(open_source).status == "delivered"


def test_within_needs_a_repository_that_can(here: World) -> None:
    """A transaction given to a repository that knows none is refused."""
    with pytest.raises(ConfigError, match="cannot write inside"):
        here.outbox().enqueue("+14155550123", "Hello", within=object())


def test_a_short_lease_is_refused(here: World) -> None:
    """As for the loop."""
    with pytest.raises(ArgumentValueError, match="must be longer"):
        here.outbox(MemoryRepository(lease=1.0))


@pytest.mark.parametrize("max_retries", ["5", 0, True])
def test_a_number_of_attempts_that_is_none(here: World, max_retries: Any) -> None:
    """It is refused when the outbox is made, because a row with it could never be settled."""
    with pytest.raises(ConfigError, match="max_retries"):
        here.outbox(max_retries=max_retries)


def test_what_enqueue_refuses(here: World) -> None:
    """A time without a zone and a name that no message has; nothing is written."""
    with pytest.raises(ArgumentValueError, match="aware"):
        here.outbox().enqueue("+14155550123", "Hello", send_after=here.clock().replace(tzinfo=None))
    with pytest.raises(ArgumentTypeError, match="colour"):
        here.outbox().enqueue("+14155550123", "Hello", colour="red")
    assert here.repository.list() == []


def test_another_agents_token_needs_its_id(here: World) -> None:
    """Without it a later attempt would go out as the client's own agent."""
    with pytest.raises(ArgumentValueError, match="agent_id"):
        here.outbox().send_message("+14155550123", "Hello", agent_token="secret")
    assert here.repository.list() == []


def test_the_usual_number_of_attempts(here: World) -> None:
    """Five in all; the row has what the caller gave, and a key of its own."""
    one = here.outbox().enqueue("+14155550123", "Hello", agent_name="Shop")
    two = here.outbox(max_retries=2).enqueue("+14155550123", "Hello", idempotency_key="k")
    assert (one.max_retries, two.max_retries) == (5, 2)
    assert (one.agent_name, one.agent_id, one.agent_token) == ("Shop", "agent-1", "")
    assert (two.idempotency_key, one.status, one.retry_count) == ("k", "pending", 0)
    assert len({one.id, two.id, one.idempotency_key}) == 3
    assert {each.id for each in here.repository.list()} == {one.id, two.id}


@pytest.mark.parametrize("channels", [["sms", "line"], ("sms", "line")])
def test_fallback_channels(here: World, channels: Any) -> None:
    """A list is kept as what cannot change; another type is refused before it is written."""
    written = here.outbox().enqueue(
        "+14155550123", "Hello", fallback_channels=channels, send_after=here.clock()
    )
    assert written.fallback_channels == ("sms", "line")
    assert only_row(here).fallback_channels == ("sms", "line")
    assert only_row(here).next_retry_at == here.clock()


def test_a_message_without_a_text(here: World) -> None:
    """A template or a picture needs none."""
    written = here.outbox().enqueue("+14155550123", media_url="https://a.example/b.png")
    assert (written.body, written.media_url) == ("", "https://a.example/b.png")
    assert here.loop().run_once().delivered == 1


def test_within_a_transaction(here: World) -> None:
    """The message is the host's transaction's; without one it is written at once."""
    with SQLiteRepository(":memory:", clock=here.clock) as repository:
        outbox, host = here.outbox(repository), repository.store._connected()
        host.execute("BEGIN")
        outbox.enqueue("+14155550123", "Hello", within=host)
        host.execute("ROLLBACK")
        assert repository.count_pending() == 0
        outbox.enqueue("+14155550123", "Hello", within=host)
        assert repository.count_pending() == 1


def test_a_receipt_that_overtakes_the_answer(here: World) -> None:
    """It comes by webhook while the send waits, and is in the row when the send has returned."""
    outbox, inbound = here.outbox(), InboundHandler(allow_unsigned=["butt-dial"])
    inbound.on_delivery_receipt(outbox.record_receipt)
    statuses: list[int] = []

    def answer(_args: dict[str, Any]) -> dict[str, Any]:
        for status in ("sent", "delivered"):
            receipt = {"messageId": "SM-1", "status": status, "channel": "sms"}
            statuses.append(inbound.handle("butt-dial", json.dumps(receipt).encode(), {}).status)
        return {"messageId": "SM-1"}

    here.fake.on_tool("comms_send_message", answer)
    assert outbox.send_message("+14155550123", "Hello").ok
    assert statuses == [200, 200]
    row = only_row(here)
    assert (row.status, row.receipt_status, row.receipt_at) == (
        "delivered",
        "delivered",
        here.clock(),
    )
    receipt = {"messageId": "SM-1", "status": "read", "timestamp": "2026-01-02T03:04:05Z"}
    assert inbound.dispatch(receipt).handled == 1
    assert only_row(here).receipt_status == "read"


def test_a_repository_without_receipts(here: World) -> None:
    """A host's own repository may have none; that is said, and not ignored."""

    class Plain(MemoryRepository):
        record_receipt = None  # type: ignore[assignment]

    outbox = Outbox(here.client, Plain(clock=here.clock))
    with pytest.raises(ConfigError, match="record_receipt"):
        outbox.record_receipt(DeliveryReceipt(message_sid="SM-1", status="read"))


def test_a_key_that_an_index_cannot_hold(here: World) -> None:
    """Receipts are looked up by it, so it has a limit."""
    here.outbox().enqueue("+14155550123", "Hello", idempotency_key="x" * 255)
    with pytest.raises(ArgumentValueError, match="idempotency_key"):
        here.outbox().enqueue("+14155550123", "Hello", idempotency_key="x" * 256)


def test_enqueued_twice_is_one_message(open_source: World) -> None:
    """Also on a server without keys, and inside one transaction of the host's."""
    outbox = open_source.outbox()
    first = outbox.enqueue("+14155550123", "once", idempotency_key="key", priority=3)
    again = outbox.enqueue("+14155550123", "once more", idempotency_key="key")
    assert (again.id, again.body) == (first.id, "once")
    assert open_source.loop().drain().delivered == 1
    assert open_source.bodies == ["once"]
    later = outbox.enqueue("+14155550123", "once", idempotency_key="key")
    assert (later.id, later.status) == (first.id, "delivered")


@pytest.mark.parametrize(
    ("first", "status", "outcome", "is_queued"),
    [
        ("sent", "delivered", "sent", False),
        ("refused", "pending", "not_sent", True),
        ("refused for good", "dead", "not_sent", False),
        ("lost", "pending", "unknown", True),
        ("expired", "dead", "not_sent", False),
    ],
)
def test_sent_twice_under_one_key(
    here: World, first: str, status: str, outcome: str, is_queued: bool
) -> None:
    """The second call sends nothing, and says what became of the first message."""
    if first.startswith("refused"):
        here.fake.on_send(error="busy")
    elif first == "lost":
        here.fake.fault("cut", count=3)
    outbox = here.outbox(max_retries=1 if first == "refused for good" else 5)
    expires_at = here.clock() if first == "expired" else None
    result = outbox.send_message(
        "+14155550123", "Hello", idempotency_key="key", expires_at=expires_at
    )
    sent_before = here.bodies
    again = outbox.send_message(
        "+14155550123", "Hello", idempotency_key="key", expires_at=expires_at
    )
    row = only_row(here)
    assert (row.status, here.bodies) == (status, sent_before)
    assert (again.outcome, again.queued, again.idempotency_key) == (outcome, is_queued, "key")
    assert again.message_sid == result.message_sid == row.message_sid
    told = None if status == "delivered" else f"it is stored already, as {row.id} ({status})"
    assert again.error == told


class Published(Failing):
    """A host's own repository: of what can be left out it has nothing."""

    def __getattr__(self, name: str) -> Any:
        if name in {"add_once", "within", "record_receipt"}:
            raise AttributeError(name)
        return super().__getattr__(name)


def test_a_hosts_own_repository(here: World) -> None:
    """Messages are added to it, sent and enqueued; each call is a message."""
    outbox = here.outbox(Published(here.repository))
    assert outbox.send_message("+14155550123", "now").ok
    waiting = outbox.enqueue("+14155550123", "later")
    assert waiting.id == here.row(waiting.id).id
    assert sorted(row.status for row in here.repository.list()) == ["delivered", "pending"]
    assert outbox.enqueue("+14155550123", "later").id != waiting.id
    with pytest.raises(ConfigError, match="no record_receipt"):
        outbox.record_receipt(DeliveryReceipt(message_sid="SM-1", status="read"))


@pytest.mark.parametrize("row_factory", [None, sqlite3.Row, lambda _, row: {"row": row}])
def test_enqueued_twice_in_one_transaction(row_factory: Any, here: World, tmp_path: Path) -> None:
    """The second call sees the first message, which is not committed; whatever the host's rows."""
    with SQLiteRepository(tmp_path / "outbox.db", clock=here.clock) as repository:
        host = sqlite3.connect(tmp_path / "outbox.db")
        host.row_factory = row_factory
        outbox = here.outbox(repository)
        first, again = (
            outbox.enqueue("+14155550123", "once", idempotency_key="key", within=host)
            for _ in range(2)
        )
        assert again.id == first.id
        host.commit()
        host.close()
        assert len(repository.list()) == 1


def test_messages_are_ordered_within_a_microsecond(here: World) -> None:
    """The clock may stand still; those of one ordering_key are sent as they were enqueued."""
    outbox = here.outbox()
    bodies = [f"m{number}" for number in range(5)]
    for body in bodies:
        outbox.enqueue("+14155550123", body, ordering_key="+14155550123")
    here.go_on(1)
    assert outbox.enqueue("+14155550124", "later").created_at == here.clock()
    assert here.loop(workers=3).drain().delivered == 6
    assert [body for body in here.bodies if body != "later"] == bodies


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"priority": "high"}, ArgumentTypeError),
        ({"priority": True}, ArgumentTypeError),
        ({"priority": 1_000_001}, ArgumentValueError),
        ({"priority": -1_000_001}, ArgumentValueError),
        ({"ordering_key": 1}, ArgumentTypeError),
        ({"ordering_key": "k" * 256}, ArgumentValueError),
        ({"expires_at": "tomorrow"}, ArgumentTypeError),
        ({"expires_at": datetime(2026, 1, 1)}, ArgumentValueError),
    ],
)
def test_wrong_columns(here: World, wrong: dict[str, Any], kind: type[Exception]) -> None:
    """They are refused before anything is written."""
    with pytest.raises(kind):
        here.outbox().enqueue("+14155550123", "x", **wrong)
    assert here.repository.list() == []


@pytest.mark.parametrize("priority", [1_000_000, -1_000_000])
def test_the_last_priorities(here: World, priority: int) -> None:
    """A million is one, above and below 0."""
    assert here.outbox().enqueue("+14155550123", "x", priority=priority).priority == priority
