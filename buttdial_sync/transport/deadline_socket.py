"""The socket below a WebSocket: no write without a limit, and two threads at once also over TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Any

from urllib3.util.wait import wait_for_read, wait_for_write

from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.descriptors import KeptSocket

_WRITE_SIZE = 65536
# A peer that takes nothing for so long is dead. For what no caller sends: pings and their answers.
_WRITE_SECONDS = 20.0
# The client's Close frame. The library leaves it to the server to end the connection then.
_CLOSE_FRAME = b"\x88"
_SECONDS_TO_CLOSE = 0.5
_A_DAY = 24 * 3600.0  # poll() refuses more than 24 of them


class DeadlineSocket:
    """
    Has what ``websockets`` uses of a socket. One thread reads, several write in turn.

    ``websockets`` writes without a time limit, and while it holds a lock that ``close()`` needs.
    And it reads and writes a TLS socket in two threads at once, which OpenSSL does not allow. So
    the socket never blocks: this class waits instead, and no thread is in OpenSSL while it waits.

    Args:
        kept: A connected socket, over TLS after the handshake.

    Attributes:
        kept: The socket, for the reading thread and for who shuts it down.
        writes: How often bytes may have left.
    """

    def __init__(self, kept: KeptSocket) -> None:
        self.kept = kept
        self.writes = 0
        self.family: int = kept.sock.family
        kept.sock.setblocking(False)
        self._timeout: float | None = None
        self._turn = threading.Lock()
        self._limits: dict[int, Deadline] = {}
        self._last_call: threading.Timer | None = None

    def bind(self, deadline: Deadline | None) -> None:
        """Give what this thread writes from now on a deadline; None takes it back."""
        if deadline is None:
            self._limits.pop(threading.get_ident(), None)
        else:
            self._limits[threading.get_ident()] = deadline

    def wait_until_writable(self, seconds: float) -> bool:
        """Return whether the peer takes bytes within the seconds."""
        return self._await(wait_for_write, seconds)

    def shut_down(self) -> None:
        """End the connection; whoever reads or writes returns."""
        self.kept.shut_down()

    # What websockets uses of a socket.

    def fileno(self) -> int:
        """Return the descriptor's number, -1 when it is closed."""
        number: int = self.kept.sock.fileno()
        return number

    def setsockopt(self, *option: Any) -> None:
        """Set an option of the socket."""
        self.kept.sock.setsockopt(*option)

    def settimeout(self, seconds: float | None) -> None:
        """Bound each read and each write from now on."""
        self._timeout = seconds

    def recv(self, size: int) -> bytes:
        """Return what has arrived; wait for it if there is nothing."""
        while True:
            self.kept.check()
            try:
                with self._turn:
                    data: bytes = self.kept.sock.recv(size)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._await_or_fail(wait_for_read, self._timeout)
            except ssl.SSLWantWriteError:
                self._await_or_fail(wait_for_write, self._timeout)
            else:
                return data

    def sendall(self, data: bytes) -> None:
        """Send bytes within the deadline of the calling thread."""
        limit = self._limits.get(threading.get_ident()) or Deadline(_WRITE_SECONDS)
        if self._timeout is not None:
            limit = limit.within(self._timeout)
        view = memoryview(data)
        while view:
            self.kept.check()
            self.writes += 1  # before the write: if it fails, nobody knows how much of it has left
            try:
                with self._turn:
                    sent = self.kept.sock.send(view[:_WRITE_SIZE])
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._await_or_fail(wait_for_write, limit.remaining())
            except ssl.SSLWantReadError:
                self._await_or_fail(wait_for_read, limit.remaining())
            else:
                view = view[sent:]
        if data[:1] == _CLOSE_FRAME:
            self._give_a_last_call()

    def shutdown(self, _how: int) -> None:
        """End the connection."""
        self.shut_down()

    def close(self) -> None:
        """Close the socket, if its descriptor is still ours. Idempotent."""
        if self._last_call is not None:
            self._last_call.cancel()
        self.shut_down()
        self.kept.forget_if_lost()
        self.kept.sock.close()

    def _give_a_last_call(self) -> None:
        # websockets 17 waits for the server without a limit, and with it everybody else.
        if self._last_call is None:
            self._last_call = threading.Timer(_SECONDS_TO_CLOSE, self.shut_down)
            self._last_call.name = "buttdial-sync-websocket-last-call"
            self._last_call.daemon = True
            self._last_call.start()

    def _await_or_fail(self, wait: Any, seconds: float | None) -> None:
        if not self._await(wait, seconds):
            raise TimeoutError("timed out")

    def _await(self, wait: Any, seconds: float | None) -> bool:
        try:
            ready: bool = wait(self.kept.sock, None if seconds is None else min(seconds, _A_DAY))
        except ValueError:  # it was closed meanwhile
            raise ConnectionAbortedError("closed by this side") from None
        return ready


class SecuredSocket(ssl.SSLContext):
    """
    Stands for the TLS settings of a socket that is encrypted already.

    ``websockets`` would do it itself, but the certificate's pin has to be checked before the
    upgrade carries a token.
    """

    def wrap_socket(self, sock: socket.socket, *_: Any, **__: Any) -> Any:
        """Return the socket as it is."""
        return sock
