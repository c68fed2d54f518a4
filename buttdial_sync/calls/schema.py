"""Asking the server's own schemas before something is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from buttdial_sync.calls.operation import HINTS, ToolOperation
from buttdial_sync.errors import ArgumentNotSupported, PreviewNotSupported, ToolNotAvailable
from buttdial_sync.models.tools import Tool


def find_tool(tools: Iterable[Tool], name: str, other_name: str | None = None) -> Tool:
    """
    Return the tool with this name, else with the other one.

    Raises:
        ToolNotAvailable: The server has neither; the message names the nearest.
    """
    by_name = {tool.name: tool for tool in tools}
    tool = by_name.get(name) or by_name.get(other_name or name)
    if tool is None:
        near = get_close_matches(name, by_name, n=3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ToolNotAvailable(f"this server has no tool {name}{hint}", outcome="not_sent")
    return tool


def fit(
    tools: Iterable[Tool],
    operation: ToolOperation[Any],
    arguments: Mapping[str, Any],
    *,
    agent_id: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """
    Return a call in the words of the server that has these tools.

    Args:
        tools: The server's tools.
        operation: The operation to call.
        arguments: Its arguments, by their names on the hosted server.
        agent_id: Is added if the tool takes an ``agentId`` for the agent that speaks.

    Returns:
        The tool's name and the arguments.

    Raises:
        ToolNotAvailable: The server has no such tool.
        PreviewNotSupported: It would carry the call out instead of previewing it.
        ArgumentNotSupported: It would drop an argument silently.
    """
    tool = find_tool(tools, operation.name, operation.open_source_name)
    fitted = _renamed(tool, operation, arguments)
    _fit_confirmation(tool, fitted)
    fitted = {
        key: value
        for key, value in fitted.items()
        if key in tool.properties or not operation.is_default(key, value)
    }
    _require_arguments(tool, fitted)
    if agent_id and "agentId" in tool.properties and not operation.agent_id_is_subject:
        fitted.setdefault("agentId", agent_id)
    return tool.name, fitted


def _renamed(
    tool: Tool, operation: ToolOperation[Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    others = {
        here: there
        for here, there in operation.open_source_names.items()
        if here not in tool.properties and there in tool.properties
    }
    return {others.get(key, key): value for key, value in arguments.items()}


def _require_arguments(tool: Tool, arguments: Mapping[str, Any]) -> None:
    """
    Refuse arguments that the tool would drop silently.

    Raises:
        ArgumentNotSupported: There are such.
    """
    if not tool.properties or _takes_any_argument(tool):
        return
    missing = sorted(
        name for name in arguments if name not in tool.properties and name not in HINTS
    )
    if missing:
        raise ArgumentNotSupported(
            f"{tool.name} on this server does not know {', '.join(missing)}", outcome="not_sent"
        )


def _fit_confirmation(tool: Tool, arguments: dict[str, Any]) -> None:
    if "confirm" not in arguments or "confirm" in tool.properties:
        return
    if arguments["confirm"] is not True:
        raise PreviewNotSupported(
            f"{tool.name} on this server has no preview: it would be carried out",
            outcome="not_sent",
        )
    if _says_what_it_takes(tool):
        del arguments["confirm"]


def _says_what_it_takes(tool: Tool) -> bool:
    return isinstance(tool.input_schema.get("properties"), Mapping)


def _takes_any_argument(tool: Tool) -> bool:
    return tool.input_schema.get("additionalProperties", False) not in (False, None)
