"""What the families of operations have in common."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from buttdial_sync.calls.agent_caller import AgentCaller
from buttdial_sync.calls.operation import Endpoint, ToolOperation
from buttdial_sync.calls.wire import to_wire

T = TypeVar("T")


class Family:
    """
    Operations on one subject. Safe to share between threads.

    Args:
        caller: Makes the calls.
    """

    def __init__(self, caller: AgentCaller) -> None:
        self._caller = caller

    def _call(self, operation: ToolOperation[T] | Endpoint[T], /, **arguments: Any) -> T:
        """Carry an operation out; the arguments are the wire's names in snake_case."""
        if isinstance(operation, Endpoint):
            return self._caller.endpoint_call(operation, arguments).result(operation.result)
        wire = to_wire(arguments)
        result = self._caller.tool_call(operation, wire).result(operation.result)
        if "confirm" in wire:
            return attrs.evolve(result, previewed=not wire["confirm"])  # type: ignore[misc]
        return result
