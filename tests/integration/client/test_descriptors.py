"""Descriptors that the host closes under the client, as code that makes a process a daemon does."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer

ROOT = Path(__file__).parents[3]
CERTIFICATE = ROOT / "tests/integration/doctor/self_signed.pem"
SECONDS = 60

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX numbers descriptors so")

# The host: its sockets take the numbers that the client's had.
PROGRAM = """
import gc, os, socket, sys, threading
from buttdial_sync import Client
from buttdial_sync.transport.http import shared_adapter

url, *case = sys.argv[1:]

def send(body):
    result = client.send_message("+14155550123", body)
    print(body, result.outcome, result.attempts, flush=True)

def greet():
    for sock in ends:
        sock.sendall(b"theirs")

def check():
    for sock in ends:
        assert os.get_blocking(sock.fileno()), "its mode was changed"
        assert sock.recv(100, socket.MSG_DONTWAIT) == b"theirs", "read from or written to"
    greet()

def wait_for_silence():
    # Wait until the reader waits for bytes, and is not between two of them.
    pause, quiet = threading.Event(), 0
    for _ in range(5000):
        frames = sys._current_frames()
        innermost = {frames[each.ident].f_code.co_name for each in threading.enumerate()[1:]}
        quiet = quiet + 1 if innermost <= {"readinto", "_read_tls_stream"} else 0
        if quiet == 50:
            return
        pause.wait(0.002)
    raise AssertionError(f"the reader is in {innermost}")

client = Client(url, agent_token="t", timeout=20.0)
if "used" in case:
    send("first")
    wait_for_silence()
if "forked" in case:
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.closerange(3, 256)
ends = [end for _ in range(60 if "reused" in case else 0) for end in socket.socketpair()]
if "silent" not in case:
    greet()
send("second")
send("third")
if "silent" in case:
    greet()
check()
client.close()
check()
del client
shared_adapter.cache_clear()
gc.collect()
check()
if "reused" in case:
    assert min(end.fileno() for end in ends) == 3
for end in ends:
    end.close()
"""


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest) -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        if request.param == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            listener = loopback._listener
            assert listener is not None
            listener.socket = context.wrap_socket(listener.socket, server_side=True)
        yield loopback


@pytest.mark.parametrize(
    "case",
    [
        "new",
        "new reused",
        "used",
        "used reused",
        "used reused silent",
        "used forked reused",
        "forked reused",
    ],
)
def test_the_hosts_sockets_are_left_alone(server: LoopbackServer, case: str) -> None:
    """Nothing is read from them, written to them, or closed; the next send works."""
    is_tls = isinstance(server._listener and server._listener.socket, ssl.SSLSocket)
    url = server.base_url.replace("http:", "https:") if is_tls else server.base_url
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PROGRAM, url, *case.split()],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "REQUESTS_CA_BUNDLE": str(CERTIFICATE),
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    fake = server.fake
    sent = {body: rest for body, *rest in map(str.split, done.stdout.splitlines())}
    assert {outcome for outcome, _ in sent.values()} == {"sent"}, sent
    # Who posts before the reader has noticed that its stream is lost asks again, once.
    assert {attempts for _, attempts in sent.values()} <= {"1", "2"}, sent
    # What was asked for again was asked for with the same key.
    messages = {(each.args["body"], each.args["idempotencyKey"]) for each in fake.sent_messages}
    assert sorted(body for body, _ in messages) == sorted(sent)
