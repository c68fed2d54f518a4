"""The fake server's core: a request goes in, a reply comes out. It knows no sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from buttdial_sync.testing.dialects import DialectName, find_dialect
from buttdial_sync.testing.faults import Faults, Place, RequestFault
from buttdial_sync.testing.http_messages import (
    BrokenConnection,
    HttpResponse,
    Reply,
    Request,
    StreamResponse,
)
from buttdial_sync.testing.mcp_endpoint import (
    McpEndpoint,
    call_of,
    parse_message,
    places_of,
)
from buttdial_sync.testing.request_log import RequestLog, ToolCall
from buttdial_sync.testing.rest_endpoints import RestEndpoints, message_of
from buttdial_sync.testing.sessions import ServerSession, ServerSessions
from buttdial_sync.testing.stream import encode_event
from buttdial_sync.testing.token_check import MISSING_HEADER, TokenCheck
from buttdial_sync.testing.tools import FakeTools
from buttdial_sync.testing.waiting_queue import WaitingQueue
from buttdial_sync.testing.workspace import Workspace

_MISSING_IN_QUERY = "Missing token. Use: /sse?token=<token>"


class ServerCore:
    """The parts of a fake server, and the way of a request through them."""

    def __init__(
        self,
        dialect: DialectName,
        tokens: Iterable[str] | Mapping[str, str] | None,
        clock: Callable[[], datetime],
    ) -> None:
        self.dialect = find_dialect(dialect)
        self.log = RequestLog()
        self.faults = Faults()
        self.token_check = TokenCheck(self.dialect, tokens, clock)
        workspace = Workspace(self.dialect, self.token_check, clock)
        if isinstance(tokens, Mapping):
            workspace.agent_ids = dict(tokens)
        self.tools = FakeTools(self.dialect, self.log, workspace)
        self.sessions = ServerSessions(self.log.notify)
        self.waiting = WaitingQueue(self.dialect)
        self.mcp = McpEndpoint(self.dialect, self.log, self.faults, self.tools)
        self.rest = RestEndpoints(workspace, self.token_check, self.waiting, self.tools)

    def handle(self, request: Request) -> Reply:
        """Answer one request. Faces call this, each request in a thread of its own."""
        if request.method == "GET" and request.path == "/sse":
            return self._open(request)
        if request.method == "POST" and request.path == self.dialect.messages_path:
            return self._post(request)
        return self._answer_rest(request)

    def clear(self) -> None:
        """Forget what has happened and what was programmed; sessions and tokens stay."""
        parts = (self.log, self.faults, self.tools, self.rest, self.waiting, self.mcp)
        for part in (*parts, self.token_check):
            part.clear()

    def _take_fault(
        self,
        request: Request,
        places: tuple[Place, ...],
        call: ToolCall | None = None,
    ) -> RequestFault | None:
        """Record a request, and the call in it, and return the fault that strikes it."""
        fault = self.faults.take(RequestFault, places, None if call is None else call.tool)
        if fault is None or fault.reply != BrokenConnection("refuse"):
            self.log.add_request(request, call)
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
            self.waiting.lose(self.rest.workspace.agent_id_of(token))
        endpoint = f"{self.dialect.messages_path}?{self.dialect.session_key}={session.id}"
        session.stream.send(encode_event("endpoint", endpoint))
        self.log.count("streams")
        return StreamResponse(session.stream)

    def _post(self, request: Request) -> Reply:
        message = parse_message(request.body)
        call = call_of(message, request.bearer)
        fault = self._take_fault(request, places_of(call), call)
        if fault is not None:
            if fault.delivered and call is not None and self._admits(request):
                self.mcp.call_tool(message, call)
            return fault.reply
        entered = self._enter(request)
        if isinstance(entered, ServerSession):
            return self.mcp.take(entered, message, call, request.body)
        return entered

    def _admits(self, request: Request) -> bool:
        return isinstance(self._enter(request), ServerSession)

    def _enter(self, request: Request) -> ServerSession | HttpResponse:
        """Find the session that a request may post to, or refuse it."""
        refusal = self.token_check.refuse(request.bearer)
        if refusal is not None:
            return refusal
        session = self.sessions.by_id.get(request.query.get(self.dialect.session_key, ""))
        return session or self.dialect.unknown_session()

    def _answer_rest(self, request: Request) -> Reply:
        message = message_of(request)
        fault = self._take_fault(request, ("rest",), message)
        if fault is None:
            return self.rest.answer(request, message)
        if fault.delivered:
            self.rest.answer(request, message)
        return fault.reply
