"""Runs tests against mutants, in copies of the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import cache_from_source
from pathlib import Path
from typing import Literal

import attrs

from tests.mutation.mutants import round_trip

Fate = Literal["killed", "survived", "endless"]

_COPIED = ("buttdial_sync", "tests", "docs", "examples")
_NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*", "_build", "*.db", "*.sqlite3")
_WARM = Path(__file__).with_name("warm.py")
_SHORTEST_LIMIT = 20.0
_TRIED_FIRST = 10
_CONTROL_LIMIT = 900.0
# Prints what the tests import, and where from. pytest prints to stdout, too.
_IMPORTS = """
import json, sys, pytest
pytest.main(["--collect-only", "-q", *sys.argv[1:]])
files = {name: getattr(each, "__file__", None) for name, each in list(sys.modules.items())}
print("\\n" + json.dumps(files))
"""


class ControlFailedError(Exception):
    """The tests fail without a mutation, so that they cannot tell anything."""


@attrs.frozen
class Stage:
    """
    Tests that are run together; the next ones are run only if these pass.

    Attributes:
        tests: Arguments of pytest.
        limit: Seconds after which the tests are ended; a mutant that hangs is noticed.
    """

    tests: list[str]
    limit: float = _CONTROL_LIMIT


@attrs.frozen
class Reach:
    """
    Which tests run which lines of a module, as far as it is not run in a program of their own.

    Attributes:
        seconds: How long each test takes, by its id; in the order in which a mutant meets them.
        by_line: The tests that run a line, by its number.
    """

    seconds: Mapping[str, float]
    by_line: Mapping[int, Collection[str]]

    def stages(self, lines: range) -> list[Stage]:
        """Return the tests that run one of the lines; all of them, if none is known to."""
        reaching = {test for line in lines for test in self.by_line.get(line, ())}
        tests = [test for test in self.seconds if test in reaching] or list(self.seconds)
        stages = [self._stage(tests[:_TRIED_FIRST]), self._stage(tests[_TRIED_FIRST:])]
        return [stage for stage in stages if stage.tests]

    def _stage(self, tests: list[str]) -> Stage:
        return Stage(tests, max(_SHORTEST_LIMIT, 4 * sum(self.seconds[test] for test in tests)))


@attrs.frozen
class _Measured:
    """How long tests take, and by module and line the numbers of those that run it."""

    seconds: dict[str, float]
    lines: dict[str, dict[str, list[int]]]


class Copy:
    """
    A copy of the project, and the warm process that runs its tests, one run at a time.

    Args:
        root: The project; it is only read.
        folder: Where the copy goes.
        modules: Those whose mutants are run.

    Attributes:
        folder: Where it is.
    """

    def __init__(self, root: Path, folder: Path, modules: list[str]) -> None:
        self.folder = folder
        self._modules = modules
        self._measured: dict[tuple[str, ...], _Measured] = {}
        self._output = folder.with_suffix(".txt")
        self._lines = folder.with_suffix(".json")
        self._warm: subprocess.Popen[str] | None = None
        for name in _COPIED:
            if (root / name).exists():
                shutil.copytree(root / name, folder / name, ignore=_NOT_COPIED)
        for each in root.iterdir():
            if each.is_file() and not each.name.startswith("."):
                shutil.copy(each, folder)

    def imports(self, tests: list[str]) -> list[str]:
        """
        Return what tests import from outside of the project.

        Raises:
            ControlFailedError: They cannot be collected, or do not import the package of the copy.
        """
        with self._python("-c", _IMPORTS, *tests) as process:
            told, _ = process.communicate()
        files: dict[str, str | None] = json.loads(told.splitlines()[-1]) if told else {}
        here = str(self.folder)
        if not str(files.get("buttdial_sync")).startswith(here):
            raise ControlFailedError(f"{sys.executable} does not import the copy:\n{told[-3000:]}")
        return [name for name, file in files.items() if file and not file.startswith(here)]

    def start(self, modules: list[str]) -> None:
        """Start the warm process, which imports these first."""
        self._warm = self._python(str(_WARM), *modules)

    def stop(self) -> None:
        """End the warm process."""
        if self._warm is not None:
            self._warm.communicate()

    def reach(self, path: str, near: list[str], rest: list[str]) -> Reach:
        """
        Return which tests run which lines of a module.

        Args:
            path: The module.
            near: Arguments of pytest. A mutant meets these tests first, the quickest at first.
            rest: Further arguments.

        Raises:
            ControlFailedError: Tests fail without a mutation.
        """
        given = [*near, *rest]
        tests = {each for each in given if not any(each.startswith(f"{one}/") for one in given)}
        arguments = tuple(sorted(tests))
        found = self._measured.get(arguments)
        if found is None:
            found = self._measured[arguments] = self._measure(list(arguments))
        seconds, tests_of_line = found.seconds, found.lines[path]
        by_nearness = sorted(
            seconds, key=lambda test: (not test.startswith(tuple(near)), seconds[test])
        )
        every = list(seconds)
        by_line = {
            int(line): frozenset(every[number] for number in numbers)
            for line, numbers in tests_of_line.items()
        }
        return Reach({test: seconds[test] for test in by_nearness}, by_line)

    def _measure(self, arguments: list[str]) -> _Measured:
        """Run tests without a mutation, for all modules at once: many have the same tests."""
        self._control(Stage(arguments), self._modules)
        measured = _Measured(**json.loads(self._lines.read_text()))
        # As mutants are run: by their ids, and in the words of ast.unparse.
        with ExitStack() as written:
            for path in self._modules:
                text = round_trip((self.folder / path).read_text())
                written.enter_context(self._written(path, text))
            self._control(Stage(sorted(measured.seconds, key=measured.seconds.__getitem__)))
        return measured

    def _control(self, stage: Stage, measured: Sequence[str] = ()) -> None:
        if self._exit_code(stage, measured):
            told = self._output.read_text(errors="replace")
            raise ControlFailedError(f"not mutated:\n{told[-3000:]}")

    def fate(self, path: str, text: str, stages: list[Stage]) -> Fate:
        """Run tests against a mutant, up to the first stage that fails."""
        with self._written(path, text):
            for stage in stages:
                code = self._exit_code(stage)
                if code:
                    return "killed" if code > 0 else "endless"
        return "survived"

    def _exit_code(self, stage: Stage, measured: Sequence[str] = ()) -> int:
        if self._warm is None or self._warm.stdin is None or self._warm.stdout is None:
            raise ControlFailedError("the warm process is not started")
        request = {
            "arguments": stage.tests,
            "output": str(self._output),
            "limit": stage.limit,
            "measured": list(measured),
            "lines": str(self._lines),
        }
        self._warm.stdin.write(f"{json.dumps(request)}\n")
        self._warm.stdin.flush()
        answer = self._warm.stdout.readline()
        if not answer:
            raise ControlFailedError("the warm process has ended")
        return int(answer)

    def _python(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the check
        )

    @contextmanager
    def _written(self, path: str, text: str) -> Iterator[None]:
        file = self.folder / path
        before = file.read_bytes()
        byte_code = Path(cache_from_source(str(file)))
        byte_code.unlink(missing_ok=True)
        file.write_text(text)
        try:
            yield
        finally:
            file.write_bytes(before)
            # The next mutant may have the same size and second, which is all that is compared.
            byte_code.unlink(missing_ok=True)


@contextmanager
def project_copies(
    root: Path, count: int, tests: list[str], modules: list[str]
) -> Iterator[list[Copy]]:
    """Make copies of the project with a warm process each, and remove them at the end."""
    with tempfile.TemporaryDirectory(prefix="buttdial-mutation-") as name:
        folder = Path(name).resolve()
        copies = [Copy(root, folder / str(number), modules) for number in range(count)]
        imported = copies[0].imports(tests)
        try:
            for copy in copies:
                copy.start(imported)
            yield copies
        finally:
            for copy in copies:
                copy.stop()
