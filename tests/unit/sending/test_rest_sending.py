"""``send_via="rest"``: one request, no stream, and the same honest outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from buttdial_sync import ArgumentNotSupported, Client, ConfigError, RetryLoop
from buttdial_sync.retry import MemoryRepository, Outbox
from buttdial_sync.testing import FakeButtDialServer
from tests.fakes import add_organization_token

BASE_URL = "https://butt-dial.test"
TOKEN = "agent-token-1"
OWN_REFUSAL = {"error": 'Agent "a" is not active (status: suspended)'}


@pytest.fixture
def fake() -> Iterator[FakeButtDialServer]:
    server = FakeButtDialServer(dialect="open-source", tokens=[TOKEN, "org"])
    with server.mocked():
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(
        BASE_URL, agent_token=TOKEN, agent_id="agent-1", send_via="rest", sleep=lambda _: None
    ) as made:
        yield made


def test_one_request_and_no_stream(fake: FakeButtDialServer, client: Client) -> None:
    """What waits for the agent stays where it is, and nothing but the message is sent."""
    fake.add_waiting(body="for the listener")
    for _ in range(3):
        result = client.send_message("+14155550123", "Hello", "sms", idempotency_key="k")
        assert (result.ok, result.attempts, result.idempotency_key) == (True, 1, "k")
        assert result.message_sid
    assert [(each.method, each.path) for each in fake.requests] == [
        ("POST", "/api/v1/send-message")
    ] * 3
    assert fake.streams_opened == 0
    assert len(fake.waiting) == 1
    fake.assert_sent(to="+14155550123", body="Hello", channel="sms")


def test_what_goes_over_the_wire(fake: FakeButtDialServer, client: Client) -> None:
    """All arguments that the endpoint takes, and those that do no harm where they are dropped."""
    assert client.send_message(
        "ann@example.com", "Hi", "email", subject="S", html="<p>Hi</p>", thread_id="t"
    ).ok
    sent = fake.requests[0].json
    assert sent.pop("idempotencyKey")
    assert sent == {
        "to": "ann@example.com", "body": "Hi", "channel": "email", "subject": "S",
        "html": "<p>Hi</p>", "threadId": "t",
    }  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {"media_url": "https://x.test/a.png"},
        {"sender_sid": "S"},
        {"language": "en"},
        {"fallback_channels": ["sms"]},
        {"scheduled_at": "2026-01-02T03:04:05Z"},
    ],
    ids=str,
)
def test_what_it_would_drop_is_refused(
    given: dict[str, Any], fake: FakeButtDialServer, client: Client
) -> None:
    """The endpoint ignores them without a word, so nothing is sent."""
    with pytest.raises(ArgumentNotSupported, match="POST /api/v1/send-message does not know"):
        client.send_message("+1", "x", **given)
    assert fake.requests == []
    with Client(BASE_URL, agent_token=TOKEN, send_via="rest", check_schema=False) as careless:
        assert careless.send_message("+1", "x", "sms", **given).ok


@pytest.mark.parametrize(
    ("fault", "outcome", "said"),
    [
        ({"status": 400, "body": OWN_REFUSAL}, "rejected", "needs_operator"),
        ({"status": 403, "body": {"error": "Compliance: on the Do Not Contact list"}}, "rejected",
         "permanent"),
        ({"status": 429, "body": {"error": "Rate limit exceeded: per-day (5/5)"}}, "rejected",
         "needs_operator"),
        ({"status": 429, "body": {"error": "Too many requests"}}, "rejected", "retryable"),
        ({"status": 502, "body": "<html>Bad Gateway</html>"}, "unknown", "unknown"),
        ({"status": 503, "body": "<html>unavailable</html>"}, "unknown", "unknown"),
        ({"status": 503, "body": {"message": "Service Unavailable"}}, "unknown", "unknown"),
        ({"status": 500, "body": {"error": "Internal error"}}, "unknown", "unknown"),
        ({"status": 200, "body": "<html>login</html>"}, "unknown", "unknown"),
        ({"status": 200, "body": {"hello": "you"}}, "unknown", "unknown"),
        ({"status": 200, "body": {"success": False, "error": "no"}}, "rejected", "retryable"),
    ],
    ids=str,
)  # fmt: skip
def test_the_same_outcomes(
    fault: dict[str, Any], outcome: str, said: str, fake: FakeButtDialServer, client: Client
) -> None:
    """The server's own word is a refusal; a proxy's page proves nothing, and is never repeated."""
    fake.fault("status", on="rest", count=9, **fault)
    result = client.send_message("+1", "x", "sms")
    assert (result.outcome, getattr(result, said)) == (outcome, True)
    assert len(fake.requests) == 1


@pytest.mark.parametrize(("kind", "outcome", "requests"), [("reset", "unknown", 1)])
def test_a_broken_connection(
    kind: Any, outcome: str, requests: int, fake: FakeButtDialServer, client: Client
) -> None:
    """What may have left is not sent again: the endpoint honours no keys."""
    fake.fault(kind, on="rest", count=9)
    result = client.send_message("+1", "x", "sms", idempotency_key="k")
    assert (result.outcome, len(fake.requests)) == (outcome, requests)


def test_whether_keys_are_honoured_needs_no_question(client: Client) -> None:
    """The endpoint does not honour them, even where the tool does, which is asked of otherwise."""
    hosted = FakeButtDialServer(tokens=[TOKEN])
    with hosted.mocked():
        assert not client.honours_idempotency_key()
        assert hosted.requests == []
        with Client(BASE_URL, agent_token=TOKEN, send_via="stream") as streaming:
            assert streaming.honours_idempotency_key()


def test_a_refused_connection_is_tried_again(fake: FakeButtDialServer, client: Client) -> None:
    """It was certainly not sent."""
    fake.fault("refuse", on="rest", count=2)
    result = client.send_message("+1", "x", "sms")
    assert (result.ok, result.attempts) == (True, 3)


def test_a_refused_token_rests_here_too(fake: FakeButtDialServer, client: Client) -> None:
    """One failed login, and the same error from then on."""
    results = [client.send_message("+1", "x", "sms", agent_token="wrong") for _ in range(3)]
    assert [each.error_code for each in results] == ["AUTH_INVALID_TOKEN"] * 3
    assert [each.attempts for each in results] == [1, 0, 0]
    assert len(fake.requests) == 1


def test_a_server_without_the_endpoint(fake_server: FakeButtDialServer, client: Client) -> None:
    """It says so, and nothing is sent over another way."""
    result = client.send_message("+1", "x", "sms")
    assert (result.outcome, result.error_code) == ("not_sent", "ENDPOINT_NOT_AVAILABLE")
    assert result.needs_operator
    assert "POST /api/v1/send-message" in str(result.error)
    assert len(fake_server.requests) == 1


def test_views_and_the_outbox_send_the_same_way(fake: FakeButtDialServer, client: Client) -> None:
    """Another agent, an outbox and its loop open no stream either."""
    assert client.as_agent("org").send_message("+1", "x", "sms").ok
    repository = MemoryRepository()
    outbox = Outbox(client, repository)
    assert outbox.send_message("+1", "y", "sms").ok
    outbox.enqueue("+1", "z", "sms")
    assert RetryLoop(repository, client).run_once().delivered == 1
    assert fake.streams_opened == 0
    assert [call.body for call in fake.delivered] == ["x", "y", "z"]


def test_an_organizations_token_names_its_agent(fake: FakeButtDialServer) -> None:
    """The server asks for it once; from then on it is sent."""
    add_organization_token(fake, "org")
    with Client(BASE_URL, agent_token="org", agent_id="agent-1", send_via="rest") as client:
        assert client.send_message("+1", "x", "sms").ok
        assert client.send_message("+1", "x", "sms").ok
    assert ["agentId" in each.json for each in fake.requests] == [False, True, True]
    with Client(BASE_URL, agent_token="org", send_via="rest") as nameless:
        result = nameless.send_message("+1", "x", "sms")
    assert (result.error_code, result.needs_operator) == ("AGENT_ID_REQUIRED", True)


def test_the_setting(monkeypatch: pytest.MonkeyPatch, fake: FakeButtDialServer) -> None:
    """It comes from the environment too, and a wrong one is told at once."""
    monkeypatch.setenv("BUTT_DIAL_BASE_URL", BASE_URL)
    monkeypatch.setenv("BUTT_DIAL_SEND_VIA", "rest")
    with Client.from_env(agent_token=TOKEN) as client:
        assert client.send_message("+1", "x", "sms").ok
    assert fake.streams_opened == 0
    monkeypatch.setenv("BUTT_DIAL_SEND_VIA", "pigeon")
    with pytest.raises(ConfigError, match='BUTT_DIAL_SEND_VIA must be "stream", "rest" or "auto"'):
        Client.from_env()
    with pytest.raises(ConfigError, match="send_via"):
        Client(BASE_URL, send_via="pigeon")  # type: ignore[arg-type]
