"""What the families of operations have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import attrs

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError
from buttdial_sync.models.converter import structure
from buttdial_sync.models.names import camel_case
from buttdial_sync.tools.arguments import with_line_feeds
from buttdial_sync.tools.caller import AgentCaller
from buttdial_sync.tools.operations import call_operation

T = TypeVar("T")


class Family:
    """
    Operations on one subject. Safe to share between threads.

    Args:
        caller: Carries them out.
    """

    def __init__(self, caller: AgentCaller) -> None:
        self._caller = caller

    def _call(self, tool: str, kind: type[T], /, **arguments: Any) -> T:
        """Call a tool that changes something; the arguments are the wire's names in snake_case."""
        return self._carry_out(tool, kind, arguments, reads_only=False)

    def _ask(self, tool: str, kind: type[T], /, **arguments: Any) -> T:
        """Call a tool that changes nothing, so that it may be called again."""
        return self._carry_out(tool, kind, arguments, reads_only=True)

    def _get(self, path: str, kind: type[T], /, **query: str | int | None) -> T:
        """Read from a REST endpoint."""
        return self._exchange("GET", path, kind, query=query, reads_only=True)

    def _take(self, path: str, kind: type[T], /, **query: str | int | None) -> T:
        """Read from a REST endpoint what is gone once it was read."""
        return self._exchange("GET", path, kind, query=query, reads_only=False)

    def _put(self, path: str, kind: type[T], /, **body: Any) -> T:
        """Change something by way of a REST endpoint."""
        return self._exchange("PUT", path, kind, body=on_the_wire(body), reads_only=False)

    def _carry_out(
        self, tool: str, kind: type[T], arguments: Mapping[str, Any], *, reads_only: bool
    ) -> T:
        wire = on_the_wire(arguments)
        answer = call_operation(self._caller, tool, wire, reads_only=reads_only)
        result = structure(answer, kind, source=tool)
        if "confirm" in wire:
            return attrs.evolve(result, previewed=not wire["confirm"])  # type: ignore[misc]
        return result

    def _exchange(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: Mapping[str, Any] | None = None,
        reads_only: bool,
    ) -> T:
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        answer = self._caller.call_rest(method, path, query=given, body=body, reads_only=reads_only)
        return structure(answer, kind, source=f"{method} {path}")


def on_the_wire(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return arguments as they are sent: in camelCase, without those that are None.

    Raises:
        ArgumentTypeError: JSON cannot hold a value.
        ArgumentValueError: The same of a number that is none.
    """
    return {
        camel_case(name): _json_value(
            name, with_line_feeds(value) if isinstance(value, str) else value
        )
        for name, value in arguments.items()
        if value is not None
    }


def _json_value(name: str, value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            raise ArgumentValueError(f"{name} must be finite")
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _json_value(name, item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_json_value(name, item) for item in value]
    raise ArgumentTypeError(f"{name} holds a {type(value).__name__}, which JSON cannot hold")
