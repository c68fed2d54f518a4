"""The waiting queue, and the warning about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import pytest

from buttdial_sync import Client
from buttdial_sync.testing import FakeButtDialServer

Make = Callable[..., Client]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if "before_open" in each.message]


def test_waiting(open_source: FakeButtDialServer, client: Client) -> None:
    """The messages come with aware times; those of our own that failed are marked as such."""
    open_source.add_waiting(id=7, body="Hello")
    open_source.add_waiting(direction="outbound", errorDetails={"code": 1})
    waiting = client.inbox.waiting(limit=10, channel="sms")
    assert waiting.count == 2
    first, second = waiting.messages
    assert (first.id, first.body, first.from_) == ("7", "Hello", "+15551112222")
    assert first.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert (second.direction, second.error_details) == ("outbound", {"code": 1})


def test_warns_once(
    open_source: FakeButtDialServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A client without ``before_open`` is told once what is at stake; its views are the same."""
    for view in (client, client, client.as_agent("token-2")):
        open_source.add_waiting(body="a secret text")
        assert view.inbox.waiting().messages
    (warning,) = warnings_of(caplog)
    assert "without delivering" in warning
    assert "secret" not in caplog.text


def test_empty_queue(
    open_source: FakeButtDialServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is warned of nothing, and the warning is still there when it is needed."""
    client.inbox.waiting()
    assert warnings_of(caplog) == []
    open_source.add_waiting()
    client.inbox.waiting()
    assert len(warnings_of(caplog)) == 1


def test_queue_that_is_drained(
    open_source: FakeButtDialServer, make_client: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A client with ``before_open`` loses nothing."""
    open_source.add_waiting()
    make_client(before_open=lambda messages: None).inbox.waiting()
    assert warnings_of(caplog) == []


def test_a_push_that_nobody_hears_is_told_once(
    hosted: FakeButtDialServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A client without a listener drops what is pushed, but not in silence."""
    client.ping()
    for number in range(2):
        hosted.push({"messageId": f"m{number}", "channel": "sms", "from": "+1", "body": "hi"})
    client.ping()
    assert caplog.text.count("nobody listens") == 1
