"""Reading the results of tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buttdial_sync.errors import ProtocolError, error_from_tool_answer
from buttdial_sync.errors.scrubbing import scrub
from buttdial_sync.transport.answers import decoded_text


def answer_of(result: Mapping[str, Any], tool: str, token: str) -> Any:
    """
    Return what a tool answered: decoded JSON, or its text where it is none.

    Args:
        result: The ``result`` of ``tools/call``.
        tool: Its name, for messages.
        token: The credential, which some servers repeat in their errors.

    Raises:
        ToolError: The result is marked as an error.
        ProtocolError: It has no content. Its ``outcome`` is ``"unknown"``.
    """
    if result.get("isError") is True:
        raise error_from_tool_answer(_content(result, token))
    answer = _content(result)
    if answer is None:
        raise ProtocolError(
            f"{tool} answered without content", stage="parse", outcome="unknown", body=dict(result)
        )
    return answer


def _content(result: Mapping[str, Any], *secrets: str) -> Any:
    items = result.get("content")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("text"), str):
            return decoded_text(scrub(item["text"], secrets))
    return result.get("structuredContent")
