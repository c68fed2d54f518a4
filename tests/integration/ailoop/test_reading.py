"""What needs no person: messages, channels, history, the server, tasks."""

from __future__ import annotations

import inspect
import uuid
from datetime import timedelta

import pytest

from buttdial_sync import ConfigError, NotFoundError, ToolError
from buttdial_sync.ailoop import (
    AiloopClient,
    AiloopConfigError,
    AiloopConnectionError,
    AiloopNotSupportedError,
    MessageNotFoundError,
    NavigateContent,
    NotificationContent,
    OtherContent,
    ResponseContent,
    ValidationError,
)
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.testing import FakeAiloopServer
from tests.integration.ailoop.conftest import PATIENT, InBackground

NOBODY = "00000000-0000-4000-8000-000000000001"


def test_server_info(server: FakeAiloopServer, client: AiloopClient) -> None:
    """What the server is and can do; asking leaves nothing there."""
    info = client.server_info()
    is_new = server.hub.generation == "decision"
    assert info.version == ("1.0.14" if is_new else "1.0.0")
    assert info.api == server.hub.generation
    assert (info.supports_pending, info.supports_free_text) == (is_new, not is_new)
    assert info.compatible
    assert client.check_version_compatibility() == info
    assert client.channels() == []
    assert server.hub.channels == {}


def test_messages(server: FakeAiloopServer, client: AiloopClient) -> None:
    """A notification is told, found by its id, and in the history."""
    message_id = client.say("Done", "urgent")
    message = client.get_message(message_id)
    assert message.content == NotificationContent(text="Done", priority="urgent")
    assert (message.id, message.channel, message.sender_type) == (message_id, "public", "AGENT")
    assert message.timestamp.utcoffset() == timedelta(0)
    assert [each.id for each in client.history()] == [message_id]
    assert client.history(channel="elsewhere") == []
    client.say("More", channel="elsewhere")
    assert {each.name: each.message_count for each in client.channels()} == {
        "public": 1,
        "elsewhere": 1,
    }
    assert client.channel_stats().message_count == 1
    assert client.channel_stats("nothing").oldest_message is None
    assert client.stats().agent_connections == 1


def test_history_of_unknown_things(server: FakeAiloopServer, client: AiloopClient) -> None:
    """Contents of a newer server, or broken ones, do not hide the others."""
    server.post({"type": "dance", "step": 1})
    server.post({"type": "notification", "text": 7})
    server.post({"type": "navigate", "url": "https://a.example", "extra": True})
    first, second, third = client.history()
    assert first.content == OtherContent(type="dance")
    assert first.content.raw["step"] == 1
    assert second.content == OtherContent(type="notification")
    assert third.content == NavigateContent(url="https://a.example")
    assert [each.content for each in client.history(limit=1)] == [third.content]


def test_missing_messages(client: AiloopClient) -> None:
    """404 is an error of both trees; what is no id is never sent."""
    for call in (client.get_message, client.respond, client.withdraw):
        with pytest.raises(MessageNotFoundError) as caught:
            call(NOBODY)
        assert isinstance(caught.value, NotFoundError)
        assert caught.value.outcome == "rejected"
    for call in (client.get_message, client.respond):
        with pytest.raises(ConfigError, match="UUID"):
            call("../../health")


