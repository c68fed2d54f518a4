"""The waiting queue, and the warning about it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import pytest

from buttdial_sync import AuthInvalidTokenError, Client
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


def test_a_process_that_empties_the_queue_is_told_once(
    open_source: FakeButtDialServer, make_client: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody drains, so what waited is lost: one warning for all clients, agents and streams."""
    for token in ("token-1", "token-2"):
        open_source.add_waiting(body="a secret text")
        client = make_client(agent_token=token)
        client.ping()
        client.as_agent("token-3").ping()
    assert open_source.lost_waiting == 2
    (warning,) = warnings_of(caplog)
    assert "without delivering" in warning
    assert "secret" not in caplog.text


def test_many_threads_are_told_once(
    open_source: FakeButtDialServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Each opens a stream of its own."""
    views = [client.as_agent(f"token-{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(lambda view: view.ping(), views))) == 8
    assert len(warnings_of(caplog)) == 1


def test_what_opens_no_stream_is_not_warned_of(
    open_source: FakeButtDialServer, make_client: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading the queue delivers it; sending over REST leaves it alone; a refusal opens nothing."""
    client = make_client(send_via="rest")
    open_source.add_waiting(body="one")
    assert client.send_message("+14155550123", "hi", "sms").ok
    assert [each.body for each in client.inbox.waiting().messages] == ["one"]
    open_source.revoke("token-1")
    with pytest.raises(AuthInvalidTokenError):
        client.ping()
    assert warnings_of(caplog) == []


def test_queue_that_is_drained(
    open_source: FakeButtDialServer, make_client: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A client with ``before_open`` loses nothing."""
    open_source.add_waiting()
    make_client(before_open=lambda messages: None).ping()
    assert (open_source.lost_waiting, warnings_of(caplog)) == (0, [])


def test_a_hosted_server_keeps_its_queue(
    hosted: FakeButtDialServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Opening a stream there is harmless."""
    hosted.add_waiting()
    client.ping()
    assert (len(hosted.waiting), warnings_of(caplog)) == (1, [])


def test_a_push_that_nobody_hears_is_told_once(
    hosted: FakeButtDialServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A client without a listener drops what is pushed, but not in silence."""
    client.ping()
    for number in range(2):
        hosted.push({"messageId": f"m{number}", "channel": "sms", "from": "+1", "body": "hi"})
    client.ping()
    assert caplog.text.count("nobody listens") == 1
