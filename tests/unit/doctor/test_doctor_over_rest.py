"""A client that sends over REST: the doctor opens no stream either, which would lose messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from buttdial_sync import Client, DoctorReport, WaitingMessage, run_diagnostic
from buttdial_sync.testing import FakeButtDialServer

BASE_URL = "https://butt-dial.test"
TOKEN = "agent-token"
TO = "+14155550123"
OVER_REST = ["ok", "ok", "skipped", "skipped", "ok", "skipped", "skipped"]


@pytest.fixture
def open_source() -> Iterator[FakeButtDialServer]:
    """An open-source server on which a customer's message waits."""
    fake = FakeButtDialServer(dialect="open-source", tokens=[TOKEN])
    fake.add_waiting(body="please call me")
    with fake.mocked(BASE_URL):
        yield fake


def examine(**options: Any) -> DoctorReport:
    chosen = {"agent_token": TOKEN, "max_attempts": 1, **options}
    with Client(BASE_URL, **chosen) as client:
        return run_diagnostic(client, to=TO, channel="sms")


@pytest.mark.parametrize("token_in", ["auto", "query"])
@pytest.mark.parametrize("send_via", ["rest", "auto"])
def test_nothing_that_waits_is_lost(
    send_via: str, token_in: str, open_source: FakeButtDialServer
) -> None:
    """The stages that need a stream are skipped and say why; the message is sent over REST."""
    report = examine(send_via=send_via, token_in=token_in)
    assert [stage.status for stage in report.stages] == OVER_REST, report.summary()
    assert all("over REST" in str(stage.detail) for stage in report.stages[2:4])
    assert [message["body"] for message in open_source.waiting] == ["please call me"]
    assert open_source.lost_waiting == 0
    open_source.assert_sent_once(to=TO)


def test_a_client_that_has_sent_before(open_source: FakeButtDialServer) -> None:
    """What sending has learned about the server is not asked for again."""
    with Client(BASE_URL, agent_token=TOKEN, send_via="auto") as client:
        assert client.send_message(TO, "hi", "sms").ok
        report = run_diagnostic(client)
    assert [stage.status for stage in report.stages[:4]] == OVER_REST[:4]
    assert open_source.lost_waiting == 0


@pytest.mark.parametrize("send_via", ["rest", "auto"])
def test_a_wrong_token_is_found_without_a_stream(
    send_via: str, open_source: FakeButtDialServer
) -> None:
    """A stage that is skipped says nothing about the token, so that it is asked for over REST."""
    report = examine(send_via=send_via, token_in="query", agent_token="a-wrong-token")
    assert report.failure is not None
    assert (report.failure.name, report.failure.fault) == ("SSE handshake", "unauthorized")
    open_source.assert_nothing_sent()


@pytest.mark.parametrize("send_via", ["rest", "auto"])
def test_somebody_takes_what_waits(send_via: str, open_source: FakeButtDialServer) -> None:
    """With ``before_open`` nothing is lost by a stream, so that it is examined."""
    taken: list[WaitingMessage] = []

    def take(messages: Sequence[WaitingMessage]) -> None:
        taken.extend(messages)

    report = examine(send_via=send_via, before_open=take)
    assert [stage.status for stage in report.stages[:5]] == ["ok"] * 5, report.summary()
    assert [message.body for message in taken] == ["please call me"]
    assert open_source.lost_waiting == 0


def test_a_hosted_server_is_examined_whole() -> None:
    """There a stream takes nothing, and ``"auto"`` sends over it."""
    fake = FakeButtDialServer(tokens=[TOKEN])
    with fake.mocked(BASE_URL):
        report = examine(send_via="auto")
    assert [stage.status for stage in report.stages[:5]] == ["ok"] * 5, report.summary()


def test_a_stream_that_the_client_wants_and_cannot_open() -> None:
    """Where somebody takes what waits, a stream that is refused is a failure as ever."""
    base_url = "http://butt-dial.test"  # the token would be readable in the URL
    fake = FakeButtDialServer(dialect="open-source", tokens=[TOKEN])
    with (
        fake.mocked(base_url),
        Client(base_url, agent_token=TOKEN, send_via="auto", before_open=len) as client,
    ):
        report = run_diagnostic(client)
    assert report.failure is not None
    assert report.failure.name == "SSE handshake"
    assert "token in the URL" in str(report.failure.detail)
