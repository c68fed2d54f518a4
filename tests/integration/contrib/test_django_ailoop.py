"""Durable questions of a Django project: the process that asks is gone when the answer comes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync.testing import FakeAiloopServer
from tests.integration.contrib.running import PATIENCE, ROOT

pytestmark = pytest.mark.slow

COMMAND = "buttdial_ailoop"


@pytest.fixture
def server() -> Iterator[FakeAiloopServer]:
    with FakeAiloopServer() as server:
        yield server


class Host:
    """The project; each command is a process of its own."""

    def __init__(self, server: FakeAiloopServer, folder: Path) -> None:
        self.database = folder / "host.db"
        self._seen = folder / "seen"
        self._arguments = [server.url, str(self.database), str(self._seen)]

    def start(self, *command: str, how: str = "works") -> subprocess.Popen[str]:
        module = "tests.integration.contrib.asking"
        return subprocess.Popen(
            [sys.executable, "-m", module, *self._arguments, how, *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, how: str = "works") -> str:
        process = self.start(*command, how=how)
        try:
            out, errors = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0, errors
        return out.strip()

    @property
    def seen(self) -> list[Any]:
        text = self._seen.read_text("ascii") if self._seen.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def wait_for_an_answer(self) -> None:
        pause = threading.Event()
        for _ in range(600):
            if self.seen:
                return
            pause.wait(0.05)
        raise AssertionError("no answer was handed over")

    def row(self) -> tuple[str, int]:
        with closing(sqlite3.connect(self.database)) as database:
            found: tuple[str, int] = database.execute(
                "SELECT status, retry_count FROM buttdial_sync_ailoopquestion"
            ).fetchone()
            return found

    def make_due(self) -> None:
        """Let the pause of a question be over."""
        with closing(sqlite3.connect(self.database, timeout=PATIENCE)) as database, database:
            database.execute(
                "UPDATE buttdial_sync_ailoopquestion"
                " SET next_retry_at = created_at, leased_until = NULL"
            )


@pytest.fixture
def host(server: FakeAiloopServer, tmp_path: Path) -> Host:
    return Host(server, tmp_path)


def test_answer_after_a_restart_of_the_host(server: FakeAiloopServer, host: Host) -> None:
    """It is found by another process, given again to a handler that fails, and handed over once."""
    message_id = host.run("post")
    prompt = server.next_prompt()
    assert prompt.id == message_id
    assert host.run(COMMAND) == "0 handed over, 1 waiting, 0 failed"
    prompt.approve(at="http")
    host.make_due()
    assert host.run(COMMAND, how="fails") == "0 handed over, 0 waiting, 1 failed"
    assert host.row() == ("pending", 1)
    server.restart()  # it has forgotten the answer; the row has it
    host.make_due()
    assert host.run(COMMAND) == "1 handed over, 0 waiting, 0 failed"
    assert host.run(COMMAND) == "0 handed over, 0 waiting, 0 failed"
    assert host.seen == [[message_id, {"order": 42}, True]]
    assert host.row()[0] == "handed_over"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_watching(server: FakeAiloopServer, host: Host) -> None:
    """It hears the terminal, in a process that was started later, and ends with 0 on SIGTERM."""
    message_id = host.run("post")
    prompt = server.next_prompt()
    watching = host.start(COMMAND, "--watch")
    try:
        server.wait_until(
            lambda: any(each.is_viewer for each in server.hub.sockets.values()), PATIENCE
        )
        prompt.approve(at="terminal")
        host.wait_for_an_answer()
        watching.terminate()
        out, errors = watching.communicate(timeout=PATIENCE)
    finally:
        watching.kill()
        watching.communicate()
    assert (watching.returncode, out.strip()) == (0, "1 handed over, 0 waiting, 0 failed"), errors
    assert host.seen == [[message_id, {"order": 42}, True]]
