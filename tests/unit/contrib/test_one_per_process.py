"""What frameworks make once in each process."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import pytest

from buttdial_sync.contrib.shared import OnePerProcess
from buttdial_sync.testing import LoopbackServer

SECONDS = 10.0
AT_EXIT = """
import sys
from django.conf import settings
settings.configure(BUTT_DIAL={"BASE_URL": sys.argv[1], "AGENT_TOKEN": "tok"})
from buttdial_sync.contrib.django import get_client
assert get_client().send_message("+14155550123", "hi").ok
"""
MADE_WHILE_FORGOTTEN = """
import atexit
import sys
import threading
from buttdial_sync.contrib.shared import OnePerProcess

names = iter(["first", "second"])
one = OnePerProcess(lambda: next(names), print)
one.get()
another = threading.Thread(target=one.get)

def meanwhile(frame, event, function):
    if event == "c_call" and function is atexit.unregister:
        sys.setprofile(None)
        another.start()
        another.join(0.5)  # it has to wait, for what is forgotten is forgotten under the lock

sys.setprofile(meanwhile)
one.forget()
another.join()
"""
# One thread imports keeping, which asks for the handler; another asks for it before, needs keeping
# for it, and imports handling first.
IMPORTED = {
    "gates.py": """
import threading

is_imported, is_asked_for = threading.Event(), threading.Event()
""",
    "handling.py": """
import gates
from buttdial_sync import InboundHandler

inbound = InboundHandler()
gates.is_asked_for.set()
""",
    "keeping.py": """
import gates
from buttdial_sync.contrib.django import get_handler

gates.is_imported.set()
assert gates.is_asked_for.wait(30)

def keep(event):
    pass

@get_handler().on_message
def receive(message):
    pass

print("keeping is imported")
""",
    "program.py": """
import threading
from django.conf import settings
settings.configure(BUTT_DIAL={"HANDLER": "handling.inbound", "ON_UNDELIVERED": "keeping.keep"})
import gates
from buttdial_sync.contrib.django import get_handler

def import_it():
    import keeping

threading.Thread(target=import_it).start()
assert gates.is_imported.wait(30)
get_handler()
""",
}
CHILDREN = """
import os
import sys
from celery import Celery
from buttdial_sync import FailedMessage
from buttdial_sync.contrib.celery import ButtDialTasks

class Repository:
    lease = 60.0
    def __init__(self):
        self.made_in = os.getpid()
    def get(self, msg_id):
        return None
    def close(self):
        print("its own" if self.made_in == os.getpid() else "its parent's", flush=True)

app = Celery()
app.conf.task_always_eager = True
tasks = ButtDialTasks(app, client=object, repository=Repository)
message = FailedMessage(id="a", recipient="+14155550123", body="hi")
tasks.deliver_soon(message)
for uses_it in (False, True):
    child = os.fork()
    if child == 0:
        if uses_it:
            tasks.deliver_soon(message)
        sys.exit(0)
    os.waitpid(child, 0)
print("the parent ends", flush=True)
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


def test_it_is_forgotten_as_soon_as_it_is_made() -> None:
    """Who asked for it gets it all the same."""

    def meanwhile(_: FrameType, event: str, function: object) -> None:
        if event == "c_call" and function is atexit.register:
            sys.setprofile(None)
            one.forget()

    one = OnePerProcess(lambda: "made")
    sys.setprofile(meanwhile)
    try:
        assert one.get() == "made"
    finally:
        sys.setprofile(None)
        one.forget()


def test_it_is_made_again_while_it_is_forgotten() -> None:
    """The new one ends with the process, too."""
    assert said_by(MADE_WHILE_FORGOTTEN) == ["first", "second"]


def test_a_module_that_asks_for_the_handler_which_needs_it(tmp_path: Path) -> None:
    """Of two threads none waits with the lock of the handler for the import of the other."""
    for name, text in IMPORTED.items():
        (tmp_path / name).write_text(text, "utf-8")
    program = f"import sys; sys.path.append({str(tmp_path)!r}); import program"
    assert said_by(program) == ["keeping is imported"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_ends() -> None:
    """It closes its own repository, and not that of its parent, which goes on."""
    pytest.importorskip("celery")
    assert said_by(CHILDREN) == ["its own", "the parent ends", "its own"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_it_is_made() -> None:
    """A child that is forked while another thread makes it does not wait for that thread."""
    is_making, go_on = threading.Event(), threading.Event()

    def make() -> object:
        is_making.set()
        # The child's own call does not wait: it makes another one.
        assert threading.current_thread() is threading.main_thread() or go_on.wait(SECONDS)
        return object()

    one = OnePerProcess(make)
    thread = threading.Thread(target=one.get)
    thread.start()
    assert is_making.wait(SECONDS)
    child = os.fork()
    if child == 0:
        signal.alarm(int(SECONDS))
        os._exit(0 if one.get() is one.get() else 1)
    assert os.waitpid(child, 0)[1] == 0
    go_on.set()
    thread.join(SECONDS)
    one.forget()


def test_what_makes_it_may_not_ask_for_it() -> None:
    """As where a module of the host's asks for the handler that it is to define: no deadlock."""
    errors: list[Exception] = []

    def make() -> object:
        if errors:
            raise errors[0]
        errors.append(ValueError("it is not there yet"))
        return one.get()

    one = OnePerProcess(make)

    def ask() -> None:
        with pytest.raises(ValueError, match="not there yet"):
            one.get()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_it_ends_with_the_process(loopback_server: LoopbackServer) -> None:
    """A client that nobody closed is closed at exit: no warning, no waiting."""
    assert said_by(AT_EXIT, loopback_server.base_url, warnings="error") == []


def said_by(program: str, *arguments: str, warnings: str = "default") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()
