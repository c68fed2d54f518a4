"""One Socket.IO connection, from its opening to its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

try:
    import socketio
    import websocket
except ImportError as missing:
    reason = f"the Happy client needs {missing.name}: pip install 'buttdial-sync[happy]'"
    raise ImportError(reason) from missing

from buttdial_sync.errors.scrubbing import scrub
from buttdial_sync.happy.connection import HappyConnection
from buttdial_sync.happy.errors import (
    AuthenticationError,
    HappyConnectionError,
    HappyError,
    HappyTimeoutError,
    RpcOutcomeUnknownError,
    RpcTransportError,
)
from buttdial_sync.happy.live_connecting import connected_socket
from buttdial_sync.transport.connections import RequestProgress
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.deadline_socket import DeadlineSocket

_PATH = "/v1/updates"
_TOKEN_REFUSED = ("token", "auth")
_SECONDS_TO_CLOSE = 2.0
_LARGEST_FRAME = 8 * 1024 * 1024

# The libraries log whole packets, and the first one of a connection holds the token.
_silent = logging.Logger("buttdial_sync.happy.silent")
_silent.disabled = True

Listener = Callable[[str, Any], None]


class _Answer:
    """What one call waits for: its answer, or the end of the socket."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.value: Any = None
        self.lost = False

    def resolve(self, *values: Any) -> None:
        self.value = values[0] if values else None
        self.arrived.set()

    def fail(self) -> None:
        self.lost = True
        self.arrived.set()


class _Wire(DeadlineSocket):
    """
    Has what ``websocket-client`` uses of a socket.

    It reads and writes in two threads at once, which OpenSSL does not allow.
    """

    def send(self, data: bytes) -> int:
        """Send all of it."""
        self.sendall(data)
        return len(data)

    def gettimeout(self) -> float | None:
        """Return the limit of each read, in seconds."""
        return self._timeout

    @property
    def _closed(self) -> bool:
        return self.fileno() < 0


class _WebSocket(websocket.WebSocket):
    """
    Tells when nothing comes any more, and refuses frames that are too large.

    Args:
        on_end: Called when a read failed. Socket.IO tells it only of a connection that was
            accepted, and not of one that was cut before.
        **options: What the library gives.
    """

    def __init__(self, on_end: Callable[[], None], **options: Any) -> None:
        self._on_end = on_end
        self._size = 0
        super().__init__(**options)

    def connect(self, url: str, **options: Any) -> None:
        """Connect, or raise: some versions take a redirect for a connection."""
        super().connect(url, **options)  # type: ignore[no-untyped-call]
        if self.getstatus() != HTTPStatus.SWITCHING_PROTOCOLS:
            self.shutdown()  # type: ignore[no-untyped-call]
            raise websocket.WebSocketException("the server redirects")

    def recv(self) -> Any:
        """Return the next message."""
        try:
            message = super().recv()
        except BaseException:  # whatever it was, the library reads no more
            self._on_end()
            # The library closes only what the other side has ended in good order.
            self.shutdown()  # type: ignore[no-untyped-call]
            raise
        self._size = 0
        return message

    def _recv(self, size: int) -> Any:
        self._size += size
        if self._size > _LARGEST_FRAME:
            self.shutdown()  # type: ignore[no-untyped-call]
            raise websocket.WebSocketPayloadException(f"more than {_LARGEST_FRAME} bytes")
        return super()._recv(size)  # type: ignore[no-untyped-call]


