"""What a terminal shows while a command takes long."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from buttdial_sync import cli
from buttdial_sync.cli.progress import Progress
from buttdial_sync.cli.report import say
from buttdial_sync.cli.status_line import STATUS_LINE, ElapsedTime


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Seconds:
    """Stands in for the clock and for waiting; ``pass_`` lets one wait end."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self._may_go_on = threading.Semaphore(0)
        self._is_waiting = threading.Semaphore(0)
        self._ends = False

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self._is_waiting.release()
        assert self._may_go_on.acquire(timeout=30)
        self.now += seconds
        return self._ends

    def pass_(self) -> None:
        """Let the time of one wait pass, and come back when the next one has begun."""
        self._may_go_on.release()
        assert self._is_waiting.acquire(timeout=30)

    def begun(self) -> None:
        assert self._is_waiting.acquire(timeout=30)

    def end(self) -> None:
        self._ends = True
        self._may_go_on.release()


@pytest.fixture
def seconds() -> Iterator[Seconds]:
    yield Seconds()
    assert not [each for each in threading.enumerate() if each.name == "buttdial-sync-elapsed"]


def shown(terminal: Terminal) -> list[str]:
    return [text.strip() for text in terminal.getvalue().split("\r") if text.strip()]


def test_nothing_is_shown_before_two_seconds(seconds: Seconds) -> None:
    """What is quick does not flicker."""
    terminal = Terminal()
    with ElapsedTime("ping", stream=terminal, clock=seconds.clock, wait=seconds.wait):
        seconds.begun()
        seconds.end()
    assert terminal.getvalue() == ""
    assert seconds.waits == [2.0]


def test_what_is_done_and_for_how_long(seconds: Seconds) -> None:
    """A line that changes, with the command's more exact words, and is gone at the end."""
    terminal = Terminal()
    with ElapsedTime("doctor", stream=terminal, clock=seconds.clock, wait=seconds.wait):
        seconds.begun()
        seconds.pass_()
        STATUS_LINE.doing = "Checking: SSE handshake"
        seconds.pass_()
        seconds.end()
    assert shown(terminal) == ["doctor: 2 s", "Checking: SSE handshake: 3 s"]
    assert terminal.getvalue().endswith("\r" + " " * len("Checking: SSE handshake: 3 s") + "\r")
    assert seconds.waits == [2.0, 1.0, 1.0]


def test_a_line_of_output_replaces_it(seconds: Seconds, capsys: pytest.CaptureFixture[str]) -> None:
    """The next output begins on an empty line."""
    terminal = Terminal()
    with ElapsedTime("follow", stream=terminal, clock=seconds.clock, wait=seconds.wait):
        seconds.begun()
        seconds.pass_()
        assert not terminal.getvalue().endswith("\r")
        say("an update")
        assert terminal.getvalue().endswith("\r")
        seconds.end()
    assert capsys.readouterr().out == "an update\n"


def test_counts_and_prompts_have_the_line_for_themselves(seconds: Seconds) -> None:
    """A count says more, and nobody types a token into a line that is overwritten."""
    terminal = Terminal()
    with ElapsedTime("send-many", stream=terminal, clock=seconds.clock, wait=seconds.wait):
        seconds.begun()
        with Progress(stream=terminal, clock=seconds.clock) as progress:
            progress.tell("Sending", 1, 2)
            seconds.pass_()
        with STATUS_LINE.held():
            seconds.pass_()
        assert shown(terminal) == ["Sending: 1 of 2"]
        seconds.pass_()
        seconds.end()
    assert shown(terminal) == ["Sending: 1 of 2", "send-many: 4 s"]


@pytest.mark.parametrize(("stream", "quiet"), [(Terminal(), True), (io.StringIO(), False)])
def test_programs_and_logs_see_nothing(seconds: Seconds, stream: io.StringIO, quiet: bool) -> None:
    """With ``--json``, and where stderr is not a terminal, nothing even waits."""
    with ElapsedTime("ping", quiet=quiet, stream=stream, clock=seconds.clock, wait=seconds.wait):
        pass
    assert stream.getvalue() == ""
    assert seconds.waits == []


def test_all_questions_have_the_line() -> None:
    """A prompt that is made in another way would be overwritten."""
    sources = Path(str(cli.__file__)).parent.glob("*.py")
    asking = {source.name for source in sources if "click.prompt(" in source.read_text("utf-8")}
    assert asking == {"status_line.py"}


def test_an_error_removes_the_line(seconds: Seconds) -> None:
    """The exception of a command goes through."""
    terminal = Terminal()

    def fail() -> None:
        with ElapsedTime("ping", stream=terminal, clock=seconds.clock, wait=seconds.wait):
            seconds.begun()
            seconds.pass_()
            seconds.end()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert terminal.getvalue().endswith("\r")
