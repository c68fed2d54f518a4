"""Asking the server's own schemas before something is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from buttdial_sync.calls.operation import HINTS, ToolOperation
from buttdial_sync.errors import (
    ArgumentNotSupported,
    ArgumentValueError,
    PreviewNotSupported,
    ToolNotAvailable,
)
from buttdial_sync.models.tools import Tool

_PREFIX = "comms_"  # all tools have it, so it makes none of them like another
_ALIKE = 0.75


def find_tool(tools: Iterable[Tool], name: str, other_name: str | None = None) -> Tool:
    """
    Return the tool with this name, else with the other one.

    Raises:
        ToolNotAvailable: The server has neither; the message names the nearest.
    """
    by_name = {tool.name: tool for tool in tools}
    tool = by_name.get(name) or by_name.get(other_name or name)
    if tool is None:
        near = nearest_names(name, by_name)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ToolNotAvailable(f"this server has no tool {name}{hint}", outcome="not_sent")
    return tool


def nearest_names(name: str, tools: Iterable[str]) -> list[str]:
    """Return the names of the tools that a misspelt one may mean, the nearest first."""
    short = {each.removeprefix(_PREFIX): each for each in tools}
    near = get_close_matches(name.removeprefix(_PREFIX), short, cutoff=_ALIKE)
    return [short[each] for each in near]


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
        ArgumentNotSupported: It would drop an argument silently, or a key inside of one.
        ArgumentValueError: It requires an argument that is not there.
    """
    try:
        tool = find_tool(tools, operation.name, operation.open_source_name)
    except ToolNotAvailable as error:
        error.remediation = operation.without_tool or error.remediation
        raise
    fitted = _renamed(tool, operation, arguments)
    _fit_confirmation(tool, fitted)
    fitted = {
        key: value
        for key, value in fitted.items()
        if key in tool.properties or not operation.is_default(key, value)
    }
    _refuse_dropped(tool, fitted)
    _require(tool, fitted)
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


def dropped_keys(schema: Mapping[str, Any], value: Any) -> Iterator[str]:
    """
    Yield the keys that a server with this schema would drop silently.

    Args:
        schema: The JSON schema of the value. Where it says nothing, anything is taken.
        value: A JSON value.

    Yields:
        The keys; one inside of another as in ``limits.maxActions``.
    """
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for item in value:
            yield from dropped_keys(schema["items"], item)
    properties = schema.get("properties")
    if not (isinstance(value, Mapping) and isinstance(properties, Mapping) and properties):
        return
    if schema.get("additionalProperties", False) not in (False, None):
        return
    for key, item in value.items():
        if key not in properties:
            yield key
        elif isinstance(properties[key], Mapping):
            yield from (f"{key}.{inner}" for inner in dropped_keys(properties[key], item))


def _refuse_dropped(tool: Tool, arguments: Mapping[str, Any]) -> None:
    dropped = sorted({*dropped_keys(tool.input_schema, arguments)} - HINTS)
    if dropped:
        raise ArgumentNotSupported(
            f"{tool.name} on this server does not know {', '.join(dropped)}", outcome="not_sent"
        )


def _require(tool: Tool, arguments: Mapping[str, Any]) -> None:
    required = tool.input_schema.get("required")
    names: Collection[Any] = required if isinstance(required, list) else ()
    # Whether the agent has to be named depends on the token, and the server's answer says it.
    missing = [name for name in names if name not in arguments and name != "agentId"]
    if missing:
        raise ArgumentValueError(
            f"{tool.name} on this server requires {', '.join(map(str, missing))}",
            remediation="Give it too: this server refuses the call without it.",
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
