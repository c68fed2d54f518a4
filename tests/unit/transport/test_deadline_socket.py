"""Each read and write of a WebSocket's socket: what is waited for, how long, and in what order."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from buttdial_sync.transport import deadline_socket
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.deadline_socket import DeadlineSocket, SecuredSocket
from buttdial_sync.transport.descriptors import KeptSocket, socket_identity

CLOSE_FRAME = b"\x88\x02\x03\xe8"


class Programmed(socket.socket):
    """A socket that raises what it is told before it does anything."""

    failures: list[OSError]
    largest = 0

    def recv(self, *args: Any) -> bytes:
        self._fail()
        return super().recv(*args)

    def send(self, data: Any, *args: Any) -> int:
        self._fail()
        self.largest = max(self.largest, len(data))
        return super().send(data, *args)

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


@attrs.define
class Bench:
    """Two ends, and how long ours waited for what."""

    ours: DeadlineSocket
    sock: Programmed
    peer: socket.socket
    waits: list[tuple[str, float | None]]
    ready: Callable[[], bool] = lambda: True


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    near, peer = socket.socketpair()
    sock = Programmed(near.family, near.type, near.proto, near.detach())
    sock.failures = []
    made = Bench(DeadlineSocket(KeptSocket(sock, socket_identity(sock))), sock, peer, [])

    def wait(kind: str) -> Callable[[socket.socket, float | None], bool]:
        def note(_: socket.socket, seconds: float | None) -> bool:
            made.waits.append((kind, seconds))
            return made.ready()

        return note

    monkeypatch.setattr(deadline_socket, "wait_for_read", wait("read"))
    monkeypatch.setattr(deadline_socket, "wait_for_write", wait("write"))
    with peer:
        yield made
        made.ours.close()


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Timers that are only written down."""
    made: list[Any] = []

    class Timer:
        name, daemon, started, cancelled = "", False, 0, 0

        def __init__(self, seconds: float, call: Callable[[], None]) -> None:
            self.seconds, self.call = seconds, call
            made.append(self)

        def start(self) -> None:
            self.started += 1

        def cancel(self) -> None:
            self.cancelled += 1

    monkeypatch.setattr(threading, "Timer", Timer)
    return made


def is_nearly_twenty(seconds: float | None) -> bool:
    """Whether it is what is left of twenty seconds."""
    return seconds is not None and 10 < seconds <= 20


@pytest.mark.parametrize(
    ("failure", "awaited"),
    [
        (BlockingIOError(), "read"),
        (ssl.SSLWantReadError(), "read"),
        (ssl.SSLWantWriteError(), "write"),
    ],
)
def test_a_read_waits_for_what_it_needs(bench: Bench, failure: OSError, awaited: str) -> None:
    """TLS may have to write before it can read."""
    bench.peer.send(b"hello")
    bench.sock.failures = [failure]
    assert bench.ours.recv(10) == b"hello"
    assert bench.waits == [(awaited, None)]


@pytest.mark.parametrize(
    ("failure", "awaited"),
    [
        (BlockingIOError(), "write"),
        (ssl.SSLWantWriteError(), "write"),
        (ssl.SSLWantReadError(), "read"),
    ],
)
def test_a_write_waits_for_what_it_needs(bench: Bench, failure: OSError, awaited: str) -> None:
    """What no caller sends, such as a ping, has twenty seconds; each try is counted."""
    bench.sock.failures = [failure]
    bench.ours.sendall(b"hello")
    assert bench.peer.recv(10) == b"hello"
    ((kind, seconds),) = bench.waits
    assert kind == awaited
    assert is_nearly_twenty(seconds)
    assert bench.ours.writes == 2


def test_the_deadline_of_the_thread_that_writes(bench: Bench) -> None:
    """It holds until it is taken back, and never longer than the socket's own timeout."""
    bench.ours.bind(Deadline(7.0, clock=lambda: 0.0))
    others: list[float | None] = []

    def write() -> float | None:
        bench.sock.failures = [BlockingIOError()]
        bench.ours.sendall(b"x")
        return bench.waits[-1][1]

    assert write() == 7.0
    thread = threading.Thread(target=lambda: others.append(write()))
    thread.start()
    thread.join()
    assert is_nearly_twenty(*others)
    bench.ours.settimeout(2.0)
    assert write() == 2.0
    bench.ours.settimeout(None)
    bench.ours.bind(None)
    bench.ours.bind(None)
    assert is_nearly_twenty(write())


