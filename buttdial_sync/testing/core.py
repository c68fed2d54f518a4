"""The fake server's core: a request goes in, a reply comes out. It knows no sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from buttdial_sync.testing.dialects import DialectName, find_dialect
from buttdial_sync.testing.faults import Faults, Place, RequestFault
from buttdial_sync.testing.http_messages import BrokenConnection, Reply, Request, StreamResponse
from buttdial_sync.testing.mcp_endpoint import (
    McpEndpoint,
    called_tool,
    is_call,
    parse_message,
    places_of,
)
from buttdial_sync.testing.request_log import RequestLog
from buttdial_sync.testing.rest_endpoints import RestEndpoints
from buttdial_sync.testing.sessions import ServerSessions
from buttdial_sync.testing.stream import encode_event
from buttdial_sync.testing.token_check import MISSING_HEADER, TokenCheck
from buttdial_sync.testing.tools import FakeTools
from buttdial_sync.testing.waiting_queue import WaitingQueue

_MISSING_IN_QUERY = "Missing token. Use: /sse?token=<token>"


class ServerCore:
    """The parts of a fake server, and the way of a request through them."""

    def __init__(
        self,
        dialect: DialectName,
        tokens: Iterable[str] | None,
        clock: Callable[[], datetime],
    ) -> None:
        self.dialect = find_dialect(dialect)
        self.log = RequestLog()
        self.faults = Faults()
        self.token_check = TokenCheck(self.dialect, tokens, clock)
        self.tools = FakeTools(self.dialect, self.log)
        self.sessions = ServerSessions(self.log.notify)
        self.waiting = WaitingQueue(self.dialect)
        self.mcp = McpEndpoint(self.dialect, self.log, self.faults, self.tools)
        self.rest = RestEndpoints(self.dialect, self.token_check, self.waiting, self.tools, clock)

    def handle(self, request: Request) -> Reply:
        """Answer one request. Faces call this, each request in a thread of its own."""
        if request.method == "GET" and request.path == "/sse":
            return self._open(request)
        if request.method == "POST" and request.path == self.dialect.messages_path:
            return self._post(request)
        return self._answer_rest(request)

    def clear(self) -> None:
        """Forget what has happened and what was programmed; sessions and tokens stay."""
        for part in (self.log, self.faults, self.tools, self.rest, self.waiting):
            part.clear()

    def _take_fault(
        self, request: Request, places: tuple[Place, ...], tool: str | None = None
    ) -> RequestFault | None:
        fault = self.faults.take(RequestFault, places, tool)
        if fault is None or fault.reply != BrokenConnection("refuse"):
            self.log.add(self.log.requests, request)
        return fault

    def _open(self, request: Request) -> Reply:
        fault = self._take_fault(request, ("stream",))
        if fault is not None:
            return fault.reply
        token, missing = request.bearer, MISSING_HEADER
        if self.dialect.token_in == "query":
            token, missing = request.query.get("token"), _MISSING_IN_QUERY
        refusal = self.token_check.refuse(token, missing=missing)
        if refusal is not None:
            return refusal
        session = self.sessions.open(self.dialect.new_session_id(), token)
        if not self.dialect.hosted:
            self.waiting.lose()
        endpoint = f"{self.dialect.messages_path}?{self.dialect.session_key}={session.id}"
        session.stream.send(encode_event("endpoint", endpoint))
        self.log.count("streams")
        return StreamResponse(session.stream)

    def _post(self, request: Request) -> Reply:
        message = parse_message(request.body)
        fault = self._take_fault(request, places_of(message), called_tool(message))
        if fault is not None:
            if fault.delivered and is_call(message):
                self.mcp.call_tool(message, request.bearer)
            return fault.reply
        refusal = self.token_check.refuse(request.bearer)
        if refusal is not None:
            return refusal
        session = self.sessions.by_id.get(request.query.get(self.dialect.session_key, ""))
        if session is None:
            return self.dialect.unknown_session()
        return self.mcp.take(session, request.bearer, request.body)

    def _answer_rest(self, request: Request) -> Reply:
        fault = self._take_fault(request, ("rest",))
        if fault is None:
            return self.rest.answer(request)
        if fault.delivered:
            self.rest.answer(request)
        return fault.reply
