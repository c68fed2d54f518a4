"""One live WebSocket: messages, the ways in which it ends, and closing it."""

from __future__ import annotations

import gc
import json
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import Any, cast

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection

from buttdial_sync.errors import (
    ArgumentTypeError,
    AuthError,
    ButtDialError,
    ClientClosedError,
    DeadlineExceededError,
    ProtocolError,
    StreamLostError,
)
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.deadline_socket import DeadlineSocket
from buttdial_sync.transport.descriptors import KeptSocket, socket_identity
from buttdial_sync.transport.websocket import (
    ReadingConnection,
    WebSocket,
    factory_of,
    wire_logger,
)
from tests.forks import exit_code, forked, is_leaked
from tests.unit.transport.websocket_servers import (
    CERTIFICATE,
    PATIENCE,
    Kept,
    Server,
    echo,
    opened,
    raw_server,
)


def soon() -> Deadline:
    return Deadline(PATIENCE)


@pytest.mark.parametrize("tls", [False, True])
def test_messages_go_out_and_come_in(tls: bool) -> None:
    """Each as one text frame of JSON, in any language, up to large ones."""
    options = {"ca_file": str(CERTIFICATE)}
    with (
        Server(echo, tls=tls, max_size=None) as server,
        opened(server.url, **(options if tls else {})) as websocket,
    ):
        for message in ({"a": 1}, {"text": "été 😀"}, {"large": "x" * 3_000_000}):
            websocket.send(message, soon())
            assert websocket.receiver.next() == message
        assert websocket.usable
        assert websocket.silent_for == 0.0
        assert 0.0 <= websocket.ping(soon()) < PATIENCE


def test_nothing_is_left_of_a_deadline() -> None:
    """After a message and a ping the next one may be sent, and has no limit of theirs."""
    with Server(echo) as server, opened(server.url) as websocket:
        connection = websocket._connection
        assert connection is not None
        for number in range(2):
            websocket.send({"number": number}, soon())
            assert connection.wire._limits == {}
            assert websocket.receiver.next() == {"number": number}
            websocket.ping(soon())
            assert connection.wire._limits == {}
            assert not websocket._sending.locked()


@pytest.mark.parametrize("tls", [False, True])
def test_threads_send_and_receive_at_once(tls: bool) -> None:
    """Large messages in both directions, from several threads, none cut or mixed."""

    def flood(connection: ServerConnection) -> None:
        def send_down() -> None:
            for _ in range(40):
                connection.send(json.dumps({"down": "d" * 70_000}))

        sender = threading.Thread(target=send_down)
        sender.start()
        for message in connection:
            connection.send(json.dumps({"up": len(message)}))
        sender.join()

    options = {"ca_file": str(CERTIFICATE)}
    with (
        Server(flood, tls=tls, max_size=None) as server,
        opened(server.url, **(options if tls else {})) as websocket,
    ):

        def send_up() -> None:
            for _ in range(10):
                websocket.send({"m": "u" * 70_000}, soon())

        senders = [threading.Thread(target=send_up) for _ in range(4)]
        for sender in senders:
            sender.start()
        got = [websocket.receiver.next() for _ in range(80)]
        for sender in senders:
            sender.join(PATIENCE)
    size = len('{"m":""}') + 70_000
    assert [message["up"] for message in got if "up" in message] == [size] * 40
    assert sum(len(message["down"]) for message in got if "down" in message) == 40 * 70_000


def test_message_in_fragments_and_in_binary() -> None:
    """Servers may cut a message into frames, and send JSON in binary frames."""

    def handler(connection: ServerConnection) -> None:
        connection.send(iter(['{"a"', "", ": ", "1}"]))
        connection.send(b'{"b": 2}')
        echo(connection)

    with Server(handler) as server, opened(server.url) as websocket:
        assert [websocket.receiver.next(), websocket.receiver.next()] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("sent", ["[1,2,3]", "null", "no JSON", "[" * 100_000, b"\xff\xfe"])
