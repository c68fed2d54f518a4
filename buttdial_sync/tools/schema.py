"""Asking the server's own schemas before something is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from buttdial_sync.errors import ArgumentNotSupported, PreviewNotSupported, ToolNotAvailable
from buttdial_sync.models.tools import Tool
from buttdial_sync.tools.dialects import (
    FREE_TO_BE_IGNORED,
    KNOWN_EVERYWHERE,
    MEANS_ANOTHER_AGENT,
    OTHER_ARGUMENT_NAMES,
    OTHER_TOOL_NAMES,
    SENT_UNASKED,
)

_MISSING = object()


def find_tool(tools: Iterable[Tool], name: str) -> Tool:
    """
    Return the tool with this name, or with the one that the open-source server gives it.

    Raises:
        ToolNotAvailable: The server has none; the message names the nearest.
    """
    by_name = {tool.name: tool for tool in tools}
    tool = by_name.get(name) or by_name.get(OTHER_TOOL_NAMES.get(name, name))
    if tool is None:
        near = get_close_matches(name, by_name, n=3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ToolNotAvailable(f"this server has no tool {name}{hint}", outcome="not_sent")
    return tool


def require_arguments(
    tool: Tool, arguments: Mapping[str, Any], free_to_be_ignored: Collection[str] = ()
) -> None:
    """
    Refuse arguments that the tool would drop silently.

    Raises:
        ArgumentNotSupported: There are such.
    """
    if not tool.properties or _takes_any_argument(tool):
        return
    missing = sorted(
        name for name in arguments if name not in tool.properties and name not in free_to_be_ignored
    )
    if missing:
        raise ArgumentNotSupported(
            f"{tool.name} on this server does not know {', '.join(missing)}", outcome="not_sent"
        )


def needs_schema(name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a server may lack this tool, or may drop or misread one of these arguments."""
    known = KNOWN_EVERYWHERE.get(name)
    if known is None:
        return True
    unasked = SENT_UNASKED.get(name, {})
    return any(
        key not in known and key not in FREE_TO_BE_IGNORED and unasked.get(key, _MISSING) != value
        for key, value in arguments.items()
    )


def fit(
    tools: Iterable[Tool], name: str, arguments: Mapping[str, Any], *, agent_id: str | None = None
) -> tuple[str, dict[str, Any]]:
    """
    Return a call in the words of the server that has these tools.

    Args:
        tools: What the server offers.
        name: The tool's name on the hosted server.
        arguments: Its arguments, by their names there.
        agent_id: Goes along where the tool takes an ``agentId`` that says who speaks.

    Raises:
        ToolNotAvailable: The server has no such tool.
        PreviewNotSupported: It would carry out what was to be previewed.
        ArgumentNotSupported: It would drop an argument silently.
    """
    tool = find_tool(tools, name)
    fitted = _renamed(tool, name, arguments)
    _fit_confirmation(tool, fitted)
    for key, default in SENT_UNASKED.get(name, {}).items():
        if key not in tool.properties and fitted.get(key, _MISSING) == default:
            del fitted[key]
    require_arguments(tool, fitted, FREE_TO_BE_IGNORED)
    if agent_id and "agentId" in tool.properties and name not in MEANS_ANOTHER_AGENT:
        fitted.setdefault("agentId", agent_id)
    return tool.name, fitted


def _renamed(tool: Tool, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    others = {
        here: there
        for here, there in OTHER_ARGUMENT_NAMES.get(name, {}).items()
        if here not in tool.properties and there in tool.properties
    }
    return {others.get(key, key): value for key, value in arguments.items()}


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
