"""The MCP desk: JSON-RPC messages that clients post, and the answers on their streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from buttdial_sync.testing.answers import text_result
from buttdial_sync.testing.dialects import Dialect
from buttdial_sync.testing.exchange import Answer, text_answer
from buttdial_sync.testing.faults import Fault, FaultBook, Place
from buttdial_sync.testing.journal import Journal
from buttdial_sync.testing.sessions import Session
from buttdial_sync.testing.stream import EventFormat
from buttdial_sync.testing.toolbox import ToolBox

MAX_POST = 4 * 1024 * 1024
PROTOCOL_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
ACCEPTED = text_answer(202, "Accepted")

_NOT_INITIALIZED = "Received request before initialization was complete"

Message = dict[str, Any]
Emit = Callable[[], object]


def parse_message(body: bytes) -> Message | None:
    """Read one JSON-RPC message; None if it is none."""
    try:
        message = json.loads(body)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def called_tool(message: Message | None) -> str | None:
    """The name of the tool that a message calls, or None."""
    if message is None or message.get("method") != "tools/call":
        return None
    return str((message.get("params") or {}).get("name", ""))


def places_of(message: Message | None) -> tuple[Place, ...]:
    """Where faults may strike a message."""
    called = message is not None and message.get("method") == "tools/call"
    return ("call", "post") if called else ("post",)


class Desk:
    """Takes what is posted to a session."""

    def __init__(
        self,
        dialect: Dialect,
        events: EventFormat,
        journal: Journal,
        faults: FaultBook,
        tools: ToolBox,
        *,
        answer_first: bool,
        page_size: int | None,
    ) -> None:
        self._dialect = dialect
        self._events = events
        self._journal = journal
        self._faults = faults
        self._tools = tools
        self.answer_first = answer_first
        self.page_size = page_size
        self._lock = threading.Lock()
        self._held: list[Emit] = []

    def carry_out(self, message: Message | None, token: str | None) -> None:
        """Carry out a call of which the client will hear nothing."""
        if message is not None and message.get("method") == "tools/call":
            self._tools.call(message.get("params") or {}, token)

    def take(self, session: Session, token: str | None, body: bytes) -> Answer:
        """Take one POST to a session."""
        if len(body) > MAX_POST:
            return text_answer(400, "PayloadTooLargeError: request entity too large")
        message = parse_message(body)
        if message is None:
            return text_answer(400, f"Invalid message: {body[:200].decode('utf-8', 'replace')}")
        if "method" not in message:
            self._journal.note(lambda journal: journal.client_answers.append(message))
            return ACCEPTED
        if "id" not in message:
            return self._notified(session, message)
        emit = self._work(session, token, message)
        if self.answer_first:
            emit()
            return ACCEPTED
        return Answer(202, ACCEPTED.body, then=emit)

    def release(self) -> int:
        """Send the answers that are held; return how many."""
        with self._lock:
            held, self._held = self._held, []
        for emit in held:
            emit()
        return len(held)

    @property
    def held(self) -> int:
        """How many answers are held."""
        return len(self._held)

    def _hold(self, emit: Emit) -> None:
        with self._lock:
            self._held.append(emit)
        self._journal.note(lambda _: None)

    def _notified(self, session: Session, message: Message) -> Answer:
        if message["method"] == "notifications/initialized":
            session.ready = session.greeted
        self._journal.note(lambda journal: journal.client_notifications.append(message))
        return ACCEPTED

    def _work(self, session: Session, token: str | None, message: Message) -> Emit:
        """Do what a request asks for; what is returned puts the answer on the stream."""
        fault = self._faults.take("answer", *places_of(message), tool=called_tool(message))
        answer: Message = {"jsonrpc": "2.0", "id": message["id"]}
        if fault is None or fault.delivered:
            answer |= self._answer(session, token, message)
        if fault is not None:
            return self._spoil(fault, session, answer)
        stream, event = session.stream, self._events.message(answer)
        return lambda: stream.send(event)

    def _spoil(self, fault: Fault, session: Session, answer: Message) -> Emit:
        if fault.kind == "silence":
            return lambda: None
        stream, event = session.stream, self._spoilt_event(fault, answer)
        if fault.kind == "cut":
            return lambda: self._cut(session, fault, event)
        if fault.kind == "late":
            return lambda: self._hold(lambda: stream.send(event))
        return lambda: stream.send(event)

    def _spoilt_event(self, fault: Fault, answer: Message) -> bytes:
        if fault.kind == "garbage":
            return self._events.event("message", str(fault.options["data"]))
        if fault.kind in {"cut", "late"}:
            return self._events.message(answer)
        return self._events.message({"jsonrpc": "2.0", "id": answer["id"], **_spoilt(fault)})

    @staticmethod
    def _cut(session: Session, fault: Fault, event: bytes) -> None:
        if fault.options["partial"]:
            session.stream.send(event[: len(event) // 2])
        session.stream.end(clean=fault.options["clean"])

    def _answer(self, session: Session, token: str | None, message: Message) -> Message:
        method, params = message["method"], message.get("params") or {}
        if method == "ping":
            return {"result": {}}
        if method == "initialize":
            session.greeted = True
            return {"result": self._hello(params)}
        if not session.ready:
            return _error(-32602, _NOT_INITIALIZED)
        if method == "tools/list":
            return self._list(params)
        if method == "tools/call":
            return {"result": self._tools.call(params, token)}
        return _error(-32601, "Method not found")

    def _hello(self, params: Mapping[str, Any]) -> Message:
        asked = params.get("protocolVersion")
        return {
            "protocolVersion": asked if asked in PROTOCOL_VERSIONS else PROTOCOL_VERSIONS[0],
            "capabilities": {"tools": {"listChanged": True}, "logging": {}},
            "serverInfo": {
                "name": self._dialect.server_name,
                "version": self._dialect.server_version,
            },
        }

    def _list(self, params: Mapping[str, Any]) -> Message:
        tools = self._tools.tools
        if self.page_size is None:
            return {"result": {"tools": tools}}
        cursor = str(params.get("cursor") or "0")
        if not cursor.isdigit():
            return _error(-32602, "Invalid cursor")
        end = int(cursor) + self.page_size
        result: Message = {"tools": tools[int(cursor) : end]}
        if end < len(tools):
            result["nextCursor"] = str(end)
        return {"result": result}


def _error(code: int, text: str) -> Message:
    return {"error": {"code": code, "message": text}}


def _spoilt(fault: Fault) -> Message:
    options = fault.options
    if fault.kind == "huge":
        return {"result": text_result("x" * int(options["size"]))}
    if fault.kind == "no_content":
        return {"result": {}}
    data = {} if options["data"] is None else {"data": options["data"]}
    return {"error": {"code": options["code"], "message": options["message"], **data}}
