"""The frameworks' poll commands without an inbox, as processes that are told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.integration.contrib.running import PATIENCE, ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

WAITING = 25
PAGE = 10


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        for _ in range(WAITING):
            loopback.fake.add_waiting()
        yield loopback


@contextmanager
def polling(how: str, server: LoopbackServer, folder: Path, end: str) -> Iterator[_Process]:
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.integration.contrib.polling", how, server.base_url),
                *(str(folder / "handled"), str(folder / "kept"), end),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


_Process = subprocess.Popen[str]


def read_until(process: _Process, word: str) -> None:
    out: IO[str] | None = process.stdout
    assert out is not None
    for line in out:
        if line.strip() == word:
            return
    raise AssertionError(f"it ended before it said {word}")


def ids(path: Path) -> list[int]:
    """The numbers of the messages, in the order in which they were written."""
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return [int(line.removeprefix("waiting-")) for line in lines]


@pytest.mark.parametrize("how", ["django", "flask"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_what_was_read_is_handled_or_kept(
    how: str, number: signal.Signals, server: LoopbackServer, tmp_path: Path
) -> None:
    """None of the messages is lost: handled, given to ON_UNDELIVERED, or left on the server."""
    with polling(how, server, tmp_path, "ends") as process:
        read_until(process, "failing")
        process.send_signal(number)
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert said.splitlines()[-1] == f"{PAGE - 1} handed over"
    assert ids(tmp_path / "kept") == [3]
    assert ids(tmp_path / "handled") == [1, 2, *range(4, PAGE + 1)]
    assert len(server.fake.waiting) == WAITING - PAGE
    assert "'waiting-3' could not be handed over" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("how", ["django", "flask"])
def test_told_twice_it_ends_at_once(how: str, server: LoopbackServer, tmp_path: Path) -> None:
    """A handler that hangs is interrupted by the second signal; what was read is still kept."""
    with polling(how, server, tmp_path, "hangs") as process:
        for word in ("failing", "hanging"):
            read_until(process, word)
            process.send_signal(signal.SIGTERM)
        # Its standard input stays open: nothing but the signal lets the handler go.
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert ids(tmp_path / "handled") == [1, 2]
    assert ids(tmp_path / "kept") == [*range(3, PAGE + 1)]
    assert len(server.fake.waiting) == WAITING - PAGE