def test_respond_settles_a_prompt(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """Another process answers by the proper route."""
    future = background(client.ask, "Which?", ["a", "b"], timeout=PATIENT)
    prompt = server.next_prompt()
    response = client.respond(prompt.id, "2")
    assert response.correlation_id == prompt.id
    assert response.content == ResponseContent(answer="2", response_type="text")
    assert future.result(PATIENT).option_id == "b"
    server.wait_until(lambda: server.hub.active is None)
    client.respond(prompt.id, "a")  # late: taken and sent on, without an effect
    with pytest.raises(AiloopConfigError, match="response_type"):
        client.respond(prompt.id, "a", "maybe")  # type: ignore[arg-type]


def test_pending(
    new_server: FakeAiloopServer, new_client: AiloopClient, background: InBackground
) -> None:
    """Only what is shown is in it."""
    assert new_client.pending() == []
    first = background(new_client.authorize, "One", timeout=PATIENT, channel="one")
    prompt = new_server.next_prompt()
    second = background(new_client.authorize, "Two", timeout=PATIENT)
    new_server.wait_until(lambda: len(new_server.asked) == 2)
    (shown,) = new_client.pending()
    assert (shown.message_id, shown.kind, shown.channel, shown.position, shown.label) == (
        prompt.id,
        "authorize",
        "one",
        1,
        "One",
    )
    assert new_client.pending(channel="public") == []
    new_server.approves()
    prompt.approve()
    assert first.result(PATIENT)
    assert second.result(PATIENT)


def test_pending_on_an_old_server() -> None:
    """It does not tell."""
    with (
        FakeAiloopServer("question") as server,
        AiloopClient(server.url) as client,
        pytest.raises(AiloopNotSupportedError),
    ):
        client.pending()


@pytest.mark.parametrize(("act", "text"), [("approves", "yes"), ("denies", "no")])
def test_navigate(server: FakeAiloopServer, client: AiloopClient, act: str, text: str) -> None:
    """The person opens it or not."""
    getattr(server, act)()
    answer = client.navigate("https://a.example")
    assert (answer.status, answer.text) == ("answered", text)
    assert server.asked[0].content == {"type": "navigate", "url": "https://a.example"}


def test_navigate_without_waiting(server: FakeAiloopServer, client: AiloopClient) -> None:
    """It returns when the server has it, and can be withdrawn."""
    message_id = client.navigate_without_waiting("https://a.example")
    assert server.next_prompt().id == message_id
    client.withdraw(message_id)
    server.wait_until(lambda: server.hub.active is None)
    with pytest.raises(AiloopConfigError):
        client.navigate_without_waiting(" ")


def test_tasks(server: FakeAiloopServer, client: AiloopClient) -> None:
    """The life of tasks, in their own channel."""
    tasks = client.tasks
    build = tasks.create("Build", "the wheel", channel="a", metadata={"n": 1})
    ship = tasks.create("Ship", channel="a", assignee="ada")
    assert (build.state, build.description, build.metadata, ship.assignee) == (
        "pending",
        "the wheel",
        {"n": 1},
        "ada",
    )
    tasks.add_dependency(ship.id, build.id, channel="a", type="related")
    assert [task.id for task in tasks.ready(channel="a")] == [build.id]
    assert [task.id for task in tasks.blocked(channel="a")] == [ship.id]
    graph = tasks.graph(ship.id, channel="a")
    assert (graph.task.id, [each.id for each in graph.parents], graph.children) == (
        ship.id,
        [build.id],
        [],
    )
    assert tasks.dependencies(build.id, channel="a").blocking_for == [ship.id]
    assert tasks.get(ship.id, channel="a").depends_on == [build.id]
    assert tasks.update(build.id, "DONE", channel="a").state == "done"  # type: ignore[arg-type]
    assert [task.id for task in tasks.ready(channel="a")] == [ship.id]  # not the one that is done
    assert [task.id for task in tasks.list(channel="a", state="done")] == [build.id]
    assert len(tasks.list(channel="a")) == 2
    tasks.remove_dependency(ship.id, build.id, channel="a")
    assert tasks.dependencies(ship.id, channel="a").depends_on == []
    assert tasks.list() == []
    for call in (tasks.get, tasks.graph, tasks.dependencies):
        with pytest.raises(MessageNotFoundError):
            call(ship.id)  # another channel


def test_refused_tasks(server: FakeAiloopServer, client: AiloopClient) -> None:
    """A bad state is not sent; a circle is refused by the server, in either one's words."""
    task = client.tasks.create("Build")
    other = client.tasks.create("Ship")
    with pytest.raises(AiloopConfigError, match="pending, done, abandoned"):
        client.tasks.update(task.id, "finished")  # type: ignore[arg-type]
    with pytest.raises(AiloopConfigError, match="blocks, related, parent"):
        client.tasks.add_dependency(task.id, other.id, type="child")  # type: ignore[arg-type]
    client.tasks.add_dependency(task.id, other.id)
    for child, parent in ((other.id, task.id), (task.id, task.id), (task.id, NOBODY)):
        with pytest.raises(ValidationError) as caught:
            client.tasks.add_dependency(child, parent)
        assert isinstance(caught.value, ToolError)
        assert caught.value.outcome == "rejected"
        assert caught.value.status_code == (405 if server.hub.generation == "question" else 400)


def test_channel_names(client: AiloopClient, server: FakeAiloopServer) -> None:
    """What the server would refuse, or drop without a word over WebSocket, is not sent."""
    for name in ("system", "Admin", "a b", "-a", "a" * 65, "", "ä"):
        with pytest.raises(AiloopConfigError, match="channel"):
            client.say("x", channel=name)
        with pytest.raises(AiloopConfigError, match="channel"):
            client.tasks.list(channel=name)
        with pytest.raises(AiloopConfigError, match="channel"):
            AiloopClient(server.url, channel=name)
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080", "ftp://a", "http://", "http://a?x=1", "http://u:p@a", "http://a:0"],
)
def test_addresses(url: str) -> None:
    """Only plain addresses."""
    with pytest.raises(AiloopConfigError):
        AiloopClient(url)


