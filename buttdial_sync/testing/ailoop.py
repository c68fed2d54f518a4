"""A fake ailoop server: real HTTP and WebSocket on one port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from buttdial_sync.testing.ailoop_http import AiloopHttp, Answer
from buttdial_sync.testing.ailoop_hub import (
    AiloopHub,
    FakePrompt,
    Generation,
    JsonObject,
    Reaction,
    Subscription,
    Way,
)

try:
    from websockets.datastructures import Headers
    from websockets.frames import Frame, Opcode
    from websockets.http11 import Request
    from websockets.protocol import State
    from websockets.server import ServerProtocol
except ImportError as error:
    raise ImportError(
        "the fake ailoop server needs websockets: pip install 'buttdial-sync[ailoop]'"
    ) from error

_HOST = "127.0.0.1"
_JOIN_TIMEOUT = 5.0
_POLL_INTERVAL = 0.05
# The library's own log shows every header, and so the token.
_silent = logging.Logger("fake-ailoop", logging.CRITICAL)
_MESSAGE_LIMIT = 2 * 1024 * 1024


class FakeAiloopServer:
    """
    An ailoop server for tests, with people who answer. It listens from the moment it is made.

    ::

        with FakeAiloopServer() as server:
            server.approves()
            deploy(ailoop_server=server.url)  # the code under test, which asks first

    Args:
        generation: ``"decision"`` behaves as server 1.0.14, ``"question"`` as 1.0.0.
        token: The token that it wants; None for a server without, as ``ailoop serve`` starts it.
        base_path: What stands before every path, as in ``"/hil"``.

    Attributes:
        http_connections: TCP connections that began with an HTTP request.
        websocket_connections: TCP connections that became a WebSocket.
        requests: Method and path of each HTTP request, oldest first.
    """

    def __init__(
        self,
        generation: Generation = "decision",
        *,
        token: str | None = None,
        base_path: str = "",
    ) -> None:
        self.token = token
        self.base_path = base_path.rstrip("/")
        self.http_connections = 0
        self.websocket_connections = 0
        self.requests: list[str] = []
        self.hub = AiloopHub(generation)
        self.http = AiloopHttp(self.hub)
        self.port = 0
        self._seen = 0
        self._listener: _Listener | None = None
        self.start()

    def __enter__(self) -> FakeAiloopServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL that a client has to be given."""
        return f"http://{_HOST}:{self.port}{self.base_path}"

    @property
    def asked(self) -> list[FakePrompt]:
        """Every prompt that came over WebSocket, oldest first, those before a restart included."""
        return list(self.hub.asked)

    @property
    def withdrawn(self) -> list[str]:
        """The ids of the prompts that were withdrawn over HTTP."""
        return [
            str(response["correlation_id"])
            for response in list(self.hub.responses)
            if response["content"]["response_type"] == "timeout"
        ]

    def approves(self, *, at: Way = "terminal") -> None:
        """From now on say yes to every prompt."""
        self.when_asked(lambda prompt: prompt.approve(at=at))

    def denies(self, *, at: Way = "terminal") -> None:
        """From now on say no to every prompt."""
        self.when_asked(lambda prompt: prompt.deny(at=at))

    def answers(self, text: str, *, at: Way = "terminal") -> None:
        """From now on answer every prompt with a text: an option's id, label or place from 1."""
        self.when_asked(lambda prompt: prompt.answer(text, at=at))

    def stays_silent(self) -> None:
        """From now on do not answer."""
        self.when_asked(None)

    def when_asked(self, reaction: Reaction | None) -> None:
        """
        From now on call ``reaction(prompt)`` for each prompt that is shown, also shown again.

        A prompt whose reaction raises expires, and :meth:`close` raises the exception.
        """
        with self.hub.changed:
            self.hub.reaction = reaction

    def next_prompt(self) -> FakePrompt:
        """
        Wait until the next prompt is shown, and return it.

        Each showing is returned once: a prompt that was skipped comes again.

        Raises:
            AssertionError: None is shown within a minute.
        """
        hub = self.hub
        with hub.changed:  # so that it is the prompt that was waited for
            self.wait_until(lambda: hub.active is not None and hub.shown > self._seen)
            assert hub.active is not None  # noqa: S101 - it was waited for
            self._seen = hub.shown
            return hub.active

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """
        Wait until something about the server holds.

        Args:
            condition: A function without arguments.
            seconds: How long.

        Raises:
            AssertionError: It does not within the time.
        """
        self.hub.wait_until(condition, seconds)

    def post(self, content: Mapping[str, Any], **envelope: Any) -> JsonObject:
        """
        Publish a message of somebody else, as ``POST /api/v1/messages`` does.

        Args:
            content: Its content.
            **envelope: Fields of the message, such as ``channel`` and ``correlation_id``.

        Returns:
            The message.
        """
        message: JsonObject = {
            "id": str(uuid.uuid4()),
            "channel": "public",
            "sender_type": "AGENT",
            "content": dict(content),
            "timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f000Z"),
            "correlation_id": None,
            **envelope,
        }
        self.hub.publish(message)
        return message

    def send_text(self, text: str) -> None:
        """Send a text to every WebSocket as it is: broken JSON, or a message without history."""
        with self.hub.changed:
            for each in list(self.hub.sockets):
                each.send_text(text)

    def wait_until_received(self) -> None:
        """
        Wait until every client has taken in what was sent to it.

        Raises:
            AssertionError: One does not answer a ping within a minute.
        """
        with self.hub.changed:
            sockets = list(self.hub.sockets)
        for each in sockets:
            self.wait_until(each.ping())

    def ignore_frames(self, ignored: bool = True) -> None:
        """Drop what comes over WebSocket, as the server does with what it does not understand."""
        self.hub.accepts_frames = not ignored

    def drop_connections(self) -> None:
        """Cut every connection. The server lives on, and so do its prompts."""
        if self._listener is not None:
            self._listener.drop_connections()

    def drop_sockets(self) -> None:
        """Cut every WebSocket without a wait, so that a test can hold `hub.changed` meanwhile."""
        with self.hub.changed:
            for each in list(self.hub.sockets):
                each.cut()
            self.hub.sockets.clear()

    def start(self) -> None:
        """Listen, on the same port as before. Does nothing if it listens already."""
        if self._listener is None:
            self._listener = _Listener(self.port, self)
            self.port = self._listener.server_port
            self.hub.start()
            self._listener.start()

    def stop(self) -> None:
        """Stop listening, cut every connection, and forget everything. May be called again."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
            self.hub.stop()
            self.hub.forget_everything()

    def close(self) -> None:
        """
        Stop for good. Calling it again does nothing.

        Raises:
            Exception: The first that a reaction raised; its prompt has expired.
        """
        self.stop()
        self.hub.raised.raise_first()

    def restart(self) -> None:
        """Stop and start: all messages, prompts and tasks are forgotten."""
        self.stop()
        self.start()

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether a request has the token."""
        if self.token is None:
            return True
        authorization = headers.get("Authorization") or ""
        if authorization.startswith("Bearer "):
            return authorization == f"Bearer {self.token}"
        return headers.get("X-Api-Key") == self.token