class LiveSocket:
    """
    One connection. A lost one is replaced by a new object.

    Args:
        connection: The client's.
        on_frame: Gets the name and the content of each pushed event, in the socket's thread.
        on_end: Called once when a live connection has ended.
        deadline: When it has to be open.

    Attributes:
        is_live: Whether it is open.
    """

    def __init__(
        self,
        connection: HappyConnection,
        on_frame: Listener,
        on_end: Callable[[], None],
        deadline: Deadline,
    ) -> None:
        self.is_live = False
        self._connection = connection
        self._on_frame = on_frame
        self._on_end = on_end
        self._limit = deadline.within(connection.connect_timeout)
        self._progress = RequestProgress(self._limit, connection.connect_timeout)
        self._lock = threading.Lock()
        self._waiting: set[_Answer] = set()
        self._settled = threading.Event()
        self._is_accepted = False
        self._has_ended = False
        self._refusal: Any = None
        self._client: Any = None

    def open(self) -> None:
        """
        Connect. A connection that fails leaves nothing.

        Raises:
            AuthenticationError: The server refused the token.
            HappyTimeoutError: It took too long.
            HappyError: Anything else. Nothing was sent.
        """
        # The library bounds each read, and not all of them together.
        watchdog = threading.Timer(self._limit.remaining(), self.cut)
        watchdog.name, watchdog.daemon = "buttdial-sync-happy-opening", True
        watchdog.start()
        try:
            kept = connected_socket(
                self._connection.server_url, self._connection.network, self._progress
            )
            wire = _Wire(kept)
            try:
                self._open_on(wire)
            finally:
                if not self.is_live:
                    self._let_go_of(wire)
        finally:
            watchdog.cancel()
        if not self.is_live:
            raise self._failure()

    def call(self, event: str, data: Mapping[str, Any], deadline: Deadline) -> Any:
        """
        Emit an event and wait for its answer.

        Raises:
            RpcTransportError: The socket was lost before anything left.
            RpcOutcomeUnknownError: No answer came: the time has passed, or the socket was lost.
        """
        answer = _Answer()
        with self._lock:  # emit() is not safe between threads
            if not self.is_live:
                raise RpcTransportError("the connection was lost before the call was sent")
            self._waiting.add(answer)
            try:
                self._client.emit(event, dict(data), callback=answer.resolve)
            except socketio.exceptions.SocketIOError:
                answer.fail()
        try:
            arrived = answer.arrived.wait(deadline.remaining())
        finally:
            self._waiting.discard(answer)
        if not arrived:
            raise RpcOutcomeUnknownError(f"{event}: no answer within {deadline.seconds:g} s")
        if answer.lost:
            raise RpcOutcomeUnknownError(f"{event}: the connection was lost before the answer came")
        return answer.value

    def close(self) -> None:
        """Close it, without waiting for long."""
        closing = threading.Thread(
            target=self._client.disconnect, name="buttdial-sync-happy-close", daemon=True
        )
        closing.start()
        closing.join(_SECONDS_TO_CLOSE)
        self.cut()

    def cut(self) -> None:
        """End it, or its opening, without a word and without waiting."""
        self._progress.abort()

    def _open_on(self, wire: _Wire) -> None:
        self._progress.runs_on(wire.kept)
        self._client = socketio.Client(
            reconnection=False,
            handle_sigint=False,
            logger=_silent,
            engineio_logger=_silent,
            request_timeout=self._connection.connect_timeout,
            websocket_extra_options={
                "socket": wire,
                "class_": partial(_WebSocket, self._ended),
                # A redirect would have the token sent to another origin, perhaps unencrypted.
                "redirect_limit": 0,
            },
        )
        self._client.on("connect", self._accepted)
        self._client.on("connect_error", self._refused)
        self._client.on("disconnect", partial(self._disconnected, wire))
        for event in ("update", "ephemeral"):
            self._client.on(event, partial(self._on_frame, event))
        try:
            self._progress.time_left()  # raises if it was cut before this socket was known
            self._client.connect(
                self._connection.server_url,
                auth={"token": self._connection.token},
                transports=["websocket"],
                socketio_path=f"{urlsplit(self._connection.server_url).path}{_PATH}",
                wait=False,  # it would wait for the reading thread, too, and without a limit
            )
        except Exception:  # noqa: BLE001 - a malformed answer has it raise anything
            return  # the reason was told to the handler of refusals
        self._settled.wait(self._limit.remaining())
        with self._lock:
            self.is_live = self._is_accepted and not self._has_ended

    def _let_go_of(self, wire: _Wire) -> None:
        self.cut()
        reader = None if self._client is None else self._client.eio.read_loop_task
        if reader is None or not reader.is_alive():
            wire.close()  # else the reading thread does

    def _accepted(self) -> None:
        self._is_accepted = True
        self._settled.set()

    def _refused(self, reason: Any = None, *_: Any) -> None:
        self._refusal = reason
        self._settled.set()

    def _disconnected(self, wire: _Wire, *_: Any) -> None:
        self._ended()
        # It reads no more, also after a packet that it could not read, and closes nothing then.
        if threading.current_thread() is self._client.eio.read_loop_task:
            wire.close()

    def _ended(self) -> None:
        with self._lock:
            if self._has_ended:
                return
            was_live = self.is_live
            self.is_live, self._has_ended = False, True
            waiting = list(self._waiting)
        self._settled.set()
        for answer in waiting:
            answer.fail()
        if was_live:
            self._on_end()

    def _failure(self) -> HappyError:
        said = self._refusal.get("message") if isinstance(self._refusal, dict) else self._refusal
        reason = scrub(str(said or "the connection was cut"), (self._connection.token,))
        if isinstance(self._refusal, dict) and any(
            word in reason.lower() for word in _TOKEN_REFUSED
        ):
            return AuthenticationError(f"the server refused the live connection: {reason}")
        if not self._limit.remaining():
            return HappyTimeoutError(f"no live connection within {self._limit.seconds:.3g} s")
        return HappyConnectionError(f"no live connection: {reason}")