def test_nothing_in_time(bench: Bench) -> None:
    """Neither a read nor a write blocks for longer, and poll() never gets more than a day."""
    bench.ready = lambda: False
    bench.ours.settimeout(3.0)
    with pytest.raises(TimeoutError):
        bench.ours.recv(1)
    bench.ours.settimeout(None)
    bench.ours.bind(Deadline(10**7, clock=lambda: 0.0))
    bench.sock.failures = [BlockingIOError()]
    with pytest.raises(TimeoutError):
        bench.ours.sendall(b"x")
    assert bench.waits == [("read", 3.0), ("write", 24 * 3600.0)]
    assert bench.ours.wait_until_writable(1.5) is False
    assert bench.waits[-1] == ("write", 1.5)


def test_what_is_closed_while_it_waits(bench: Bench) -> None:
    """The wait fails with a ValueError, because the descriptor is -1."""

    def close() -> bool:
        raise ValueError("file descriptor cannot be a negative integer (-1)")

    bench.ready = close
    with pytest.raises(ConnectionAbortedError, match="closed by this side"):
        bench.ours.recv(1)


def test_what_is_sent_in_parts(bench: Bench) -> None:
    """Large data leaves in pieces, in order, and once."""
    data = bytes(range(256)) * 1000
    received = bytearray()

    def read() -> bool:
        received.extend(bench.peer.recv(1 << 20))
        return True

    bench.ready = read
    bench.ours.sendall(data)
    while len(received) < len(data):
        read()
    assert bytes(received) == data
    assert bench.ours.writes >= len(data) / 65536
    assert bench.sock.largest == 65536


def test_the_last_call(bench: Bench, timers: list[Any]) -> None:
    """After our Close frame the server has half a second to end the connection."""
    bench.ours.sendall(b"\x81\x02\x88\x00")
    assert timers == []
    bench.ours.sendall(CLOSE_FRAME)
    bench.ours.sendall(CLOSE_FRAME)
    (timer,) = timers
    assert (timer.seconds, timer.name, timer.daemon, timer.started, timer.cancelled) == (
        0.5, "buttdial-sync-websocket-last-call", True, 1, 0,
    )  # fmt: skip
    timer.call()
    assert bench.ours.recv(1) == b""
    bench.ours.close()
    bench.ours.close()
    assert timer.cancelled == 2
    assert bench.ours.fileno() == -1


def test_close_ends_it_for_a_forked_child_too(bench: Bench) -> None:
    """The child has a copy of the descriptor, and the server would never see us leave."""
    with socket.socket(fileno=os.dup(bench.sock.fileno())):
        bench.ours.close()
        bench.peer.settimeout(20.0)
        assert bench.peer.recv(1) == b""


def test_a_descriptor_of_somebody_else(bench: Bench) -> None:
    """It is neither read nor written, and not closed."""
    number = bench.ours.fileno()
    with socket.socket() as other:
        os.dup2(other.fileno(), number)
        for use in (lambda: bench.ours.recv(1), lambda: bench.ours.sendall(b"x")):
            with pytest.raises(ConnectionAbortedError, match="somebody else"):
                use()
        assert bench.ours.writes == 0
        bench.ours.close()
        os.close(number)  # or else it would fail


def test_what_websockets_asks_of_a_socket(bench: Bench) -> None:
    """Its options, its end, and the TLS settings that leave an encrypted socket as it is."""
    with socket.socket() as tcp:
        ours = DeadlineSocket(KeptSocket(tcp, socket_identity(tcp)))
        assert (ours.family, ours.fileno()) == (socket.AF_INET, tcp.fileno())
        assert tcp.getblocking() is False
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert SecuredSocket(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(tcp, server_hostname="x") is tcp
    bench.ours.shutdown(socket.SHUT_RDWR)
    assert bench.peer.recv(1) == b""
