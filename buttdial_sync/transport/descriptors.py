"""
Telling our own descriptor from somebody else's with the same number.

Code that turns a process into a daemon closes every descriptor (``os.closerange(3, 256)``). The
host's own sockets then get the same numbers. So a descriptor is compared before it is used, and one
that is not ours any more is not written to, read from or closed.
"""

from __future__ import annotations

import os
import platform
import socket
import stat
import sys
from contextlib import suppress
from typing import Any

Identity = bytes | tuple[int, int, int]
# One request's right to shut a shared connection down: "is_over" is true if the next request has
# begun, false if the connection is being shut down. Empty until then.
Turn = dict[str, bool]

# socket(7): a number that Linux gives no other socket until it restarts. Python has no name for it.
_SO_COOKIE = 57
_COOKIE_SIZE = 8
_TIMEOUT_SLACK = 0.01  # seconds
# SPARC and PA-RISC number their options otherwise.
_HAS_COOKIES = sys.platform == "linux" and not platform.machine().startswith(("sparc", "parisc"))


def identity_of(descriptor: int) -> Identity | None:
    """
    Return what tells an open descriptor from another one, or None where nothing does.

    Windows has no such numbers for sockets; nothing there closes the descriptors of others.
    """
    if os.name == "nt":
        return None
    status = os.fstat(descriptor)
    return stat.S_IFMT(status.st_mode), status.st_dev, status.st_ino


def socket_identity(sock: Any) -> Identity | None:
    """
    Return what tells an open socket from another descriptor, or None where nothing does.

    It is asked for several times a request. The kernel's cookie costs less than ``fstat()``, and
    above all Python keeps the GIL: with eight threads each time it lets go costs two switches.

    Raises:
        OSError: The descriptor is closed.
    """
    if _HAS_COOKIES:
        try:
            cookie: bytes = sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, _COOKIE_SIZE)
        except OSError:
            pass  # an old kernel, a sandbox, or a file that has the socket's number now
        else:
            return cookie
    return identity_of(sock.fileno())


def is_still(descriptor: int, identity: Identity | None) -> bool:
    """Whether the descriptor is open, and the one that had this identity."""
    try:
        return identity_of(descriptor) == identity
    except OSError:
        return False


def _plain_shutdown(sock: Any, how: int) -> None:
    # Not the method of an SSLSocket: it would forget the keys of what has arrived. And not that of
    # socket.socket: gevent may have replaced the class after this socket was made.
    for kind in reversed(type(sock).__mro__):
        if "shutdown" in vars(kind):
            vars(kind)["shutdown"](sock, how)
            return
    sock.shutdown(how)  # eventlet's class has no such attribute


class KeptSocket:
    """
    A connected socket that is used, shut down and let go of only while its descriptor is ours.

    Args:
        sock: A socket, or urllib3's TLS inside TLS.
        identity: What :func:`socket_identity` said when the connection was made.

    Attributes:
        sock: As given.
    """

    __slots__ = ("_descriptor_holder", "_identity", "_turn", "sock")

    def __init__(self, sock: Any, identity: Identity | None) -> None:
        self.sock = sock
        self._descriptor_holder: socket.socket = getattr(sock, "socket", sock)
        self._identity = identity
        self._turn: Turn = {}

    def check(self) -> None:
        """
        Call this before each read and each write.

        Raises:
            ConnectionAbortedError: Somebody else closed the descriptor.
        """
        try:
            is_ours = socket_identity(self._descriptor_holder) == self._identity
        except OSError:
            is_ours = False
        if not is_ours:
            raise ConnectionAbortedError("somebody else closed the descriptor")

    def is_ours(self) -> bool:
        """Whether the descriptor is the one that the connection was made with."""
        try:
            self.check()
        except ConnectionAbortedError:
            return False
        return True

    def set_timeout(self, seconds: float | None) -> None:
        """
        Limit each read and each write to so many seconds, give or take 10 ms; None for no limit.

        Python lets go of the GIL also to set a timeout. So one that is about the same stays.
        """
        before = self.sock.gettimeout()
        if before is None or seconds is None:
            is_set = before is seconds
        else:
            is_set = before > 0 and abs(before - seconds) < _TIMEOUT_SLACK
        if not is_set:
            self.sock.settimeout(seconds)

    def begin_turn(self) -> Turn:
        """
        Begin a request. From now on :meth:`end_turn` does nothing for the one before.

        Raises:
            ConnectionAbortedError: The one before is just being aborted.
        """
        # Whoever is first decides, because setdefault() is atomic. There is no lock, because
        # close() may come in this very thread, from a signal handler or a finalizer.
        if not self._turn.setdefault("is_over", True):
            raise ConnectionAbortedError("closed by this side")
        self._turn = {}
        return self._turn

    def end_turn(self, turn: Turn, how: int) -> None:
        """Shut down, unless another request has begun after this one."""
        if not turn.setdefault("is_over", False):
            self.shut_down(how)

    def shut_down(self, how: int = socket.SHUT_RDWR) -> None:
        """End the connection, or one direction of it; a read that is blocked in it returns."""
        with suppress(OSError):
            self.check()
            _plain_shutdown(self._descriptor_holder, how)

    def forget_if_lost(self) -> None:
        """Call this before it is closed: a number that is another's now is not closed."""
        try:
            self.check()
        except ConnectionAbortedError:
            self._descriptor_holder.detach()
