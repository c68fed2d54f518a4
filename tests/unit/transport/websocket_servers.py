"""WebSocket servers on loopback for tests, and a receiver that keeps what it gets."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.server import ServerConnection, serve

from buttdial_sync.errors import ButtDialError
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.pending import Failure
from buttdial_sync.transport.websocket import WebSocket
from buttdial_sync.transport.websocket_opening import WebSocketOpener, WebSocketOptions

PATIENCE = 20.0
CERTIFICATE = Path(__file__).parents[2] / "integration/doctor/self_signed.pem"

Handler = Callable[[ServerConnection], None]


class Kept:
    """A receiver that keeps everything."""

    def __init__(self) -> None:
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self.failures: queue.Queue[ButtDialError] = queue.Queue()

    def take(self, message: dict[str, Any]) -> None:
        self.messages.put(message)

    def end(self, failure: Failure) -> None:
        self.failures.put(failure("unknown"))

    def next(self) -> dict[str, Any]:
        return self.messages.get(timeout=PATIENCE)

    def failure(self) -> ButtDialError:
        return self.failures.get(timeout=PATIENCE)


class Server:
    """A WebSocket server that runs a handler for each connection."""

    def __init__(self, handler: Handler, *, tls: bool = False, **options: Any) -> None:
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
        self._server = serve(handler, "127.0.0.1", 0, ssl=context, **options)
        self.port: int = self._server.socket.getsockname()[1]
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}/world"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="fake-butt-dial-websocket", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(PATIENCE)


def echo(connection: ServerConnection) -> None:
    """Send back what comes."""
    for message in connection:
        connection.send(message)


def opener_of(
    url: str, on_event: Callable[[ClientEvent], None] = lambda _: None, **options: Any
) -> WebSocketOpener[Kept]:
    return WebSocketOpener(url, Kept, WebSocketOptions(**options), on_event)


@contextmanager
def opened(url: str, token: str = "", **options: Any) -> Iterator[WebSocket[Kept]]:
    """Give a connection, which is closed afterwards."""
    websocket = opener_of(url, **options).open(token, Deadline(PATIENCE))
    try:
        yield websocket
    finally:
        websocket.close(PATIENCE)


@contextmanager
def raw_server(work: Callable[[socket.socket], object]) -> Iterator[str]:
    """Listen, and let ``work`` speak by hand with the first who connects."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def run() -> None:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(PATIENCE)
                work(peer)

        thread = threading.Thread(target=run, name="fake-butt-dial-raw", daemon=True)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # or accept() would go on
            listener.close()
            thread.join(PATIENCE)
