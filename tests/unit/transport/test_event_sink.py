"""What a host is told of a call, and that its callback cannot harm the call."""

from __future__ import annotations

import logging

import pytest

from buttdial_sync.errors import ServerError
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.transport.event_sink import EventSink


def test_each_step_is_told() -> None:
    """The first attempt is number 1; an answer says how it ended."""
    events: list[ClientEvent] = []
    sink = EventSink(events.append)
    assert sink.has_listener
    sink.tell("ping", "attempt")
    sink.tell("ping", "answer", 2, 0.5)
    sink.tell("ping", "answer", 3, 0.7, ServerError("no", code="BUSY", outcome="unknown"))
    assert events == [
        ClientEvent(kind="attempt", operation="ping", attempt=1),
        ClientEvent(kind="answer", operation="ping", attempt=2, seconds=0.5, outcome="sent"),
        ClientEvent(
            kind="answer",
            operation="ping",
            attempt=3,
            seconds=0.7,
            outcome="unknown",
            error="ServerError",
            code="BUSY",
        ),
    ]


def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is told then, and nothing fails."""
    sink = EventSink(None)
    assert not sink.has_listener
    sink.tell("ping", "attempt")
    sink.emit(ClientEvent(kind="attempt", operation="ping"))
    assert caplog.records == []


def test_a_callback_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, with its traceback, and the call goes on."""

    def fail(_: ClientEvent) -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, "buttdial_sync"):
        EventSink(fail).tell("ping", "attempt")
    (record,) = caplog.records
    assert record.message == "on_event failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
