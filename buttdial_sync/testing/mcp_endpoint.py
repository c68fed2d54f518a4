"""The MCP endpoint: JSON-RPC messages that clients post, and the answers on their streams."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from typing import Any

from buttdial_sync.testing.dialects import Dialect
from buttdial_sync.testing.faults import AnswerFault, Faults, Place
from buttdial_sync.testing.http_messages import HttpResponse, text_response
from buttdial_sync.testing.request_log import RequestLog, ToolCall
from buttdial_sync.testing.sessions import ServerSession
from buttdial_sync.testing.stream import ServerStream, encode_message
from buttdial_sync.testing.tools import FakeTools

MAX_POST = 4 * 1024 * 1024
PROTOCOL_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")

_ACCEPTED = text_response(202, "Accepted")
_BEFORE_READY = {"initialize", "ping"}

Message = dict[str, Any]
Method = Callable[[ServerSession, Message], Message]


def parse_message(body: bytes) -> Message | None:
    """Read one JSON-RPC message; None if the body is not one."""
    try:
        message = json.loads(body)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def call_of(message: Message | None, token: str | None) -> ToolCall | None:
    """The call in a message that is a ``tools/call``, else None."""
    if message is None or message.get("method") != "tools/call":
        return None
    params = message.get("params") or {}
    given = params.get("arguments")
    return ToolCall(str(params.get("name", "")), given if isinstance(given, dict) else {}, token)


def places_of(call: ToolCall | None) -> tuple[Place, ...]:
    """Where faults may strike a message with this call, or with none."""
    return ("post",) if call is None else ("call", "post")


class McpEndpoint:
    """
    Takes what is posted to a session.

    Attributes:
        methods: The JSON-RPC methods that it knows. Each gets the session and the whole message,
            and returns an object with the key ``result`` or ``error``.
    """

    def __init__(self, dialect: Dialect, log: RequestLog, faults: Faults, tools: FakeTools) -> None:
        self._dialect = dialect
        self._log = log
        self._faults = faults
        self._tools = tools
        self._lock = threading.Lock()
        self._held: list[tuple[ServerStream, bytes]] = []
        self.methods: dict[str, Method] = {
            "ping": lambda _session, _message: {"result": {}},
            "initialize": self._initialize,
            "tools/list": self._list_tools,
        }

    def take(
        self, session: ServerSession, message: Message | None, call: ToolCall | None, body: bytes
    ) -> HttpResponse:
        """Take one POST to a session; the answer follows on the stream."""
        if len(body) > MAX_POST:
            return text_response(400, "PayloadTooLargeError: request entity too large")
        if message is None:
            return text_response(400, f"Invalid message: {body[:200].decode('utf-8', 'replace')}")
        if "method" not in message:
            return _ACCEPTED
        if "id" not in message:
            if message["method"] == "notifications/initialized":
                session.ready = session.greeted
            return _ACCEPTED
        return HttpResponse(202, _ACCEPTED.body, then=self._answer(session, call, message))

    def call_tool(self, message: Message | None, call: ToolCall) -> Message:
        """Carry out a ``tools/call``, and return its result."""
        return self._tools.call(call, ((message or {}).get("params") or {}).get("arguments"))

    @property
    def held(self) -> int:
        """How many answers are held."""
        return len(self._held)

    def release(self) -> int:
        """Send the answers that are held; return how many."""
        with self._lock:
            held, self._held = self._held, []
        for stream, event in held:
            stream.send(event)
        return len(held)

    def clear(self) -> None:
        """Forget the answers that are held."""
        with self._lock:
            self._held = []

    def _hold(self, stream: ServerStream, event: bytes) -> None:
        with self._lock:
            self._held.append((stream, event))
        self._log.notify()

    def _answer(
        self, session: ServerSession, call: ToolCall | None, message: Message
    ) -> Callable[[], object]:
        """Do what a request asks for; what is returned puts the answer on the stream."""
        tool = None if call is None else call.tool
        fault = self._faults.take(AnswerFault, places_of(call), tool)
        answer: Message = {"jsonrpc": "2.0", "id": message["id"]}
        if fault is None or fault.delivered:
            answer |= self._carry_out(session, call, message)
        if fault is not None and fault.emit is not None:
            return functools.partial(fault.emit, session.stream, answer)
        send = (
            session.stream.send if fault is None else functools.partial(self._hold, session.stream)
        )
        return functools.partial(send, encode_message(answer))

    def _carry_out(
        self, session: ServerSession, call: ToolCall | None, message: Message
    ) -> Message:
        method = message["method"]
        if not session.ready and method not in _BEFORE_READY:
            return _error(-32602, "Received request before initialization was complete")
        if call is not None:
            return {"result": self.call_tool(message, call)}
        known = self.methods.get(method)
        return _error(-32601, "Method not found") if known is None else known(session, message)

    def _initialize(self, session: ServerSession, message: Message) -> Message:
        session.greeted = True
        asked = (message.get("params") or {}).get("protocolVersion")
        return {
            "result": {
                "protocolVersion": asked if asked in PROTOCOL_VERSIONS else PROTOCOL_VERSIONS[0],
                "capabilities": {"tools": {"listChanged": True}, "logging": {}},
                "serverInfo": {
                    "name": self._dialect.server_name,
                    "version": self._dialect.server_version,
                },
            }
        }

    def _list_tools(self, _session: ServerSession, _message: Message) -> Message:
        return {"result": {"tools": list(self._tools.schemas.values())}}


def _error(code: int, text: str) -> Message:
    return {"error": {"code": code, "message": text}}
