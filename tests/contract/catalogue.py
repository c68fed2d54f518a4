"""The catalogue of operations, and what it says about a call."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import cache, reduce
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import attrs

from buttdial_sync import tools
from buttdial_sync.calls.operation import ToolOperation

_FILE = Path(__file__).parents[1] / "data" / "operations.json"

_VALID: Mapping[str, Any] = {
    "str": "some text",
    "int": 7,
    "float": 1.5,
    "bool": True,
    "list of str": ["one", "two"],
    "list of objects": [{"id": "yes"}, {"id": "no"}],
    "object": {"key": {"nested": [1, 2.5, None]}},
    "object of booleans": {"phone": True, "email": False},
    "object of limits": {"maxActionsPerDay": 7, "maxSpendPerDay": 2.5},
    "object of strings": {"key": "value"},
}
_WRONG: Mapping[str, tuple[Any, ...]] = {
    "str": (5, b"bytes", ["text"]),
    "int": ("7", True, 1.5),
    "float": ("1.5", True),
    "bool": ("yes", 1),
    "list of str": ("one", [1], {"one": 1}),
    "list of objects": ({"id": "yes"}, ["yes"]),
    "object": ("text", [("key", 1)]),
    "object of booleans": ({"phone": "yes"}, ["phone"]),
    "object of limits": ("text", [("maxActionsPerDay", 1)]),
    "object of strings": ({"key": 5}, "key"),
}


@attrs.frozen
class Param:
    """One parameter of an operation."""

    name: str
    facts: Mapping[str, Any]

    @property
    def required(self) -> bool:
        return bool(self.facts.get("required"))

    @property
    def place(self) -> str:
        """``"wire"`` for a tool's argument or a body's key; else ``"path"``, ``"query"``, …."""
        return str(self.facts.get("in", "wire"))

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(self.facts.get("values", ()))

    @property
    def valid(self) -> Any:
        """A value that it may have, and that is not its default."""
        if self.name in {"to", "contact", "target", "requester_phone"}:
            return "+14155550123"
        if self.values:
            return next(value for value in self.values if value != self.facts.get("default"))
        return not self.facts["default"] if self._is_switch else _VALID[self.facts["type"]]

    @property
    def wrong(self) -> tuple[Any, ...]:
        """Values of other types."""
        return _WRONG[self.facts["type"]]

    @property
    def must_not_be_blank(self) -> bool:
        is_text = self.facts["type"] == "str" and not self.values
        return is_text and (self.required or self.name.endswith(("_id", "_sid", "_token", "_key")))

    @property
    def _is_switch(self) -> bool:
        return self.facts["type"] == "bool" and "default" in self.facts


@attrs.frozen
class Operation:
    """One operation of the catalogue."""

    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As in ``"whatsapp.react"``."""
        return str(self.facts["call"]).partition(".")[2]

    @property
    def params(self) -> tuple[Param, ...]:
        return tuple(Param(name, facts) for name, facts in self.facts["params"].items())

    @property
    def method(self) -> str:
        return str(self.facts["http"]["method"])

    @property
    def path(self) -> str:
        """The path's template, without the query."""
        return str(self.facts["http"]["path"]).partition("?")[0]

    def bound(self, client: object) -> Callable[..., Any]:
        """Return the client's method."""
        method = reduce(getattr, self.name.split("."), client)
        assert callable(method)
        return method

    def arguments(self, *, only_required: bool = False) -> dict[str, Any]:
        """Return valid arguments, by the method's names."""
        return {
            param.name: param.valid for param in self.params if param.required or not only_required
        }

    def sent(self, arguments: Mapping[str, Any], place: str = "wire") -> dict[str, Any]:
        """Return what a call with these arguments sends, by the names on the wire."""
        sent = dict(self.facts.get("constants", {})) if place == "wire" else {}
        for param in self.params:
            value = arguments.get(param.name, param.facts.get("default"))
            if param.place == place and value is not None:
                sent[param.facts.get("wire", param.name)] = value
        return sent


@cache
def operations(client: str) -> tuple[Operation, ...]:
    """Return the operations of ``"Client"`` or ``"AccountsClient"``."""
    found = json.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(Operation(each) for each in found if each["call"].startswith(f"{client}."))


def tool_operations() -> list[ToolOperation[Any]]:
    """Return every tool that a family calls."""
    modules = (
        import_module(f"{tools.__name__}.{found.name}") for found in iter_modules(tools.__path__)
    )
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, ToolOperation)
    ]


def docstring(documented: object) -> str:
    """Return a method's or a class's documentation, on one line."""
    return " ".join((inspect.getdoc(documented) or "").split())
