"""Runs the command line as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
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
