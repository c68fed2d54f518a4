"""A session over a stream that lives in memory, and the server at its other end."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import requests
import responses

from buttdial_sync.transport.connections import RequestProgress
from buttdial_sync.transport.deadline import Clock, Deadline
from buttdial_sync.transport.http import Http
from buttdial_sync.transport.session import McpSession, SessionOptions
from buttdial_sync.transport.sse import EventStream
from buttdial_sync.transport.token_breaker import TokenBreaker

URL = "https://live.test"
TOKEN = "agent-secret-1"
PATIENCE = 5.0
ENDPOINT = b"event: endpoint\ndata: /messages?sessionId=1\n\n"

Message = dict[str, Any]
_MARK: Message = {"method": "notifications/mark"}


def event(value: object) -> bytes:
    """An event that carries JSON."""
    return b"event: message\ndata: " + json.dumps(value).encode() + b"\n\n"


def answer(number: object, result: object = None, **more: Any) -> bytes:
    """The answer to a request."""
    return event({"jsonrpc": "2.0", "id": number, "result": result or {}, **more})


class LiveBody:
    """A body that arrives as it is written; it ends when it is closed, from either side."""

    def __init__(self) -> None:
        self._chunks: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self.closed = threading.Event()
        self.released = False

    def write(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self._chunks.put(chunk)

    def end(self) -> None:
        self._chunks.put(b"")

    def break_with(self, error: BaseException) -> None:
        self._chunks.put(error)

    def read1(self, _: int) -> bytes:
        chunk = self._chunks.get()
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def close(self) -> None:
        self.closed.set()
        self.end()

    def release_conn(self) -> None:
        self.released = True


class LiveServer:
    """
    Takes posts and writes to the stream.

    Attributes:
        on_post: What a post with this method does; it may write to the body, return a status
            (with a text) or raise. Without an entry requests are answered with an empty result.
    """

    def __init__(self) -> None:
        self.body = LiveBody()
        self.posts: list[Message] = []
        self.headers: list[dict[str, str]] = []
        self.urls: list[str | None] = []
        self.on_post: dict[str, Callable[[Message], tuple[int, str] | None]] = {}
        self._replies: SimpleQueue[Message] = SimpleQueue()

    def take(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        """Answer a post, as a callback of ``responses``."""
        message = json.loads(request.body or b"")
        self.posts.append(message)
        self.headers.append(dict(request.headers))
        self.urls.append(request.url)
        method = message.get("method", "")
        status, text = self.on_post.get(method, self._usual)(message) or (202, "")
        if not method:
            self._replies.put(message)
        return status, {}, text

    def _usual(self, message: Message) -> tuple[int, str]:
        if "id" in message and "method" in message:
            self.body.write(answer(message["id"]))
        return 202, "Accepted"

    def reply(self) -> Message:
        """Wait for the next reply to a request of the server's own."""
        return self._replies.get(timeout=PATIENCE)

    @property
    def methods(self) -> list[str]:
        """What was posted."""
        return [message["method"] for message in self.posts]


class Live:
    """
    A session, its server, and what the session told its owner.

    Attributes:
        patience: How long a call waits, in seconds; little where no answer will come.
    """

    def __init__(self) -> None:
        self.server = LiveServer()
        self.body = self.server.body
        self.url = f"{URL}/sse"
        self.now = 0.0
        self.patience = PATIENCE
        self.pushed: list[Message] = []
        self.ends: list[str] = []
        self.ended = threading.Event()
        self.on_tick: Callable[[], None] = lambda: None
        self.on_push: Callable[[Message], None] = self.pushed.append
        self.http = Http(connect_timeout=PATIENCE)
        self.options: dict[str, Any] = {"max_event_bytes": 10_000}
        self.progress = RequestProgress(Deadline(PATIENCE), PATIENCE)
        self._marks: list[threading.Event] = []
        self._session: McpSession | None = None

    @property
    def session(self) -> McpSession:
        """The session, made when it is first wanted."""
        if self._session is None:
            response = requests.Response()
            response.raw = self.body
            stream = EventStream(
                response,
                self.progress,
                url=self.url,
                max_event_bytes=self.options["max_event_bytes"],
                clock=lambda: self.now,
            )
            given = {
                "on_notification": self._take,
                "on_end": self._end,
                "breaker": TokenBreaker(),
                "clock": self.tick,
                **self.options,
            }
            self._session = McpSession(self.http, stream, TOKEN, SessionOptions(**given))
        return self._session

    def tick(self) -> float:
        """The session's clock."""
        self.on_tick()
        return self.now

    def deadline(self, seconds: float = PATIENCE, clock: Clock | None = None) -> Deadline:
        """A deadline by the clock of this test, which stands still unless it is moved."""
        return Deadline(seconds, clock or (lambda: self.now))

    def start(self) -> McpSession:
        """Shake hands."""
        self.body.write(ENDPOINT)
        self.session.start(self.deadline())
        return self.session

    def ask(self, method: str = "tools/call", **params: Any) -> Message:
        return self.session.request(method, params, self.deadline(self.patience))

    def threads(self, kind: str) -> list[threading.Thread]:
        """The living threads of one kind: "reader" or "replies"."""
        return [each for each in threading.enumerate() if each.name.endswith(f"-{kind}")]

    def wait_for_end(self) -> None:
        """Wait until the session says that it is over and its reader is gone."""
        assert self.ended.wait(PATIENCE)
        for reader in self.threads("reader"):
            reader.join(PATIENCE)
        assert not self.threads("reader")

    def catch_up(self) -> None:
        """Wait until the reader has taken all that was written so far."""
        read = threading.Event()
        self._marks.append(read)
        self.body.write(event(_MARK))
        assert read.wait(PATIENCE)

    def _take(self, token: str, notification: Message) -> None:
        assert token == TOKEN
        if notification == _MARK:
            self._marks.pop(0).set()
        else:
            self.on_push(notification)

    def _end(self, token: str) -> None:
        self.ends.append(token)
        self.ended.set()


@contextmanager
def living() -> Iterator[Live]:
    """A session whose posts arrive; closed at the end."""
    made = Live()
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        url = re.compile(r"https://live\.test(:443)?/messages", re.IGNORECASE)
        mock.add_callback(responses.POST, url, callback=made.server.take)
        try:
            yield made
        finally:
            made.session.close(PATIENCE)
            made.http.close()
