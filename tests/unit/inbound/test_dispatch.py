"""From an event to each handler once, and by which key that is remembered."""

from __future__ import annotations

import hashlib
import logging
import threading
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from buttdial_sync import (
    AccountVerified,
    DeliveryInProgressError,
    DeliveryReceipt,
    InboundHandler,
    InboundMessage,
    InboundReport,
    MemoryDeliveryLog,
    StatusUpdate,
    UnreadableEvent,
)
from buttdial_sync.inbound.dispatch import identity_of, keys_of
from tests.unit.inbound.test_native import HOSTED

HERE = "tests.unit.inbound.test_dispatch"


class Noted(MemoryDeliveryLog):
    """A log that tells what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: list[tuple[str, float]] = []

    def claim(self, delivery_id: str, lease: float) -> str | None:
        self.claims.append((delivery_id, lease))
        return super().claim(delivery_id, lease)

    @property
    def names(self) -> list[str]:
        return [key.partition("#")[2] for key, _ in self.claims]


class Busy(MemoryDeliveryLog):
    """A log where somebody else has claimed all deliveries for a handler."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = f"#{HERE}.{name}"

    def claim(self, delivery_id: str, lease: float) -> str | None:
        if delivery_id.endswith(self.name):
            raise DeliveryInProgressError(delivery_id)
        return super().claim(delivery_id, lease)


