"""What frameworks make once in each process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from buttdial_sync.contrib.shared import OnePerProcess
from buttdial_sync.testing import LoopbackServer

AT_EXIT = """
import sys
from django.conf import settings
settings.configure(BUTT_DIAL={"BASE_URL": sys.argv[1], "AGENT_TOKEN": "tok"})
from buttdial_sync.contrib.django import get_client
assert get_client().send_message("+14155550123", "hi").ok
"""


def test_what_failed_is_made_again() -> None:
    """When making it fails, the next use tries again."""
    answers = iter([ValueError("not yet"), None])

    def make() -> str:
        error = next(answers)
        if error is not None:
            raise error
        return "made"

    one = OnePerProcess(make)
    with pytest.raises(ValueError, match="not yet"):
        one.get()
    assert one.get() == "made"
    one.forget()


def test_it_is_ended_once() -> None:
    """Forgetting ends it; doing so twice does nothing more."""
    ended: list[object] = []
    one = OnePerProcess(object, ended.append)
    made = one.get()
    one.forget()
    one.forget()
    assert ended == [made]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_it_is_made() -> None:
    """A child that is forked while another thread makes it does not wait for that thread."""
    one = OnePerProcess(object)
    one._lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(0 if one.get() is one.get() else 1)
    assert os.waitpid(child, 0)[1] == 0
    one._lock.release()


def test_it_ends_with_the_process(loopback_server: LoopbackServer) -> None:
    """A client that nobody closed is closed at exit: no warning, no waiting."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_EXIT, loopback_server.base_url],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
