"""Sockets that are used only while their descriptor is ours."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync.transport import descriptors
from buttdial_sync.transport.descriptors import KeptSocket, socket_identity

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX numbers descriptors so")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def kept(sock: socket.socket) -> KeptSocket:
    return KeptSocket(sock, socket_identity(sock))


def test_ours(pair: tuple[socket.socket, socket.socket]) -> None:
    """A socket that nobody touched may be used, and shutting it down ends the connection."""
    held = kept(pair[0])
    held.check()
    held.forget_if_lost()
    assert pair[0].fileno() != -1
    held.shut_down()
    assert pair[1].recv(1) == b""


def test_another_under_the_same_number(pair: tuple[socket.socket, socket.socket]) -> None:
    """It is not used, not shut down, and not closed."""
    ours = socket.socket()
    number, held = ours.fileno(), kept(ours)
    os.dup2(pair[0].fileno(), number)
    with pytest.raises(ConnectionAbortedError):
        held.check()
    held.shut_down()
    held.forget_if_lost()
    ours.close()
    pair[1].sendall(b"x")
    assert pair[0].recv(1) == b"x"
    os.close(number)


def test_closed_and_not_reused() -> None:
    """A number that nobody has is not used either."""
    ours = socket.socket()
    os.close(ours.fileno())
    held = KeptSocket(ours, (0, 0, 0))
    assert not held.is_ours()
    held.forget_if_lost()
    assert ours.fileno() == -1


def test_a_file_under_the_same_number(tmp_path: Path) -> None:
    """A file has no cookie, and is not closed either."""
    ours = socket.socket()
    number, held = ours.fileno(), kept(ours)
    with (tmp_path / "file").open("wb") as file:
        os.dup2(file.fileno(), number)
    assert not held.is_ours()
    held.forget_if_lost()
    ours.close()
    os.close(number)


@pytest.mark.parametrize("has_cookies", [True, False])
def test_identity(
    pair: tuple[socket.socket, socket.socket], has_cookies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each socket has one of its own, which a copy of the descriptor shares; so has a fork."""
    if not has_cookies:
        monkeypatch.setattr(descriptors, "_HAS_COOKIES", False)
    ours, others = socket_identity(pair[0]), socket_identity(pair[1])
    assert ours is not None
    assert ours != others
    assert socket_identity(pair[0]) == ours
    with pair[0].dup() as copy:
        assert socket_identity(copy) == ours


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has cookies")
def test_cookie(pair: tuple[socket.socket, socket.socket]) -> None:
    """It is used where there is one: asking for it keeps the GIL."""
    so_cookie = 57
    try:
        cookie = pair[0].getsockopt(socket.SOL_SOCKET, so_cookie, 8)
    except OSError:
        pytest.skip("this kernel has no cookies")
    assert len(cookie) == 8
    assert socket_identity(pair[0]) == cookie


class OldKernels:
    """A socket on a kernel without cookies, or in a sandbox."""

    def __init__(self, real: socket.socket) -> None:
        self.real = real

    def getsockopt(self, *_: int) -> bytes:
        raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    def fileno(self) -> int:
        return self.real.fileno()


def test_a_kernel_without_cookies(pair: tuple[socket.socket, socket.socket]) -> None:
    """The numbers of the descriptor tell the sockets apart."""
    old = OldKernels(pair[0])
    held = KeptSocket(old, socket_identity(old))
    held.check()
    os.dup2(pair[1].fileno(), pair[0].fileno())
    assert not held.is_ours()


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        (None, None, None),
        (None, 5.0, 5.0),
        (5.0, None, None),
        (5.0, 5.009, 5.0),
        (5.0, 4.991, 5.0),
        (5.0, 5.011, 5.011),
        (5.0, 4.989, 4.989),
        (0.02, 0.01, 0.01),
        (0.5, 0.505, 0.5),
        (0.0, 0.005, 0.005),
        (0.0, None, None),
    ],
)
def test_timeout(
    pair: tuple[socket.socket, socket.socket],
    before: float | None,
    wanted: float | None,
    after: float | None,
) -> None:
    """One that is about the same stays; 0 would not wait at all, so it never stays."""
    pair[0].settimeout(before)
    kept(pair[0]).set_timeout(wanted)
    assert pair[0].gettimeout() == after


def test_a_socket_class_without_shutdown(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class that eventlet puts in the place of ``socket.socket`` has no ``shutdown``."""

    class GreenSocket:
        def __init__(self, real: socket.socket) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(socket, "socket", GreenSocket)
    KeptSocket(GreenSocket(pair[0]), socket_identity(pair[0])).shut_down()
    assert pair[1].recv(1) == b""


def test_socket_from_before_a_patch(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """gevent's class, which then stands in the place of ``socket.socket``, cannot shut it down."""

    class Patched:
        def shutdown(self, how: int) -> None:
            raise AssertionError("that is another class's method")

    held = kept(pair[0])
    monkeypatch.setattr(socket, "socket", Patched)
    held.shut_down()
    assert pair[1].recv(1) == b""


def test_wrapped_socket_keeps_its_keys(pair: tuple[socket.socket, socket.socket]) -> None:
    """The plain method is used: that of an SSLSocket forgets the keys of what has arrived."""

    class Wrapped(socket.socket):
        def shutdown(self, how: int) -> None:
            raise AssertionError("the keys are gone")

    wrapped = Wrapped(pair[0].family, pair[0].type, pair[0].proto, fileno=pair[0].detach())
    with wrapped:
        kept(wrapped).shut_down()
        assert pair[1].recv(1) == b""
