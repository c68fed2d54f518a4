"""A store whose every call is a point at which something can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import attrs

from buttdial_sync.stores.schema import Claim, Condition
from buttdial_sync.stores.store import Store
from tests.simulation.process import Process


class StoreDownError(Exception):
    """The database does not answer."""


class PointStore:
    """
    The way of one process to the rows: all methods of the store, each with a point before it and
    one between its commit and the acknowledgement.

    Args:
        rows: Has them.
        process: Whose way it is. Its clock is the store's.
    """

    def __init__(self, rows: Store, process: Process) -> None:
        self.schema = rows.schema
        self.now = process.clock
        self._rows = rows
        self._process = process

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._rows, name)

        def passed(*arguments: Any, **options: Any) -> Any:
            return self._pass(name, partial(method, **options), arguments)

        return passed

    def _pass(self, name: str, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        process, world = self._process, self._process.world
        what = name if not world.is_traced else f"{name} {self._shown(arguments)}"
        row_id = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        process.point(what)
        strike = world.strike("store", ("store refuses", "lost acknowledgement"))
        if strike == "store refuses":
            self._fail(what, strike, row_id)
        result = method(*arguments)
        if name == "update" and result and arguments[1].get("status") == "dead":
            world.notes.buried[row_id] = process
        process.point(f"    {name} done" if not world.is_traced else f"    {_outcome(result)}")
        if strike is not None:
            self._fail(what, strike, row_id)
        return result

    def _fail(self, what: str, strike: str, row_id: str) -> None:
        world = self._process.world
        self._process.tell(f"{strike}: {what}")
        # It is a time-out that tells.
        self._process.sleep(world.dice.uniform(0.0, 30.0))
        world.notes.store_failures[row_id] += 1
        raise StoreDownError(strike)

    def _shown(self, arguments: tuple[Any, ...]) -> str:
        return " ".join(self._named(each) for each in arguments)

    def _named(self, value: Any) -> str:
        if isinstance(value, dict):
            return _text(value) if "body" in value or "payload" in value else _changes(value)
        if isinstance(value, list):
            return ", ".join(map(self._named, value))
        row = self._rows.find(value) if isinstance(value, str) else None
        if isinstance(value, Claim | Condition):
            return " ".join(
                f"{name}={each}"
                for name, each in _not_default(value)
                if name not in {"now", "limit"}
            )
        return str(value) if row is None else _text(row)


def _not_default(value: Any) -> list[tuple[str, Any]]:
    fields = attrs.fields(type(value))
    return [
        (each.name, getattr(value, each.name))
        for each in fields
        if getattr(value, each.name) != each.default
    ]


def _text(row: dict[str, Any]) -> str:
    return str(row.get("body") or row.get("sender") or row["id"])


def _changes(changes: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}={value:%H:%M:%S.%f}" if isinstance(value, datetime) else f"{name}={value!r}"
        for name, value in changes.items()
    )


def _outcome(result: object) -> str:
    if isinstance(result, list):
        found = (_text(each) if isinstance(each, dict) else str(each) for each in result)
        return f"has {', '.join(found) or 'nothing'}"
    return str(result) if isinstance(result, bool | int) else "done"
