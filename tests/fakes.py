"""
What only our own tests do to the fake server: rare trouble, other ways to speak, inside views.

The functions use ``fake.core``, the parts of the fake server, which is not for hosts.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, get_args

import attrs

from buttdial_sync.testing import FakeButtDialServer, FaultKind, LoopbackServer, Place, Request
from buttdial_sync.testing.dialects import find_dialect
from buttdial_sync.testing.fake import FakeServer
from buttdial_sync.testing.faults import AnswerFault, Emit, RequestFault
from buttdial_sync.testing.http_messages import (
    JSON_TYPE,
    HttpResponse,
    RawResponse,
    Reply,
    StreamResponse,
    json_response,
)
from buttdial_sync.testing.mcp_endpoint import Message
from buttdial_sync.testing.sessions import ServerSession
from buttdial_sync.testing.stream import ServerStream, encode_event, encode_message
from buttdial_sync.testing.tool_answers import text_result
from buttdial_sync.testing.tool_schemas import ToolSchema, tools_of
from buttdial_sync.testing.workspace import Refusal, RestCall, RestEndpoint, Workspace

_ELSEWHERE: Final = "https://elsewhere.example"
_CHUNK: Final = 65536
_NEEDS_AGENT: Final = (
    "Missing agentId. It is auto-detected from your API key. If using an admin/org token, pass "
    "agentId in the request."
)


def set_tools(
    fake: FakeServer, wanted: Iterable[str | ToolSchema], *, announce: bool = False
) -> None:
    """
    Let the server have these tools and no others.

    Args:
        fake: The server.
        wanted: Names, or objects as ``tools/list`` sends them. A name that the dialect lacks gets a
            schema that allows everything.
        announce: Send ``notifications/tools/list_changed`` to the open streams.
    """
    known = tools_of(find_dialect(fake.dialect))
    schemas: dict[str, ToolSchema] = {}
    for each in wanted:
        if isinstance(each, str):
            bare = {"name": each, "inputSchema": {"type": "object", "properties": {}}}
            schemas[each] = known.get(each, bare)
        else:
            schemas[str(each["name"])] = each
    fake.core.tools.schemas = schemas
    if announce:
        fake.push({"method": "notifications/tools/list_changed"})


def page_tools(fake: FakeServer, size: int) -> None:
    """Let ``tools/list`` come in pages of this size."""

    def list_tools(_session: ServerSession, message: Message) -> Message:
        tools = list(fake.core.tools.schemas.values())
        cursor = str((message.get("params") or {}).get("cursor") or "0")
        if not cursor.isdigit():
            return {"error": {"code": -32602, "message": "Invalid cursor"}}
        end = int(cursor) + size
        result: Message = {"tools": tools[int(cursor) : end]}
        if end < len(tools):
            result["nextCursor"] = str(end)
        return {"result": result}

    fake.core.mcp.methods["tools/list"] = list_tools


class PrefixedServer(FakeButtDialServer):
    """A server that lives under a path, such as ``/bd``."""

    def __init__(self, prefix: str, **options: Any) -> None:
        super().__init__(**options)
        self._prefix = prefix
        dialect = self.core.dialect
        self.core.dialect = attrs.evolve(dialect, messages_path=prefix + dialect.messages_path)

    def handle(self, request: Request) -> Reply:
        """Answer what is under the path."""
        if request.path == self.core.dialect.messages_path:
            return super().handle(request)
        inside = request.path.startswith(f"{self._prefix}/")
        path = request.path[len(self._prefix) :] if inside else ""
        return super().handle(attrs.evolve(request, path=path))


@attrs.frozen
class _WithoutAgent(RestEndpoint):
    """An endpoint as an organization's token finds it that does not say which agent is meant."""

    organization_token: str = attrs.field(kw_only=True)

    def match(self, request: Request) -> RestCall | None:
        """The call if the request is for this endpoint, else None."""
        call = super().match(request) if request.bearer == self.organization_token else None
        if call is None or call.request.query.get("agentId") or call.body.get("agentId"):
            return None
        return call


def add_organization_token(fake: FakeServer, token: str) -> None:
    """Let a token be an organization's: the open-source server wants ``agentId`` with it."""

    def refuse(_workspace: Workspace, _call: RestCall) -> NoReturn:
        raise Refusal(400, _NEEDS_AGENT)

    def report_on_all(_workspace: Workspace, _call: RestCall) -> Any:
        return {"agents": [{"agentId": "agent-1"}]}

    for method, name, act in (
        ("GET", "waiting-messages", refuse),
        ("GET", "channel-status", refuse),
        ("POST", "send-message", refuse),
        ("GET", "billing", report_on_all),
        ("GET", "usage", report_on_all),
    ):
        fake.core.rest.programmed.append(
            _WithoutAgent(method, f"/api/v1/{name}", act, only=None, organization_token=token)
        )


def client_answers(fake: FakeServer) -> list[dict[str, Any]]:
    """What clients answered to ``ask``."""
    path = fake.core.dialect.messages_path
    messages = [each.json for each in fake.requests if (each.method, each.path) == ("POST", path)]
    return [message for message in messages if "method" not in message]


def failed_logins(fake: FakeServer) -> int:
    """How many requests came with a wrong token."""
    return fake.core.token_check.failed_logins


