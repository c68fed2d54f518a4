"""
Mistakes that the library once had. The simulation has to find each of them again.

A mistake is put back while its module is loaded, so it needs a Python process of its own:
``python -m tests.simulation --cause "a fence that falls"``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import attrs

ROOT = Path(__file__).resolve().parents[2]


@attrs.frozen
class Change:
    """
    A part of a mistake.

    Attributes:
        path: The module, relative to the project.
        old: Text that occurs once in it.
        new: What it becomes.
    """

    path: str
    old: str
    new: str


class Cause:
    """
    A mistake.

    Args:
        breaks: What the simulation says about the promise that it breaks begins so.
        changes: What puts it back.
    """

    def __init__(self, breaks: str, *changes: Change) -> None:
        self.breaks = breaks
        self.changes = changes


_TABLE = "buttdial_sync/retry/table.py"
_WORK_TABLE = "buttdial_sync/stores/table.py"
_RECORDER = "buttdial_sync/retry/recorder.py"
_VERDICTS = "buttdial_sync/retry/verdicts.py"
_SQL = "buttdial_sync/stores/sql.py"

CAUSES = {
    "an outage kills every message": Cause(
        "given up",
        Change(
            _VERDICTS,
            '    if _is_unreachable(result):\n        return "unreachable"\n',
            "",
        ),
    ),
    "a row edited by hand breaks its whole batch": Cause(
        "stuck",
        Change(
            _SQL,
            '                rows.update((row["id"], row) for row in',
            '                read = f"SELECT next_retry_at FROM {self._table} WHERE {chosen[0]}"\n'
            "                for row in execute(read, chosen[1]).fetchall():\n"
            '                    datetime.strptime(row[0], "%Y-%m-%d %H:%M:%S.%f")\n'
            '                rows.update((row["id"], row) for row in',
        ),
    ),
    "what is known comes too late": Cause(
        "known",
        Change(
            _TABLE,
            "        condition = Condition(statuses=_OPEN, retry_count=fence)\n",
            "        condition = Condition(retry_count=retry_count)\n",
        ),
    ),
    "a fence that falls": Cause(
        "twice",
        Change(
            _TABLE,
            "            attempt_number=attempt_number,\n            present=",
            "            present=",
        ),
        Change(
            _WORK_TABLE,
            "Condition(retry_count=retry_count - 1, attempt_number=attempt_number - 1)\n",
            "Condition(retry_count=retry_count - 1)\n",
        ),
        Change(
            _RECORDER,
            "return bool(row.status == step if due",
            'return step != "postponed" and bool(row.status == step if due',
        ),
    ),
    "a receipt is lost": Cause(
        "receipt",
        Change(
            _RECORDER,
            'if is_written and step == "delivered":',
            "if False:",
        ),
        # A later receipt of the message would bring the lost one along.
        Change(_TABLE, 'self._join_early_receipt(row["id"], message_sid)', "pass"),
    ),
    "a receipt is forgotten": Cause(
        "receipt",
        Change(
            _TABLE,
            "if is_in_doubt else _anew(",
            "if False else _anew(",
        ),
    ),
    "the urgent waits for the rest": Cause(
        "overtaken",
        Change(
            "buttdial_sync/stores/turns.py",
            "tuple(sorted(priorities[agent], key=_rank, reverse=True))",
            "tuple(sorted(priorities[agent], key=_rank))",
        ),
    ),
    "an attempt without a request counts": Cause(
        "spent",
        Change(
            _TABLE,
            '"retry_count": message.retry_count,\n            "attempt_started_at"',
            '"retry_count": retry_count,\n            "attempt_started_at"',
        ),
    ),
    "a claim of who was killed is a failure": Cause(
        "given up for no fault of its own: no handler",
        Change(
            "buttdial_sync/inbound/dispatch.py",
            '            return "busy"\n        except ConfigError',
            '            return "failed"\n        except ConfigError',
        ),
    ),
    "a dead letter is not told": Cause(
        "untold",
        Change(
            _RECORDER,
            "return bool(row.status == step if due",
            'return step != "dead" and bool(row.status == step if due',
        ),
    ),
}
"""By what goes wrong."""


def put_back(name: str) -> None:
    """Put a mistake back; before the modules are loaded that it is in."""
    changes: dict[str, list[Change]] = {}
    for change in CAUSES[name].changes:
        changes.setdefault(change.path.removesuffix(".py").replace("/", "."), []).append(change)
    loaded = sorted(changes.keys() & sys.modules.keys())
    if loaded:
        raise RuntimeError(f"{', '.join(loaded)} is loaded already")
    sys.meta_path.insert(0, _Finder(changes))


def changed(source: str, changes: Sequence[Change]) -> str:
    """
    Return a module's text with a mistake in it.

    Raises:
        LookupError: The old text is gone: give the change the text of today.
    """
    for change in changes:
        if source.count(change.old) != 1:
            raise LookupError(f"{change.path} does not have once: {change.old!r}")
        source = source.replace(change.old, change.new)
    return source


class _Finder(MetaPathFinder):
    """Finds the modules that are changed."""

    def __init__(self, changes: dict[str, list[Change]]) -> None:
        self._changes = changes

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._changes:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin, self._changes[name])
        return spec


class _Loader(SourceFileLoader):
    """Loads a changed module, without a file of byte code."""

    def __init__(self, name: str, path: str, changes: list[Change]) -> None:
        super().__init__(name, path)
        self._changes = changes

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text()
        return compile(changed(source, self._changes), self.path, "exec", dont_inherit=True)
