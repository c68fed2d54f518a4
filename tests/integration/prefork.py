"""A Celery worker with forked processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PATIENCE = 120


def answers_of_worker(
    app: str, asker: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None
) -> str:
    """
    Queue the tasks of a program, have a worker with two processes do them, and return the answers.

    The broker is a folder, in which a worker could take a file that is still being written. So the
    program writes the line ``queued`` when all tasks are there, and only then the worker starts.

    Args:
        app: The module of the Celery application.
        asker: The program's command. It writes the answers after that line.
        environment: Of both.
        cwd: Where both run.
    """
    worker = [
        *(sys.executable, "-m", "celery", "-A", app, "worker", "--pool", "prefork"),
        *("--concurrency", "2", "--loglevel", "ERROR", "--without-gossip"),
        *("--without-mingle", "--without-heartbeat"),
    ]
    with subprocess.Popen(
        asker, env=environment, cwd=cwd, stdout=subprocess.PIPE, text=True
    ) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == "queued\n"
        with subprocess.Popen(worker, env=environment, cwd=cwd) as working:
            try:
                for _ in range(PATIENCE):
                    assert working.poll() is None, "the worker ended early: see its stderr"
                    with suppress(subprocess.TimeoutExpired):
                        answers, _ = asking.communicate(timeout=1)
                        assert asking.returncode == 0
                        return answers
            finally:
                asking.kill()
                working.terminate()
    raise AssertionError(f"no answers in {PATIENCE} s")