class Counting:
    """A handler that is an object."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _: object) -> None:
        self.calls += 1


def first(_: InboundMessage) -> None: ...


def message(**fields: Any) -> InboundMessage:
    return InboundMessage(**{"id": "m1", "sender": "+1", "channel": "sms", "text": "x", **fields})


def test_names_of_handlers() -> None:
    """A function's place and name, an object's class; the second of a name has a number."""
    log = Noted()
    inbound = InboundHandler(delivery_log=log, lease=7.0)
    for handler in (first, Counting(), first, Counting(), first):
        inbound.on_message(handler)
    assert inbound.dispatch_event(message()) == InboundReport(handled=1)
    assert log.names == [
        f"{HERE}.first",
        f"{HERE}.Counting",
        f"{HERE}.first-2",
        f"{HERE}.Counting-2",
        f"{HERE}.first-3",
    ]
    assert {lease for _, lease in log.claims} == {7.0}


def test_the_usual_lease() -> None:
    """Five minutes for a handler."""
    log = Noted()
    inbound = InboundHandler(delivery_log=log)
    inbound.on_message(first)
    inbound.dispatch_event(message())
    assert log.claims == [(f"unsigned:message:sms::m1#{HERE}.first", 300.0)]


def test_a_handler_that_was_removed() -> None:
    """It is called no more, wherever it was added; the others are."""
    inbound = InboundHandler()
    gone, kept = Counting(), Counting()
    for handler in (gone, kept, gone):
        inbound.on_message(handler)
    inbound.on_status_update(gone)
    inbound.remove(gone)
    inbound.remove(gone)
    inbound.dispatch_event(message())
    inbound.dispatch_event(StatusUpdate(kind="x"))
    assert (gone.calls, kept.calls) == (0, 1)


@pytest.mark.parametrize(
    "event",
    [
        message(id=None),
        message(id=""),
        StatusUpdate(kind="x", channel="sms"),
        AccountVerified(org_id="1", team_token="t"),
    ],
)
def test_an_event_without_an_id(event: Any) -> None:
    """Nothing is remembered of it: it is handed over each time."""
    log = Noted()
    inbound, handler = InboundHandler(delivery_log=log), Counting()
    inbound.on_message(handler)
    inbound.on_status_update(handler)
    inbound.on_account_verified(handler)
    for _ in range(2):
        assert inbound.dispatch_event(event) == InboundReport(handled=1)
    assert (handler.calls, log.claims) == (2, [])


@pytest.mark.parametrize(
    "other",
    [
        message(id="m2"),
        message(channel="line"),
        StatusUpdate(kind="x", channel="sms", id="m1"),
        StatusUpdate(kind="y", channel="sms", id="m1"),
        DeliveryReceipt(message_sid="m1", status="read", channel="sms"),
        DeliveryReceipt(message_sid="m1", status="sent", channel="sms"),
    ],
)
def test_another_event(other: Any) -> None:
    """Each is known by its kind, its id and its channel, and repeated once all had it."""
    inbound = InboundHandler()
    inbound.on_message(first)
    inbound.on_status_update(Counting())
    inbound.on_delivery_receipt(Counting())
    assert inbound.dispatch_event(message()) == InboundReport(handled=1)
    assert inbound.dispatch_event(other) == InboundReport(handled=1)
    assert inbound.dispatch_event(other) == InboundReport(repeated=1)


def test_a_new_handler_gets_what_the_others_had() -> None:
    """Then the event was handled, and not only repeated."""
    inbound, late = InboundHandler(), Counting()
    inbound.on_message(first)
    inbound.dispatch_event(message())
    inbound.on_message(late)
    assert inbound.dispatch_event(message()) == InboundReport(handled=1)
    assert late.calls == 1


def test_nobody_wants_it() -> None:
    """Then it is handled: the sender need not try again."""
    inbound = InboundHandler()
    inbound.on_message("line")(first)
    assert inbound.dispatch_event(message()) == InboundReport(handled=1)
    assert inbound.dispatch_event(DeliveryReceipt(message_sid="1", status="read")).handled == 1


@pytest.mark.parametrize(
    ("filler", "is_kept"),
    [("x" * 100, True), ("ü", False), ("\n", False), ("\x7f", False), (" ", True)],
)
def test_a_key_that_every_database_holds(filler: str, is_kept: bool) -> None:
    """Printable ASCII stays as it is; of anything else the key is a hash."""
    assert_key(f"m{filler}", is_kept=is_kept)


@pytest.mark.parametrize(("length", "is_kept"), [(200, True), (201, False)])
def test_a_key_of_two_hundred_characters(length: int, is_kept: bool) -> None:
    """Longer ones are hashed, too."""
    rest = len(f"unsigned:message:sms::#{HERE}.first")
    assert_key("x" * (length - rest), is_kept=is_kept)


def assert_key(message_id: str, *, is_kept: bool) -> None:
    log = Noted()
    inbound = InboundHandler(delivery_log=log)
    inbound.on_message(first)
    inbound.dispatch_event(message(id=message_id))
    ((key, _),) = log.claims
    whole = f"unsigned:message:sms::{message_id}#{HERE}.first"
    hashed = f"unsigned:sha256:{hashlib.sha256(whole.encode()).hexdigest()}"
    assert key == (whole if is_kept else hashed)


@pytest.mark.parametrize("method", ["done", "release"])
def test_a_log_that_fails_at_the_end(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """What the handler did counts; the log tells whose claim stays."""

    class Broken(MemoryDeliveryLog):
        def done(self, delivery_id: str, token: str) -> None:
            raise OSError("the disk is full")

        release = done

    inbound = InboundHandler(delivery_log=Broken())

    def handler(_: InboundMessage) -> None:
        if method == "release":
            raise ValueError("the handler's mistake")

    inbound.on_message(handler)
    report = inbound.dispatch_event(message())
    assert (report.handled, report.failed) == ((1, 0) if method == "done" else (0, 1))
    assert "handler keeps its claim until the lease ends" in caplog.text
    assert "the disk is full" in caplog.text


def test_the_log_names_no_recipient(caplog: pytest.LogCaptureFixture) -> None:
    """A receipt's key ends with it; the records tell the handler's name."""

    class Broken(MemoryDeliveryLog):
        def done(self, delivery_id: str, token: str) -> None:
            raise OSError("the disk is full")

    inbound, handler = InboundHandler(delivery_log=Broken()), Counting()
    inbound.on_delivery_receipt(handler)
    receipt = DeliveryReceipt(message_sid="m1", status="read", recipient="+41791234567")
    with caplog.at_level(logging.DEBUG):
        assert inbound.dispatch_event(receipt) == InboundReport(handled=1)
        assert inbound.dispatch_event(receipt) == InboundReport(busy=1)
    assert f"{HERE}.Counting is still busy with a DeliveryReceipt" in caplog.messages
    assert "+4179" not in caplog.text


def test_a_log_that_fails_at_the_beginning(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is called, and the log tells who was not."""

    class Broken(MemoryDeliveryLog):
        def claim(self, delivery_id: str, lease: float) -> str | None:
            raise OSError("the disk is full")

    inbound, handler = InboundHandler(delivery_log=Broken()), Counting()
    inbound.on_message(handler)
    assert inbound.dispatch_event(message()) == InboundReport(failed=1)
    assert handler.calls == 0
    assert f"the delivery log failed; {HERE}.Counting was not called" in caplog.text


