"""
Connections that keep a deadline.

A socket's own timeout starts again with every byte, so a server that sends a byte now and then
could hold a caller without a limit. Here each read and each write gets only the time that is left
of the whole call, and each address that a name resolves to gets its share of it. Name resolution
itself cannot be interrupted.
"""

from __future__ import annotations

import _socket
import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3.util.ssl_
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from buttdial_sync.transport.addresses import connection_guard, failed_addresses
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.descriptors import Identity, KeptSocket, Turn, socket_identity

# Both servers close an idle connection after 5 s. A request that is written at that moment has an
# unknown outcome, so an idle connection is not used any more a little earlier.
IDLE_CONNECTION_SECONDS = 4.0
_WRITE_SIZE = 65536


class RequestProgress:
    """
    One request and its answer: its deadline, and how far it got.

    Attributes:
        deadline: The deadline; None once a stream is open, which may be silent for long.
        is_watched: Whether one of our connections carries it. If not (a mock, for example), the
            other attributes prove nothing.
        bytes_may_have_left: Whether the server may have a part of the request.
        kept: The socket that carries it.
    """

    __slots__ = (
        "_aborted",
        "_turn",
        "bytes_may_have_left",
        "connect_timeout",
        "deadline",
        "is_watched",
        "kept",
    )

    def __init__(self, deadline: Deadline, connect_timeout: float) -> None:
        self.deadline: Deadline | None = deadline
        self.connect_timeout = connect_timeout
        self.is_watched = False
        self.bytes_may_have_left = False
        self.kept: KeptSocket | None = None
        self._aborted = False
        self._turn: Turn = {}

    def time_left(self) -> float | None:
        """Return the seconds left for the next read or write, None for no limit."""
        if self.deadline is None:
            return None  # also if aborted: what has arrived on a stream is read to its end
        if self._aborted:
            raise ConnectionAbortedError("closed by this side")
        left = self.deadline.remaining()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def runs_on(self, kept: KeptSocket) -> None:
        """
        Note the socket, so that :meth:`abort` can reach it.

        Raises:
            ConnectionAbortedError: The socket's request before this one is just being aborted.
        """
        self.is_watched = True
        self._turn, self.kept = kept.begin_turn(), kept

    def adopt(self, raw: Any) -> None:
        """Take over an open stream's connection if it is not one of ours: no time limit, abort."""
        sock = getattr(getattr(raw, "connection", None), "sock", None)
        if self.kept is None and sock is not None:
            sock.settimeout(None)
            self.kept = KeptSocket(sock, socket_identity(sock))

    def abort(self) -> bool:
        """
        End the request from another thread.

        Closing a response waits for a blocked read; shutting the socket down ends the read. A
        socket that carries another request already is left alone.

        Returns:
            Whether there was a socket to shut down.
        """
        self._aborted = True
        return self._shut_down(socket.SHUT_RDWR)

    def end_sending(self) -> bool:
        """
        Tell the server that nothing follows. What it has sent by then can still be read.

        Returns:
            Whether there was a socket.
        """
        return self._shut_down(socket.SHUT_WR)

    def _shut_down(self, how: int) -> bool:
        if self.kept is None:
            return False
        self.kept.end_turn(self._turn, how)
        return True


# By thread. Not a threading.local: gevent may replace the class after this module was imported, and
# of two that are made on first use, one thread would find the other's.
_progress_of: dict[int, RequestProgress] = {}


@contextmanager
def bound_to_thread(progress: RequestProgress) -> Iterator[None]:
    """
    Make ``progress`` the one that this thread's connections keep to.

    requests and urllib3 cannot pass it down to a connection, so it goes through the thread.
    """
    thread = threading.get_ident()
    outer = _progress_of.get(thread)  # a signal handler may send in the middle of a request
    try:
        _progress_of[thread] = progress
        yield
    finally:
        if outer is None:
            _progress_of.pop(thread, None)
        else:
            _progress_of[thread] = outer


def _progress_of_thread() -> RequestProgress | None:
    return _progress_of.get(threading.get_ident())


class _DeadlineReader(io.RawIOBase):
    """Reads a socket; each read gets what is left of the deadline."""

    def __init__(self, raw: io.RawIOBase, kept: KeptSocket, progress: RequestProgress) -> None:
        self._raw = raw
        self._kept = kept
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._progress.time_left()
        # A stream over TLS needs more care; sockets of gevent and eventlet do not, as their reads
        # do not block the thread.
        if left is None and type(self._kept.sock).__module__ == "ssl":
            return self._read_tls_stream(buffer)
        self._kept.check()
        self._kept.set_timeout(left)
        return self._raw.readinto(buffer)

    def _read_tls_stream(self, buffer: Any) -> int | None:
        # OpenSSL needs several reads for one record. It must not sleep in one of them: while it
        # sleeps, a daemon may close the descriptor, and the next read would take the bytes of the
        # host's socket that got the same number. So this method sleeps instead, in a recv() that
        # takes nothing: the kernel keeps a recv() on the connection that it began with. poll()
        # would not do, because it looks the number up again.
        sock = self._kept.sock
        while True:
            self._kept.check()
            sock.settimeout(0.0)
            try:
                return self._raw.readinto(buffer)
            except ssl.SSLWantReadError:
                sock.settimeout(None)
                _socket.socket.recv(sock, 1, socket.MSG_PEEK)  # the kernel's, as it is

    def close(self) -> None:
        if not self.closed:
            self._kept.forget_if_lost()
            self._raw.close()
            super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        progress = _progress_of_thread()
        if progress is not None and progress.kept is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_DeadlineReader(raw, progress.kept, progress))


