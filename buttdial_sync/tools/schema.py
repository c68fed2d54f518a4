"""Asking the server's own schemas before something is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from buttdial_sync.errors import ArgumentNotSupported, ToolNotAvailable
from buttdial_sync.models.tools import Tool


def find_tool(tools: Iterable[Tool], name: str) -> Tool:
    """
    Return the tool with this name.

    Raises:
        ToolNotAvailable: The server has none; the message names the nearest.
    """
    by_name = {tool.name: tool for tool in tools}
    if name not in by_name:
        near = get_close_matches(name, by_name, n=3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ToolNotAvailable(f"this server has no tool {name}{hint}", outcome="not_sent")
    return by_name[name]


def require_arguments(
    tool: Tool, arguments: Mapping[str, Any], free_to_be_ignored: Collection[str] = ()
) -> None:
    """
    Refuse arguments that the tool would drop silently.

    Raises:
        ArgumentNotSupported: There are such.
    """
    if not tool.properties:
        return
    missing = sorted(
        name for name in arguments if name not in tool.properties and name not in free_to_be_ignored
    )
    if missing:
        raise ArgumentNotSupported(
            f"{tool.name} on this server does not know {', '.join(missing)}", outcome="not_sent"
        )