def test_somebody_else_is_at_it(caplog: pytest.LogCaptureFixture) -> None:
    """For the sender to try again; that is no error of anybody."""
    inbound = InboundHandler(delivery_log=Busy("first"))
    inbound.on_message(first)
    assert inbound.dispatch_event(message()) == InboundReport(busy=1)
    assert caplog.text == ""


def test_somebody_else_is_at_one_of_them() -> None:
    """The others run. If one of these fails, that counts; what was handled before does not."""
    inbound, other = InboundHandler(delivery_log=Busy("first")), Counting()

    def fail(_: InboundMessage) -> None:
        raise ValueError("the handler's mistake")

    inbound.on_message(first)
    inbound.on_message(other)
    assert inbound.dispatch_event(message()) == InboundReport(busy=1)
    assert inbound.dispatch_event(message()) == InboundReport(busy=1)
    assert other.calls == 1
    inbound.on_message(fail)
    assert inbound.dispatch_event(message()) == InboundReport(failed=1)


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_a_handler_that_ends_the_process(
    end: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Its claim is given back, so that whoever gets the event next need not wait. It is logged."""
    inbound = InboundHandler()
    ends = [end]

    def handler(_: InboundMessage) -> None:
        if ends:
            raise ends.pop()

    inbound.on_message(handler)
    with pytest.raises(end):
        inbound.dispatch_event(message())
    assert f"handler raised {end.__name__}" in caplog.text
    assert inbound.dispatch_event(message()) == InboundReport(handled=1)


def test_a_handler_that_does_not_tell_its_arguments() -> None:
    """One of C: it gets the event only."""
    inbound = InboundHandler()
    inbound.on_message(str)
    assert inbound.dispatch_event(message()) == InboundReport(handled=1)


def test_a_handler_that_ends_a_thread(caplog: pytest.LogCaptureFixture) -> None:
    """There ``sys.exit()`` would end only the thread, in silence: the handler has failed."""
    inbound = InboundHandler()
    ends = [SystemExit]
    reports: list[InboundReport] = []

    def handler(_: InboundMessage) -> None:
        if ends:
            raise ends.pop()

    def work() -> None:
        reports.extend(inbound.dispatch_event(message()) for _ in range(2))

    inbound.on_message(handler)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert reports == [InboundReport(failed=1), InboundReport(handled=1)]
    assert "handler raised SystemExit" in caplog.text


@pytest.mark.parametrize(
    ("event", "identity"),
    [
        (message(), "unsigned:message:sms::m1"),
        (message(verified=True), "message:sms::m1"),
        (message(verified=True, source="queue", agent_id="a"), "message:sms:a:m1"),
        (message(channel="email", verified=True, to="b@c.d"), "message:email:b@c.d:m1"),
        (message(channel="email", verified=True, to="b@c.d", agent_id="a"), "message:email:a:m1"),
        (message(channel="email", verified=True), "message:email::m1"),
        (message(verified=True, to="+2"), "message:sms::m1"),
        (UnreadableEvent(reason="x", channel="sms", id="m1"), "unsigned:unreadable:sms::m1"),
        (message(id=None, verified=True), "first"),
        (message(id=None), "unsigned:first"),
        (StatusUpdate(kind="x"), "unsigned:first"),
    ],
)
def test_identity(event: Any, identity: str) -> None:
    """Inboxes have it on disk. A stranger's event never has that of a signed one."""
    assert identity_of(event, ("first", "second")) == identity


@pytest.mark.parametrize(
    ("fields", "is_shared"),
    [
        ({"source": "push"}, True),
        ({"source": "queue"}, False),
        ({"source": "queue", "raw": {"id": "m1"}}, False),
        ({"source": "queue", "raw": "m1"}, False),
        ({"source": "queue", "external_id": "m1"}, True),
        ({"source": "queue", "raw": {"externalId": "m1"}}, True),
        ({"source": "queue", "raw": {"external_id": 5}}, True),
        ({"source": "whatsapp_webhook", "external_id": "m1"}, False),
        ({"external_id": "m1"}, False),
    ],
)
def test_what_may_have_come_by_an_unsigned_webhook(fields: Any, *, is_shared: bool) -> None:
    """What has the provider's id, over the client's own connection. It is known by both keys."""
    keys = ("message:sms::m1", "unsigned:message:sms::m1")
    assert keys_of(message(verified=True, **fields), ()) == keys[: 1 + is_shared]


def test_nothing_identifies_it() -> None:
    """Neither an id nor a delivery."""
    assert identity_of(message(id=None)) is None


def test_a_thread_that_is_ended_in_a_handler() -> None:
    """What is not ``sys.exit()`` passes through there, too, as the time limit of a greenlet."""

    class TimeLimit(BaseException):
        pass

    inbound, caught = InboundHandler(), list[BaseException]()

    @inbound.on_message
    def handler(_: InboundMessage) -> None:
        raise TimeLimit

    def work() -> None:
        try:
            inbound.dispatch_event(message())
        except TimeLimit as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert len(caught) == 1


@pytest.mark.parametrize("handler", [Mock(), MagicMock()])
def test_a_mock_is_a_handler(handler: Mock) -> None:
    """Hosts test with them; they take any arguments and return a mock."""
    inbound = InboundHandler()
    inbound.on_message(handler)
    assert inbound.dispatch_event(message()) == InboundReport(handled=1)
    handler.assert_called_once_with(message())


def test_a_failure_is_told_with_the_handlers_name(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback; the event comes again."""
    inbound = InboundHandler()

    def handler(_: InboundMessage) -> None:
        raise ValueError("the handler's mistake")

    inbound.on_message(handler)
    for _ in range(2):
        assert inbound.dispatch(HOSTED) == InboundReport(failed=1)
    assert caplog.text.count("handler failed") == 2
    assert "the handler's mistake" in caplog.text


def test_a_handler_that_is_added_again_is_known_again() -> None:
    """It has its old name, and what it has had is not handed over again."""
    inbound, got = InboundHandler(), list[InboundMessage]()

    def keep(event: InboundMessage) -> None:
        got.append(event)

    inbound.on_message(keep)
    assert inbound.dispatch_event(message()) == InboundReport(handled=1)
    inbound.remove(keep)
    inbound.on_message(keep)
    assert inbound.dispatch_event(message()) == InboundReport(repeated=1)
    inbound.on_message("sms")(keep)
    assert inbound.dispatch_event(message()) == InboundReport(handled=1)
    assert got == [message()] * 2


def test_receipts_of_one_message_for_several_recipients() -> None:
    """Each of a group has one of its own; a repetition is known."""
    inbound, got = InboundHandler(), list[DeliveryReceipt]()
    inbound.on_delivery_receipt(got.append)
    receipts = [
        DeliveryReceipt(message_sid="m1", status="read", recipient=each)
        for each in ("+1", "+2", None, "+1")
    ]
    for each in receipts:
        inbound.dispatch_event(each)
    assert got == receipts[:3]


def test_an_event_without_an_id_is_known_by_its_delivery() -> None:
    """By what the caller says; without that it is handed over each time."""
    inbound, got = InboundHandler(), list[InboundMessage]()
    inbound.on_message(got.append)
    nameless = message(id=None)
    for keys in (["row-1"], ["row-1"], ["row-2"], [], []):
        inbound.dispatch_event(nameless, keys)
    assert len(got) == 4