class DeadlineConnection(HTTPConnection):
    """A connection that keeps the running :class:`RequestProgress`'s deadline."""

    response_class = _DeadlineResponse
    _connecting = False
    # Head and body leave in one write: two writes would wake the server twice.
    _holding = False
    _head = b""
    _idle_since = 0.0
    _identity: Identity | None = None
    _kept: KeptSocket | None = None
    _address: tuple[Any, ...] | None = None

    def connect(self) -> None:
        """Connect, to a proxy first if there is one. An address that fails is tried last then."""
        progress = _progress_of_thread()
        if progress is not None:
            progress.is_watched = True
        self._connecting = True  # what is written now is for a proxy, not for the server
        try:
            super().connect()
        except Exception:
            # It accepted the connection, but the proxy or the TLS handshake failed.
            if self._address is not None:
                failed_addresses.add(self._address)
            raise
        finally:
            self._connecting = False

    def _new_conn(self) -> socket.socket:
        progress = _progress_of_thread()
        if progress is None or progress.deadline is None:
            sock = super()._new_conn()
            self._identity = socket_identity(sock)
            return sock
        try:
            return self._connect_to_any(progress, progress.deadline)
        except TimeoutError:
            raise ConnectTimeoutError(self, "no connection in time") from None
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except OSError as error:
            raise NewConnectionError(self, f"cannot connect: {error}") from error

    def _connect_to_any(self, progress: RequestProgress, deadline: Deadline) -> socket.socket:
        failure: OSError = OSError("the name has no address")
        addresses = failed_addresses.put_last(self._resolved())
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            # Or a first address that is dead would use up the time of those that are not.
            share = deadline.remaining() / (len(addresses) - number)
            limit = deadline.within(min(progress.connect_timeout, share))
            if not limit.seconds:
                raise TimeoutError
            connection_guard.check(self.host, address)
            sock = socket.socket(family, kind, protocol)
            try:
                # Before it is connected, so that close() can end the attempt.
                self._identity = socket_identity(sock)
                progress.runs_on(KeptSocket(sock, self._identity))
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                progress.time_left()  # raises if close() came before there was a socket
                sock.settimeout(limit.seconds)
                sock.connect(address)
            except OSError as error:
                sock.close()
                failed_addresses.add(address)
                failure = error
            else:
                failed_addresses.discard(address)
                self._address = address
                # Also bounds the TLS handshake. Not 0, which would mean a socket that never blocks.
                sock.settimeout(max(limit.remaining(), 0.001))
                return sock
        raise failure

    def _resolved(self) -> list[Any]:
        family = allowed_gai_family()
        try:
            return socket.getaddrinfo(self._dns_host, self.port, family, socket.SOCK_STREAM)
        except OSError as error:
            # A resolver that cannot open its files says that there is no such name, or tells an
            # error of some earlier call.
            socket.socket().close()
            raise socket.gaierror(*error.args) from error

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        """Send the head, and the body with it."""
        self._holding = True
        try:
            super().endheaders(*args, **kwargs)
        finally:
            self._holding = False

    def send(self, data: Any) -> None:
        """Send bytes within the deadline."""
        if self._holding:
            self._head = data
            return
        data, self._head = self._head + data, b""
        progress = _progress_of_thread()
        if progress is None:
            super().send(data)
            return
        if self.sock is None:
            self.connect()
        sock, kept = self.sock, self._kept
        if kept is None or kept.sock is not sock:  # a new connection, or one over TLS now
            kept = self._kept = KeptSocket(sock, self._identity)
        progress.runs_on(kept)
        # In pieces: the descriptor is checked before each of them, and a TLS socket applies the
        # timeout to each write and not to all of them together.
        for start in range(0, len(data), _WRITE_SIZE):
            kept.check()
            kept.set_timeout(progress.time_left())
            # Before the write: if it fails, nobody knows how much of it has left.
            progress.bytes_may_have_left |= not self._connecting
            sock.sendall(data[start : start + _WRITE_SIZE])

    def getresponse(self) -> Any:
        """Read the answer's head."""
        if self._head:
            self.send(b"")  # a request without a body: send the head that was held back
        response = super().getresponse()
        self._idle_since = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        """Whether a request may be sent on it."""
        idle = time.monotonic() - self._idle_since if self._idle_since else 0.0
        is_ours = self.sock is not None and KeptSocket(self.sock, self._identity).is_ours()
        return is_ours and idle < IDLE_CONNECTION_SECONDS and super().is_connected

    def close(self) -> None:
        """Close the socket, if its descriptor is still ours."""
        if self.sock is not None:
            KeptSocket(self.sock, self._identity).forget_if_lost()
        self._kept = None
        super().close()


class DeadlineHTTPSConnection(DeadlineConnection, HTTPSConnection):
    """The same over TLS."""

    def connect(self) -> None:
        """Connect, and shake hands."""
        if self.ssl_context is None and ssl.SSLContext is not urllib3.util.ssl_.SSLContext:
            self.ssl_context = _late_context()
        super().connect()


def _late_context() -> ssl.SSLContext:
    """
    Return urllib3's default context, made of the class of now.

    gevent may replace the class after urllib3 has bound it. A context of the old class then calls
    itself without an end, or blocks all greenlets. urllib3 loads the certificates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
