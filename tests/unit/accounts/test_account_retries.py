"""What is tried again, and what is reported as unknown."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from buttdial_sync import (
    AccountsClient,
    ArgumentValueError,
    AuthError,
    ClientClosedError,
    ClientEvent,
    DeadlineExceededError,
    OutcomeUnknownError,
    TransportError,
)
from buttdial_sync.testing import FakeButtDialServer

from .workspaces import BASE_URL, TEAM_TOKEN, workspace

pytestmark = pytest.mark.filterwarnings(r"ignore:.*is deprecated:DeprecationWarning")


def keys_of(fake: FakeButtDialServer) -> list[str | None]:
    return [request.headers.get("idempotency-key") for request in fake.requests]


@pytest.mark.parametrize("own", [None, "my-key"])
@pytest.mark.parametrize("fault", ["reset", "status"])
def test_register_is_repeated_with_the_same_key(fault: Any, own: str | None) -> None:
    """A lost answer of register() is asked for again, with one key for all attempts."""
    with workspace() as (fake, client):
        fake.fault(fault, on="rest", count=2)
        assert client.register("Acme", "o@example.com", idempotency_key=own).org_id
        keys = keys_of(fake)
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert keys[0] == own if own else re.fullmatch(r"[0-9a-f-]{36}", keys[0] or "")


def test_each_call_has_its_own_key() -> None:
    """Two calls are two registrations, so they have two keys."""
    with workspace() as (fake, client):
        client.register("Acme", "o@example.com")
        client.register_agent("a", "Bot")
        assert len(set(keys_of(fake))) == 2


def test_register_agent_with_its_key_returns_the_same_token() -> None:
    """The same key gives the same token again, over two calls too."""
    with workspace() as (_, client):
        first = client.register_agent("a", "Bot", idempotency_key="k")
        assert client.register_agent("a", "Bot", idempotency_key="k") == first


def test_lost_answer_of_what_was_carried_out() -> None:
    """The agent is there, its answer is lost: the next attempt gets its token, not a conflict."""
    with workspace() as (fake, client):
        fake.fault("reset", on="rest", delivered=True)
        made = client.register_agent("a", "Bot")
        assert len(fake.requests) == 2
        assert [token for token, _ in fake.workspace.agents["a"].tokens] == [made.agent_token]


def test_a_token_that_is_revoked_after_a_lost_answer() -> None:
    """The agent may be there all the same, and the advice has the key to go on with."""
    fake = FakeButtDialServer(tokens=[TEAM_TOKEN])
    with workspace(fake, sleep=lambda _: fake.revoke(TEAM_TOKEN)) as (fake, client):
        fake.fault("reset", on="rest", delivered=True)
        with pytest.raises(OutcomeUnknownError) as caught:
            client.register_agent("a", "Bot", idempotency_key="k")
        assert "'k'" in str(caught.value.remediation)
        assert isinstance(caught.value.__cause__, AuthError)
        assert len(fake.requests) == 2
        with pytest.raises(AuthError):
            client.get_account()


def test_answer_that_stays_lost_is_unknown() -> None:
    """When no attempt is left the outcome is unknown; the advice has the key to go on with."""
    with workspace() as (fake, client):
        fake.fault("reset", on="rest", count=3, delivered=True)
        with pytest.raises(OutcomeUnknownError) as caught:
            client.register_agent("a", "Bot")
        assert len(fake.requests) == 3
        (key,) = set(keys_of(fake))
        assert caught.value.outcome == "unknown"
        assert repr(key) in str(caught.value.remediation)
        assert client.register_agent("a", "Bot", idempotency_key=key).agent_token


@pytest.mark.parametrize("key", ["", " "])
def test_blank_key_is_refused(key: str) -> None:
    """An empty key is a mistake of the host's, and not a wish for a fresh one."""
    with workspace() as (fake, client):
        with pytest.raises(ArgumentValueError, match="idempotency_key"):
            client.register_agent("a", "Bot", idempotency_key=key)
        assert fake.requests == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("revoke_token", ()),
        ("rotate_token_confirm", ("c", "1")),
        ("regenerate_agent_token", ("a",)),
        ("provision_channels", ("a", "Bot", {"phone": True})),
        ("reveal_team_token", ("o", "s")),
        ("confirm_erasure", ("t",)),
        ("delete_comm_channel", ("r",)),
    ],
)
@pytest.mark.parametrize("status", [None, 500, 502, 503, 504])
def test_what_changes_things_is_not_repeated(
    name: str, arguments: tuple[Any, ...], status: int | None
) -> None:
    """A lost answer of a change without a key is reported, and asked for no second time."""
    with workspace() as (fake, client):
        if status is None:
            fake.fault("reset", on="rest")
        else:
            fake.fault("status", on="rest", status=status)
        with pytest.raises(OutcomeUnknownError) as caught:
            getattr(client, name)(*arguments)
        assert len(fake.requests) == 1
    assert caught.value.status_code == status
    assert isinstance(caught.value, TransportError)


