"""The socket face: the fake server on a port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
import threading
import weakref
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, final

from buttdial_sync.testing.fake import FakeServer
from buttdial_sync.testing.http_connection import HttpConnection, shut
from buttdial_sync.testing.http_messages import Answering

_HOST = "127.0.0.1"
_JOIN_TIMEOUT = 5.0
# Where shutting a listening socket down does not wake its thread, stop() waits as long as this.
_POLL_INTERVAL = 0.05

_running: weakref.WeakSet[SocketServer] = weakref.WeakSet()


class SocketServer(ThreadingHTTPServer):
    """Listens from `start` to `stop`, and knows its connections."""

    daemon_threads = True
    request_queue_size = 512
    # Some Python versions set it, and then two servers may be given the same port.
    allow_reuse_port = False

    def __init__(self, port: int, fake: Answering, keep_alive: float) -> None:
        self._fake = fake
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._workers: list[threading.Thread] = []
        self._acceptor = threading.Thread(
            target=self.serve_forever, args=(_POLL_INTERVAL,), name="fake-butt-dial", daemon=True
        )
        super().__init__(
            (_HOST, port), functools.partial(HttpConnection, fake=fake, keep_alive=keep_alive)
        )

    def server_bind(self) -> None:
        """Bind, without looking the host's name up."""
        # HTTPServer's own looks it up, which may take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = _HOST, self.socket.getsockname()[1]

    def start(self) -> None:
        """Accept connections."""
        self._acceptor.start()
        _running.add(self)

    def stop(self) -> None:
        """Accept no more connections; those that are open stay."""
        _running.discard(self)
        # It wakes the acceptor at once, and also refuses new clients while a forked child holds a
        # copy of the socket.
        shut(self.socket)
        self.shutdown()
        self._acceptor.join(_JOIN_TIMEOUT)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        # Not the base class's own: its threads have no telling name, and nobody can wait for them.
        worker = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="fake-butt-dial-connection",
            daemon=True,
        )
        self._fake.count_connection()
        with self._lock:
            self._sockets.add(request)
            worker.start()
            self._workers = [each for each in self._workers if each.is_alive()] + [worker]

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection that is over."""
        super().shutdown_request(request)
        with self._lock:
            self._sockets.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Raise what went wrong with a connection, unless the other end has cut it."""
        error = sys.exc_info()[1]
        # An OSError says that the client or `drop_connections` has cut the connection.
        if error is not None and not isinstance(error, OSError):
            raise error

    def drop_connections(self) -> None:
        """Cut all connections, and wait for their threads but the one that calls."""
        with self._lock:
            sockets, workers = list(self._sockets), list(self._workers)
        for sock in sockets:
            shut(sock)
        for worker in workers:
            if worker is not threading.current_thread():
                worker.join(_JOIN_TIMEOUT)

    def leave_to_parent(self) -> None:
        """Give up a forked child's copies of the sockets, without shutting the parent's."""
        for sock in (self.socket, *self._sockets):
            # Not sock.close(): that one waits for the file that the connection reads from.
            with contextlib.suppress(OSError):
                os.close(sock.detach())


@final
class LoopbackServer:
    """
    A fake server that listens from the moment it is made.

    Args:
        fake: The server.
        keep_alive: How long an idle connection is kept, in seconds.

    Attributes:
        fake: The server.
        keep_alive: How long an idle connection is kept, in seconds. A change counts from the next
            `start`.
        port: The port. It stays the same over `stop` and `start`.
    """

    def __init__(self, fake: FakeServer, *, keep_alive: float = 5.0) -> None:
        self.fake = fake
        self.keep_alive = keep_alive
        self.port = 0
        self._pid = os.getpid()
        self._listener: SocketServer | None = None
        self.start()

    def __enter__(self) -> LoopbackServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The URL that a client has to be given."""
        return f"http://{_HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return self.fake.connections

    def start(self) -> None:
        """Listen, on the same port as before. Does nothing if it listens already."""
        if self._listener is not None:
            return
        self._listener = SocketServer(self.port, self.fake, self.keep_alive)
        self.port = self._listener.server_port
        self._listener.start()

    def stop(self) -> None:
        """Stop as a server that is shut down does: connections are cut, and so the sessions end."""
        if self._pid != os.getpid():
            return
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.stop()
        listener.drop_connections()

    def close(self) -> None:
        """
        Stop for good. Calling it again, or in a forked child, does nothing.

        Raises:
            Exception: The first that a function of the test's own raised in the server, such as
                one that was given to ``on_tool``.
        """
        self.stop()
        self.fake.raised.raise_first()


def _after_fork_in_child() -> None:
    for listener in tuple(_running):
        listener.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