class _Listener(ThreadingHTTPServer):
    """Accepts connections from `start` to `stop`, and knows them."""

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_port = False

    def __init__(self, port: int, fake: FakeAiloopServer) -> None:
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._acceptor = threading.Thread(
            target=self.serve_forever, args=(_POLL_INTERVAL,), name="fake-ailoop", daemon=True
        )
        super().__init__((_HOST, port), functools.partial(_Connection, fake=fake))

    def server_bind(self) -> None:
        # HTTPServer's own looks the host's name up, which may take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = _HOST, self.socket.getsockname()[1]

    def start(self) -> None:
        self._acceptor.start()

    def stop(self) -> None:
        self.shutdown()
        self._acceptor.join(_JOIN_TIMEOUT)
        self.server_close()
        self.drop_connections()

    def process_request(self, request: Any, client_address: Any) -> None:
        worker = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="fake-ailoop-connection",
            daemon=True,
        )
        with self._lock:
            self._connections[request] = worker
            worker.start()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._lock:
            self._connections.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke; that is what tests do to it."""

    def drop_connections(self) -> None:
        with self._lock:
            connections = dict(self._connections)
        for sock in connections:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for worker in connections.values():
            if worker is not threading.current_thread():
                worker.join(_JOIN_TIMEOUT)


class _Connection(BaseHTTPRequestHandler):
    """One connection: requests, or after an upgrade frames."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def __init__(self, *args: Any, fake: FakeAiloopServer) -> None:
        self._fake = fake
        self._counted = False
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer a request, or become a WebSocket."""
        self._handle()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the base class's names

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        if not self._fake.admits(dict(self.headers.items())):
            self._send(Answer(401, {"error": "unauthorized"}))
            return
        parts = urlsplit(self.path)
        base = self._fake.base_path
        path = parts.path[len(base) :] if parts.path.startswith(f"{base}/") else ""
        if path == "/" and self.headers.get("Upgrade", "").lower() == "websocket":
            self._fake.websocket_connections += 1
            self.close_connection = True
            _WebSocket(self.connection, self._fake.hub).serve(
                Request(self.path, Headers(list(self.headers.items())))
            )
            return
        if not self._counted:
            self._fake.http_connections += 1
            self._counted = True
        with self._fake.hub.changed:
            self._fake.requests.append(f"{self.command} {path}")
            self._fake.hub.changed.notify_all()
        self._send(self._answer(path, dict(parse_qsl(parts.query)), content))

    def _answer(self, path: str, query: Mapping[str, str], content: bytes) -> Answer:
        body: Any = None
        if self.command in {"POST", "PUT"}:
            if len(content) > _MESSAGE_LIMIT:
                return Answer(413, "length limit exceeded")
            try:
                body = json.loads(content)
            except ValueError:
                is_old = self._fake.hub.generation == "question"
                return Answer(405 if is_old else 400, "Failed to parse the request body as JSON")
        return self._fake.http.answer(self.command, path, query, body)

    def _send(self, answer: Answer) -> None:
        is_json = isinstance(answer.body, dict)
        text = json.dumps(answer.body) if is_json else str(answer.body or "")
        content = text.encode()
        self.send_response(answer.status)
        if content:
            self.send_header("Content-Type", "application/json" if is_json else "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


class _WebSocket:
    """A WebSocket connection of the fake. The hub sends from many threads."""

    def __init__(self, sock: socket.socket, hub: AiloopHub) -> None:
        self._sock = sock
        self._hub = hub
        self._protocol = ServerProtocol(max_size=None, logger=_silent)
        self._pongs = 0
        self._sending = threading.Lock()

    def serve(self, request: Request) -> None:
        """Shake hands, and take frames until the end."""
        try:
            with self._hub.changed:  # a client that is answered is a known one
                self._hub.sockets[self] = Subscription()
                self._shake_hands(request)
                self._hub.changed.notify_all()
            self._take_frames()
        finally:
            with self._hub.changed:
                self._hub.sockets.pop(self, None)
                self._hub.changed.notify_all()

    def deliver(self, message: JsonObject) -> None:
        """Send a message, unless the connection is over."""
        self.send_text(json.dumps(message))

    def send_text(self, text: str) -> None:
        """Send a text, unless the connection is over."""
        with self._sending, contextlib.suppress(OSError):
            if self._protocol.state is State.OPEN:
                self._protocol.send_text(text.encode())
                self._flush()

    def ping(self) -> Callable[[], bool]:
        """Send a ping; return what tells whether it was answered, or the connection is over."""
        wanted = self._pongs + 1
        with self._sending, contextlib.suppress(OSError):
            if self._protocol.state is State.OPEN:
                self._protocol.send_ping(b"")
                self._flush()
        return lambda: self._pongs >= wanted or self not in self._hub.sockets

    def cut(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _shake_hands(self, request: Request) -> None:
        with self._sending:
            # The library wants to have read the request itself.
            self._protocol.receive_data(request.serialize())
            (event,) = self._protocol.events_received()
            assert isinstance(event, Request)  # noqa: S101 - its state says so
            self._protocol.send_response(self._protocol.accept(event))
            self._flush()

    def _take_frames(self) -> None:
        text = bytearray()
        while self._protocol.state is State.OPEN:
            try:
                data = self._sock.recv(65536)
            except OSError:
                return
            if not data:
                return
            events: list[Any] = []
            with self._sending, contextlib.suppress(OSError):
                self._protocol.receive_data(data)
                events = self._protocol.events_received()
                self._flush()
            for event in events:
                if not isinstance(event, Frame):
                    continue
                if event.opcode is Opcode.PONG:
                    with self._hub.changed:
                        self._pongs += 1
                        self._hub.changed.notify_all()
                if event.opcode not in {Opcode.TEXT, Opcode.CONT}:
                    continue
                text += event.data
                if event.fin:
                    frame, text = text, bytearray()
                    with contextlib.suppress(ValueError):
                        self._hub.receive(self, json.loads(frame))

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._sock.sendall(data)
