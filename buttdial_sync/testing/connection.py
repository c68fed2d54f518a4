"""One connection of the socket face: reads requests, writes answers, each with one system call."""

from __future__ import annotations

import contextlib
import http
import socket
import struct
import threading
from collections.abc import Callable
from urllib.parse import parse_qsl

from buttdial_sync.testing.exchange import Answer, Broken, OpenStream, Reply, Request
from buttdial_sync.testing.fake import FakeServer
from buttdial_sync.testing.stream import EventStream

_CHUNK = 65536
_MAX_HEAD = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: text/event-stream\r\n"
    b"Cache-Control: no-cache, no-transform\r\n"
    b"Connection: keep-alive\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class _BadRequestError(Exception):
    """What came is not an HTTP request that this server reads."""


class Connection:
    """
    One connection and its thread.

    Args:
        fake: The core.
        sock: The accepted socket.
        origin: Scheme, host and port of the server, for clients that send no ``Host``.
        keep_alive: How long to wait for the next request, in seconds.
        on_end: Called with the connection when it is over.
    """

    def __init__(
        self,
        fake: FakeServer,
        sock: socket.socket,
        origin: str,
        keep_alive: float,
        on_end: Callable[[Connection], object],
    ) -> None:
        self._fake = fake
        self._sock = sock
        self._origin = origin
        self._keep_alive = keep_alive
        self._on_end = on_end
        self._buffer = b""
        self._closing = threading.Event()
        self._keep_alive_lines = f"Connection: keep-alive\r\nKeep-Alive: timeout={keep_alive:g}\r\n"
        self._thread = threading.Thread(
            target=self._run, name="fake-butt-dial-connection", daemon=True
        )

    def start(self) -> None:
        """Start serving."""
        self._thread.start()

    def shut(self) -> None:
        """End the connection, whatever its thread waits for."""
        self._closing.set()
        # Not close(): only shutdown wakes a thread that is blocked in recv(), and only shutdown
        # reaches the client while a forked child holds a copy of the socket.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def join(self, timeout: float) -> None:
        """Wait for the thread's end, at most ``timeout`` seconds."""
        self._thread.join(timeout)

    def leave_to_parent(self) -> None:
        """Give up a forked child's copy of the socket."""
        self._sock.close()

    def _run(self) -> None:
        try:
            # Idle too long, or the client or close() has cut the connection.
            with contextlib.suppress(OSError):
                self._serve()
        finally:
            self.shut()
            self._sock.close()
            self._on_end(self)

    def _serve(self) -> None:
        while not self._closing.is_set():
            self._sock.settimeout(self._keep_alive)
            try:
                request = self._read()
            except _BadRequestError:
                self._write(Answer(400, b"Bad request"), last=True)
                return
            if request is None or not self._reply(request, self._fake.handle(request)):
                return

    def _read(self) -> Request | None:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise _BadRequestError
            if not self._receive():
                return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        self._buffer = self._buffer[end + 4 :]
        parts = lines[0].split(" ")
        if len(parts) != 3:
            raise _BadRequestError
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if "transfer-encoding" in headers:
            raise _BadRequestError
        body = self._read_body(int(headers.get("content-length") or 0))
        if body is None:
            return None
        path, _, query = parts[1].partition("?")
        fields = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
        host = headers.get("host")
        origin = f"http://{host}" if host else self._origin
        return Request(parts[0], path, fields, headers, body, origin)

    def _read_body(self, length: int) -> bytes | None:
        pieces, missing = [self._buffer], length - len(self._buffer)
        while missing > 0:
            piece = self._sock.recv(_CHUNK)
            if not piece:
                return None
            pieces.append(piece)
            missing -= len(piece)
        whole = b"".join(pieces)
        self._buffer = whole[length:]
        return whole[:length]

    def _receive(self) -> bool:
        data = self._sock.recv(_CHUNK)
        self._buffer += data
        return bool(data)

    def _reply(self, request: Request, reply: Reply) -> bool:
        """Answer; return whether another request may follow."""
        if isinstance(reply, OpenStream):
            self._stream(reply.stream)
            return False
        if isinstance(reply, Broken):
            self._break(reply)
            return False
        last = request.headers.get("connection", "").lower() == "close"
        self._write(reply, last=last, with_body=request.method != "HEAD")
        if reply.then is not None:
            reply.then()
        return not last

    def _write(self, answer: Answer, *, last: bool, with_body: bool = True) -> None:
        extra = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        kept = "Connection: close\r\n" if last else self._keep_alive_lines
        head = (
            f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, 'Unknown')}\r\n"
            f"Content-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n"
            f"{kept}{extra}\r\n"
        )
        self._sock.sendall(head.encode("latin-1") + (answer.body if with_body else b""))

    def _stream(self, stream: EventStream) -> None:
        self._sock.settimeout(None)
        try:
            self._sock.sendall(_STREAM_HEAD)
            stream.attach(self._write_chunk, self.shut)
            self._wait_for_the_end()
        finally:
            stream.end()

    def _write_chunk(self, chunk: bytes) -> None:
        self._sock.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunk else b"0\r\n\r\n")

    def _wait_for_the_end(self) -> None:
        while self._sock.recv(_CHUNK):
            pass

    def _break(self, broken: Broken) -> None:
        if broken.how == "hang":
            self._sock.settimeout(None)
            self._wait_for_the_end()
        elif broken.how == "drip":
            self._drip(broken.interval)
        else:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            # shutdown() would say goodbye in order; close() alone resets.
            self._sock.close()

    def _drip(self, interval: float) -> None:
        self._sock.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not self._closing.wait(interval):
            self._sock.sendall(b".")
