"""The socket face of the fake server."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from typing import NoReturn

import pytest
import requests
import urllib3

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.fakes import add_fault
from tests.unit.testing.fake_wire import HEADERS, Wire

PING = b"GET /api/v1/waiting-messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\n\r\n"


def connect(loopback: LoopbackServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", loopback.port), 5)


def test_close_ends_all_threads_whatever_they_do() -> None:
    """Streams, hanging and dripping requests and idle connections: no thread outlives close()."""
    before = set(threading.enumerate())
    fake = FakeButtDialServer()
    loopback = fake.listen()
    wire = Wire(loopback.base_url)
    clients = [connect(loopback) for _ in range(4)]
    fake.fault("hang", on="rest")
    clients[0].sendall(PING)
    assert fake.wait_for(lambda: len(fake.requests) == 2)
    # A close() that waited for it would not end.
    add_fault(fake, "drip", on="rest", interval=86_400.0)
    clients[1].sendall(PING)
    clients[2].sendall(b"POST /messages/ HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc")
    assert fake.wait_for(lambda: len(fake.requests) == 3)
    loopback.close()
    loopback.close()
    assert set(threading.enumerate()) == before
    wire.close()
    for client in clients:
        client.close()


def test_close_frees_a_writer_whose_client_reads_nothing() -> None:
    """A stream whose client does not read blocks its writer, and close() does not wait for it."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        pushed = threading.Event()

        def push() -> None:
            fake.push({"body": "x" * 20_000_000})
            pushed.set()

        thread = threading.Thread(target=push)
        thread.start()
        assert wire.raw.read1(10)
        loopback.close()
        thread.join(5)
        assert pushed.is_set()


def test_server_is_gone_after_stop() -> None:
    """A stopped server refuses connections, and its streams are cut."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        loopback.stop()
        with pytest.raises(urllib3.exceptions.ProtocolError):
            wire.rest()
        with pytest.raises(ConnectionRefusedError):
            connect(loopback)


def test_restart_on_the_same_port() -> None:
    """A restarted server is at the same place and knows no session."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()
        url = loopback.base_url
        loopback.stop()
        loopback.start()
        loopback.start()
        assert loopback.base_url == url
        assert wire.post_call(to="+1").status_code == 404
        with Wire(url) as again:
            assert again.greet().send()["messageId"]


def test_connections_are_kept_and_counted() -> None:
    """One session's requests use one connection, which the server says it keeps."""
    with FakeButtDialServer().listen(keep_alive=7) as loopback, requests.Session() as session:
        url = f"{loopback.base_url}/api/v1/waiting-messages"
        answers = [session.get(url, headers=HEADERS, timeout=5) for _ in range(5)]
        assert {answer.headers["Keep-Alive"] for answer in answers} == {"timeout=7"}
        assert loopback.connections == 1


def test_idle_connection_is_closed() -> None:
    """A connection on which nothing comes for ``keep_alive`` seconds is closed."""
    with FakeButtDialServer().listen(keep_alive=0.05) as loopback, connect(loopback) as client:
        client.sendall(PING)
        seen = b""
        while data := client.recv(4096):
            seen += data
        assert seen.startswith(b"HTTP/1.1 200 OK")


def test_connection_close_is_honoured() -> None:
    """A client that asks for it gets the connection's end after the answer."""
    with FakeButtDialServer().listen() as loopback, connect(loopback) as client:
        client.sendall(PING.replace(b"Host: x", b"Connection: close"))
        seen = b""
        while data := client.recv(4096):
            seen += data
        assert b"Connection: close" in seen


@pytest.mark.parametrize(
    "junk",
    [
        b"\r\n\r\n",
        b"what\r\n\r\n",
        b"x" * 70_000,
        b"GET / HTTP/x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200,
        b"BREW / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_junk_is_refused(junk: bytes) -> None:
    """What is not HTTP is answered with 400 and the connection's end."""
    with FakeButtDialServer().listen() as loopback, connect(loopback) as client:
        client.sendall(junk)
        assert client.recv(4096).startswith(b"HTTP/1.1 400")


def test_a_client_that_still_sends_gets_the_refusal() -> None:
    """A chunked body is refused with 400, and what the client had yet to send loses no answer."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback:
        url = f"{loopback.base_url}/api/v1/waiting-messages"
        answer = requests.post(url, data=iter([b"x" * 10_000] * 200), timeout=5)
        assert (answer.status_code, answer.headers["Connection"]) == (400, "close")
        assert not fake.requests


def test_nothing_is_written_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Answers, junk, resets and clients that leave in the middle are no news."""
    fake = FakeButtDialServer()
    with fake.listen(keep_alive=0.05) as loopback:
        fake.fault("reset", on="rest")
        for sent in (PING, PING, b"what\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"):
            with connect(loopback) as client, contextlib.suppress(ConnectionResetError):
                client.sendall(sent)
                client.recv(1)
    assert capfd.readouterr() == ("", "")


def test_no_host_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listening and answering ask no name server."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError

    for name in ("getfqdn", "gethostbyaddr", "getnameinfo"):
        monkeypatch.setattr(socket, name, refuse)
    with FakeButtDialServer().listen() as loopback, Wire(loopback.base_url) as wire:
        wire.greet()


def test_many_clients_at_once() -> None:
    """Whoever comes while others are being accepted waits, and is not refused."""
    with FakeButtDialServer().listen() as loopback, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(loopback)) for _ in range(64)]
        for client in clients:
            client.sendall(PING)
        assert all(client.recv(4096).startswith(b"HTTP/1.1 200") for client in clients)
        assert loopback.connections == 64


