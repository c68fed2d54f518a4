"""Connections that keep a deadline, over pairs of sockets and over loopback."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from buttdial_sync.errors import ConfigError, DeadlineExceededError, TransportError
from buttdial_sync.transport.addresses import failed_addresses
from buttdial_sync.transport.connections import (
    DeadlineConnection,
    DeadlineHTTPSConnection,
    RequestProgress,
    bound_to_thread,
)
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.descriptors import KeptSocket, socket_identity
from buttdial_sync.transport.http import Http, shared_adapter

PATIENCE = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CERTIFICATE = Path(__file__).parents[2] / "integration/doctor/self_signed.pem"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class NotingSocket(socket.socket):
    """Notes each write and the timeout that it had."""

    def sendall(self, data: Any, *flags: int) -> None:
        notes = self.__dict__.setdefault("notes", [])
        notes.append((len(data), self.gettimeout()))
        if len(notes) == 1:
            super().sendall(data, *flags)  # the others' bytes nobody reads


class SlowToShut(NotingSocket):
    """Stops a thread that looks at it before it shuts it down."""

    def stop_next(self) -> tuple[threading.Event, threading.Event]:
        """Return what is set when the next one is stopped, and what lets it go on."""
        self.__dict__["stop"] = threading.Event(), threading.Event()
        return self.__dict__["stop"]  # type: ignore[no-any-return]

    def getsockopt(self, *arguments: Any) -> Any:
        is_stopped, go_on = self.__dict__.pop("stop", (None, None))
        if is_stopped is not None:
            is_stopped.set()
            assert go_on.wait(PATIENCE)
        return super().getsockopt(*arguments)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> RequestProgress:
    return RequestProgress(Deadline(30.0, clock), 5.0)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(PATIENCE)
        yield made


@pytest.fixture
def http() -> Iterator[Http]:
    shared_adapter.cache_clear()
    made = Http(connect_timeout=5.0)
    yield made
    made.close()
    shared_adapter.cache_clear()


@pytest.fixture
def pair() -> Iterator[tuple[NotingSocket, socket.socket]]:
    """A socket that notes what is written, and the server's end."""
    ours, theirs = socket.socketpair()
    noting = NotingSocket(ours.family, ours.type, ours.proto, fileno=ours.detach())
    with noting, theirs:
        theirs.settimeout(PATIENCE)
        yield noting, theirs


def over(sock: socket.socket) -> DeadlineConnection:
    """Return a connection that was made over this socket."""
    made = DeadlineConnection("h.test", 80)
    made.sock = sock
    made._identity = socket_identity(sock)
    return made


def connected_to(*addresses: tuple[str, int]) -> Callable[..., Any]:
    """Stand in for the name resolution."""
    return lambda *_: [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", each) for each in addresses
    ]


def free_port() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        address: tuple[str, int] = made.getsockname()
    return address


def is_called(listener: socket.socket) -> bool:
    return bool(select.select([listener], [], [], 0)[0])


def test_time_left(progress: RequestProgress, clock: Clock) -> None:
    """What is left of the deadline bounds each read and write; without one there is no limit."""
    clock.now += 10
    assert progress.time_left() == 20.0
    clock.now += 19.5
    assert progress.time_left() == 0.5
    clock.now += 0.5
    with pytest.raises(TimeoutError, match="timed out"):
        progress.time_left()
    progress.deadline = None
    assert progress.time_left() is None


def test_time_left_of_what_was_aborted(progress: RequestProgress) -> None:
    """Nothing more is written or read of a request; an open stream is read to its end."""
    assert progress.abort() is False
    with pytest.raises(ConnectionAbortedError):
        progress.time_left()
    progress.deadline = None
    assert progress.time_left() is None


