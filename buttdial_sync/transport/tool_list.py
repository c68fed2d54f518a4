"""The tools of a server, asked for once per session."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from buttdial_sync.errors import ProtocolError
from buttdial_sync.models.converter import structure
from buttdial_sync.models.tools import Tool
from buttdial_sync.transport.deadline import Deadline

logger = logging.getLogger("buttdial_sync.session")

Request = Callable[[str, dict[str, Any], Deadline], dict[str, Any]]


class ToolList:
    """
    The tools of one session. Safe to share between threads; two that ask at once both ask.

    Args:
        request: Asks the server.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._changes = 0
        # With the number of changes before they were asked for.
        self._known: tuple[int, list[Tool]] | None = None

    def get(self, deadline: Deadline) -> list[Tool]:
        """Return the tools with their schemas, all pages."""
        known, changes = self._known, self._changes
        if known is None or known[0] != changes:
            tools = [tool for each in self._all_pages(deadline) if (tool := _tool_of(each))]
            known = self._known = changes, tools
        return known[1]

    def changed(self) -> None:
        """Forget what is known, also what is being fetched now."""
        self._changes += 1

    def _all_pages(self, deadline: Deadline) -> list[dict[str, Any]]:
        tools: list[dict[str, Any]] = []
        cursors: list[str] = []
        while True:
            page = self._request("tools/list", {"cursor": cursors[-1]} if cursors else {}, deadline)
            listed, cursor = page.get("tools"), page.get("nextCursor")
            if isinstance(listed, list):
                tools += [tool for tool in listed if isinstance(tool, dict)]
            if not isinstance(cursor, str) or not cursor or cursor in cursors:
                return tools
            cursors.append(cursor)


def _tool_of(described: dict[str, Any]) -> Tool | None:
    """Return a tool; None if its description is malformed, which must not hide the others."""
    try:
        return structure(described, Tool, source="tools/list")
    except ProtocolError as error:
        logger.warning("left out a tool: %s", error.message)
        return None