def test_message_that_is_not_an_object_ends_the_connection(sent: str | bytes) -> None:
    """The waiting calls hear of it at once, and the server gets a Close frame."""
    codes: queue.Queue[int | None] = queue.Queue()

    def handler(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(sent)
        echo(connection)
        codes.put(connection.close_code)

    with Server(handler) as server, opened(server.url) as websocket:
        websocket.send({}, soon())
        failure = websocket.receiver.failure()
        assert isinstance(failure, ProtocolError)
        assert failure.outcome == "unknown"
        assert not websocket.usable
        with pytest.raises(StreamLostError) as caught:
            websocket.send({}, soon())
        assert caught.value.outcome == "not_sent"
        assert codes.get(timeout=PATIENCE) == 1000


def test_message_over_the_limit_ends_the_connection() -> None:
    """The library answers with 1009; the error says what to raise."""

    def handler(connection: ServerConnection) -> None:
        connection.recv()
        connection.send('{"x": "%s"}' % ("x" * 5000))
        echo(connection)

    with Server(handler) as server, opened(server.url, max_size=4096) as websocket:
        websocket.send({}, soon())
        failure = websocket.receiver.failure()
        assert isinstance(failure, ProtocolError)
        assert failure.code == "1009"
        assert "max_size" in str(failure.remediation)


@pytest.mark.parametrize(
    ("closes", "kind", "code", "told"),
    [
        ((1011, "broken"), StreamLostError, "1011",
         "the server closed the connection (1011: broken)"),
        ((1000, ""), StreamLostError, "1000", "the server closed the connection (1000)"),
        ((4401, "bad tok-secret"), AuthError, "4401",
         "the server closed the connection (4401: bad ***)"),
        ((4001, ""), AuthError, "4001", "the server closed the connection (4001)"),
        ((4003, ""), AuthError, "4003", "the server closed the connection (4003)"),
        ((4403, ""), AuthError, "4403", "the server closed the connection (4403)"),
        (None, StreamLostError, "STREAM_LOST", "the connection broke"),
    ],
    ids=str,
)  # fmt: skip
def test_server_ends_the_connection(
    closes: tuple[int, str] | None, kind: type[ButtDialError], code: str, told: str
) -> None:
    """Each end is told with its code and words, without the token, after what came before it."""

    def handler(connection: ServerConnection) -> None:
        connection.recv()
        connection.send('{"last": 1}')
        if closes is None:
            connection.socket.shutdown(2)
        else:
            connection.close(*closes)

    with Server(handler) as server, opened(server.url, "tok-secret") as websocket:
        websocket.send({}, soon())
        assert websocket.receiver.next() == {"last": 1}
        failure = websocket.receiver.failure()
        assert type(failure) is kind
        assert (failure.code, failure.message) == (code, told)
        with pytest.raises(StreamLostError):
            websocket.ping(soon())


def shake_hands(peer: Any) -> ServerProtocol:
    """Do the server's part of the upgrade by hand."""
    protocol = ServerProtocol(max_size=None)
    while not (requests := protocol.events_received()):
        protocol.receive_data(peer.recv(65536))
    protocol.send_response(protocol.accept(requests[0]))  # type: ignore[arg-type]
    for data in protocol.data_to_send():
        peer.sendall(data)
    return protocol


def frame(opcode: Opcode, data: bytes) -> bytes:
    return Frame(opcode, data).serialize(mask=False)


@pytest.mark.parametrize(
    "last",
    [frame(Opcode.TEXT, b"x" * 5000), frame(Opcode.CLOSE, b"\x03\xf3")],
    ids=["over the limit", "Close 1011"],
)
def test_server_that_never_ends_its_side(last: bytes) -> None:
    """It is not waited for: the waiting calls are told soon."""
    told = threading.Event()

    def work(peer: Any) -> None:
        shake_hands(peer)
        peer.sendall(last)
        told.wait(PATIENCE)

    with raw_server(work) as url, opened(url, max_size=4096) as websocket:
        assert websocket.receiver.failure().outcome == "unknown"
        told.set()


def test_peer_that_answers_no_ping_is_dead() -> None:
    """The connection ends by itself."""
    told = threading.Event()

    def work(peer: Any) -> None:
        shake_hands(peer)
        told.wait(PATIENCE)

    with raw_server(work) as url, opened(url, ping_interval=0.05, ping_timeout=0.05) as websocket:
        assert isinstance(websocket.receiver.failure(), StreamLostError)
        told.set()


def test_ping_that_is_not_answered() -> None:
    """It ends with its deadline; the connection stays, for its own pings to judge."""
    told = threading.Event()

    def work(peer: Any) -> None:
        shake_hands(peer)
        told.wait(PATIENCE)

    with raw_server(work) as url, opened(url) as websocket:
        with pytest.raises(DeadlineExceededError, match=r"no answer to a ping within 0\.01 s"):
            websocket.ping(Deadline(0.01))
        assert websocket.usable
        told.set()


def test_ping_while_another_thread_sends() -> None:
    """To a peer that takes nothing: the ping keeps its own deadline, and does not wait for it."""
    told = threading.Event()

    def work(peer: Any) -> None:
        shake_hands(peer)
        told.wait(PATIENCE)

    def send(websocket: WebSocket[Kept]) -> None:
        with suppress(ButtDialError):
            websocket.send({"large": "x" * 30_000_000}, Deadline(PATIENCE))

    with raw_server(work) as url, opened(url) as websocket:
        assert websocket._connection is not None
        wire = websocket._connection.wire
        before = wire.writes
        sender = threading.Thread(target=send, args=(websocket,))
        sender.start()
        limit = soon()
        while wire.writes == before:
            limit.check("the first write")
            time.sleep(0)
        with pytest.raises(DeadlineExceededError, match=r"no answer to a ping within 0\.01 s"):
            websocket.ping(Deadline(0.01))
        assert sender.is_alive()
        wire.shut_down()
        sender.join(PATIENCE)
        told.set()


def test_peer_that_takes_nothing_more() -> None:
    """Nothing of the message has left then, and the connection stays."""
    told = threading.Event()

    def work(peer: Any) -> None:
        shake_hands(peer)
        told.wait(PATIENCE)

    with raw_server(work) as url, opened(url) as websocket:
        assert websocket._connection is not None
        wire = websocket._connection.wire
        with suppress(BlockingIOError):
            while True:
                wire.kept.sock.send(bytes(1 << 16))
        with pytest.raises(DeadlineExceededError) as caught:
            websocket.send({}, Deadline(0.01))
        assert caught.value.outcome == "not_sent"
        assert websocket.usable
        told.set()


def test_peer_that_reads_nothing_blocks_no_sender() -> None:
    """A sender ends with its deadline, and says whether something may have left."""
    told = threading.Event()

    def work(peer: Any) -> None:
        shake_hands(peer)
        told.wait(PATIENCE)

    with raw_server(work) as url, opened(url) as websocket:
        with pytest.raises(DeadlineExceededError) as caught:
            websocket.send({"large": "x" * 50_000_000}, Deadline(0.3))
        assert caught.value.outcome == "unknown"
        assert not websocket.usable
        told.set()


def await_congestion(websocket: WebSocket[Kept]) -> None:
    """Return when the peer takes no more bytes."""
    limit = soon()
    assert websocket._connection is not None
    wire = websocket._connection.wire
    while wire.wait_until_writable(0):
        limit.check("congestion")
        time.sleep(0)


def test_sender_behind_a_slow_one_was_not_sent() -> None:
    """It waits for its turn only until its own deadline, and the connection stays."""
    told = threading.Event()

    def work(peer: Any) -> None:
        protocol = shake_hands(peer)
        told.wait(PATIENCE)
        while data := peer.recv(1 << 20):
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    text = json.dumps({"length": len(event.data)})
                    peer.sendall(frame(Opcode.TEXT, text.encode()))

    with raw_server(work) as url, opened(url) as websocket:
        slow = threading.Thread(target=websocket.send, args=({"x": "x" * 30_000_000}, soon()))
        slow.start()
        await_congestion(websocket)
        with pytest.raises(DeadlineExceededError) as caught:
            websocket.send({}, Deadline(0.05))
        assert caught.value.outcome == "not_sent"
        told.set()
        slow.join(PATIENCE)
        websocket.send({"after": 1}, soon())
        assert websocket.receiver.next() == {"length": 30_000_008}
        assert websocket.receiver.next() == {"length": len('{"after":1}')}


def test_close_says_goodbye() -> None:
    """The server gets a Close frame with 1000; waiting calls and later ones get the reason."""
    codes: queue.Queue[int | None] = queue.Queue()

    def handler(connection: ServerConnection) -> None:
        echo(connection)
        codes.put(connection.close_code)

    with Server(handler) as server, opened(server.url) as websocket:
        websocket.close(PATIENCE, ClientClosedError)
        assert websocket._connection is not None
        assert not websocket._connection.recv_events_thread.is_alive()
        assert websocket._closer is not None
        assert websocket._closer.daemon  # the library may wait for the server for longer
        websocket.close(PATIENCE)
        assert isinstance(websocket.receiver.failure(), ClientClosedError)
        with pytest.raises(StreamLostError):
            websocket.send({}, soon())
        assert codes.get(timeout=PATIENCE) == 1000


def test_close_without_a_wait() -> None:
    """The Close frame is sent all the same."""
    codes: queue.Queue[int | None] = queue.Queue()

    def handler(connection: ServerConnection) -> None:
        echo(connection)
        codes.put(connection.close_code)

    with Server(handler) as server, opened(server.url) as websocket:
        websocket.close(0)
        assert not websocket.usable
        assert codes.get(timeout=PATIENCE) == 1000


def test_close_by_the_reading_thread() -> None:
    """It cannot wait for itself."""
    errors: queue.Queue[BaseException | None] = queue.Queue()

    with Server(echo) as server, opened(server.url) as websocket:

        def close(_: object) -> None:
            try:
                websocket.close(PATIENCE)
            except BaseException as error:  # noqa: BLE001 - compared below
                errors.put(error)
            else:
                errors.put(None)

        websocket.receiver.take = close  # type: ignore[assignment, method-assign]
        websocket.send({}, soon())
        assert errors.get(timeout=PATIENCE) is None


def frames_of(peer: Any) -> list[Opcode]:
    """Read to the end; return the kinds of the frames that came."""
    protocol = shake_hands(peer)
    peer.sendall(frame(Opcode.TEXT, b"no JSON") + frame(Opcode.TEXT, b'{"late": 1}'))
    while data := peer.recv(65536):
        protocol.receive_data(data)
        if events := protocol.events_received():
            return [event.opcode for event in events if isinstance(event, Frame)]
    return []


def test_end_before_the_handshake_is_over() -> None:
    """The very first message may end it: then it is closed as soon as it is known."""
    got: queue.Queue[list[Opcode]] = queue.Queue()

    with raw_server(lambda peer: got.put(frames_of(peer))) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        sock = socket.create_connection(("127.0.0.1", port))
        wire = DeadlineSocket(KeptSocket(sock, socket_identity(sock)))
        websocket = WebSocket(Kept(), secrets=(), clock=time.monotonic)
        library: dict[str, Any] = {"sock": wire, "create_connection": factory_of(websocket)}
        with connect(url, **library) as connection:
            assert isinstance(websocket.receiver.failure(), ProtocolError)
            websocket.attach(cast("ReadingConnection", connection))
            assert got.get(timeout=PATIENCE) == [Opcode.CLOSE]


def test_nothing_is_handed_on_after_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waited was told of the end; a later answer would be that of nobody."""
    caplog.set_level(logging.INFO)
    with raw_server(frames_of) as url, opened(url) as websocket:
        assert isinstance(websocket.receiver.failure(), ProtocolError)
        assert websocket._connection is not None
        websocket._connection.recv_events_thread.join(PATIENCE)
        assert websocket.receiver.messages.empty()
        assert websocket.receiver.failures.empty()
    assert len([each for each in caplog.messages if "the connection ended" in each]) == 1


def test_close_ends_a_sender_that_is_blocked() -> None:
    """From any thread, during anything: the library holds its lock meanwhile."""
    told = threading.Event()
    errors: list[BaseException] = []

    def work(peer: Any) -> None:
        shake_hands(peer)
        told.wait(PATIENCE)

    def send(websocket: Any) -> None:
        try:
            websocket.send({"large": "x" * 50_000_000}, soon())
        except ButtDialError as error:
            errors.append(error)

    with raw_server(work) as url, opened(url) as websocket:
        sender = threading.Thread(target=send, args=(websocket,))
        sender.start()
        await_congestion(websocket)
        websocket.close(PATIENCE)
        sender.join(PATIENCE)
        told.set()
    assert [type(error) for error in errors] == [StreamLostError]


def test_abandoned_connection_ends() -> None:
    """Without a lock and without a wait."""
    with Server(echo) as server, opened(server.url) as websocket:
        websocket.abandon()
        assert not websocket.usable  # at once
        assert isinstance(websocket.receiver.failure(), StreamLostError)
        assert not websocket.usable


def test_without_a_connection() -> None:
    """Closing it before its handshake is done is its end, too; a finalizer may come at any time."""
    for close in (WebSocket.close, WebSocket.abandon):
        websocket = WebSocket(Kept(), secrets=(), clock=time.monotonic)
        close(websocket)
        assert not websocket.usable
        with pytest.raises(StreamLostError) as caught:
            websocket.send({}, soon())
        assert caught.value.outcome == "not_sent"


def test_an_error_is_freed_at_once() -> None:
    """It would hold the whole client until the garbage collector runs."""
    websocket = WebSocket(Kept(), secrets=(), clock=time.monotonic)
    errors: list[weakref.ref[ButtDialError]] = []
    gc.disable()
    try:
        try:
            websocket.send({}, soon())
        except StreamLostError as error:
            errors.append(weakref.ref(error))
        assert errors[0]() is None
    finally:
        gc.enable()


def test_ping_while_the_server_closes() -> None:
    """That is not an answer; and the deadline is not waited for."""
    errors: queue.Queue[ButtDialError] = queue.Queue()

    def work(peer: Any) -> None:
        protocol = shake_hands(peer)
        while not protocol.events_received():
            protocol.receive_data(peer.recv(65536))
        peer.sendall(frame(Opcode.CLOSE, b"\x03\xe8"))

    def ping(websocket: WebSocket[Kept]) -> None:
        try:
            websocket.ping(Deadline(3600.0))
        except StreamLostError as error:
            errors.put(error)

    with raw_server(work) as url, opened(url) as websocket:
        thread = threading.Thread(target=ping, args=(websocket,), daemon=True)
        thread.start()
        assert isinstance(errors.get(timeout=PATIENCE), StreamLostError)
        thread.join(PATIENCE)


def test_send_while_the_server_closes() -> None:
    """The library writes nothing after a Close frame, so nothing was sent."""
    told = threading.Event()

    def work(peer: Any) -> None:
        shake_hands(peer)
        peer.sendall(frame(Opcode.CLOSE, b"\x03\xe8"))
        told.wait(PATIENCE)

    with raw_server(work) as url, opened(url) as websocket:
        limit = soon()
        assert websocket._connection is not None
        while websocket._connection.protocol.state is State.OPEN:
            limit.check("the Close frame")
            time.sleep(0)
        with pytest.raises(StreamLostError) as caught:
            websocket.send({}, Deadline(0.5, lambda: 0.0))
        assert caught.value.outcome == "not_sent"
        told.set()


def test_what_is_not_json_is_refused_before_it_is_sent() -> None:
    """And the connection stays."""
    with Server(echo) as server, opened(server.url) as websocket:
        with pytest.raises(ArgumentTypeError):
            websocket.send({"x": object()}, soon())
        websocket.send({"x": 1}, soon())
        assert websocket.receiver.next() == {"x": 1}


def test_one_reading_thread_and_one_that_pings() -> None:
    """They have our names, and end with the connection."""
    before = set(threading.enumerate())
    with Server(echo) as server:
        servers = set(threading.enumerate())
        with opened(server.url) as websocket:
            websocket.send({}, soon())
            websocket.receiver.next()
            ours = [
                thread.name
                for thread in set(threading.enumerate()) - before - servers
                if thread.name.startswith("buttdial-sync-websocket")
            ]
            assert sorted(name.rpartition("-")[2] for name in ours) == ["pings", "reader"]
            websocket.close(PATIENCE)


def test_no_secret_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The library's debug log would show headers and frames, even if a host turns everything on."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("websockets.client").setLevel(logging.DEBUG)
    with Server(echo) as server, opened(server.url, "tok-secret-1") as websocket:
        websocket.send({"password": "pass-secret-1"}, soon())
        websocket.receiver.next()
    assert "tok-secret-1" not in "".join(
        record.getMessage() for record in caplog.records if "server" not in record.name
    )
    assert not [record for record in caplog.records if record.name == "websockets.client"]


def test_faults_of_the_library_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Where ours are; what it logs besides is not."""
    with caplog.at_level(logging.DEBUG):
        wire_logger.info("it says what it does")
        wire_logger.error("a fault")
    assert caplog.record_tuples == [("buttdial_sync.websocket.wire", logging.ERROR, "a fault")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_has_no_connection() -> None:
    """It is not sent on, not closed, and not waited for; the parent's goes on."""
    with Server(echo) as server, opened(server.url) as websocket:

        def in_child() -> None:
            assert not websocket.usable
            with pytest.raises(StreamLostError):
                websocket.send({}, soon())
            with pytest.raises(StreamLostError):
                websocket.ping(soon())
            websocket.close(1.0)
            websocket.abandon()

        with websocket._sending:  # as by a thread that is not there in the child
            child = forked(in_child)
        assert exit_code(child) == 0
        websocket.send({"parent": 1}, soon())
        assert websocket.receiver.next() == {"parent": 1}


def test_a_child_waits_for_no_lock_of_its_parents_threads() -> None:
    """It has one of its own, keeps what it inherited, and is over."""
    with Server(echo) as server, opened(server.url) as websocket:
        connection, lock = websocket._connection, websocket._sending
        websocket._reset_after_fork()
        assert websocket._sending is not lock
        assert not websocket.usable
        assert is_leaked(connection)
        assert is_leaked(lock)
        websocket._connection = connection  # for the end of the test


def test_receiver_that_refuses_a_message_ends_the_connection() -> None:
    """Its reason is the reason of the end."""

    class Strict(Kept):
        def take(self, message: dict[str, Any]) -> None:
            raise ProtocolError("not like that")

    from buttdial_sync.transport.websocket_opening import WebSocketOpener, WebSocketOptions

    with Server(echo) as server:
        opener = WebSocketOpener(server.url, Strict, WebSocketOptions(), lambda _: None)
        websocket = opener.open("", soon())
        websocket.send({}, soon())
        assert websocket.receiver.failure().message == "not like that"
        websocket.close(PATIENCE)


def test_missing_library() -> None:
    """The error says what to install."""
    code = "import sys; sys.modules['websockets'] = None\nimport {}"
    for module in ("websocket", "websocket_opening"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(f"buttdial_sync.transport.{module}")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "pip install 'buttdial-sync[websocket]'" in done.stderr
