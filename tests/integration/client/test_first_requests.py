"""The first requests of a process, made by two threads at once."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SECONDS = 60

# What threads make on first use, both make: each waits for the other one, and then sets a value.
PROGRAM = """
import os, sys, threading
from buttdial_sync import Client

together = threading.Barrier(2)

def meet():
    try:
        together.wait(1)
    except threading.BrokenBarrierError:
        pass

class Local(threading.local):
    def __setattr__(self, name, value):
        meet()
        super().__setattr__(name, value)

def make():
    made = Local()
    meet()
    return made

def ping(agent):
    try:
        agent.ping()
    except TimeoutError:
        outcomes.append("TIMEOUT")

outcomes = []
client = Client(sys.argv[1], agent_token="t", timeout=3.0, token_in="header")
agents = [client, client.as_agent("u")]
threading.local = make
threads = [threading.Thread(target=ping, args=(each,), daemon=True) for each in agents]
for each in threads:
    each.start()
for each in threads:
    each.join(20)
print(*outcomes, flush=True)
os._exit(0)
"""


def test_both_keep_their_deadline() -> None:
    """A server that accepts and says nothing holds neither of them."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    assert done.stdout.split() == ["TIMEOUT", "TIMEOUT"], done.stderr
