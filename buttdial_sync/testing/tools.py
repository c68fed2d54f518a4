"""``tools/call``: check the arguments, carry the call out, remember it."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import attrs

from buttdial_sync.calls.sending import check_accepted
from buttdial_sync.errors import ButtDialError
from buttdial_sync.testing.dialects import Dialect
from buttdial_sync.testing.request_log import RequestLog, ToolCall
from buttdial_sync.testing.tool_answers import (
    Content,
    NewToken,
    ToolAnswer,
    ToolFailure,
    as_result,
    default_answer,
    error_result,
    evaluate,
    text_result,
)
from buttdial_sync.testing.tool_schemas import complaint, tools_of, understood
from buttdial_sync.testing.workspace import Workspace

SEND_MESSAGE = "comms_send_message"

_SENDERS = {"email": "agent@butt-dial.test", "line": "U00000000"}
_PHONE = "+15550000000"


@attrs.frozen
class SendAnswer:
    """A programmed answer to ``comms_send_message``."""

    sid: str | None = None
    failure: ToolFailure | None = None
    raw_text: str | None = None


@attrs.define(eq=False)
class _Kept:
    """The answer to the message with one key, once it was sent."""

    lock: threading.Lock = attrs.field(factory=threading.Lock)
    result: dict[str, Any] | None = None


class FakeTools:
    """
    The tools of one server.

    Attributes:
        schemas: The tools: name to what ``tools/list`` says about it.
        answers: The programmed answers, by the tools' names.
    """

    def __init__(self, dialect: Dialect, log: RequestLog, workspace: Workspace) -> None:
        self.schemas = tools_of(dialect)
        self.answers: dict[str, ToolAnswer] = {}
        self._dialect = dialect
        self._log = log
        self._workspace = workspace
        self._lock = threading.Lock()
        self._sends: deque[SendAnswer] = deque()
        self._kept: dict[tuple[str | None, str], _Kept] = {}
        self._last_sid = 0

    def check_name(self, name: str) -> None:
        """Raise a ValueError that names the nearest, if the server has no such tool."""
        if name not in self.schemas:
            near = get_close_matches(name, self.schemas, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise ValueError(f"the {self._dialect.name} server has no tool {name!r}{hint}")

    def on_send(self, answer: SendAnswer, count: int) -> None:
        """Program the answers to the next ``count`` messages."""
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        with self._lock:
            self._sends.extend([answer] * count)

    def clear(self) -> None:
        """Forget the programmed answers and the keys of messages."""
        with self._lock:
            self.answers.clear()
            self._sends.clear()
            self._kept.clear()

    def call(self, call: ToolCall, given: object) -> dict[str, Any]:
        """
        Carry out a call, and return its result.

        Args:
            call: The call.
            given: Its arguments as they came, which may be anything.
        """
        tool = self.schemas.get(call.tool)
        if tool is None:
            return error_result(f"MCP error -32602: Tool {call.tool} not found")
        problem = complaint(tool, given)
        if problem:
            return error_result(
                "MCP error -32602: Input validation error: "
                f"Invalid arguments for tool {call.tool}: {problem}"
            )
        return self._carry_out(call, tool.get("inputSchema", {}))

    def _carry_out(self, call: ToolCall, schema: Mapping[str, Any]) -> dict[str, Any]:
        args = dict(call.args)
        if not self._dialect.hosted:
            args = understood(schema, args)
            if _has_carriage_return(args):
                failure = ToolFailure("Invalid input: control characters are not allowed")
                return self._result(failure)
        if call.tool == SEND_MESSAGE:
            return self._send_once(call, args)
        if call.tool in self.answers:
            return self._result(evaluate(self.answers[call.tool], args))
        content = evaluate(default_answer(call.tool), args)
        return self._result(self._with_tokens(content, call))

    def _with_tokens(self, content: Content | ToolFailure, call: ToolCall) -> Content | ToolFailure:
        """Make the tokens of a default answer: good ones, another at each call."""
        if not isinstance(content, dict):
            return content
        made = {key: value for key, value in content.items() if isinstance(value, NewToken)}
        return {**content, **{key: self._new_token(made[key], call) for key in made}}

    def _new_token(self, kind: NewToken, call: ToolCall) -> str:
        if kind is NewToken.ROTATED:
            return self._workspace.rotate(call.token)
        return self._workspace.new_token(kind.value)

    def _result(self, content: dict[str, Any] | str | ToolFailure) -> dict[str, Any]:
        return as_result(self._dialect, content)

    def _send_once(self, call: ToolCall, args: dict[str, Any]) -> dict[str, Any]:
        key = call.idempotency_key if self._dialect.hosted else None
        if key is None:
            return self._deliver(call, args)
        with self._lock:
            kept = self._kept.setdefault((call.token, key), _Kept())
        # Held while sending, so that of two calls at the same time with one key one delivers.
        with kept.lock:
            if kept.result is not None:
                return kept.result
            result = self._deliver(call, args)
            if _is_accepted(result):
                kept.result = result
            return result

    def _deliver(self, call: ToolCall, args: dict[str, Any]) -> dict[str, Any]:
        result = self._send(call, args)
        if _is_accepted(result):
            self._log.add_delivered(call)
        return result

    def _send(self, call: ToolCall, args: dict[str, Any]) -> dict[str, Any]:
        if SEND_MESSAGE in self.answers:
            return self._result(evaluate(self.answers[SEND_MESSAGE], args))
        with self._lock:
            answer = self._sends.popleft() if self._sends else SendAnswer()
            self._last_sid += 1
            sid = answer.sid or f"SM{self._last_sid:032x}"
        if answer.raw_text is not None:
            return (error_result if answer.failure else text_result)(answer.raw_text)
        return self._result(answer.failure or self._receipt(sid, call))

    def _receipt(self, sid: str, call: ToolCall) -> dict[str, Any]:
        if self._dialect.hosted:
            return {"messageId": sid}
        channel = call.channel or "whatsapp"
        return {
            "success": True,
            "externalId": sid,
            "status": "sent",
            "cost": 0.0079,
            "channel": channel,
            "from": _SENDERS.get(channel, _PHONE),
            "to": call.to,
        }


def _is_accepted(result: Mapping[str, Any]) -> bool:
    """Whether a client takes a result for a message that was sent."""
    try:
        check_accepted(None if result.get("isError") else json.loads(result["content"][0]["text"]))
    except (ValueError, RecursionError, ButtDialError):
        return False
    return True


def _has_carriage_return(value: object) -> bool:
    if isinstance(value, str):
        return "\r" in value
    if isinstance(value, dict):
        return any(map(_has_carriage_return, value.values()))
    return isinstance(value, list) and any(map(_has_carriage_return, value))
