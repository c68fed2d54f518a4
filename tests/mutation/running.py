"""Runs tests against mutants, each in a copy of the project, several at a time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import cache_from_source
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

import attrs

Fate = Literal["killed", "survived", "endless"]

_COPIED = ("buttdial_sync", "tests", "docs", "examples")
_NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*", "_build", "*.db", "*.sqlite3")
_PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:randomly", "--hypothesis-seed=0")
_SHORTEST_LIMIT = 20.0


class ControlFailedError(Exception):
    """The tests fail without a mutation, so that they cannot tell anything."""


@attrs.frozen
class Job:
    """
    One module's text and the tests that it must not pass.

    Attributes:
        path: The module, relative to the project.
        text: Its text.
        tests: Arguments of pytest.
        limit: Seconds after which the tests are ended; a mutant that hangs is noticed.
    """

    path: str
    text: str = attrs.field(repr=False)
    tests: list[str]
    limit: float


class Copies:
    """
    Copies of the project, of which each runs one job at a time.

    Args:
        root: The project; it is only read.
        folder: Where the copies go.
        count: How many.
    """

    def __init__(self, root: Path, folder: Path, count: int) -> None:
        self._count = count
        self._free: SimpleQueue[Path] = SimpleQueue()
        for number in range(count):
            copy = folder / str(number)
            for name in _COPIED:
                if (root / name).exists():
                    shutil.copytree(root / name, copy / name, ignore=_NOT_COPIED)
            for each in root.iterdir():
                if each.is_file() and not each.name.startswith("."):
                    shutil.copy(each, copy)
            self._free.put(copy)

    def limit_of(self, path: str, text: str, tests: list[str]) -> float:
        """
        Run the tests without a mutation and return how long a mutant may take, in seconds.

        Raises:
            ControlFailedError: They fail, or do not run against the copy.
        """
        copy = self._free.get()
        try:
            where = _run(copy, ["-c", "import buttdial_sync; print(buttdial_sync.__file__)"], 60)
            if str(copy) not in where.stdout:
                raise ControlFailedError(f"{sys.executable} does not import the copy: {where}")
            began = time.monotonic()
            with _written(copy / path, text):
                run = _run(copy, [*_PYTEST, *tests], 900)
            if run.returncode:
                raise ControlFailedError(f"{path}, not mutated:\n{run.stdout[-3000:]}{run.stderr}")
            return max(_SHORTEST_LIMIT, 4 * (time.monotonic() - began))
        finally:
            self._free.put(copy)

    def fates(self, jobs: Iterable[Job]) -> Iterator[Fate]:
        """Run jobs side by side; yield what became of each, in their order."""
        with ThreadPoolExecutor(self._count) as workers:
            yield from workers.map(self._fate, jobs)

    def _fate(self, job: Job) -> Fate:
        copy = self._free.get()
        try:
            with _written(copy / job.path, job.text):
                run = _run(copy, [*_PYTEST, *job.tests], job.limit)
        except subprocess.TimeoutExpired:
            return "endless"
        finally:
            self._free.put(copy)
        return "killed" if run.returncode else "survived"


@contextmanager
def project_copies(root: Path, count: int) -> Iterator[Copies]:
    """Make copies of the project, and remove them at the end."""
    with tempfile.TemporaryDirectory(prefix="buttdial-mutation-") as folder:
        yield Copies(root, Path(folder).resolve(), count)


@contextmanager
def _written(path: Path, text: str) -> Iterator[None]:
    before = path.read_bytes()
    byte_code = Path(cache_from_source(str(path)))
    byte_code.unlink(missing_ok=True)
    path.write_text(text)
    try:
        yield
    finally:
        path.write_bytes(before)
        # The next mutant may have the same size and the same second, which is all that is compared.
        byte_code.unlink(missing_ok=True)


def _run(copy: Path, arguments: list[str], limit: float) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            told, _ = process.communicate(timeout=limit)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # with what its tests have started
            process.communicate()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, told, "")
