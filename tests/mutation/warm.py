"""
A process that has imported what tests import from outside of the project, and forks for each run.

``python warm.py module ...``, started in a copy of the project. It reads requests as lines of JSON
and answers each with pytest's exit code. It knows nothing of the package and of its tests: what a
run imports of them is what stands in the copy at that moment.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from contextlib import suppress
from functools import _lru_cache_wrapper
from importlib import import_module
from typing import NoReturn

import pytest
from coverage import Coverage

_OPTIONS = ("-x", "-q", "-p", "no:randomly", "--hypothesis-seed=0")
# pytest cannot rewrite the assertions of plugins that are imported before it starts.
_IMPORTED_BEFORE = ("-W", "ignore::pytest.PytestAssertRewriteWarning")


def main(modules: list[str]) -> None:
    sys.path[0] = os.getcwd()  # as ``python -m pytest`` has it
    for name in modules:
        with suppress(ImportError):  # some exist only after their package has made them
            import_module(name)
    if threading.active_count() > 1 or "buttdial_sync" in sys.modules:
        sys.exit("what is imported ahead starts a thread, or imports the package")
    gc.freeze()
    for line in sys.stdin:
        sys.stdout.write(f"{_run(**json.loads(line))}\n")
        sys.stdout.flush()


class _LinesOfTests:
    """A plugin of pytest: which lines of some modules each test runs, and how long it takes."""

    def __init__(self, modules: list[str]) -> None:
        self._paths = {module: os.path.abspath(module) for module in modules}
        included = list(self._paths.values())
        self._coverage = Coverage(data_file=None, config_file=False, include=included)
        self._seconds: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        self._coverage.start()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        for module in self._paths:
            _forget_results(module)  # else only the first test that needs one runs its lines
        self._coverage.switch_context(item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration

    def write(self, file: str) -> None:
        """Write the seconds of the tests, and by module and line the tests' numbers, as JSON."""
        self._coverage.stop()
        numbers = {test: number for number, test in enumerate(self._seconds)}
        data = self._coverage.get_data()
        lines = {
            module: {
                line: [numbers[test] for test in tests if test in numbers]
                for line, tests in data.contexts_by_lineno(path).items()
                if "" not in tests  # an import runs it, and so it concerns every test
            }
            for module, path in self._paths.items()
        }
        with open(file, "w", encoding="utf-8") as opened:
            json.dump({"lines": lines, "seconds": self._seconds}, opened)


def _forget_results(module: str) -> None:
    """
    Empty what ``functools.cache`` keeps for the functions of a module, given by its path.

    A cache with a size is left alone: with one place it says what must be done only once.
    """
    name = module.removesuffix(".py").replace("/", ".")
    loaded = sys.modules.get(name)
    for each in list(vars(loaded).values()) if loaded else ():
        is_own = isinstance(each, _lru_cache_wrapper) and each.__module__ == name
        if is_own and each.cache_parameters()["maxsize"] is None:
            each.cache_clear()


def _run(arguments: list[str], output: str, limit: float, measured: list[str], lines: str) -> int:
    """
    Run pytest in a child; return its exit code, or less than 0 if a signal ended it.

    Args:
        arguments: What to run.
        output: The file for what it prints.
        limit: Seconds after which it is ended.
        measured: The modules whose lines are told; without any, the tests are quicker.
        lines: The file in which they are told.
    """
    child = os.fork()
    if not child:
        _be_pytest(arguments, output, measured, lines)
    signal.signal(signal.SIGALRM, lambda *_: _end(child))
    signal.setitimer(signal.ITIMER_REAL, limit)
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    _end(child)
    return os.waitstatus_to_exitcode(status)


def _be_pytest(arguments: list[str], output: str, measured: list[str], lines: str) -> NoReturn:
    os.setsid()  # its group is what its tests start
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)
    told = _LinesOfTests(measured) if measured else None
    code = pytest.main([*_OPTIONS, *_IMPORTED_BEFORE, *arguments], plugins=[told] if told else [])
    if told is not None:
        told.write(lines)
    # Not os._exit(): a mutant whose threads do not end is noticed then.
    sys.exit(code)


def _end(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