@pytest.mark.parametrize("status", [None, 500, 503])
def test_what_reads_is_repeated(status: int | None) -> None:
    """Reading does no harm twice."""
    with workspace() as (fake, client):
        if status is None:
            fake.fault("reset", on="rest", count=2)
        else:
            fake.fault("status", on="rest", status=status, count=2)
        assert client.get_account().org_id
        assert len(fake.requests) == 3


@pytest.mark.parametrize("kind", ["refuse", "status"])
def test_what_was_not_carried_out_is_repeated(kind: Any) -> None:
    """A refused connection and the server's own 503 are tried again, whatever the operation."""
    own = {"status": 503, "body": {"error": "starting", "retryable": True}}
    options: dict[str, Any] = own if kind == "status" else {}
    with workspace() as (fake, client):
        fake.fault(kind, on="rest", **options)
        assert client.start_erasure().erasure_request_id


def test_wrong_token_is_not_repeated() -> None:
    """A 401 is final: repeating it walks into the lockout."""
    with workspace(FakeButtDialServer(tokens=())) as (fake, client):
        with pytest.raises(AuthError):
            client.get_account()
        assert len(fake.requests) == 1


def test_signed_request_has_a_fresh_nonce_for_each_attempt() -> None:
    """Each attempt at revealing a token is signed anew."""
    times = iter((1000.9, 1001.2))
    nonces = iter(("a" * 32, "b" * 32))
    with workspace(wall_clock=lambda: next(times), make_nonce=lambda: next(nonces)) as (
        fake,
        client,
    ):
        own = {"error": "starting", "retryable": True}
        fake.fault("status", on="rest", status=503, body=own)
        fake.on_rest("POST", "/api/orgs/{org_id}/reveal-team-token", {"token": "t"}, public=True)
        client.reveal_team_token("o", "hook-s3cret")
        signed = [
            (request.headers["x-request-timestamp"], request.headers["x-request-nonce"])
            for request in fake.requests
        ]
    assert signed == [("1000", "a" * 32), ("1001", "b" * 32)]


def test_events_have_templates_and_no_arguments() -> None:
    """``on_event`` is told of each attempt, retry and answer, under the path's template."""
    events: list[ClientEvent] = []
    with workspace(on_event=events.append) as (fake, client):
        fake.fault("status", on="rest", status=503)
        client.register_agent("some-agent", "Bot")
        client.get_agent("some-agent")
    assert [event.kind for event in events[:5]] == [
        "attempt",
        "answer",
        "retry",
        "attempt",
        "answer",
    ]
    assert events[-1].operation == "GET /api/v1/agents/{agent_id}"
    assert "some-agent" not in repr(events)


def test_deadline_bounds_all_attempts() -> None:
    """Pauses that would pass the deadline are not begun, and its error says so."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with workspace(timeout=1.0, max_attempts=50, clock=lambda: now[0], sleep=sleep) as (
        fake,
        client,
    ):
        fake.fault("refuse", on="rest", count=50)
        with pytest.raises(TransportError):
            client.get_account()
    assert now[0] < 1.0


def test_silent_server_runs_into_the_deadline() -> None:
    """A server that never answers ends the call in time; a change is unknown then."""
    fake = FakeButtDialServer()
    with (
        fake.listen() as loopback,
        AccountsClient(loopback.base_url, team_token="t", timeout=0.2) as client,
    ):
        fake.fault("hang", on="rest", count=2)
        with pytest.raises(DeadlineExceededError):
            client.get_account()
        with pytest.raises(OutcomeUnknownError) as caught:
            client.revoke_token()
    assert isinstance(caught.value.__cause__, DeadlineExceededError)


def test_close_ends_a_call_under_way() -> None:
    """close() from another thread ends a call that waits for its answer."""
    fake = FakeButtDialServer()
    failures: list[BaseException] = []
    with fake.listen() as loopback:
        client = AccountsClient(loopback.base_url, team_token="t", timeout=30)
        fake.fault("hang", on="rest")

        def call() -> None:
            try:
                client.get_account()
            except ClientClosedError as error:
                failures.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        assert fake.wait_for(lambda: fake.requests)
        client.close()
        thread.join(5)
    assert not thread.is_alive()
    assert len(failures) == 1


def test_threads_share_a_client() -> None:
    """Many threads at one client get their own answers."""
    fake = FakeButtDialServer()
    fake.on_rest("GET", "/api/v1/agents/{agent_id}", lambda request: {"path": request.path})
    wrong: list[str] = []

    def ask(client: AccountsClient, number: int) -> None:
        for turn in range(10):
            agent_id = f"{number}-{turn}"
            if not client.get_agent(agent_id)["path"].endswith(f"/{agent_id}"):
                wrong.append(agent_id)

    with fake.listen() as loopback, AccountsClient(loopback.base_url, team_token="t") as client:
        threads = [threading.Thread(target=ask, args=(client, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert len(fake.requests) == 80


def test_base_url_may_have_a_path() -> None:
    """A server under a path is asked under that path."""
    fake = FakeButtDialServer()
    fake.on_rest("GET", "/bd/api/orgs/me", {"orgId": "org-1"})
    with fake.mocked(BASE_URL), AccountsClient(f"{BASE_URL}/bd/sse", team_token="t") as client:
        client.get_account()
    assert [request.path for request in fake.requests] == ["/bd/api/orgs/me"]
