"""The endpoints, without a framework."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from buttdial_sync import (
    AgentInfo,
    Client,
    FailedMessage,
    InboundMessage,
    MemoryInbox,
    OperatorApi,
)
from buttdial_sync.operator.csrf import is_meant
from buttdial_sync.retry import MemoryRepository
from buttdial_sync.testing import FakeButtDialServer
from tests.fakes import failed_logins
from tests.unit.operator.host import MOMENT, Directory, FailedMessages


@pytest.fixture
def client(fake_server: FakeButtDialServer) -> Iterator[Client]:
    with Client("https://butt-dial.test", agent_token="tok", max_attempts=1) as client:
        yield client


@pytest.fixture
def failed() -> FailedMessages:
    return FailedMessages()


@pytest.fixture
def api(client: Client, failed: FailedMessages) -> OperatorApi:
    return OperatorApi(client, Directory(), failed)


def test_unknown_agents_are_404(api: OperatorApi) -> None:
    """An agent that the directory does not know is 404, for both changes."""
    for change in ("activate", "deactivate"):
        answer = api.respond("POST", f"agents/99/{change}")
        assert (answer.status, answer.data) == (404, {"detail": "Agent not found"})


def test_an_agent_without_a_token_is_not_activated(api: OperatorApi) -> None:
    """An agent that was not provisioned is 400, with the published text."""
    answer = api.respond("POST", "agents/8/activate")
    assert answer.status == 400
    assert answer.data == {"detail": "Agent has no Butt-Dial token — provision first"}


@pytest.mark.parametrize(
    "query",
    [{"status": "lost"}, {"limit": "0"}, {"limit": "1001"}, {"limit": "-1"}, {"limit": "٣"}],
    ids=str,
)
def test_wrong_parameters_are_422(api: OperatorApi, query: dict[str, str]) -> None:
    """A parameter that cannot be is named."""
    answer = api.respond("GET", "failed-messages", query)
    assert answer.status == 422
    assert answer.data["detail"][0]["loc"] == ["query", *query]


@pytest.mark.parametrize(
    "path", ["", "nothing", "agents/7", "agents//activate", "agents/7/8/activate"]
)
def test_unknown_paths_are_404(api: OperatorApi, path: str) -> None:
    """What is no endpoint is 404."""
    assert api.respond("GET", path).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("POST", "overview", "GET"), ("GET", "agents/7/activate", "POST"), ("PUT", "agents", "GET")],
)
def test_wrong_methods_are_405(api: OperatorApi, method: str, path: str, allow: str) -> None:
    """A state-changing endpoint does not answer GET; the answer says what it does answer."""
    answer = api.respond(method, path)
    assert answer.status == 405
    assert answer.headers == {"Allow": allow}


def test_what_the_host_raises_goes_to_the_caller(client: Client) -> None:
    """A fault of the host's own is not turned into an answer."""

    class Broken(Directory):
        def deactivate(self, agent_id: str) -> AgentInfo:
            raise RuntimeError("the database is gone")

    with pytest.raises(RuntimeError):
        OperatorApi(client, Broken(), FailedMessages()).respond("POST", "agents/7/deactivate")


def test_agents(api: OperatorApi) -> None:
    """The list has the published fields, with times as the published SDK writes them."""
    answer = api.respond("GET", "/agents/")
    assert answer.status == 200
    assert answer.data[0] == {
        "id": "7",
        "name": "Maya",
        "has_token": True,
        "whatsapp_number": None,
        "phone_number": None,
        "email": None,
        "status": "active",
        "message_count": 0,
        "failed_count": 0,
        "last_activity": "2026-01-02T03:04:05Z",
    }
    json.dumps(answer.data)


def test_activate_and_deactivate(api: OperatorApi) -> None:
    """A change answers with the agent's new state."""
    paused = api.respond("POST", "agents/7/deactivate")
    assert paused.data == {"status": "paused", "agent": "Maya", "id": "7"}
    active = api.respond("POST", "agents/7/activate")
    assert active.data == {"status": "active", "agent": "Maya", "id": "7"}


def test_failed_messages(api: OperatorApi) -> None:
    """Pending ones by default, the newest first; tokens are left out."""
    answer = api.respond("GET", "failed-messages")
    assert [row["id"] for row in answer.data] == ["2", "1", "0"]
    assert "secret-token" not in json.dumps(answer.data)
    assert set(answer.data[0]) == {
        *("id", "recipient", "body", "channel", "agent_name", "agent_token", "thread_id"),
        *("entity_id", "reply_msg_id", "retry_count", "max_retries", "last_error", "status"),
        *("created_at", "next_retry_at", "resolved_at"),
    }
    assert "secret-token" not in repr(answer)
    assert api.respond("GET", "failed-messages", {"status": "dead", "limit": "1"}).data == []


