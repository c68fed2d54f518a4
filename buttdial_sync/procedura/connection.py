"""The one connection of an agent, and one call on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs

from buttdial_sync.errors import ArgumentTypeError, ButtDialError, StreamLostError
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.procedura.calls import CallTable, Mode, ModuleCall
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.event_sink import EventSink
from buttdial_sync.transport.pool import SessionPool

try:
    from buttdial_sync.transport.websocket import WebSocket
    from buttdial_sync.transport.websocket_opening import WebSocketOpener, WebSocketOptions
except ImportError as error:
    raise ImportError(
        "RemoteAgent needs the package websockets: pip install 'buttdial-sync[procedura]'"
    ) from error

logger = logging.getLogger("buttdial_sync.procedura")

# One for each token: that of before a login ends with its last call.
_MAX_CONNECTIONS = 8
_YEAR = 365 * 24 * 3600.0


@attrs.frozen(kw_only=True)
class Request:
    """
    What is asked of a server.

    Attributes:
        module: The module's name.
        args: Its arguments, as given.
        mode: ``"sync"`` for one result, ``"async"`` for events.
        token: Sent when the connection is opened; "" for none.
    """

    module: str
    args: Sequence[str] = attrs.field(repr=False)
    mode: Mode
    token: str = attrs.field(repr=False)

    @classmethod
    def of(cls, module: str, args: Sequence[str], mode: Mode, token: str) -> Request:
        """
        Check the names and make a request.

        Raises:
            ArgumentTypeError: The module is not a text, or the arguments are not a list of texts.
        """
        if not (module and isinstance(module, str)):
            raise ArgumentTypeError("module must be the name of a module")
        if not _are_texts(args):
            raise ArgumentTypeError("args must be a list of texts")
        return cls(module=module, args=list(args), mode=mode, token=Secret(token))


class ProceduraConnection:
    """
    Keeps one WebSocket for each token. Safe to share between threads and across forks.

    Args:
        url: The server.
        options: See :class:`WebSocketOptions`.
        on_event: The host's callback.
    """

    def __init__(
        self,
        url: str,
        options: WebSocketOptions,
        on_event: Callable[[ClientEvent], None] | None,
    ) -> None:
        self._events = EventSink(on_event)
        self._clock = options.clock
        self._opener = WebSocketOpener(url, CallTable, options, self._events.emit)
        self._pool: SessionPool[WebSocket[CallTable]] = SessionPool(
            self._opener.open, max_sessions=_MAX_CONNECTIONS, idle_ping=_YEAR
        )

    @contextmanager
    def call(self, request: Request, deadline: Deadline) -> Iterator[ModuleCall]:
        """
        Send a request, and give what waits for its frames.

        A connection that was lost before a byte of the request left is replaced, once.

        Raises:
            ButtDialError: ``outcome`` says whether the server may have the request.
        """
        with self._events.attempt(request.module, 1, self._clock), ExitStack() as stack:
            yield self._started(request, deadline, stack)

    def ping(self, token: str, deadline: Deadline) -> float:
        """Return the round trip of a ping, in seconds."""
        with self._pool.session(token, deadline) as websocket:
            return websocket.ping(deadline)

    def drop(self, token: str) -> None:
        """Close the token's connection, unless a call uses it."""
        self._pool.drop(token)

    def close(self, seconds: float) -> None:
        """Close every connection, and open no more. Waits at most about ``seconds``."""
        self._opener.close()
        self._pool.close(seconds)

    def abandon(self) -> None:
        """End every connection at once. Only when nobody uses them."""
        self._pool.abandon()

    def _started(self, request: Request, deadline: Deadline, stack: ExitStack) -> ModuleCall:
        try:
            return self._sent(request, deadline, stack)
        except StreamLostError as error:
            if error.outcome != "not_sent":
                raise
        stack.close()
        return self._sent(request, deadline, stack)

    def _sent(self, request: Request, deadline: Deadline, stack: ExitStack) -> ModuleCall:
        websocket = stack.enter_context(self._pool.session(request.token, deadline))
        call = websocket.receiver.new_call(request.mode)
        stack.callback(_end, call, websocket)  # before it is known: Ctrl-C may come at any moment
        websocket.receiver.begin(call, deadline)
        call.is_sent = True
        frame = {"id": call.id, "cmd": request.module, "args": request.args, "mode": request.mode}
        try:
            websocket.send(frame, deadline)
        except ButtDialError as error:
            call.is_sent = error.outcome != "not_sent"
            raise
        return call


def _are_texts(values: Any) -> bool:
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    return is_list and all(isinstance(each, str) for each in values)


def _end(call: ModuleCall, websocket: WebSocket[CallTable]) -> None:
    if not websocket.receiver.discard(call):
        logger.info("a stream was given up before it started: its connection is not used on")
        websocket.close(0)
