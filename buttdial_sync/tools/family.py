"""What the families of operations have in common."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from buttdial_sync.calls.arguments import to_wire
from buttdial_sync.calls.endpoint_call import EndpointCall
from buttdial_sync.calls.operation import Endpoint, ToolOperation
from buttdial_sync.calls.tool_call import AgentContext, ToolCall

T = TypeVar("T")


class Family:
    """
    Operations on one subject. Safe to share between threads.

    Args:
        agent: Who speaks.
    """

    def __init__(self, agent: AgentContext) -> None:
        self._agent = agent

    def _call(self, operation: ToolOperation[T] | Endpoint[T], /, **arguments: Any) -> T:
        """Carry an operation out; the arguments are the wire's names in snake_case."""
        agent = self._agent
        if isinstance(operation, Endpoint):
            call = EndpointCall(
                agent.connection, operation, arguments, credential=agent.token_or(None), agent=agent
            )
            return call.result(operation.result)
        for name, channel in operation.recipients.items():
            if isinstance(recipient := arguments.get(name), str):
                arguments[name] = agent.recipients.normalized(recipient, channel)
        wire = to_wire(arguments)
        result = ToolCall(agent, operation, wire).result(operation.result)
        if "confirm" in wire:
            return attrs.evolve(result, previewed=not wire["confirm"])  # type: ignore[misc]
        return result
