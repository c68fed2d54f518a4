"""What a tool answers: its programmed answer, or a small one of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from buttdial_sync.testing.dialects import Dialect


class ToolFailure(Exception):  # noqa: N818 - a tool's failure is an answer, not a mistake of ours
    """
    A failure that a tool reports: an answer with ``isError``.

    Give it to ``on_tool`` as the answer, or raise or return it in a callable.

    Args:
        error: The text, or an object with the details.
        code: The error's code, as the hosted service adds it.
        **extra: Further keys of the answer, with their wire names.
    """

    def __init__(self, error: object, code: str | None = None, **extra: Any) -> None:
        super().__init__(error)
        self.error = error
        self.code = code
        self.extra = extra

    def as_dict(self) -> dict[str, Any]:
        """The answer's JSON object."""
        code = {} if self.code is None else {"code": self.code}
        return {"error": self.error, **code, **self.extra}


Args: TypeAlias = Mapping[str, Any]
Content: TypeAlias = dict[str, Any] | str
ToolAnswer: TypeAlias = Content | ToolFailure | Callable[[dict[str, Any]], Content | ToolFailure]


def text_result(text: str) -> dict[str, Any]:
    """A ``tools/call`` result that holds a text."""
    return {"content": [{"type": "text", "text": text}]}


def error_result(text: str) -> dict[str, Any]:
    """A ``tools/call`` result that holds a failure's text."""
    return {**text_result(text), "isError": True}


def as_result(dialect: Dialect, content: Content | ToolFailure) -> dict[str, Any]:
    """Make a ``tools/call`` result."""
    if isinstance(content, ToolFailure):
        return error_result(dialect.text(content.as_dict()))
    return text_result(content if isinstance(content, str) else dialect.text(content))


def evaluate(answer: ToolAnswer, args: dict[str, Any]) -> Content | ToolFailure:
    """Find out what an answer says to these arguments."""
    if isinstance(answer, ToolFailure) or not callable(answer):
        return answer
    try:
        return answer(args)
    except ToolFailure as failure:
        return failure


def _call_started(args: Args) -> Content:
    return {
        "callSid": "CA00000000000000000000000000000001",
        "sessionId": "session-1",
        "status": "initiated",
        "from": "+15550000000",
        "to": str(args.get("to", args.get("target", ""))),
    }


DEFAULT_ANSWERS: Mapping[str, ToolAnswer] = {
    "comms_ping": {"status": "ok"},
    "comms_make_call": _call_started,
    "comms_call_on_behalf": _call_started,
    "comms_verify_otp": {"valid": True},
    "comms_list_sessions": {"sessions": []},
}
"""The answers of tools that have more to say than ``{"ok": true}``: add a row for another."""


def default_answer(tool: str) -> ToolAnswer:
    """What a tool answers that nobody programmed."""
    return DEFAULT_ANSWERS.get(tool, {"ok": True, "tool": tool})
