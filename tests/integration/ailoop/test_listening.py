"""Hearing everything that is said: each message once, across breaks."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import pytest

from buttdial_sync.ailoop import (
    AiloopClient,
    AiloopClosedError,
    AiloopConfigError,
    Message,
    NotificationContent,
)
from buttdial_sync.ailoop.errors import AiloopProtocolError
from buttdial_sync.ailoop.hearing import Waiter
from buttdial_sync.testing import FakeAiloopServer
from buttdial_sync.testing.http_messages import HttpResponse, json_response
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


def test_old_messages_stay_old(
    server: FakeAiloopServer,
    client: AiloopClient,
    heard: queue.Queue[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the look at the history fails half way, the whole of it is looked at again."""
    answer = server.http.answer
    failed: list[str] = []

    def failing(method: str, path: str, query: Mapping[str, str], body: Any) -> HttpResponse:
        if path == "/api/channels/second/messages" and len(failed) < 3:
            failed.append(path)
            return json_response(503, {"error": "busy"})
        return answer(method, path, query, body)

    notify(server, "old", "first")
    notify(server, "old", "second")
    monkeypatch.setattr(server.http, "answer", failing)
    with client.listen(lambda message: heard.put(text_of(message)), replay=False):
        listens(server)
        notify(server, "new", "second")
        assert heard.get(timeout=PATIENT) == "new"
    assert heard.empty()
    assert len(failed) == 3


@pytest.mark.parametrize(
    "frame",
    [
        {"id": "x", "channel": [], "content": {}},
        {"id": "x", "channel": {}, "content": {}},
        {"id": "x"},
        {"id": [], "channel": "public"},
        {"id": "x", "channel": "public", "content": []},
    ],
)
def test_odd_frames(
    frame: object, server: FakeAiloopServer, client: AiloopClient, heard: queue.Queue[str]
) -> None:
    """They do not end the listening."""
    with client.listen(lambda message: heard.put(text_of(message)), channels=["public"]):
        listens(server)
        server.send_text(json.dumps(frame))
        notify(server, "new")
        assert heard.get(timeout=PATIENT) == "new"


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError()])
def test_handler_that_calls_sys_exit(
    server: FakeAiloopServer,
    client: AiloopClient,
    heard: queue.Queue[str],
    error: BaseException,
) -> None:
    """Or whose task is cancelled: it would end only the listening, and nobody would see it."""

    def leave(message: Message) -> None:
        raise error

    with client.listen(leave) as listening:
        listening.on_message(lambda message: heard.put(text_of(message)))
        listens(server)
        notify(server, "one")
        notify(server, "two")
        assert [heard.get(timeout=PATIENT) for _ in range(2)] == ["one", "two"]
        assert listening.failed == 2


