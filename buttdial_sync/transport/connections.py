"""
Connections that keep a deadline.

A socket's own timeout starts again with every byte, so a server that drips holds a caller for ever.
Here each read and each write gets what is left of the whole call, and so does each address that a
name resolves to. Name resolution itself cannot be interrupted.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from buttdial_sync.transport.deadline import Deadline

# Both servers close an idle connection after 5 s. A request written into one that closes at that
# moment has an unknown outcome, so an idle connection is left alone a little earlier.
IDLE_CONNECTION_SECONDS = 4.0
_WRITE_SIZE = 65536
# A peer that vanished without a word shows after about two minutes.
_KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)
]


class Exchange:
    """
    One request and its answer: its deadline, and how far it got.

    Attributes:
        deadline: Until when; None once a stream is open, which may be silent for long.
        is_watched: One of our connections carries it, so that what is said here is complete.
        bytes_may_have_left: From here on the server may have the request.
    """

    __slots__ = (
        "_aborted",
        "_sock",
        "bytes_may_have_left",
        "connect_timeout",
        "deadline",
        "is_watched",
    )

    def __init__(self, deadline: Deadline, connect_timeout: float) -> None:
        self.deadline: Deadline | None = deadline
        self.connect_timeout = connect_timeout
        self.is_watched = False
        self.bytes_may_have_left = False
        self._sock: socket.socket | None = None
        self._aborted = False

    def time_left(self) -> float | None:
        """Return the seconds left for the next read or write, None for no limit."""
        if self.deadline is None:
            return None  # an aborted stream is read to its end: what has arrived is not lost
        if self._aborted:
            raise ConnectionAbortedError("closed by this side")
        left = self.deadline.remaining()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def runs_on(self, sock: socket.socket) -> None:
        """Note the socket, so that :meth:`abort` can reach it."""
        self._sock = sock
        self.is_watched = True

    def abort(self) -> bool:
        """
        End the exchange from another thread.

        Closing a response waits for a blocked read; shutting the socket down ends the read.

        Returns:
            Whether there was a socket to shut down.
        """
        self._aborted = True
        if self._sock is None:
            return False
        with suppress(OSError):
            # Not the method of an SSLSocket: it would forget the keys of what has arrived already.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        return True


_running = threading.local()


@contextmanager
def running(exchange: Exchange) -> Iterator[None]:
    """Make ``exchange`` the one that this thread's connections keep to."""
    _running.exchange = exchange
    try:
        yield
    finally:
        _running.exchange = None


def _current_exchange() -> Exchange | None:
    return getattr(_running, "exchange", None)


class _DeadlineReader(io.RawIOBase):
    """Reads a socket; each read gets what is left of the exchange."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, exchange: Exchange) -> None:
        self._raw = raw
        self._sock = sock
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._exchange.time_left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
            super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        exchange = _current_exchange()
        if exchange is not None:
            exchange.runs_on(sock)
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_DeadlineReader(raw, sock, exchange))


class _DeadlineConnection(HTTPConnection):
    response_class = _DeadlineResponse
    _connecting = False
    _holding = False
    _head = b""
    _idle_since = 0.0

    def connect(self) -> None:
        exchange = _current_exchange()
        if exchange is not None:
            exchange.is_watched = True
        self._connecting = True  # what is written now is for a proxy, not for the server
        try:
            super().connect()
        finally:
            self._connecting = False

    def _new_conn(self) -> socket.socket:
        exchange = _current_exchange()
        if exchange is None or exchange.deadline is None:
            return super()._new_conn()
        limit = exchange.deadline.within(exchange.connect_timeout)
        try:
            return self._connect_to_any(exchange, limit)
        except TimeoutError:
            raise ConnectTimeoutError(self, f"no connection within {limit.seconds:.3g} s") from None
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except OSError as error:
            raise NewConnectionError(self, f"cannot connect: {error}") from error

    def _connect_to_any(self, exchange: Exchange, limit: Deadline) -> socket.socket:
        failure: OSError = OSError("the name has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self._dns_host, self.port, allowed_gai_family(), socket.SOCK_STREAM
        ):
            if not limit.remaining():
                raise TimeoutError
            sock = socket.socket(family, kind, protocol)
            try:
                exchange.runs_on(sock)
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.settimeout(min(limit.remaining(), exchange.time_left() or math.inf))
                sock.connect(address)
            except OSError as error:
                sock.close()
                failure = error
            else:
                sock.settimeout(max(limit.remaining(), 0.001))  # also bounds the TLS handshake
                return sock
        raise failure

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        self._holding = True  # head and body leave in one write, and wake the server once
        try:
            super().endheaders(*args, **kwargs)
        finally:
            self._holding = False

    def send(self, data: Any) -> None:
        if self._holding:
            self._head = data
            return
        data, self._head = self._head + data, b""
        exchange = _current_exchange()
        if exchange is None:
            super().send(data)
            return
        if self.sock is None:
            self.connect()
        sock = self.sock
        exchange.runs_on(sock)
        for start in range(0, len(data), _WRITE_SIZE):
            sock.settimeout(exchange.time_left())
            exchange.bytes_may_have_left |= not self._connecting
            sock.sendall(data[start : start + _WRITE_SIZE])

    def getresponse(self) -> Any:
        if self._head:
            self.send(b"")  # there was no body to wait for
        response = super().getresponse()
        self._idle_since = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        idle = time.monotonic() - self._idle_since if self._idle_since else 0.0
        return idle < IDLE_CONNECTION_SECONDS and super().is_connected


class _DeadlineHTTPSConnection(_DeadlineConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _DeadlineConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _DeadlineHTTPSConnection


class DeadlineAdapter(HTTPAdapter):
    """A ``requests`` adapter whose connections keep the running :class:`Exchange`'s deadline."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool, with TCP keep-alive and our connections."""
        options = [*HTTPConnection.default_socket_options, *_KEEP_ALIVE]
        self._pools: dict[str, Any] = {}
        super().init_poolmanager(*args, socket_options=options, **kwargs)
        self._use_our_connections(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the manager for a proxy, with our connections."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._use_our_connections(manager)
        return manager

    def get_connection_with_tls_context(
        self, request: PreparedRequest, *args: Any, **kwargs: Any
    ) -> Any:
        """Return the origin's pool; verification and proxies are the same for all of an origin."""
        origin = "/".join(str(request.url).split("/", 3)[:3])
        pool = self._pools.get(origin)
        if pool is None or pool.pool is None:  # the manager closes the one not used for longest
            pool = super().get_connection_with_tls_context(request, *args, **kwargs)
            self._pools[origin] = pool
        return pool

    @staticmethod
    def _use_our_connections(manager: Any) -> None:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
