"""The thread that answers the server's own requests. That it does is tested with the session."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from buttdial_sync.errors import TransportError
from buttdial_sync.transport.replies import ServerRequestReplier

PATIENCE = 10.0


class Posts:
    """Takes the replies, and holds them up for as long as a test wants."""

    def __init__(self) -> None:
        self.replies: list[dict[str, Any]] = []
        self.threads: set[threading.Thread] = set()
        self.arrived = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def take(self, reply: dict[str, Any]) -> None:
        self.threads.add(threading.current_thread())
        self.arrived.set()
        assert self.gate.wait(PATIENCE)
        self.replies.append(reply)
        if reply["id"] == "bad":
            raise TransportError("refused")


def ping(name: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": name, "method": "ping"}


@pytest.fixture
def posts() -> Posts:
    return Posts()


@pytest.fixture
def replier(posts: Posts) -> Iterator[ServerRequestReplier]:
    made = ServerRequestReplier("buttdial-sync-test-replies", posts.take)
    yield made
    posts.gate.set()
    made.stop()
    made.join(PATIENCE)


def finish(replier: ServerRequestReplier) -> None:
    replier.finish()
    replier.join(PATIENCE)


def test_in_order_and_in_one_thread(posts: Posts, replier: ServerRequestReplier) -> None:
    """Replies leave in the order of the requests, from one thread that is not the reader's."""
    for number in range(20):
        replier.reply_to(ping(number))
    finish(replier)
    assert [reply["id"] for reply in posts.replies] == list(range(20))
    (thread,) = posts.threads
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert not thread.is_alive()


def test_no_thread_before_the_first_request(posts: Posts, replier: ServerRequestReplier) -> None:
    """A server that asks nothing costs nothing."""
    finish(replier)
    assert posts.threads == set()


def test_a_reply_that_fails(
    posts: Posts, replier: ServerRequestReplier, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next one leaves."""
    replier.reply_to(ping("bad"))
    replier.reply_to(ping("good"))
    finish(replier)
    assert [reply["id"] for reply in posts.replies] == ["bad", "good"]
    assert "the server's ping stays unanswered: refused" in caplog.text


def test_stop_drops_what_is_queued(posts: Posts, replier: ServerRequestReplier) -> None:
    """The reply under way leaves, those behind it do not."""
    posts.gate.clear()
    replier.reply_to(ping(1))
    assert posts.arrived.wait(PATIENCE)
    replier.reply_to(ping(2))
    replier.stop()
    posts.gate.set()
    replier.join(PATIENCE)
    assert [reply["id"] for reply in posts.replies] == [1]


def test_nothing_after_stop(posts: Posts, replier: ServerRequestReplier) -> None:
    """A stopped one starts no thread, and may be stopped again."""
    replier.stop()
    replier.stop()
    replier.reply_to(ping(1))
    replier.join(PATIENCE)
    assert posts.threads == set()


def test_thread_that_cannot_start(
    posts: Posts,
    replier: ServerRequestReplier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The reading thread goes on; the next request starts the thread, and it answers both."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", start)
        replier.reply_to(ping(1))
    replier.join(PATIENCE)  # there is none to wait for
    assert "no thread can be started" in caplog.text
    replier.reply_to(ping(2))
    finish(replier)
    assert [reply["id"] for reply in posts.replies] == [1, 2]


@pytest.mark.parametrize(("waiting", "dropped"), [(1_000, 0), (1_001, 1)])
def test_queue_is_bounded(
    waiting: int,
    dropped: int,
    posts: Posts,
    replier: ServerRequestReplier,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that floods the client costs a bounded amount of memory, and that is logged."""
    posts.gate.clear()
    replier.reply_to(ping("first"))
    assert posts.arrived.wait(PATIENCE)
    for number in range(waiting):
        replier.reply_to(ping(number))
    assert len(caplog.records) == dropped
    posts.gate.set()
    finish(replier)
    assert len(posts.replies) == 1_001


def test_stop_ends_a_thread_that_waits(posts: Posts, replier: ServerRequestReplier) -> None:
    """A thread that has nothing to do ends too."""
    replier.reply_to(ping(1))
    assert posts.arrived.wait(PATIENCE)
    replier.stop()
    replier.join(PATIENCE)
    (thread,) = posts.threads
    assert not thread.is_alive()


def test_joining_itself_waits_for_nothing() -> None:
    """A reply may end with the session that it belongs to: its thread does not wait for itself."""
    told: list[str] = []

    def close(_: dict[str, Any]) -> None:
        made.join(PATIENCE)
        told.append("went on")

    made = ServerRequestReplier("buttdial-sync-test-replies", close)
    made.reply_to(ping(1))
    finish(made)
    assert told == ["went on"]


@pytest.mark.parametrize("method", ["ping", "roots/list"])
def test_replies(method: str, posts: Posts, replier: ServerRequestReplier) -> None:
    """A ping gets an empty result, everything else the code for an unknown method."""
    replier.reply_to({"jsonrpc": "2.0", "id": 0, "method": method})
    finish(replier)
    error = {"code": -32601, "message": "roots/list is not supported"}
    wanted = {"result": {}} if method == "ping" else {"error": error}
    assert posts.replies == [{"jsonrpc": "2.0", "id": 0, **wanted}]
