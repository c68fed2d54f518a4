"""The server and the way to it: every request is a point at which something can go wrong."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from buttdial_sync.testing.dialects import DialectName
from buttdial_sync.testing.fake import FakeServer
from buttdial_sync.testing.http_messages import (
    HttpResponse,
    Request,
    StreamResponse,
    html_response,
    json_response,
    text_response,
)
from buttdial_sync.testing.mcp_endpoint import call_of, parse_message
from buttdial_sync.testing.stream import ServerStream
from buttdial_sync.testing.tool_answers import ToolFailure
from buttdial_sync.testing.tools import SEND_MESSAGE
from tests.simulation.process import Process
from tests.simulation.world import World

LIMIT = "Rate limit exceeded: per-minute (10/10)"
_ACCEPTED = text_response(202, "Accepted")


class Server:
    """
    A Butt-Dial server that notes what it carried out.

    Args:
        world: Where it stands.
        dialect: ``"hosted"`` honours keys, ``"open-source"`` does not.
        on_executed: Called with the id and the key of each message that was sent.

    Attributes:
        executed: How often each message was sent to its recipient, by its text.
        order: The texts in the order in which they were.
        refused: The texts that were refused, for good or for the moment.
        is_down: Nobody answers.
        limited_until, locked_until, revoked_until: Until when each of them holds.
    """

    def __init__(
        self,
        world: World,
        dialect: DialectName,
        on_executed: Callable[[str, str | None], object],
    ) -> None:
        self.world = world
        self._on_executed = on_executed
        self.fake = FakeServer(dialect=dialect, clock=world.clock)
        self.fake.on_tool(SEND_MESSAGE, self._send)
        self.executed: Counter[str] = Counter()
        self.order: list[str] = []
        self.refused: Counter[str] = Counter()
        self.is_down = False
        self.limited_until = self.locked_until = self.revoked_until = -math.inf

    @property
    def honours_keys(self) -> bool:
        """Whether a message with a key is sent once only."""
        return self.fake.dialect == "hosted" and self.world.plan.send_via == "stream"

    def restart(self) -> None:
        """Forget the sessions. What it carried out, and under which key, it keeps."""
        self.world.tell("server", "restarts")
        for session in list(self.fake.core.sessions.by_id.values()):
            session.stream.end()

    def exchange(
        self, process: Process, prepared: requests.PreparedRequest, seconds: float
    ) -> requests.Response:
        """Carry a request to the server and its answer back, if nothing comes between."""
        request = _read(prepared)
        what = _name_of(request)
        process.point(f"sends {what}")
        if self.is_down:
            process.tell(f"nobody answers {what}")
            _refuse(prepared)
        kind = _kind_of(request)
        strike = self.world.strike("network", _FAULTS[kind])
        if strike is not None:
            process.tell(f"{strike} strikes {what}")
        if kind in {"send", "rest send"} and strike != "refused":
            self.world.notes.reached[what] += 1
        reply = self._reply(process, request, strike, prepared, seconds)
        process.point(f"gets {what} {getattr(reply, 'status', 'stream')}")
        return _response(reply)

    def _reply(
        self,
        process: Process,
        request: Request,
        strike: str | None,
        prepared: requests.PreparedRequest,
        seconds: float,
    ) -> HttpResponse | StreamResponse:
        if strike == "refused":
            _refuse(prepared)
        if strike in {"reset before", "reset after"}:
            self._arrives(request, strike == "reset after")
            _reset(prepared)
        if strike == "hangs":
            self._arrives(request, self.world.toss())
            process.sleep(seconds)
            raise requests.exceptions.ReadTimeout("Read timed out.", request=prepared)
        if strike == "killed in flight":
            self._arrives(request, self.world.toss())
            process.crash("in flight")
        if strike == "proxy":
            self._arrives(request, self.world.toss())
            return html_response(502, "Bad Gateway")
        if strike == "busy":
            return json_response(503, {"error": "the server shuts down", "code": "NOT_READY"})
        if strike == "limited":
            return text_response(429, "Too many requests", {"Retry-After": self._seconds()})
        return self._handle(request, strike)

    def _handle(self, request: Request, strike: str | None) -> HttpResponse | StreamResponse:
        if strike == "late":
            # Accepted, and carried out when the client may not wait any more.
            self._arrives(request, True, self.world.dice.uniform(1.0, 40.0))
            return _ACCEPTED
        now = self.world.kernel.now
        if now < self.locked_until:
            left = math.ceil(self.locked_until - now)
            lockout = {"code": "AUTH_LOCKED_OUT", "retryAfterSeconds": left, "error": "locked"}
            return json_response(429, lockout)
        if now < self.revoked_until:
            return json_response(401, {"error": "Invalid or revoked token"})
        reply = self.fake.handle(request)
        if isinstance(reply, StreamResponse):
            return reply
        assert isinstance(reply, HttpResponse)
        if reply.then is not None:
            self._answer(request, reply.then, strike)
        return reply

    def _answer(self, request: Request, then: Callable[[], object], strike: str | None) -> None:
        """Put the answer on the stream, or not."""
        if strike == "lost answer":
            return
        if strike == "cut":
            then = self._cut(request)
        latency = self.world.dice.uniform(0.0, self.world.plan.latency)
        if strike == "slow answer":
            latency = self.world.dice.uniform(1.0, 40.0)
        self.world.kernel.spawn(then, "an answer", after=latency)

    def _seconds(self) -> str:
        return str(self.world.dice.choice((1, 2, 10)))

    def _cut(self, request: Request) -> Callable[[], object]:
        key = self.fake.core.dialect.session_key
        session = self.fake.core.sessions.by_id.get(request.query.get(key, ""))
        return (lambda: None) if session is None else session.stream.end

    def _arrives(self, request: Request, does: bool, after: float = 0.01) -> None:
        """Let the server have the request, though its answer does not come the usual way."""
        if not does:
            return

        def take() -> None:
            reply = self.fake.handle(request)
            if isinstance(reply, HttpResponse) and reply.then is not None:
                reply.then()
            if isinstance(reply, StreamResponse):
                reply.stream.end()

        self.world.kernel.spawn(take, "a late request", after=after)

    def _send(self, args: Mapping[str, Any]) -> dict[str, Any] | ToolFailure:
        text = str(args.get("body"))
        if self.world.kernel.now < self.limited_until and self.world.toss():
            self.world.tell("server", f"limits {text}")
            return ToolFailure(f"{LIMIT}. Resets in up to {self._seconds()} seconds.")
        if "bad" in text or self.world.strike("server", ("refusal",)):
            self.refused[text] += 1
            self.world.tell("server", f"refuses {text}")
            return ToolFailure("the recipient cannot be reached")
        self.executed[text] += 1
        self.order.append(text)
        self.world.tell("server", f"EXECUTES {text}")
        sid = f"SM-{text}-{self.executed[text]}"
        self._on_executed(sid, args.get("idempotencyKey"))
        if self.fake.dialect == "hosted":
            return {"messageId": sid}
        return {"success": True, "externalId": sid, "status": "sent", "to": args.get("to")}


class Network(BaseAdapter):
    """The way of one process to the server, for ``Client(transport_adapter=...)``."""

    def __init__(self, process: Process, server: Server) -> None:
        super().__init__()
        self._process = process
        self._server = server

    def send(  # type: ignore[override]
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: tuple[float, float] = (10.0, 10.0),
        **_: object,
    ) -> requests.Response:
        return self._server.exchange(self._process, request, timeout[1])

    def close(self) -> None:
        """Nothing is open."""


class _Body:
    """The body of a stream, which grows while it is read."""

    def __init__(self, stream: ServerStream) -> None:
        self._stream = stream

    def read1(self, _size: int = -1) -> bytes:
        return self._stream.read(math.inf)

    def close(self) -> None:
        self._stream.end()


# What may strike at each kind of request.
_FAULTS: Mapping[str, tuple[str, ...]] = {
    "get": ("refused", "reset before", "hangs", "proxy", "limited"),
    "post": ("refused", "reset before", "hangs", "proxy", "cut", "lost answer", "busy"),
    "send": (
        *("refused", "reset before", "reset after", "hangs", "killed in flight", "proxy", "busy"),
        *("limited", "late", "lost answer", "cut", "slow answer"),
    ),
    "rest send": (
        *("refused", "reset before", "reset after", "hangs", "killed in flight", "proxy", "busy"),
        "limited",
    ),
}


def _kind_of(request: Request) -> str:
    if request.method == "GET":
        return "get"
    if request.path.startswith("/api/"):
        return "rest send"
    return "send" if call_of(parse_message(request.body), None) else "post"


def _name_of(request: Request) -> str:
    message = parse_message(request.body) or {}
    params = message.get("params") or {}
    arguments = params.get("arguments") if isinstance(params, dict) else None
    text = arguments.get("body") if isinstance(arguments, dict) else message.get("body")
    return str(text or message.get("method") or f"{request.method} {request.path}")


def _read(prepared: requests.PreparedRequest) -> Request:
    parts = urlsplit(str(prepared.url))
    body = prepared.body or b""
    return Request(
        str(prepared.method),
        parts.path,
        dict(parse_qsl(parts.query, keep_blank_values=True)),
        {name.lower(): str(value) for name, value in prepared.headers.items()},
        body.encode() if isinstance(body, str) else bytes(body),
    )


def _response(reply: HttpResponse | StreamResponse) -> requests.Response:
    response = requests.Response()
    if isinstance(reply, StreamResponse):
        response.status_code = 200
        response.headers = CaseInsensitiveDict({"Content-Type": "text/event-stream"})
        response.raw = _Body(reply.stream)
        return response
    response.status_code = reply.status
    response.headers = CaseInsensitiveDict({"Content-Type": reply.content_type, **reply.headers})
    response.raw = io.BytesIO(reply.body)
    return response


def _refuse(prepared: requests.PreparedRequest) -> NoReturn:
    host = "butt-dial.test"
    refused = NewConnectionError(HTTPSConnection(host), "[Errno 111] Connection refused")
    failed = MaxRetryError(HTTPSConnectionPool(host), prepared.path_url, refused)
    raise requests.exceptions.ConnectionError(failed, request=prepared)


def _reset(prepared: requests.PreparedRequest) -> NoReturn:
    reset = ConnectionResetError(104, "Connection reset by peer")
    lost = ProtocolError("Connection aborted.", reset)
    raise requests.exceptions.ConnectionError(lost, request=prepared)
