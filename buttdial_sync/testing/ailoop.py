"""A fake ailoop server: real HTTP and WebSocket on one port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from buttdial_sync.testing.ailoop_http import AiloopHttp
from buttdial_sync.testing.ailoop_hub import (
    AiloopHub,
    FakePrompt,
    Generation,
    JsonObject,
    Reaction,
    Subscription,
    Way,
    moment_now,
)
from buttdial_sync.testing.http_connection import shut
from buttdial_sync.testing.http_messages import (
    HttpResponse,
    RawResponse,
    Reply,
    Request,
    json_response,
    text_response,
)
from buttdial_sync.testing.loopback import SocketServer

try:
    from websockets.datastructures import Headers
    from websockets.frames import Frame, Opcode
    from websockets.http11 import Request as Upgrade
    from websockets.protocol import State
    from websockets.server import ServerProtocol
except ImportError as error:
    raise ImportError(
        "the fake ailoop server needs websockets: pip install 'buttdial-sync[ailoop]'"
    ) from error

_KEEP_ALIVE = 60.0
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
        connections: TCP connections that were accepted.
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
        self.connections = 0
        self.websocket_connections = 0
        self.requests: list[str] = []
        self.hub = AiloopHub(generation)
        self.http = AiloopHttp(self.hub)
        self.raised = self.hub.raised
        self.port = 0
        self._seen = 0
        self._listener: SocketServer | None = None
        self.start()

    def __enter__(self) -> FakeAiloopServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL that a client has to be given."""
        return f"http://127.0.0.1:{self.port}{self.base_path}"

    @property
    def http_connections(self) -> int:
        """TCP connections that did not become a WebSocket."""
        return self.connections - self.websocket_connections

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
        with self.hub.changed:
            held = self.hub.changed.wait_for(condition, seconds)
        if not held:
            raise AssertionError(f"it did not happen within {seconds:g} s")

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
            "timestamp": moment_now(),
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
            self._listener = SocketServer(self.port, self, _KEEP_ALIVE)
            self.port = self._listener.server_port
            self.hub.start()
            self._listener.start()

    def stop(self) -> None:
        """Stop listening, cut every connection, and forget everything. May be called again."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
            listener.drop_connections()
            self.hub.stop()
            self.hub.forget_everything()

    def close(self) -> None:
        """
        Stop for good. Calling it again does nothing.

        Raises:
            Exception: The first that a reaction raised; its prompt has expired.
        """
        self.stop()
        self.raised.raise_first()

    def restart(self) -> None:
        """Stop and start: all messages, prompts and tasks are forgotten."""
        self.stop()
        self.start()

    # The socket face calls these

    def count_connection(self) -> None:
        """Note that a connection was accepted."""
        self.connections += 1

    def handle(self, request: Request) -> Reply:
        """Answer a request, or make its connection a WebSocket."""
        if not self._admits(request.headers):
            return json_response(401, {"error": "unauthorized"})
        is_below = request.path.startswith(f"{self.base_path}/")
        path = request.path.removeprefix(self.base_path) if is_below else ""
        if path == "/" and request.headers.get("upgrade", "").lower() == "websocket":
            self.websocket_connections += 1
            return RawResponse(lambda sock: _WebSocket(sock, self.hub).serve(request))
        with self.hub.changed:
            self.requests.append(f"{request.method} {path}")
            self.hub.changed.notify_all()
        return self._answer(request, path)

    def _admits(self, headers: Mapping[str, str]) -> bool:
        if self.token is None:
            return True
        authorization = headers.get("authorization", "")
        if authorization.startswith("Bearer "):
            return authorization == f"Bearer {self.token}"
        return headers.get("x-api-key") == self.token

    def _answer(self, request: Request, path: str) -> HttpResponse:
        body: Any = None
        if request.method in {"POST", "PUT"}:
            if len(request.body) > _MESSAGE_LIMIT:
                return text_response(413, "length limit exceeded")
            try:
                body = request.json
            except ValueError:
                status = 405 if self.hub.generation == "question" else 400
                return text_response(status, "Failed to parse the request body as JSON")
        return self.http.answer(request.method, path, request.query, body)


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
                self._shake_hands(Upgrade(request.path, Headers(request.headers)))
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
        shut(self._sock)

    def _shake_hands(self, upgrade: Upgrade) -> None:
        with self._sending:
            # The library wants to have read the request itself.
            self._protocol.receive_data(upgrade.serialize())
            (event,) = self._protocol.events_received()
            assert isinstance(event, Upgrade)  # noqa: S101 - its state says so
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
