"""
The bare wire: two sockets, ready-made bytes, no HTTP library.

It is no way to write a client. It shows how much of a send is the server's own time.
"""

from __future__ import annotations

import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.contender import BODY, CHANNEL, TO, TOKEN, TOOL

_SECONDS = 30.0
_READ_SIZE = 65536
_ENDPOINT = re.compile(rb"data: ?(/\S+)\r?\n")
_LENGTH = re.compile(rb"content-length: ?(\d+)", re.IGNORECASE)
_MESSAGE = {"to": TO, "body": BODY, "channel": CHANNEL}


class Wire:
    """Writes requests and waits for the bytes of the answers."""

    def __init__(self, base_url: str) -> None:
        address = urlsplit(base_url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._id = 0
        self._path = b""

    def send(self, count: int) -> None:
        """Send messages, one after the other."""
        if not self._path:
            self._open()
        for _ in range(count):
            self._ask("tools/call", {"name": TOOL, "arguments": _MESSAGE})

    def crowd(self, size: int, each: int) -> None:
        """Not measured for the wire."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the sockets."""
        self._stream.close()
        self._posts.close()

    def _open(self) -> None:
        self._stream, self._posts = self._connect(), self._connect()
        self._stream.sendall(self._head(b"GET", b"/sse") + b"\r\n")
        self._path = self._read_until(self._stream, _ENDPOINT)[1]
        client = {"name": "wire", "version": "0"}
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        self._ask("initialize", hello)
        self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _ask(self, method: str, params: dict[str, Any]) -> None:
        self._id += 1
        self._post({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params})
        self._read_until(self._stream, re.compile(rb'"id": ?%d[,}]' % self._id))

    def _post(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        head = self._head(b"POST", self._path) + b"Content-Length: %d\r\n\r\n" % len(body)
        self._posts.sendall(head + body)
        found = self._read_until(self._posts, re.compile(rb"^(.*?)\r\n\r\n(.*)$", re.DOTALL))
        length = _LENGTH.search(found[1])
        missing = int(length[1]) - len(found[2]) if length else 0
        while missing > 0:
            missing -= len(self._posts.recv(missing)) or missing
        assert b" 202 " in found[1], found[1]

    def _head(self, method: bytes, path: bytes) -> bytes:
        lines = (
            b"%b %b HTTP/1.1" % (method, path),
            f"Host: {self._host}:{self._port}".encode(),
            b"Authorization: Bearer " + TOKEN.encode(),
            b"Content-Type: application/json",
            b"",
        )
        return b"\r\n".join(lines)

    def _connect(self) -> socket.socket:
        sock = socket.create_connection((self._host, self._port), _SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    @staticmethod
    def _read_until(sock: socket.socket, wanted: re.Pattern[bytes]) -> re.Match[bytes]:
        data = b""
        while (found := wanted.search(data)) is None:
            piece = sock.recv(_READ_SIZE)
            assert piece, data
            data += piece
        return found