def test_retry_and_dismiss(api: OperatorApi) -> None:
    """A message can be made due and given up; what is not there is 404."""
    assert api.respond("POST", "failed-messages/1/retry").data == {"queued": True, "id": "1"}
    assert api.respond("POST", "failed-messages/1/dismiss").data == {"dismissed": True, "id": "1"}
    again = api.respond("POST", "failed-messages/1/retry")
    assert (again.status, again.data) == (404, {"detail": "Message not found or not pending"})
    assert api.respond("POST", "failed-messages/9/dismiss").data == {"detail": "Message not found"}


def test_overview(api: OperatorApi, fake_server: FakeButtDialServer) -> None:
    """A server that answers is connected; counts come from the directory and the queue."""
    answer = api.respond("HEAD", "overview").data
    costs = answer.pop("cost_summary")
    assert answer.pop("tool_count") > 0
    assert answer == {
        "connection_status": "connected",
        "server_url": "https://butt-dial.test",
        "agents_provisioned": 1,
        "total_messages_sent": 12,
        "total_messages_failed": 0,
        "total_messages_received": 0,
        "failed_queue_size": 3,
        "last_ping": "ok",
    }
    assert isinstance(costs, dict)


def test_overview_without_a_sign_of_life(api: OperatorApi, fake_server: FakeButtDialServer) -> None:
    """A server that lists tools but answers no ping is degraded."""
    assert api.respond("GET", "overview").data["connection_status"] == "connected"
    fake_server.fault("status", on="post", status=500)
    answer = api.respond("GET", "overview").data
    assert (answer["connection_status"], answer["last_ping"]) == ("degraded", None)


def test_overview_does_not_repeat_a_refused_token(
    api: OperatorApi, fake_server: FakeButtDialServer
) -> None:
    """A refused token costs one failed login, and the costs are not asked with it."""
    fake_server.revoke("tok")
    answer = api.respond("GET", "overview")
    assert answer.status == 200
    assert answer.data["connection_status"] == "disconnected"
    assert answer.data["cost_summary"] is None
    assert failed_logins(fake_server) == 1


