"""Reading the results of tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from buttdial_sync.errors import ProtocolError, error_from_tool_answer


def answer_of(result: Mapping[str, Any], tool: str) -> Any:
    """
    Return what a tool answered: decoded JSON, or its text where it is none.

    Args:
        result: The ``result`` of ``tools/call``.
        tool: Its name, for messages.

    Raises:
        ToolError: The result is marked as an error.
        ProtocolError: It has no content. Its ``outcome`` is ``"unknown"``.
    """
    answer = _content(result)
    if result.get("isError") is True:
        raise error_from_tool_answer(answer)
    if answer is None:
        raise ProtocolError(
            f"{tool} answered without content", stage="parse", outcome="unknown", body=dict(result)
        )
    return answer


def _content(result: Mapping[str, Any]) -> Any:
    items = result.get("content")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("text"), str):
            return _decoded(item["text"])
    return result.get("structuredContent")


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