def test_from_env(server: FakeAiloopServer) -> None:
    """The environment names the server; arguments win."""
    environ = {"AILOOP_SERVER": f" {server.url} ", "AILOOP_CHANNEL": "builds", "AILOOP_TOKEN": " "}
    with AiloopClient.from_env(environ) as client:
        client.say("x")
        assert set(server.hub.channels) == {"builds"}
    with AiloopClient.from_env(environ, channel="other") as client:
        assert "other" in repr(client)
    with pytest.raises(AiloopConfigError, match="no server_url") as caught:
        AiloopClient.from_env({})
    assert "AILOOP_SERVER" in str(caught.value.remediation)
    assert caught.value.outcome == "not_sent"


def test_events(server: FakeAiloopServer) -> None:
    """Requests and connections are told, and a callback that raises changes nothing."""
    seen: list[ClientEvent] = []

    def note(event: ClientEvent) -> None:
        seen.append(event)
        raise RuntimeError("the host's own fault")

    server.approves()
    with AiloopClient(server.url, on_event=note, accept_timeout=PATIENT) as client:
        client.server_info()
        assert client.authorize("Deploy")
    assert ("attempt", "GET /api/v1/health") in [(each.kind, each.operation) for each in seen]
    (opened,) = {(each.operation, each.outcome) for each in seen if each.kind == "connect"}
    assert opened == ("websocket", None)


def test_reads_are_tried_again(server: FakeAiloopServer) -> None:
    """A read whose server is away for a moment succeeds; a write that may have left does not."""
    pauses: list[float] = []

    def come_back(seconds: float) -> None:
        pauses.append(seconds)
        server.start()

    with AiloopClient(server.url, sleep=come_back, random_fraction=lambda: 1.0) as client:
        client.stats()
        server.stop()
        assert client.stats().active_channels == 0
    assert pauses == [0.5]
    server.stop()
    with (
        AiloopClient(server.url, sleep=pauses.append, max_attempts=2) as client,
        pytest.raises(AiloopConnectionError) as caught,
    ):
        client.tasks.list()
    assert caught.value.outcome == "not_sent"
    assert len(pauses) == 2


def test_every_published_name_has_its_place() -> None:
    """The published SDK's methods are here, or in the table of the docs."""
    ours = {name for name, _ in inspect.getmembers(AiloopClient, callable)}
    assert {
        "ask",
        "authorize",
        "say",
        "navigate",
        "get_message",
        "respond",
        "check_version_compatibility",
    } <= ours
    assert uuid.UUID(NOBODY).version == 4