def open_streams(fake: FakeServer) -> int:
    """How many streams of known sessions are open."""
    return len(fake.core.sessions.by_id)


def open_connections(server: LoopbackServer) -> int:
    """Return how many connections are open now."""
    listener = server._listener
    return 0 if listener is None else len(listener._sockets)


def cut_streams(fake: FakeServer, *, clean: bool = False) -> int:
    """End all streams, and with them their sessions; return how many there were."""
    sessions = list(fake.core.sessions.by_id.values())
    for session in sessions:
        session.stream.end(clean=clean)
    return len(sessions)


def forget_sessions(fake: FakeServer) -> None:
    """Forget all sessions: POSTs to them are refused, while their streams stay open."""
    fake.core.sessions.by_id.clear()


def clear_faults(fake: FakeServer) -> None:
    """Forget the faults that have not struck."""
    fake.core.faults.clear()


def _drip(*, interval: float = 0.05) -> Reply:
    """Send a header byte by byte that never ends (socket face only)."""

    def write(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        sock.settimeout(max(interval, 0.001))
        while not _has_ended(sock):
            sock.sendall(b".")

    return RawResponse(write)


def _has_ended(sock: socket.socket) -> bool:
    """Wait for what the client sends, up to the socket's time-out; True if it has left."""
    try:
        return not sock.recv(_CHUNK)
    except TimeoutError:
        return False


def _redirect(*, status: int = 307, location: str = f"{_ELSEWHERE}/") -> Reply:
    return HttpResponse(status, headers={"Location": location})


def _stream(endpoint: str | None) -> Reply:
    stream = ServerStream()
    if endpoint is not None:
        stream.send(encode_event("endpoint", endpoint))
    return StreamResponse(stream)


def _foreign_endpoint(*, origin: str = _ELSEWHERE) -> Reply:
    return _stream(f"{origin}/messages/?session_id=elsewhere")


def _garbage_body(*, data: str = "{not json") -> Reply:
    return HttpResponse(200, data.encode(), JSON_TYPE)


def _huge_body(*, size: int = 1_000_000) -> Reply:
    return json_response(200, {"text": "x" * size})


def _garbage(*, data: str = "{not json") -> Emit:
    return lambda stream, _answer: stream.send(encode_event("message", data))


def _instead(outcome: Mapping[str, Any]) -> Emit:
    """Answer with this result or error."""

    def emit(stream: ServerStream, answer: Mapping[str, Any]) -> None:
        stream.send(encode_message({"jsonrpc": "2.0", "id": answer["id"], **outcome}))

    return emit


def _huge(*, size: int = 1_000_000) -> Emit:
    return _instead({"result": text_result("x" * size)})


def _jsonrpc_error(
    *, code: int = -32603, message: str = "Internal error", data: object = None
) -> Emit:
    more = {} if data is None else {"data": data}
    return _instead({"error": {"code": code, "message": message, **more}})


_REPLIES: Final[Mapping[str, Callable[..., Reply]]] = {
    "drip": _drip,
    "redirect": _redirect,
    "no_endpoint": functools.partial(_stream, None),
    "foreign_endpoint": _foreign_endpoint,
}
_REST_REPLIES: Final[Mapping[str, Callable[..., Reply]]] = {
    "garbage": _garbage_body,
    "huge": _huge_body,
}
_EMITS: Final[Mapping[str, Callable[..., Emit]]] = {
    "garbage": _garbage,
    "huge": _huge,
    "no_content": functools.partial(_instead, {"result": {}}),
    "jsonrpc_error": _jsonrpc_error,
}


def add_fault(
    fake: FakeServer,
    kind: str,
    *,
    on: Place = "call",
    count: int = 1,
    delivered: bool | None = None,
    **options: Any,
) -> None:
    """
    Let something go wrong: what ``fake.fault`` knows, and what hosts have no need of.

    ====================  ==================================================================
    ``drip``              a header comes byte by byte and never ends: ``interval=0.05``
                          seconds, ``delivered=False`` (socket face only)
    ``redirect``          ``status=307`` to ``location``
    ``no_endpoint``       the stream opens and stays silent
    ``foreign_endpoint``  the endpoint is at ``origin="https://elsewhere.example"``
    ``garbage``           the answer is not JSON: ``data="{not json"``
    ``huge``              the answer is a text of ``size=1_000_000`` characters
    ``no_content``        the answer's result is ``{}``
    ``jsonrpc_error``     the answer is an error: ``code=-32603``, ``message``, ``data``
    ====================  ==================================================================
    """
    replies = {**_REPLIES, **_REST_REPLIES} if on == "rest" else _REPLIES
    if kind in replies:
        for _ in range(count):  # each with a stream of its own
            reply = replies[kind](**options)
            fake.core.faults.add(RequestFault(on=on, reply=reply, delivered=bool(delivered)))
    elif kind in _EMITS:
        fake.core.faults.add(AnswerFault(on=on, emit=_EMITS[kind](**options)), count)
    else:
        known = next(each for each in get_args(FaultKind) if each == kind)
        if delivered is not None:
            options["delivered"] = delivered
        fake.fault(known, on=on, count=count, **options)