def test_what_is_asked_for_is_what_was_sent() -> None:
    """The path and the query reach the core as they stand: two slashes are not one."""
    fake = FakeButtDialServer()
    with fake.listen() as loopback, connect(loopback) as client:
        client.sendall(PING.replace(b"/api/v1/waiting-messages", b"//sse?a=b%20c&a=d&e="))
        assert client.recv(4096).startswith(b"HTTP/1.1 404")
        (request,) = fake.requests
        assert (request.path, dict(request.query)) == ("//sse", {"a": "d", "e": ""})
        assert request.headers == {"host": "x", "authorization": "Bearer t"}


def test_an_answer_comes_in_one_piece() -> None:
    """Head and body leave with one write, so that no client wakes up twice."""
    with FakeButtDialServer().listen() as loopback, connect(loopback) as client:
        client.sendall(PING)
        head, _, body = client.recv(65536).partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
        assert body


def test_head_has_no_body() -> None:
    """The answer to HEAD says how long a body would be, and has none."""
    with FakeButtDialServer().listen() as loopback, requests.Session() as session:
        for _ in range(2):
            answer = session.head(f"{loopback.base_url}/nowhere", timeout=5)
            assert (answer.content, int(answer.headers["Content-Length"]) > 0) == (b"", True)
        assert loopback.connections == 1


def test_a_client_may_ask_before_it_sends_the_body() -> None:
    """``Expect: 100-continue`` is answered before the body comes."""
    with FakeButtDialServer().listen() as loopback, connect(loopback) as client:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        client.sendall(head)
        assert client.recv(4096).startswith(b"HTTP/1.1 100")
        client.sendall(b"{}")
        assert client.recv(4096).startswith(b"HTTP/1.1 404")


def test_requests_in_pieces_and_in_one() -> None:
    """A request may come byte by byte, or two of them in one piece."""
    with FakeButtDialServer().listen() as loopback, connect(loopback) as client:
        for byte in PING:
            client.sendall(bytes([byte]))
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.sendall(PING * 2)
        seen = b""
        while seen.count(b"HTTP/1.1 200") < 2:
            seen += client.recv(4096)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_forked_child_is_a_client_and_holds_nothing() -> None:
    """A child sends like anyone else, and while it lives the parent's close() reaches clients."""
    fake = FakeButtDialServer()
    loopback = fake.listen()
    wire = Wire(loopback.base_url)
    told, tell = os.pipe()
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with Wire(loopback.base_url) as mine:
                mine.greet().send(body="from the child")
            loopback.close()
            os.write(tell, b"1")
            os.read(wait, 1)
        finally:
            os._exit(0)
    try:
        assert select.select([told], [], [], 10)[0]
        assert [message.body for message in fake.delivered] == ["from the child"]
        wire.greet()
        loopback.close()
        with pytest.raises(urllib3.exceptions.ProtocolError):
            wire.rest()
        with pytest.raises(ConnectionRefusedError):
            connect(loopback)
    finally:
        os.write(go, b"1")
        os.waitpid(child, 0)
        wire.close()
        for end in (told, tell, wait, go):
            os.close(end)


def test_import_loads_no_third_party() -> None:
    """The core and the socket face need neither requests, responses nor pytest."""
    code = (
        "import sys\n"
        "from buttdial_sync.testing import FakeButtDialServer\n"
        "with FakeButtDialServer().listen() as loopback: loopback.base_url\n"
        "print([m for m in ('requests', 'responses', 'pytest', 'urllib3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_stream_to_a_client_that_knows_no_chunks() -> None:
    """nginx asks with HTTP/1.0 by default: it gets the bare events until the connection ends."""
    with FakeButtDialServer().listen() as loopback, connect(loopback) as client:
        client.sendall(b"GET /sse HTTP/1.0\r\nAuthorization: Bearer t\r\n\r\n")
        seen = b""
        while b"\n\n" not in seen:
            part = client.recv(4096)
            assert part, seen
            seen += part
        head, _, body = seen.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert b"connection: close" in head.lower()
        assert body.startswith(b"event: endpoint\n")
