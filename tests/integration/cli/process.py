"""Runs the command line as a process of its own."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 30.0
PROGRAM = ("-m", "buttdial_sync.cli")


def environment(**variables: str) -> dict[str, str]:
    """Return an environment with nothing of the caller's but what Python needs."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "error",
        **variables,
    }


def run(
    *args: str, cwd: Path, program: Sequence[str] = PROGRAM, **variables: str
) -> subprocess.CompletedProcess[str]:
    """
    Run the program to its end.

    Args:
        *args: The command and its options.
        cwd: The working directory.
        program: What Python runs.
        **variables: The environment.
    """
    return subprocess.run(
        [sys.executable, *program, *args],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )


@contextmanager
def on_terminal(
    *args: str, cwd: Path, **variables: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """
    Run the program on a terminal of its own, and kill it at the end.

    Args:
        *args: The command and its options.
        cwd: The working directory.
        **variables: The environment.

    Yields:
        The process, and the descriptor of the terminal's other end.
    """
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, *args],
        cwd=cwd,
        env=environment(**variables),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    with process:
        try:
            yield process, ours
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)


def read_until(terminal: int, words: bytes) -> bytes:
    """Read what is shown until the words are there."""
    shown = b""
    end = time.monotonic() + SECONDS
    while words not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
        assert ready, shown
        shown += os.read(terminal, 4096)
    return shown