def test_abort_shuts_the_socket_down(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """The other side sees the end at once."""
    progress.runs_on(KeptSocket(pair[0], socket_identity(pair[0])))
    assert progress.is_watched
    assert progress.abort() is True
    assert pair[1].recv(1) == b""


def test_what_was_sent_comes_after_the_end_of_sending(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """The other side sees the end at once, and what it still sends is read."""
    assert progress.end_sending() is False  # there is no socket
    progress.runs_on(KeptSocket(pair[0], socket_identity(pair[0])))
    assert progress.end_sending() is True
    assert pair[1].recv(1) == b""
    pair[1].sendall(b"x")
    assert pair[0].recv(1) == b"x"


def test_the_end_of_sending_leaves_the_next_request_alone(
    clock: Clock, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """As with abort(): a stream that ended has given its connection back."""
    kept = KeptSocket(pair[0], socket_identity(pair[0]))
    first, second = (RequestProgress(Deadline(30.0, clock), 5.0) for _ in range(2))
    for progress in (first, second):
        progress.runs_on(kept)
    assert first.end_sending()
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        pair[1].recv(1)
    assert second.end_sending()
    assert pair[1].recv(1) == b""


def test_abort_leaves_the_next_request_alone(
    clock: Clock, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """Connections are shared: one client's close() must not end the request of another one."""
    connection = over(pair[0])
    first, second = (RequestProgress(Deadline(30.0, clock), 5.0) for _ in range(2))
    for progress in (first, second):
        pair[1].sendall(OK)
        with bound_to_thread(progress):
            connection.request("GET", "/x")
            assert connection.getresponse().data == b"ok"
    first.abort()
    pair[1].setblocking(False)
    assert pair[1].recv(10_000).startswith(b"GET /x")
    assert connection.is_connected
    second.abort()
    assert not connection.is_connected


@pytest.mark.skipif(sys.platform != "linux", reason="needs SO_COOKIE, which is asked for")
def test_request_after_one_that_is_just_being_aborted(
    clock: Clock, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """It is certain that nothing of it was sent: the connection will be shut down."""
    slow = SlowToShut(pair[0].family, pair[0].type, pair[0].proto, fileno=pair[0].detach())
    connection = over(slow)
    first, second = (RequestProgress(Deadline(30.0, clock), 5.0) for _ in range(2))
    pair[1].sendall(OK)
    with slow:
        with bound_to_thread(first):
            connection.request("GET", "/x")
            assert connection.getresponse().data == b"ok"
        is_stopped, go_on = slow.stop_next()
        closing = threading.Thread(target=first.abort)
        closing.start()
        assert is_stopped.wait(PATIENCE)
        with bound_to_thread(second), pytest.raises(ConnectionAbortedError):
            connection.request("POST", "/y", body=b"b")
        assert second.is_watched
        assert not second.bytes_may_have_left
        go_on.set()
        closing.join(PATIENCE)
        assert b"/y" not in pair[1].recv(10_000)
        assert pair[1].recv(1) == b""


def test_head_and_body_in_one_write(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """A small request wakes the server once, and has what is left of the deadline."""
    connection = over(pair[0])
    pair[1].sendall(OK)
    with bound_to_thread(progress):
        connection.request("POST", "/x", body=b"body")
        assert progress.bytes_may_have_left
        assert progress.kept is not None
        response = connection.getresponse()
        assert (response.status, response.data) == (200, b"ok")
    sent = pair[1].recv(10_000)
    assert sent.startswith(b"POST /x HTTP/1.1\r\n")
    assert sent.endswith(b"\r\n\r\nbody")
    assert pair[0].__dict__["notes"] == [(len(sent), 30.0)]


def test_request_without_a_body(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """Its head leaves before the answer is waited for."""
    connection = over(pair[0])
    pair[1].sendall(OK)
    with bound_to_thread(progress):
        connection.request("GET", "/x")
        assert connection.getresponse().data == b"ok"
    assert pair[1].recv(10_000).startswith(b"GET /x HTTP/1.1\r\n")
    assert len(pair[0].__dict__["notes"]) == 1


def test_big_bodies_are_written_in_parts(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """Each part has the deadline checked before it; not a byte is left out."""
    connection = over(pair[0])
    body = b"x" * 150_000
    with bound_to_thread(progress):
        connection.request("POST", "/x", body=body)
    sizes = [size for size, _ in pair[0].__dict__["notes"]]
    assert sizes[:2] == [65536, 65536]
    assert max(sizes) == 65536
    assert sum(sizes) > len(body)
    assert sum(sizes) - len(body) < 300


def test_time_is_up_between_parts(
    clock: Clock, progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """A server that takes a body in slowly does not hold the caller beyond the deadline."""
    connection = over(pair[0])
    times = iter([1001.0, 1002.0])
    progress.deadline = Deadline(30.0, lambda: next(times, 1031.0))
    with bound_to_thread(progress), pytest.raises(TimeoutError):
        connection.request("POST", "/x", body=b"x" * 150_000)
    assert len(pair[0].__dict__["notes"]) == 1
    assert progress.bytes_may_have_left


def test_nothing_may_have_left_before_the_first_write(
    clock: Clock, progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """When the time is up before it, nothing was sent."""
    clock.now += 30
    with bound_to_thread(progress), pytest.raises(TimeoutError):
        over(pair[0]).send(b"x")
    assert not progress.bytes_may_have_left


def test_without_a_progress(pair: tuple[NotingSocket, socket.socket]) -> None:
    """A connection that nobody watches works as urllib3's own."""
    connection = over(pair[0])
    pair[1].sendall(OK)
    connection.request("GET", "/x")
    assert connection.getresponse().data == b"ok"
    assert pair[1].recv(10_000).startswith(b"GET /x HTTP/1.1\r\n")


def test_reads_keep_the_deadline(
    clock: Clock, progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """A body that drips ends when the time is up, and with an abort."""
    connection = over(pair[0])
    pair[1].sendall(OK.replace(b": 2", b": 9"))
    with bound_to_thread(progress):
        connection.request("GET", "/x", preload_content=False)
        response = connection.getresponse()
    assert response.read1(2) == b"ok"
    assert pair[0].gettimeout() == 30.0
    clock.now += 30
    with pytest.raises(Exception, match="timed out"):
        response.read1(2)


def test_connecting(
    progress: RequestProgress, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each address of a name is tried, and the first that answers is taken."""
    monkeypatch.setattr(
        socket, "getaddrinfo", connected_to(free_port(), listener.getsockname(), free_port())
    )
    connection = DeadlineConnection("h.test", 80, socket_options=[(6, socket.TCP_NODELAY, 1)])
    with bound_to_thread(progress):
        connection.connect()
    assert connection.sock.getpeername() == listener.getsockname()
    assert connection.sock.getsockopt(6, socket.TCP_NODELAY)
    assert connection.sock.gettimeout() == 5.0
    assert connection._identity == socket_identity(connection.sock)
    assert progress.kept is not None
    assert progress.kept.sock is connection.sock
    assert not progress.bytes_may_have_left
    connection.close()


def test_nobody_answers(progress: RequestProgress, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all addresses refuse, or there is none, there is no connection."""
    for addresses in ((free_port(), free_port()), ()):
        monkeypatch.setattr(socket, "getaddrinfo", connected_to(*addresses))
        with bound_to_thread(progress), pytest.raises(NewConnectionError) as caught:
            DeadlineConnection("h.test", 80).connect()
        assert ("has no address" in str(caught.value)) is not bool(addresses)
    assert progress.is_watched


def test_name_that_cannot_be_resolved(
    progress: RequestProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its own kind of error."""

    def fail(*_: Any) -> None:
        raise socket.gaierror(-2, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with bound_to_thread(progress), pytest.raises(NameResolutionError):
        DeadlineConnection("h.test", 80).connect()
    assert progress.is_watched


def test_resolver_without_a_descriptor(
    progress: RequestProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that there is no such name; what is told is that no file can be opened."""

    def fail(*_: Any) -> None:
        raise socket.gaierror(-2, "unknown")

    class NoneLeft(socket.socket):
        def __init__(self, *_: Any) -> None:
            raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(socket, "socket", NoneLeft)
    with bound_to_thread(progress), pytest.raises(NewConnectionError, match="too many open") as got:
        DeadlineConnection("h.test", 80).connect()
    assert not isinstance(got.value, NameResolutionError)


def test_time_is_up_when_the_name_is_resolved(
    clock: Clock,
    progress: RequestProgress,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then no address is called, and none is to blame."""
    resolve = connected_to(listener.getsockname())

    def slowly(*arguments: Any) -> Any:
        clock.now += 30.0
        return resolve(*arguments)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with bound_to_thread(progress), pytest.raises(ConnectTimeoutError):
        DeadlineConnection("h.test", 80).connect()
    assert not is_called(listener)
    assert failed_addresses._failed_at == {}


class Network:
    """Stands in for a network whose time is the test's: who is called, and for how long."""

    def __init__(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.called: list[tuple[str, float | None]] = []
        self.dead: set[str] = set()
        network = self

        class Wire(socket.socket):
            def connect(self, address: Any) -> None:
                network.called.append((address[0], self.gettimeout()))
                if address[0] in network.dead:
                    clock.now += self.gettimeout() or 0.0
                    raise TimeoutError("timed out")

        monkeypatch.setattr(socket, "socket", Wire)

    def connect(self, progress: RequestProgress) -> None:
        connection = DeadlineConnection("h.test", 80)
        with bound_to_thread(progress):
            connection.connect()
        connection.close()

    @property
    def hosts(self) -> list[str]:
        return [host for host, _ in self.called]


@pytest.fixture
def network(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setattr(
        socket, "getaddrinfo", connected_to(("192.0.2.1", 80), ("192.0.2.2", 80), ("192.0.2.3", 80))
    )
    return Network(clock, monkeypatch)


@pytest.mark.butt_dial_network
@pytest.mark.parametrize(
    ("seconds", "connect_timeout", "each"), [(30.0, 5.0, 5.0), (9.0, 5.0, 3.0), (30.0, 20.0, 10.0)]
)
def test_each_address_gets_its_share(
    seconds: float, connect_timeout: float, each: float, clock: Clock, network: Network
) -> None:
    """Dead first addresses do not use up the time of a good last one."""
    network.dead = {"192.0.2.1", "192.0.2.2"}
    network.connect(RequestProgress(Deadline(seconds, clock), connect_timeout))
    assert network.called == [("192.0.2.1", each), ("192.0.2.2", each), ("192.0.2.3", each)]


@pytest.mark.butt_dial_network
def test_next_connection_begins_after_the_address_that_failed(
    progress: RequestProgress, network: Network
) -> None:
    """The good one comes first then; and after it fails, the one that failed longest ago."""
    network.dead = {"192.0.2.1", "192.0.2.2"}
    network.connect(progress)
    network.called.clear()
    network.connect(progress)
    assert network.hosts == ["192.0.2.3"]
    network.dead = {"192.0.2.3"}
    network.called.clear()
    network.connect(progress)
    assert network.hosts == ["192.0.2.3", "192.0.2.1"]


@pytest.mark.butt_dial_network
def test_address_that_works_again(
    progress: RequestProgress, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its place."""
    failed_addresses.add(("192.0.2.1", 80))
    monkeypatch.setattr(socket, "getaddrinfo", connected_to(("192.0.2.1", 80)))
    network.connect(progress)
    addresses = connected_to(("192.0.2.1", 80), ("192.0.2.2", 80))
    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    network.connect(progress)
    assert network.hosts == ["192.0.2.1", "192.0.2.1"]


def test_guard_is_asked_before_connecting(progress: RequestProgress, network: Network) -> None:
    """Under pytest nothing is written to another machine, and the one who tries hears it."""
    with pytest.raises(ConfigError, match=r"a test tried to connect to h\.test"):
        network.connect(progress)
    assert network.called == []
    assert failed_addresses._failed_at == {}


def test_address_whose_handshake_fails_is_tried_last(
    http: Http, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts connections, so that only the attempt after it can go elsewhere."""
    good = ("127.0.0.1", listener.getsockname()[1])
    with socket.create_server(("127.0.0.2", good[1])) as bad:
        bad.settimeout(PATIENCE)
        monkeypatch.setattr(socket, "getaddrinfo", connected_to(bad.getsockname(), good))
        url = f"https://h.test:{good[1]}/x"
        for server in (bad, listener):
            hanging_up = threading.Thread(target=lambda at: at.accept()[0].close(), args=[server])
            hanging_up.start()
            with pytest.raises(TransportError):
                http.send(http.prepare("GET", url, headers={}), Deadline(PATIENCE))
            hanging_up.join(PATIENCE)
            assert not hanging_up.is_alive()


def test_aborted_before_connecting(
    progress: RequestProgress, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was ended does not connect any more."""
    monkeypatch.setattr(socket, "getaddrinfo", connected_to(listener.getsockname()))
    progress.abort()
    with bound_to_thread(progress), pytest.raises(NewConnectionError, match="closed by this side"):
        DeadlineConnection("h.test", 80).connect()
    assert not is_called(listener)


def test_connection_of_an_open_stream(progress: RequestProgress, listener: socket.socket) -> None:
    """Without a deadline, and without a progress, urllib3 connects."""
    progress.deadline = None
    for bound in (True, False):
        connection = DeadlineConnection(*listener.getsockname())
        if bound:
            with bound_to_thread(progress):
                connection.connect()
        else:
            connection.connect()
        assert connection._identity == socket_identity(connection.sock)
        connection.close()


def test_progress_is_bound_for_a_while(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """What is written afterwards is not that request's."""
    connection = over(pair[0])
    with bound_to_thread(progress):
        pass
    connection.request("GET", "/x")
    connection.send(b"")
    assert not progress.bytes_may_have_left
    assert not progress.is_watched


def test_request_in_the_middle_of_a_request(
    clock: Clock, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """A signal handler may send while its thread connects: the outer request notes its bytes."""
    outer, inner = (RequestProgress(Deadline(30.0, clock), 5.0) for _ in range(2))
    connection = over(pair[0])
    with bound_to_thread(outer):
        with bound_to_thread(inner):
            pass
        connection.request("POST", "/x", body=b"b")
    assert outer.bytes_may_have_left
    assert not inner.bytes_may_have_left


def test_proxy_that_refuses(
    http: Http, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a proxy is asked is not the request: nothing was sent."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
    asked: list[bytes] = []

    def refuse() -> None:
        server, _ = listener.accept()
        with server:
            asked.append(server.recv(10_000))
            server.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    proxy = threading.Thread(target=refuse)
    proxy.start()
    request = http.prepare("POST", "https://far.test/x", headers={}, body=b"{}")
    with pytest.raises(TransportError) as caught:
        http.send(request, Deadline(PATIENCE, lambda: 0.0))
    proxy.join(PATIENCE)
    assert (caught.value.code, caught.value.outcome) == ("PROXY", "not_sent")
    assert asked[0].startswith(b"CONNECT far.test:443 ")


def test_idle_connections(
    progress: RequestProgress,
    pair: tuple[NotingSocket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connection is used again for four seconds after an answer; a new one is not idle."""
    connection = over(pair[0])
    now = Clock()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", now)
        assert connection.is_connected
        pair[1].sendall(OK)
        with bound_to_thread(progress):
            connection.request("GET", "/x")
            assert connection.getresponse().data == b"ok"
        found = []
        for seconds in (0.0, 3.9, 4.0, 5.0):
            now.now = 1000.0 + seconds
            found.append(connection.is_connected)
    assert found == [True, True, False, False]


def test_connections_that_cannot_be_used(pair: tuple[NotingSocket, socket.socket]) -> None:
    """Neither one that was never made, nor one that the server closed."""
    assert DeadlineConnection("h.test", 80).is_connected is False
    connection = over(pair[0])
    assert connection.is_connected
    pair[1].close()
    assert not connection.is_connected


@pytest.mark.skipif(os.name == "nt", reason="POSIX numbers descriptors so")
def test_lost_descriptors(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """A number that is another's now is not written to, and not closed."""
    connection = over(pair[0])
    number = pair[0].fileno()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.dup2(ours.fileno(), number)
        assert not connection.is_connected
    with bound_to_thread(progress), pytest.raises(ConnectionAbortedError):
        connection.send(b"x")
    assert not progress.bytes_may_have_left
    connection.close()
    os.fstat(number)
    os.close(number)


@pytest.mark.skipif(os.name == "nt", reason="POSIX numbers descriptors so")
def test_answer_whose_descriptor_is_lost(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """A number that is another's now is not closed with the answer."""
    connection = over(pair[0])
    number = pair[0].fileno()
    pair[1].sendall(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    with bound_to_thread(progress):
        connection.request("GET", "/x", preload_content=False)
        response = connection.getresponse()
    with open(os.devnull, "rb") as other:
        os.dup2(other.fileno(), number)
    response.close()
    connection.close()
    os.fstat(number)
    os.close(number)


@pytest.mark.skipif(os.name == "nt", reason="POSIX numbers descriptors so")
def test_answer_is_not_read_from_another_descriptor(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """What comes there is the host's."""
    connection = over(pair[0])
    number = pair[0].fileno()
    pair[1].sendall(OK.removesuffix(b"ok"))
    with bound_to_thread(progress):
        connection.request("GET", "/x", preload_content=False)
        response = connection.getresponse()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"ok")
        os.dup2(ours.fileno(), number)
        with pytest.raises(ProtocolError, match="somebody else closed"):
            response.read()
        assert ours.recv(2) == b"ok"
    response.close()
    connection.close()
    os.close(number)


def test_stream_waits_for_what_comes_later(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """Without a deadline, for as long as it takes."""
    connection = over(pair[0])
    pair[1].sendall(OK.removesuffix(b"ok"))
    with bound_to_thread(progress):
        connection.request("GET", "/x", preload_content=False)
        response = connection.getresponse()
    progress.deadline = None
    got: list[bytes] = []
    reading = threading.Thread(target=lambda: got.append(response.read()), daemon=True)
    reading.start()
    pair[1].sendall(b"ok")
    reading.join(PATIENCE)
    assert got == [b"ok"]
    response.close()
    connection.close()


@pytest.mark.parametrize("is_watched", [True, False])
def test_answer_is_read_within_the_deadline(
    progress: RequestProgress,
    pair: tuple[NotingSocket, socket.socket],
    clock: Clock,
    is_watched: bool,
) -> None:
    """If there is one; a host's own request through urllib3 has none."""
    connection = over(pair[0])
    pair[1].sendall(OK.removesuffix(b"ok"))
    with bound_to_thread(progress) if is_watched else nullcontext():
        connection.request("GET", "/x", preload_content=False)
        response = connection.getresponse()
    pair[1].sendall(b"ok")
    clock.now += 30.0
    if is_watched:
        with pytest.raises(ReadTimeoutError):
            response.read()
    else:
        assert response.read() == b"ok"
    response.close()
    connection.close()


def test_drip_of_a_whole_request(http: Http, listener: socket.socket) -> None:
    """A server that answers byte by byte is left when the deadline has passed."""
    clock = Clock()

    def drip() -> None:
        server, _ = listener.accept()
        with server:
            server.recv(10_000)
            server.sendall(OK.replace(b": 2", b": 9"))
            clock.now += 100
            server.sendall(b"x")
            server.settimeout(PATIENCE)
            with suppress(ConnectionResetError):  # there is a byte that nobody read
                server.recv(1)

    dripping = threading.Thread(target=drip)
    dripping.start()
    request = http.prepare("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/x", headers={})
    with pytest.raises(DeadlineExceededError) as caught:
        http.send(request, Deadline(PATIENCE, clock))
    dripping.join(PATIENCE)
    assert caught.value.outcome == "unknown"


class TlsStream:
    """A stream over TLS, whose server writes when it is told to."""

    def __init__(self, http: Http, listener: socket.socket) -> None:
        self._listener = listener
        self._written: list[bytes] = []
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/sse"
        self.response, self.progress = http.send(
            http.prepare("GET", url, headers={}), Deadline(PATIENCE), stream=True
        )
        self.progress.deadline = None

    def _serve(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        plain, _ = self._listener.accept()
        plain.settimeout(PATIENCE)
        with context.wrap_socket(plain, server_side=True) as server:
            server.recv(10_000)
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            while self._go.acquire(timeout=PATIENCE) and self._written:
                server.sendall(self._written.pop(0))

    def write(self, data: bytes) -> None:
        self._written.append(data)
        self._go.release()

    def end(self) -> None:
        self._go.release()
        self._thread.join(PATIENCE)
        self.response.close()


@pytest.fixture
def tls_stream(
    http: Http, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TlsStream]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    made = TlsStream(http, listener)
    yield made
    made.end()


def read_in_a_thread(stream: TlsStream) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []

    def read() -> None:
        try:
            found.append(stream.response.raw.read1(10))
        except Exception as error:  # noqa: BLE001 - whichever it is, the test looks at it
            found.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return reader, found


def test_tls_stream(tls_stream: TlsStream) -> None:
    """What has arrived is read at once, and what comes later is waited for."""
    for part in (b"one", b"two"):
        reader, found = read_in_a_thread(tls_stream)
        tls_stream.write(part)
        reader.join(PATIENCE)
        assert found == [part]


def test_tls_with_a_deadline(tls_stream: TlsStream) -> None:
    """As long as there is one, no read may take longer than it says."""
    progress = tls_stream.progress
    progress.deadline = Deadline(30.0, lambda: 0.0)
    tls_stream.write(b"one")
    assert tls_stream.response.raw.read1(10) == b"one"
    assert progress.kept is not None
    assert progress.kept.sock.gettimeout() == 30.0


def test_tls_stream_that_is_aborted(tls_stream: TlsStream) -> None:
    """A reader that is blocked in it wakes up."""
    reader, found = read_in_a_thread(tls_stream)
    assert tls_stream.progress.abort()
    reader.join(PATIENCE)
    assert found
    assert not reader.is_alive()


@pytest.mark.skipif(os.name == "nt", reason="POSIX numbers descriptors so")
def test_tls_stream_whose_descriptor_is_lost(tls_stream: TlsStream) -> None:
    """Nothing is read from another's."""
    kept = tls_stream.progress.kept
    assert kept is not None
    number = kept.sock.fileno()
    with open(os.devnull, "rb") as other:
        os.dup2(other.fileno(), number)
    with pytest.raises(Exception, match="somebody else closed"):
        tls_stream.response.raw.read1(10)
    tls_stream.response.close()
    os.fstat(number)
    os.close(number)


def test_closed_connections_are_gone(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """The server sees the end of a connection, also while somebody keeps an answer of it."""
    connection = over(pair[0])
    pair[1].sendall(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    with bound_to_thread(progress):
        connection.request("GET", "/x")
        response = connection.getresponse()
    assert response.data == b"ok"
    assert pair[1].recv(10_000)
    connection.close()
    assert pair[1].recv(1) == b""
    response.close()


class StreamOf:
    """An answer whose connection is not one of ours."""

    def __init__(self, sock: Any) -> None:
        self.connection = self
        self.sock = sock


def test_foreign_stream_is_adopted(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """It may be silent for long, and can be ended; it proves as little as before."""
    pair[0].settimeout(5.0)
    progress.adopt(StreamOf(pair[0]))
    assert pair[0].gettimeout() is None
    assert not progress.is_watched
    assert progress.abort()
    assert pair[1].recv(1) == b""


def test_own_and_mocked_streams_are_not_adopted(
    progress: RequestProgress, pair: tuple[NotingSocket, socket.socket]
) -> None:
    """Ours keep their limits, and a mock has no socket."""
    progress.adopt(StreamOf(None))
    progress.adopt(object())
    assert progress.kept is None
    progress.runs_on(KeptSocket(pair[0], socket_identity(pair[0])))
    pair[1].settimeout(5.0)
    progress.adopt(StreamOf(pair[1]))
    assert pair[1].gettimeout() == 5.0


class LaterContext:
    """Stands in for the class that gevent puts in the place of Python's."""

    minimum_version: Any = None

    def __init__(self, protocol: int) -> None:
        self.protocol = protocol

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None

    def wrap_socket(self, *_: Any, **__: Any) -> None:
        raise ConnectionAbortedError("the handshake of the class of now")


def test_context_of_the_class_of_now(
    progress: RequestProgress, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib3 binds the class at its import; a context of the old one recurses under gevent."""
    monkeypatch.setattr(ssl, "SSLContext", LaterContext)
    connection = DeadlineHTTPSConnection(*listener.getsockname())
    with bound_to_thread(progress), pytest.raises(OSError, match="of the class of now"):
        connection.connect()
    context: Any = connection.ssl_context
    assert type(context) is LaterContext
    assert context.protocol == ssl.PROTOCOL_TLS_CLIENT
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    connection.close()


def test_own_context_is_kept(progress: RequestProgress, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that somebody gave is used, and without a patch urllib3 makes its own."""
    own: Any = LaterContext(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(socket, "getaddrinfo", connected_to())
    for patched, given in ((True, own), (False, None)):
        with monkeypatch.context() as patch, bound_to_thread(progress):
            if patched:
                patch.setattr(ssl, "SSLContext", LaterContext)
            connection = DeadlineHTTPSConnection("h.test", ssl_context=given)
            with pytest.raises(NewConnectionError):
                connection.connect()
            assert connection.ssl_context is given
