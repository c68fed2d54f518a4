"""
The socket face: the fake server on a port of 127.0.0.1.

Plain sockets and a thread per connection. The standard library's HTTP server reads headers with
the e-mail parser, looks up its own host name and takes up to half a second to stop.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import weakref
from types import TracebackType
from typing import final

from buttdial_sync.testing.connection import Connection
from buttdial_sync.testing.fake import FakeServer

_HOST = "127.0.0.1"
_BACKLOG = 512
_JOIN_TIMEOUT = 5.0

_running: weakref.WeakSet[LoopbackServer] = weakref.WeakSet()


@final
class LoopbackServer:
    """
    A fake server that listens from the moment it is made.

    Args:
        fake: The core.
        keep_alive: How long an idle connection is kept, in seconds.

    Attributes:
        fake: The core.
        keep_alive: How long an idle connection is kept, in seconds.
        disable_nagle_algorithm: Send small answers at once. Without it a call stalls for 40 ms.
        port: The port. It stays the same over `stop` and `start`.
    """

    disable_nagle_algorithm = True

    def __init__(self, fake: FakeServer, *, keep_alive: float = 5.0) -> None:
        self.fake = fake
        self.keep_alive = keep_alive
        self.port = 0
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._listener: socket.socket | None = None
        self._waker: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self.start()

    def __enter__(self) -> LoopbackServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://{_HOST}:{self.port}"

    @property
    def base_url(self) -> str:
        """The URL that a client has to be given."""
        return self.origin + self.fake.base_path

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return self.fake.connections

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    def start(self) -> None:
        """Listen, on the same port as before. Does nothing if it listens already."""
        if self._acceptor is not None:
            return
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, self.port))
        listener.listen(_BACKLOG)
        self.port = listener.getsockname()[1]
        self._waker, wakened = socket.socketpair()
        self._listener = listener
        self._acceptor = threading.Thread(
            target=self._accept, args=(listener, wakened), name="fake-butt-dial", daemon=True
        )
        self._acceptor.start()
        _running.add(self)

    def stop(self) -> None:
        """Stop as a server that is shut down does: connections are cut, sessions forgotten."""
        if self._pid != os.getpid():
            return
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is None:
            return
        _running.discard(self)
        _shut(self._waker)
        acceptor.join(_JOIN_TIMEOUT)
        self.fake.forget_sessions(cut=True)
        self.drop_connections()

    def close(self) -> None:
        """Stop for good. Calling it again, or in a forked child, does nothing."""
        self.stop()

    def drop_connections(self) -> None:
        """Cut all connections, streams included, and wait until their threads have ended."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.shut()
        for connection in connections:
            connection.join(_JOIN_TIMEOUT)

    def _accept(self, listener: socket.socket, wakened: socket.socket) -> None:
        with listener, wakened, selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wakened, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if wakened in ready:
                    break
                # The client may have gone between the two calls.
                with contextlib.suppress(OSError):
                    self._take(listener.accept()[0])
            # A forked child may hold a copy of the listener; only this refuses new clients then.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)

    def _take(self, sock: socket.socket) -> None:
        if self.disable_nagle_algorithm:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self.fake, sock, self.origin, self.keep_alive, self._forget)
        with self._lock:
            self._connections.add(connection)
        self.fake.connected()
        connection.start()

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)

    def _leave_to_parent(self) -> None:
        """Give up a forked child's copies of the sockets, without shutting the parent's."""
        for sock in (self._listener, self._waker):
            if sock is not None:
                sock.close()
        for connection in tuple(self._connections):
            connection.leave_to_parent()


def _shut(sock: socket.socket | None) -> None:
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def _after_fork_in_child() -> None:
    for server in tuple(_running):
        server._leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
