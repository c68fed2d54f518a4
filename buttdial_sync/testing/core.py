"""The fake server's core: a request goes in, a reply comes out. It knows no sockets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from datetime import datetime

from buttdial_sync.errors.moments import utc_now
from buttdial_sync.testing.desk import Desk, called_tool, parse_message, places_of
from buttdial_sync.testing.dialects import DialectName, TokenIn, find_dialect
from buttdial_sync.testing.exchange import OpenStream, Reply, Request
from buttdial_sync.testing.faults import Fault, FaultBook, Place, http_reply, rest_reply
from buttdial_sync.testing.gate import Gate
from buttdial_sync.testing.journal import Journal
from buttdial_sync.testing.rest import Rest, unknown_endpoint
from buttdial_sync.testing.sessions import Sessions
from buttdial_sync.testing.stream import EventFormat
from buttdial_sync.testing.toolbox import ToolBox
from buttdial_sync.testing.workspace import Workspace

_MISSING_IN_QUERY = "Missing token. Use: /sse?token=<token>"
_MISSING_HEADER = "Missing Authorization header. Use: Bearer <token>"


class Core:
    """The parts of a fake server, and the way of a request through them."""

    def __init__(
        self,
        *,
        dialect: DialectName = "hosted",
        token_in: TokenIn | None = None,
        tokens: Iterable[str] | None = None,
        line_ending: str = "\n",
        absolute_endpoint: bool = False,
        base_path: str = "",
        answer_first: bool = False,
        page_size: int | None = None,
        split_data: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if token_in not in {None, "header", "query"}:
            msg = f"token_in must be 'header' or 'query', not {token_in!r}"
            raise ValueError(msg)
        self._dialect = find_dialect(dialect)
        self.token_in: TokenIn = token_in or self._dialect.token_in
        self.base_path = base_path.rstrip("/")
        self.absolute_endpoint = absolute_endpoint
        self._events = EventFormat(line_ending, split_data=split_data)
        self._journal = Journal()
        self._faults = FaultBook()
        self._gate = Gate(self._dialect, tokens, clock)
        self._tools = ToolBox(self._dialect, self._journal)
        self._sessions = Sessions(self._events, lambda: self._journal.note(lambda _: None))
        self._rest = Rest(self._dialect, Workspace(self._dialect, self._gate, clock))
        self._waiting_ids = itertools.count(1)
        self._desk = Desk(
            self._dialect,
            self._events,
            self._journal,
            self._faults,
            self._tools,
            answer_first=answer_first,
            page_size=page_size,
        )

    def handle(self, request: Request) -> Reply:
        """Answer one request. Faces call this, each request in a thread of its own."""
        path = self._inside(request.path)
        if request.method == "GET" and path == "/sse":
            return self._open(request)
        if request.method == "POST" and path == self._dialect.messages_path:
            return self._post(request)
        return self._answer_rest(request, path)

    def connected(self) -> None:
        """Count a connection."""
        self._journal.note(_count_connection)

    def _inside(self, path: str) -> str:
        return path[len(self.base_path) :] if path.startswith(self.base_path + "/") else ""

    def _open(self, request: Request) -> Reply:
        fault = self._strike(request, "stream")
        if fault is not None:
            return http_reply(fault)
        token = request.query.get("token") if self.token_in == "query" else request.bearer
        missing = _MISSING_IN_QUERY if self.token_in == "query" else _MISSING_HEADER
        refusal = self._gate.refuse(token, missing=missing)
        if refusal is not None:
            return refusal
        session = self._sessions.open(self._dialect.new_session_id(), token)
        if not self._dialect.hosted:
            self._lose_waiting()
        fault = self._faults.take("open", "stream")
        if fault is None or fault.kind != "no_endpoint":
            endpoint = self._endpoint(session.id, request.origin, fault)
            session.stream.send(self._events.event("endpoint", endpoint))
        self._journal.note(_count_stream)
        return OpenStream(session.stream)

    def _endpoint(self, session_id: str, origin: str, fault: Fault | None) -> str:
        path = f"{self.base_path}{self._dialect.messages_path}"
        reference = f"{path}?{self._dialect.session_key}={session_id}"
        if fault is not None:
            return f"{fault.options['origin']}{reference}"
        return f"{origin}{reference}" if self.absolute_endpoint else reference

    def _post(self, request: Request) -> Reply:
        message = parse_message(request.body) if self._faults else None
        fault = self._strike(request, *places_of(message), tool=called_tool(message))
        if fault is not None:
            if fault.options.get("delivered"):
                self._desk.carry_out(message, request.bearer)
            return http_reply(fault)
        refusal = self._gate.refuse(request.bearer, missing=_MISSING_HEADER)
        if refusal is not None:
            return refusal
        session = self._sessions.find(request.query.get(self._dialect.session_key))
        if session is None:
            return self._dialect.unknown_session()
        return self._desk.take(session, request.bearer, request.body)

    def _answer_rest(self, request: Request, path: str) -> Reply:
        fault = self._strike(request, "rest")
        if fault is not None:
            if fault.options.get("delivered"):
                self._carry_out_rest(request, path)
            return http_reply(fault)
        return self._carry_out_rest(request, path)

    def _carry_out_rest(self, request: Request, path: str) -> Reply:
        inner = Request(request.method, path, request.query, request.headers, request.body)
        found = self._rest.find(inner)
        if found is None:
            return unknown_endpoint(request)
        route, params = found
        if not route.public:
            refusal = self._gate.refuse(request.bearer, missing=_MISSING_HEADER)
            if refusal is not None:
                return refusal
        spoilt = self._faults.take("answer", "rest")
        return rest_reply(spoilt) if spoilt else self._rest.answer(route, params, inner)

    def _strike(self, request: Request, *places: Place, tool: str | None = None) -> Fault | None:
        fault = self._faults.take("http", *places, tool=tool)
        if fault is None or fault.kind != "refuse":
            posted = "post" in places
            self._journal.note(lambda journal: _count_request(journal, request, posted=posted))
        return fault

    def _lose_waiting(self) -> None:
        with self._rest.state.lock:
            lost = len(self._rest.state.waiting)
            self._rest.state.waiting.clear()
        self._journal.note(lambda journal: _count_lost(journal, lost))


def _count_connection(journal: Journal) -> None:
    journal.connections += 1


def _count_stream(journal: Journal) -> None:
    journal.streams_opened += 1


def _count_lost(journal: Journal, lost: int) -> None:
    journal.lost_waiting += lost


def _count_request(journal: Journal, request: Request, *, posted: bool) -> None:
    journal.requests.append(request)
    journal.posts += posted
