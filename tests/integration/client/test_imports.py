"""What a call needs is loaded when the client is made, not when something has failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync.testing import FakeButtDialServer

ROOT = Path(__file__).parents[3]
SECONDS = 60

# At the limit of descriptors no module can be read. Connections may be made here all the same.
PROGRAM = """
import sys, threading
from buttdial_sync import Client

class NothingMore:
    def find_spec(self, name, path=None, target=None):
        if name in sys.builtin_module_names:
            return None
        raise OSError(24, "Too many open files", name)

client = Client(sys.argv[1], agent_token="t", timeout=float(sys.argv[2]), sleep=lambda _: None)
sys.meta_path.insert(0, NothingMore())
with client:
    result = client.send_message("+14155550123", "hello", idempotency_key="k")
    print(result.outcome)
"""


@pytest.mark.parametrize(
    ("fault", "timeout", "outcome"),
    [
        (None, "20", "sent"),
        ({"kind": "status", "status": 500, "body": "no"}, "20", "unknown"),
        ({"kind": "cut", "delivered": True}, "20", "unknown"),
        ({"kind": "late"}, "1", "unknown"),
    ],
    ids=["good", "500", "cut", "late"],
)
def test_nothing_is_imported_by_a_send(fault: Any, timeout: str, outcome: str) -> None:
    """A send that fails tells its honest outcome where no module can be loaded any more."""
    with FakeButtDialServer(dialect="open-source").listen() as server:
        if fault:
            server.fake.fault(fault.pop("kind"), **fault)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, server.base_url, timeout],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    # Nobody drains the queue here, so the one warning of that is right; there is nothing else.
    told = [line for line in done.stderr.splitlines() if "read the waiting queue" not in line]
    assert (done.stdout.strip(), told) == (outcome, [])
