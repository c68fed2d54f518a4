"""Hearing everything that is said: each message once, across breaks."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import pytest

from buttdial_sync.ailoop import (
    AiloopClient,
    AiloopClosedError,
    AiloopConfigError,
    Message,
    NotificationContent,
)
from buttdial_sync.testing import FakeAiloopServer
from tests.integration.ailoop.conftest import PATIENT, InBackground

Collector = tuple[Callable[[Message], None], "queue.Queue[str]"]


def text_of(message: Message) -> str:
    content = message.content
    return content.text if isinstance(content, NotificationContent) else type(content).__name__


@pytest.fixture
def heard() -> queue.Queue[str]:
    return queue.Queue()


def notify(server: FakeAiloopServer, text: str, channel: str = "public") -> dict[str, Any]:
    return server.post({"type": "notification", "text": text}, channel=channel)


def listens(server: FakeAiloopServer) -> None:
    server.wait_until(lambda: any(each.is_viewer for each in server.hub.sockets.values()))


def test_history_and_what_is_new(
    server: FakeAiloopServer, client: AiloopClient, heard: queue.Queue[str]
) -> None:
    """First what there is, then what comes, on every channel."""
    notify(server, "old")
    with client.listen(lambda message: heard.put(text_of(message))) as listening:
        assert heard.get(timeout=PATIENT) == "old"
        notify(server, "new", "elsewhere")
        assert heard.get(timeout=PATIENT) == "new"
        assert listening.handled == 2
    assert heard.empty()


def test_only_what_is_new(
    server: FakeAiloopServer, client: AiloopClient, heard: queue.Queue[str]
) -> None:
    """Without a replay the history is left out, also after a break."""
    notify(server, "old")
    with client.listen(lambda message: heard.put(text_of(message)), replay=False):
        listens(server)
        notify(server, "one")
        assert heard.get(timeout=PATIENT) == "one"
        with server.hub.changed:
            server.drop_sockets()
            notify(server, "two")
        assert heard.get(timeout=PATIENT) == "two"
    assert heard.empty()


def test_channels_are_filtered_here(
    server: FakeAiloopServer, client: AiloopClient, heard: queue.Queue[str]
) -> None:
    """The server sends all of them to whoever listens."""
    with client.listen(lambda message: heard.put(text_of(message)), channels=["builds"]):
        listens(server)
        notify(server, "other", "public")
        notify(server, "mine", "builds")
        assert heard.get(timeout=PATIENT) == "mine"
    assert heard.empty()
    with pytest.raises(AiloopConfigError, match="channel"):
        client.listen(print, channels=["a b"])


def test_each_once_across_breaks(
    server: FakeAiloopServer, client: AiloopClient, heard: queue.Queue[str]
) -> None:
    """What is said while nobody listens comes from the history; nothing comes twice."""
    texts = [str(number) for number in range(9)]
    with client.listen(lambda message: heard.put(text_of(message))):
        for start in (0, 3, 6):
            notify(server, texts[start])
            listens(server)
            with server.hub.changed:
                server.drop_sockets()
                notify(server, texts[start + 1])
            listens(server)
            server.send_text('{"broken')
            notify(server, texts[start + 2])
            assert [heard.get(timeout=PATIENT) for _ in range(3)] == texts[start : start + 3]
    assert heard.empty()


def test_more_than_the_replay_has(
    server: FakeAiloopServer, client: AiloopClient, heard: queue.Queue[str]
) -> None:
    """The replay ends at 500 messages of a channel; the history has more."""
    with client.listen(lambda message: heard.put(text_of(message))):
        listens(server)
        with server.hub.changed:
            server.drop_sockets()
            for number in range(700):
                notify(server, str(number))
        found = [heard.get(timeout=PATIENT) for _ in range(700)]
        assert found == [str(number) for number in range(700)]
    assert heard.empty()


def test_large_message_in_the_replay(
    server: FakeAiloopServer, client: AiloopClient, heard: queue.Queue[str]
) -> None:
    """1.5 MB do not end the connection."""
    notify(server, "x" * 1_500_000)
    with client.listen(lambda message: heard.put(text_of(message))):
        assert len(heard.get(timeout=PATIENT)) == 1_500_000
    assert server.websocket_connections == 1


def test_answers(
    server: FakeAiloopServer,
    client: AiloopClient,
    background: InBackground,
    heard: queue.Queue[str],
) -> None:
    """Responses go to their own handler, those of the terminal too."""
    with client.listen(on_answer=lambda message: heard.put(str(message.correlation_id))):
        listens(server)
        future = background(client.authorize, "Deploy", timeout=PATIENT)
        prompt = server.next_prompt()
        prompt.approve(at="terminal")
        assert future.result(PATIENT)
        assert heard.get(timeout=PATIENT) == prompt.id
    assert heard.empty()


def test_iterating(server: FakeAiloopServer, client: AiloopClient) -> None:
    """Without a handler it is a stream of messages, which ends when it is stopped."""
    for number in range(3):
        notify(server, str(number))
    listening = client.listen()
    found = []
    for message in listening:
        found.append(text_of(message))
        if len(found) == 3:
            notify(server, "3")
        if len(found) == 4:
            listening.stop()
    assert found == ["0", "1", "2", "3"]
    assert list(listening) == []
    with client.listen(print) as other, pytest.raises(AiloopConfigError, match="handler"):
        iter(other)


def test_handlers_cannot_break_it(
    server: FakeAiloopServer,
    client: AiloopClient,
    heard: queue.Queue[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that raises is logged and counted; the others still get the message."""

    def fail(message: Message) -> None:
        raise RuntimeError("the host's own fault")

    with client.listen(fail) as listening:
        listening.on_message(lambda message: heard.put(text_of(message)))
        listens(server)
        notify(server, "one")
        assert heard.get(timeout=PATIENT) == "one"
        assert listening.failed == 1
        listening.remove_handler(fail)
        server.send_text('{"id": 1}')
        notify(server, "two")
        assert heard.get(timeout=PATIENT) == "two"
        assert (listening.failed, listening.unreadable, listening.handled) == (1, 1, 2)
    assert "the host's own fault" in caplog.text

    async def never_called(message: Message) -> None:
        raise AssertionError

    with pytest.raises(AiloopConfigError, match="plain function"):
        client.listen(never_called)