@pytest.mark.parametrize("messages", [None, {}, "text"])
def test_history_that_is_not_a_list(
    messages: object,
    server: FakeAiloopServer,
    client: AiloopClient,
    heard: queue.Queue[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is an error, not an empty history; and the listener looks again."""
    notify(server, "old")
    answer = server.http.answer
    body = {"channel": "public", "messages": messages}
    odd = threading.Event()

    def first_odd(method: str, path: str, query: Mapping[str, str], sent: Any) -> HttpResponse:
        if path.endswith("/messages") and not odd.is_set():
            return json_response(200, body)
        return answer(method, path, query, sent)

    monkeypatch.setattr(server.http, "answer", first_odd)
    with pytest.raises(AiloopProtocolError, match="list of messages"):
        client.history()
    with client.listen(lambda message: heard.put(text_of(message)), replay=False):
        server.wait_until(lambda: "list of messages" in caplog.text)
        odd.set()
        listens(server)
        notify(server, "new")
        assert heard.get(timeout=PATIENT) == "new"
    assert heard.empty()


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(1), asyncio.CancelledError()])
def test_error_that_nobody_expects(
    server: FakeAiloopServer,
    heard: queue.Queue[str],
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    """It is logged, and the listening goes on, also if the host's function wants to end it."""
    fails: list[bool] = []

    def clock() -> float:
        if fails:
            fails.clear()
            raise error
        return 1000.0

    with AiloopClient(
        server.url, timeout=PATIENT, clock=clock, random_fraction=lambda: 0.0
    ) as client:
        fails.append(True)
        with client.listen(lambda message: heard.put(text_of(message))):
            listens(server)
            notify(server, "new")
            assert heard.get(timeout=PATIENT) == "new"
    assert "listening to ailoop failed" in caplog.text


def test_close_ends_all_before_it_waits_for_one(
    server: FakeAiloopServer, client: AiloopClient, background: InBackground
) -> None:
    """Handlers that take their time use up one time, not one each."""
    go_on = threading.Event()
    busy = threading.Semaphore(0)

    def slow(message: Message) -> None:
        busy.release()
        go_on.wait(PATIENT)

    listenings = [client.listen(slow) for _ in range(3)]
    server.wait_until(lambda: len(server.hub.sockets) == 3)
    notify(server, "one")
    for _ in listenings:
        assert busy.acquire(timeout=PATIENT)
    closing = background(client.close, PATIENT)
    for listening in listenings:
        assert listening._stopped.wait(PATIENT / 2)
    assert not closing.done()
    go_on.set()
    closing.result(PATIENT)
    assert all(listening.stop(0) for listening in listenings)


def test_listening_that_begins_while_close_counts_them(
    new_server: FakeAiloopServer, new_client: AiloopClient
) -> None:
    """Whatever the set of them is just doing, close() ends all."""
    listenings = [new_client.listen(), new_client.listen()]

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_globals["__name__"] not in {"weakref", "_weakrefset"}:
            return None
        if event == "line" and not new_client._connection.closed:
            listenings.append(new_client.listen())
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        new_client.close(PATIENT)
    finally:
        sys.settrace(before)
    assert len(listenings) > 2
    assert all(listening.stop(PATIENT) for listening in listenings)


def test_listening_that_begins_while_the_client_is_closed(
    server: FakeAiloopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends too, and a second close would end it."""
    client = AiloopClient(server.url, timeout=PATIENT)
    is_open = client._connection.check_open

    def closed_just_after() -> None:
        is_open()
        monkeypatch.undo()
        client.close()

    monkeypatch.setattr(client._connection, "check_open", closed_just_after)
    listening = client.listen()
    assert list(listening) == []
    assert listening.stop(PATIENT)
    assert not any(each.is_viewer for each in server.hub.sockets.values())


def test_restarted_server_may_use_an_id_again(
    server: FakeAiloopServer, client: AiloopClient, heard: queue.Queue[str]
) -> None:
    """What is remembered of its channels is forgotten with them."""
    with client.listen(lambda message: heard.put(text_of(message))) as listening:
        listens(server)
        message = notify(server, "old", "build-1")
        assert heard.get(timeout=PATIENT) == "old"
        server.restart()
        listens(server)
        assert listening.wait_connected(PATIENT)
        server.post({"type": "notification", "text": "new"}, channel="build-1", id=message["id"])
        assert heard.get(timeout=PATIENT) == "new"


def _close(client: AiloopClient, closed: Any) -> None:
    client.close(0.1)
    closed.put(True)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs os.fork()")
@pytest.mark.parametrize("name", ["_inbox", "_kept"])
def test_forked_child_closes_the_client(
    name: str, server: FakeAiloopServer, client: AiloopClient
) -> None:
    """The parent's reading thread may hold a lock at the fork; the child has none of its locks."""
    listening = client.listen()
    assert listening.wait_connected(PATIENT)
    waiter = getattr(listening, name)
    assert isinstance(waiter, Waiter)
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with waiter._changed:
            held.set()
            go_on.wait(PATIENT)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(PATIENT)
    context = multiprocessing.get_context("fork")
    closed = context.Queue()
    child = context.Process(target=_close, args=(client, closed), daemon=True)
    child.start()
    try:
        assert closed.get(timeout=PATIENT / 2)
    finally:
        go_on.set()
        holder.join(PATIENT)
        child.kill()
        child.join(PATIENT)


def test_listening_goes_on_without_its_client(
    server: FakeAiloopServer, heard: queue.Queue[str]
) -> None:
    """``AiloopClient(url).listen(handler)`` is no reason to lose messages."""
    client = AiloopClient(server.url, timeout=PATIENT)
    with client.listen(lambda message: heard.put(text_of(message))) as listening:
        assert listening.wait_connected(PATIENT)
        with pytest.warns(ResourceWarning, match="was not closed"):
            del client
        notify(server, "one")
        assert heard.get(timeout=PATIENT) == "one"
        with server.hub.changed:
            server.drop_sockets()
            notify(server, "two")
        assert heard.get(timeout=PATIENT) == "two"
