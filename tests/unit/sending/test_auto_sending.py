"""``send_via="auto"``: the stream where it does no harm, REST where it would empty the queue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import pytest

from buttdial_sync import ArgumentNotSupported, Client, ConfigError, RetryLoop
from buttdial_sync.retry import MemoryRepository, Outbox
from buttdial_sync.testing import FakeButtDialServer

BASE_URL = "https://butt-dial.test"
TOKEN = "agent-token-1"


@pytest.fixture
def fake() -> Iterator[FakeButtDialServer]:
    server = FakeButtDialServer(dialect="open-source", tokens=[TOKEN, "token-2"])
    with server.mocked():
        yield server


def client_of(**options: Any) -> Client:
    given = {"agent_token": TOKEN, "send_via": "auto", "sleep": lambda _: None, **options}
    return Client(BASE_URL, **given)


def asked(fake: FakeButtDialServer) -> list[str]:
    return [f"{each.method} {each.path}" for each in fake.requests]


def test_the_queue_is_left_alone(fake: FakeButtDialServer) -> None:
    """One try shows where the token goes; from then on each send is one request."""
    fake.add_waiting(body="for the listener")
    with client_of() as client:
        results = [client.send_message("+1", "x", "sms") for _ in range(3)]
        assert client.as_agent("token-2").send_message("+1", "y", "sms").ok
    assert [(each.ok, each.attempts) for each in results] == [(True, 1)] * 3
    assert asked(fake) == ["GET /sse", *["POST /api/v1/send-message"] * 4]
    assert (fake.streams_opened, len(fake.waiting), fake.lost_waiting) == (0, 1, 0)


def test_the_stream_where_it_is_harmless() -> None:
    """A hosted server gets the messages as ever, with keys that it honours."""
    hosted = FakeButtDialServer(tokens=[TOKEN])
    with hosted.mocked(), client_of() as client:
        hosted.fault("cut")
        assert client.send_message("+1", "x").ok
        assert client.honours_idempotency_key()
    assert len(hosted.delivered) == 1
    assert "POST /api/v1/send-message" not in asked(hosted)


def test_a_stream_without_keys(fake: FakeButtDialServer) -> None:
    """A server of one's own may take the token in the header, but honours no keys."""
    fake.core.dialect = attrs.evolve(fake.core.dialect, token_in="header")
    with client_of() as client:
        fake.fault("cut", on="call")
        result = client.send_message("+1", "x", "sms", idempotency_key="k")
    assert (result.outcome, result.attempts) == ("unknown", 1)
    assert len(fake.delivered) == 1
    assert "POST /api/v1/send-message" not in asked(fake)


def test_what_was_said_beforehand(fake: FakeButtDialServer) -> None:
    """With the token in the query REST is taken at once, without a failed login."""
    with client_of(token_in="query") as client:
        assert client.send_message("+1", "x", "sms").ok
    assert asked(fake) == ["POST /api/v1/send-message"]


def test_many_threads_cause_one_failed_login(fake: FakeButtDialServer) -> None:
    """They and the other agents learn from the one that tries."""
    begin = threading.Barrier(8)
    with client_of() as client:
        views = [client, client.as_agent("token-2")] * 4

        def send(number: int) -> bool:
            begin.wait(30)
            return views[number].send_message("+1", str(number), "sms").ok

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(send, range(8)))
    assert asked(fake).count("GET /sse") == 1
    assert sorted(str(call.body) for call in fake.delivered) == [*map(str, range(8))]


def test_a_lost_answer_is_not_repeated(fake: FakeButtDialServer) -> None:
    """The endpoint honours no keys, and nobody opens a stream to ask for that."""
    with client_of() as client:
        fake.fault("reset", on="rest", delivered=True)
        result = client.send_message("+1", "x", "sms", idempotency_key="k")
        assert (result.outcome, result.attempts) == ("unknown", 1)
        assert not client.honours_idempotency_key()
    assert len(fake.delivered) == 1
    assert fake.streams_opened == 0


def test_whether_keys_are_honoured_can_be_asked_first(fake: FakeButtDialServer) -> None:
    """A retry loop asks it of a message whose sender was killed, before it sends any."""
    fake.add_waiting()
    with client_of() as client:
        assert not client.honours_idempotency_key()
    assert fake.lost_waiting == 0


def test_a_broken_connection_is_tried_again(fake: FakeButtDialServer) -> None:
    """On either way, within the attempts of one call."""
    fake.fault("refuse", on="stream")
    fake.fault("refuse", on="rest")
    with client_of() as client:
        result = client.send_message("+1", "x", "sms")
    assert (result.ok, result.attempts) == (True, 3)
    assert len(fake.delivered) == 1


def test_a_refused_token(fake: FakeButtDialServer) -> None:
    """It is refused as over REST."""
    with client_of(agent_token="wrong") as client:
        result = client.send_message("+1", "x", "sms")
    assert (result.outcome, result.error_code) == ("rejected", "AUTH_INVALID_TOKEN")


def test_what_rest_would_drop_is_refused(fake: FakeButtDialServer) -> None:
    """Also if the way shows only now."""
    with client_of() as client, pytest.raises(ArgumentNotSupported, match="does not know media"):
        client.send_message("+1", "x", "sms", media_url="https://x.test/a.png")
    assert fake.delivered == []


def test_other_calls_do_not_empty_the_queue_either(fake: FakeButtDialServer) -> None:
    """They say why; with ``before_open`` they are made."""
    fake.add_waiting(body="kept")
    with client_of() as client, pytest.raises(ConfigError, match="would empty") as caught:
        client.ping()
    assert "before_open" in str(caught.value.remediation)
    assert (caught.value.outcome, fake.lost_waiting) == ("not_sent", 0)
    taken: list[Any] = []
    with client_of(before_open=taken.extend) as client:
        client.ping()
    assert [each.body for each in taken] == ["kept"]


def test_the_outbox_and_its_loop(fake: FakeButtDialServer) -> None:
    """They send the same way."""
    repository = MemoryRepository()
    with client_of() as client:
        outbox = Outbox(client, repository)
        outbox.enqueue("+1", "x", "sms")
        assert RetryLoop(repository, client).run_once().delivered == 1
        assert outbox.send_message("+1", "y", "sms").ok
    assert fake.streams_opened == 0