@pytest.mark.parametrize(
    ("method", "headers", "meant"),
    [
        ("GET", {}, True),
        ("POST", {}, False),
        ("POST", {"X-Requested-With": ""}, False),
        ("POST", {"X-Requested-With": "fetch"}, True),
        ("DELETE", {"X-Requested-With": "fetch", "Sec-Fetch-Site": "same-origin"}, True),
        ("POST", {"X-Requested-With": "fetch", "Sec-Fetch-Site": "cross-site"}, False),
        ("POST", {"X-Requested-With": "fetch", "Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_requests_that_another_site_could_make(
    method: str, headers: dict[str, str], meant: bool
) -> None:
    """Only what no form and no link of another site can send may change something."""
    assert is_meant(method, headers) is meant


def test_retry_of_what_may_have_been_sent(api: OperatorApi, failed: FailedMessages) -> None:
    """It is refused with the reason, and queued only for who asks for that in so many words."""
    path = "failed-messages/2/retry"
    assert failed.begin_attempt("2", 1, MOMENT)
    failed.mark_dead("2", 1, "lost", unknown=True)
    for query in ({}, {"even_if_sent": "false"}):
        refused = api.respond("POST", path, query)
        assert refused.status == 409
        assert "may have been sent" in refused.data["detail"]
        assert "even_if_sent=true" in refused.data["detail"]
    assert [message.id for message in failed.list("dead")] == ["2"]
    assert api.respond("POST", path, {"even_if_sent": "perhaps"}).status == 422
    assert api.respond("POST", path, {"even_if_sent": "true"}).data == {"queued": True, "id": "2"}
    assert failed.list("dead") == []


def test_retry_of_what_was_dismissed_in_doubt(api: OperatorApi, failed: FailedMessages) -> None:
    """No option revives it, so none is offered."""
    assert failed.begin_attempt("2", 1, MOMENT)
    failed.mark_dead("2", 1, "lost", unknown=True)
    assert failed.dismiss("2")
    assert api.respond("POST", "failed-messages/2/retry").status == 404


class PublishedMessages:
    """The published interface: ``force_retry`` takes the id only, and there is no ``get``."""

    def __init__(self) -> None:
        self.retried: list[str] = []

    def force_retry(self, msg_id: str) -> bool:
        self.retried.append(msg_id)
        return True


def test_a_repository_of_the_published_interface(client: Client) -> None:
    """It is called as the published SDK calls it."""
    messages = PublishedMessages()
    api = OperatorApi(client, Directory(), messages)  # type: ignore[arg-type]
    assert api.respond("POST", "failed-messages/1/retry").data == {"queued": True, "id": "1"}
    assert messages.retried == ["1"]


def test_the_inbox(client: Client) -> None:
    """What came in is listed, retried and dismissed like what goes out."""
    inbox = MemoryInbox()
    inbox.write([InboundMessage(id="a", sender="+1", channel="sms", text="Hello")])
    api = OperatorApi(client, Directory(), FailedMessages(), inbox=inbox)
    (row,) = api.respond("GET", "inbox").data
    assert (row["text"], row["sender"], row["status"]) == ("Hello", "+1", "pending")
    stored = inbox.take()
    assert stored is not None
    assert api.respond("POST", f"inbox/{row['id']}/retry").status == 404
    inbox.mark_dead(stored, "a handler failed")
    (dead,) = api.respond("GET", "inbox", {"status": "dead"}).data
    assert dead["last_error"] == "a handler failed"
    assert api.respond("POST", f"inbox/{row['id']}/retry").data == {"queued": True, "id": row["id"]}
    dismissed = api.respond("POST", f"inbox/{row['id']}/dismiss")
    assert dismissed.data == {"dismissed": True, "id": row["id"]}
    assert api.respond("POST", f"inbox/{row['id']}/dismiss").status == 404
    for query in ({"status": "delivered"}, {"limit": "0"}):
        assert api.respond("GET", "inbox", query).status == 422


def test_without_an_inbox(client: Client) -> None:
    """Its endpoints are not there."""
    api = OperatorApi(client, Directory(), FailedMessages())
    for method, path in (("GET", "inbox"), ("POST", "inbox/a/retry"), ("POST", "inbox/a/dismiss")):
        assert api.respond(method, path).status == 404


def test_many_messages_at_once(client: Client) -> None:
    """What was given up is queued or dismissed; filters and the doubt are respected."""
    repository = MemoryRepository()
    for msg_id, error, unknown in (("a", "refused", False), ("b", "no", False), ("c", "no", True)):
        repository.add(FailedMessage(id=msg_id, recipient="+1", body="x"))
        assert repository.begin_attempt(msg_id, 1, MOMENT)
        assert repository.mark_dead(msg_id, 1, error, unknown=unknown)
    api = OperatorApi(client, Directory(), repository)
    retry = "failed-messages/retry"
    wanted = {"status": "dead", "error_like": "REFUSED", "since": "2020-01-01T00:00:00Z"}
    assert api.respond("POST", retry, {**wanted, "dry_run": "true"}).data == {"queued": 1}
    assert api.respond("POST", retry, {**wanted, "agent_id": "agent-2"}).data == {"queued": 0}
    assert repository.count_pending() == 0
    assert api.respond("POST", retry, wanted).data == {"queued": 1}
    assert [message.id for message in repository.list("pending")] == ["a"]
    dismiss = {"status": "dead"}
    assert api.respond("POST", "failed-messages/dismiss", dismiss).data == {"dismissed": 1}
    assert [message.id for message in repository.list("dead")] == ["c"]
    assert api.respond("POST", retry, {"status": "dead", "even_if_sent": "1"}).data["queued"] == 1
    assert api.respond("POST", retry, {**wanted, "since": "2999-01-01T00:00:00Z"}).data == {
        "queued": 0
    }


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"status": "delivered"},
        {"status": "dead", "since": "yesterday"},
        {"status": "dead", "since": "2026-01-01T00:00:00"},
        {"status": "dead", "since": "0001-01-01T00:00:00+14:00"},
        {"status": "dead", "dry_run": "maybe"},
    ],
    ids=str,
)
def test_wrong_filters_change_nothing(client: Client, query: dict[str, str]) -> None:
    """A filter that cannot be read is 422, and not taken for none."""
    repository = MemoryRepository()
    repository.add(FailedMessage(id="a", recipient="+1", body="x"))
    repository.mark_dead("a", 0, "no")
    api = OperatorApi(client, Directory(), repository)
    assert api.respond("POST", "failed-messages/retry", query).status == 422
    assert [message.id for message in repository.list("dead")] == ["a"]


def test_a_repository_that_changes_one_at_a_time(client: Client) -> None:
    """The published interface has no such methods: 501."""
    api = OperatorApi(client, Directory(), PublishedMessages())  # type: ignore[arg-type]
    assert api.respond("POST", "failed-messages/retry", {"status": "dead"}).status == 501
    assert api.respond("GET", "outbox").status == 501


def test_the_outbox(api: OperatorApi, failed: FailedMessages) -> None:
    """Whether messages flow, for whom they wait, and what is paused; as JSON."""
    failed.pause("agent-7", reason="wrong text")
    answer = api.respond("GET", "outbox").data
    assert json.loads(json.dumps(answer)) == answer
    assert (answer["pending"], answer["dead"], answer["more_than"]) == (3, 0, [])
    assert [each["pending"] for each in answer["agents"]] == [3]
    (pause,) = answer["paused"]
    assert (pause["agent_id"], pause["reason"]) == ("agent-7", "wrong text")
