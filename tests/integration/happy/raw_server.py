"""A server of plain sockets, for answers to the upgrade that no real server gives."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from buttdial_sync.happy.client import HappyClient

TOKEN = "token-of-the-account"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
OPEN = b'0{"sid":"abc","upgrades":[],"pingInterval":60000,"pingTimeout":60000}'
CONNECTED = b'40{"sid":"x"}'

Handler = Callable[[socket.socket], None]


@contextmanager
def serving(handler: Handler, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve with a thread for each connection; give the port. At the end everything is cut."""
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            handler(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

    with socket.create_server((host, 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for connection in connections:
                connection.close()


def head_of(connection: socket.socket) -> bytes:
    """Read a request's head."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536) or b"\r\n\r\n"
    return head


def upgrade(connection: socket.socket) -> None:
    """Answer the upgrade as a WebSocket server does."""
    lines = head_of(connection).split(b"\r\n")
    key = next(line.split(b": ")[1] for line in lines if b"sec-websocket-key" in line.lower())
    accepted = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324 - the protocol's
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
    )


def frame(text: bytes) -> bytes:
    """A WebSocket message of a server."""
    if len(text) < 126:
        return bytes([0x81, len(text)]) + text
    return bytes([0x81, 127]) + len(text).to_bytes(8, "big") + text


def tunnel_to(port: int, heads: list[bytes]) -> Handler:
    """A proxy that leads everybody to one port; it notes what it was asked."""

    def lead(connection: socket.socket) -> None:
        heads.append(head_of(connection))
        with socket.create_connection(("127.0.0.1", port)) as server:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(server, connection))
            back.start()
            _pass_on(connection, server)
            back.join()

    return lead


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def read_until_cut(connection: socket.socket) -> bytes:
    """Read until the other side ends the connection."""
    read = b""
    while chunk := connection.recv(65536):
        read += chunk
    return read


def unmasked(sent: bytes) -> bytes:
    """What the first short message of a client says."""
    mask, length = sent[2:6], sent[1] & 127
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(sent[6 : 6 + length]))


@contextmanager
def client_at(port: int, host: str = "127.0.0.1", **options: Any) -> Iterator[HappyClient]:
    """A client of such a server."""
    secret = base64.b64encode(bytes(32)).decode()
    url = f"http://{host}:{port}"
    with HappyClient(url, token=TOKEN, secret_b64=secret, **options) as client:
        yield client
