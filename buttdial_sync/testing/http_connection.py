"""One connection of the socket face: HTTP on one side, the fake server's core on the other."""

from __future__ import annotations

import contextlib
import functools
import io
import socket
import struct
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer
from types import MappingProxyType
from typing import Any, final
from urllib.parse import parse_qsl

from buttdial_sync.testing.http_messages import (
    Answering,
    HttpResponse,
    RawResponse,
    Reply,
    Request,
    StreamResponse,
    json_response,
)
from buttdial_sync.testing.raised import described
from buttdial_sync.testing.stream import ServerStream

_CHUNK = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_UNREADABLE = HttpResponse(HTTPStatus.BAD_REQUEST, b"Bad request")
_STREAM_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache, no-transform",
    }
)
_CHUNKED: Mapping[str, str] = MappingProxyType(
    {"Connection": "keep-alive", "Transfer-Encoding": "chunked"}
)
_UNTIL_THE_END: Mapping[str, str] = MappingProxyType({"Connection": "close"})


def shut(sock: socket.socket) -> None:
    """Wake the threads that read from a socket or write to it, and let the other end know."""
    # Not close(): only shutdown wakes a thread that is blocked in recv(), and only shutdown
    # reaches the other end while a forked child holds a copy of the socket.
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


@final
class HttpConnection(BaseHTTPRequestHandler):
    """
    Serves one connection, in the thread that makes it, until the connection is over.

    Args:
        sock: The accepted socket.
        address: The client's address.
        server: The server that accepted it.
        fake: The server.
        keep_alive: How long to wait for the next request, in seconds.
    """

    protocol_version = "HTTP/1.1"
    # Without it a call stalls for 40 ms.
    disable_nagle_algorithm = True
    raw_requestline: bytes

    def __init__(
        self,
        sock: socket.socket,
        address: tuple[str, int],
        server: BaseServer,
        *,
        fake: Answering,
        keep_alive: float,
    ) -> None:
        self._fake = fake
        self._keep_alive = keep_alive
        super().__init__(sock, address, server)

    def setup(self) -> None:
        """Prepare reading, with the idle time-out, and writing, which is held back."""
        super().setup()
        self.connection.settimeout(self._keep_alive)
        # The base class writes head and body by themselves; `_send` makes one write of them.
        self.wfile = self._held = io.BytesIO()

    def parse_request(self) -> bool:
        """Read the request line and the headers; an empty line is refused too."""
        if self.raw_requestline.strip():
            return super().parse_request()
        self.send_error(HTTPStatus.BAD_REQUEST)
        return False

    def handle_expect_100(self) -> bool:
        """Ask for the body at once, and not together with the answer."""
        going_on = super().handle_expect_100()
        self._send()
        return going_on

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what this server cannot read with 400, and end the connection."""
        # A request line without a version would be answered as HTTP/0.9 is: without a status.
        self.request_version = self.protocol_version
        self.close_connection = True
        self._answer(_UNREADABLE)
        # Closing with input unread resets the connection, and the client would lose the answer.
        self.connection.shutdown(socket.SHUT_WR)
        self._wait_for_the_end()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Write nothing: the fake server keeps its own records."""

    def _serve(self) -> None:
        request = self._read()
        if request is not None:
            self._reply(self._handled(request))

    do_GET = do_HEAD = do_OPTIONS = _serve  # noqa: N815 - the base class looks for these names
    do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - as above

    def _handled(self, request: Request) -> Reply:
        try:
            return self._fake.handle(request)
        except ConnectionError:
            raise  # a test's way to cut the connection
        except BaseException as error:  # noqa: BLE001 - closing the server raises it
            self._fake.raised.keep(error)
            return json_response(500, {"error": described(error), "retryable": False})

    def _read(self) -> Request | None:
        headers = {name.lower(): value.strip() for name, value in self.headers.items()}
        length = headers.get("content-length") or "0"
        if "transfer-encoding" in headers or not length.isdecimal():
            self.send_error(HTTPStatus.BAD_REQUEST)
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return None
        # Not self.path: there the base class has made one slash of several at the start.
        path, _, query = self.requestline.split()[1].partition("?")
        fields = dict(parse_qsl(query, keep_blank_values=True))
        return Request(self.command, path, fields, headers, body)

    def _reply(self, reply: Reply) -> None:
        if isinstance(reply, HttpResponse):
            self._answer(reply, with_body=self.command != "HEAD")
            if reply.then is not None:
                reply.then()
            return
        self.connection.settimeout(None)
        if isinstance(reply, StreamResponse):
            self._stream(reply.stream)
        elif isinstance(reply, RawResponse):
            reply.write(self.connection)
        elif reply.how == "hang":
            self._wait_for_the_end()
        else:
            self._reset()
        self.close_connection = True

    def _answer(self, answer: HttpResponse, *, with_body: bool = True) -> None:
        headers = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body))}
        self._hold_head(answer.status, {**headers, **self._persistence(), **answer.headers})
        if with_body:
            self.wfile.write(answer.body)
        self._send()

    def _persistence(self) -> dict[str, str]:
        if self.close_connection:
            return {"Connection": "close"}
        return {"Connection": "keep-alive", "Keep-Alive": f"timeout={self._keep_alive:g}"}

    def _hold_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self) -> None:
        data = self._held.getvalue()
        self._held.seek(0)
        self._held.truncate()
        self.connection.sendall(data)

    def _stream(self, stream: ServerStream) -> None:
        # A client of HTTP/1.0, such as nginx by default, knows no chunks.
        chunked = self.request_version != "HTTP/1.0"
        try:
            framing = _CHUNKED if chunked else _UNTIL_THE_END
            self._hold_head(HTTPStatus.OK, {**_STREAM_HEADERS, **framing})
            self._send()
            write = self._send_chunk if chunked else self.connection.sendall
            stream.attach(write, functools.partial(shut, self.connection))
            self._wait_for_the_end()
        finally:
            stream.end()

    def _send_chunk(self, chunk: bytes) -> None:
        data = b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunk else b"0\r\n\r\n"
        self.connection.sendall(data)

    def _wait_for_the_end(self) -> None:
        while self.connection.recv(_CHUNK):
            pass

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        # shutdown() would say goodbye in order; close() alone resets, once no file is open on it.
        self.rfile.close()
        self.connection.close()