def test_handler_may_use_the_client(
    server: FakeAiloopServer, client: AiloopClient, heard: queue.Queue[str]
) -> None:
    """It runs in a thread of its own, and may stop it, too."""
    stopped: queue.Queue[bool] = queue.Queue()

    def answer(message: Message) -> None:
        heard.put(client.get_message(message.id).id)
        stopped.put(listening.stop())

    listening = client.listen(answer, replay=False)
    listens(server)
    message = notify(server, "one")
    assert heard.get(timeout=PATIENT) == message["id"]
    assert stopped.get(timeout=PATIENT) is False  # it cannot wait for itself
    assert listening.stop(PATIENT)


def test_server_that_is_away(
    server: FakeAiloopServer, client: AiloopClient, heard: queue.Queue[str]
) -> None:
    """It waits for the server, and for a restarted one too."""
    with client.listen(lambda message: heard.put(text_of(message))) as listening:
        assert listening.wait_connected(PATIENT)
        server.restart()
        listens(server)
        notify(server, "new")
        assert heard.get(timeout=PATIENT) == "new"


def test_close_ends_it(server: FakeAiloopServer, client: AiloopClient) -> None:
    """The client's end is the listener's."""
    listening = client.listen()
    listens(server)
    client.close(PATIENT)
    assert list(listening) == []
    assert listening.stop(0)
    with pytest.raises(AiloopClosedError):
        client.listen()
