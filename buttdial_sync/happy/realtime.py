"""The one Socket.IO connection of a client: calls that are answered, and pushed updates."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.utils

try:
    import socketio
except ImportError as missing:
    reason = f"the Happy client needs {missing.name}: pip install 'buttdial-sync[happy]'"
    raise ImportError(reason) from missing

from buttdial_sync.errors.scrubbing import scrub
from buttdial_sync.happy.connection import HappyConnection
from buttdial_sync.happy.errors import (
    AuthenticationError,
    HappyClosedError,
    HappyConnectionError,
    HappyError,
    HappyTimeoutError,
    RpcOutcomeUnknownError,
    RpcTransportError,
)
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork, reset_if_forked
from buttdial_sync.transport.network import NetworkOptions

_PATH = "/v1/updates"
_TOKEN_REFUSED = ("token", "auth")
_SECONDS_TO_CLOSE = 2.0

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


class _Socket:
    """
    One connection, from its opening to its end. A lost one is replaced by a new object.

    Args:
        connection: The client's.
        on_frame: Gets the name and the content of each pushed event, in the socket's thread.
        on_end: Called once when the connection is lost, in the socket's thread.
    """

    def __init__(
        self, connection: HappyConnection, on_frame: Listener, on_end: Callable[[_Socket], None]
    ) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._waiting: set[_Answer] = set()
        self._on_end = on_end
        self._refusal: Any = None
        self._has_ended = False
        self.is_live = False
        self._client = socketio.Client(
            reconnection=False,
            handle_sigint=False,
            logger=_silent,
            engineio_logger=_silent,
            http_session=_session_for(connection.server_url, connection.network),
            request_timeout=connection.connect_timeout,
            # A redirect would have the token sent to another origin, and perhaps unencrypted.
            websocket_extra_options={"redirect_limit": 0},
        )
        self._client.on("connect_error", self._refused)
        self._client.on("disconnect", self._ended)
        for event in ("update", "ephemeral"):
            self._client.on(event, lambda data, event=event: on_frame(event, data))

    def open(self, deadline: Deadline) -> None:
        """
        Connect.

        Raises:
            AuthenticationError: The server refused the token.
            HappyTimeoutError: It took too long.
            HappyConnectionError: Anything else.
        """
        limit = deadline.within(self._connection.connect_timeout)
        # Not 0, which would mean a connection without a limit.
        self._client.eio.request_timeout = max(limit.remaining(), 0.001)
        try:
            self._client.connect(
                self._connection.server_url,
                auth={"token": self._connection.token},
                transports=["websocket"],
                socketio_path=f"{urlsplit(self._connection.server_url).path}{_PATH}",
                wait_timeout=limit.remaining(),
            )
        except (socketio.exceptions.SocketIOError, OSError, ValueError):
            pass  # the reason was told to the handler of refusals
        else:
            with self._lock:
                # The library tells nobody of a connection that was cut while it was made.
                self.is_live = not self._has_ended and self._client.eio.state == "connected"
        if not self.is_live:
            raise self._failure(limit)

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

    def cut(self) -> None:
        """End it without a word and without waiting, for a client that was never closed."""
        connection = self._client.eio.ws
        if self.is_live and connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _refused(self, reason: Any = None, *_: Any) -> None:
        self._refusal = reason

    def _ended(self, *_: Any) -> None:
        with self._lock:
            self.is_live, self._has_ended = False, True
            waiting = list(self._waiting)
        for answer in waiting:
            answer.fail()
        self._on_end(self)

    def _failure(self, limit: Deadline) -> HappyError:
        said = self._refusal.get("message") if isinstance(self._refusal, dict) else self._refusal
        reason = scrub(str(said or "the connection was cut"), (self._connection.token,))
        if isinstance(self._refusal, dict) and any(
            word in reason.lower() for word in _TOKEN_REFUSED
        ):
            return AuthenticationError(f"the server refused the live connection: {reason}")
        if not limit.remaining():
            return HappyTimeoutError(f"no live connection within {limit.seconds:.3g} s")
        return HappyConnectionError(f"no live connection: {reason}")


class Realtime:
    """
    The live connection of a client, opened on first use. Safe between threads and across forks.

    Args:
        connection: The client's.
    """

    def __init__(self, connection: HappyConnection) -> None:
        self._connection = connection
        self._closed = False
        self._socket: _Socket | None = None
        self._listeners: frozenset[Listener] = frozenset()
        self._make_locks()
        reset_after_fork(self)

    def _make_locks(self) -> None:
        self._opening = threading.Lock()
        self._changing = threading.Lock()

    def _reset_after_fork(self) -> None:
        """In a forked child: no socket. The inherited one stays the parent's."""
        leak_until_exit(self._socket, self._opening, self._changing, self._listeners)
        self._socket, self._listeners = None, frozenset()
        self._make_locks()

    def call(self, event: str, data: Mapping[str, Any], deadline: Deadline) -> Any:
        """
        Call the server over the socket, and open it first if need be.

        A call that certainly did not leave is made once more over a new socket.

        Raises:
            RpcOutcomeUnknownError: It may have been carried out; no answer came.
            HappyError: The socket cannot be opened; nothing left.
        """
        try:
            return self.ensure(deadline).call(event, data, deadline)
        except RpcOutcomeUnknownError:
            raise
        except RpcTransportError:
            return self.ensure(deadline).call(event, data, deadline)

    def ensure(self, deadline: Deadline) -> _Socket:
        """Return the live socket; one thread opens it, the others wait for that."""
        self._connection.check_open()
        live = self._socket
        if live is not None and live.is_live:
            return live
        if not self._opening.acquire(timeout=deadline.remaining()):
            raise HappyTimeoutError(f"no live connection within {deadline.seconds:g} s")
        try:
            live = self._socket
            if live is not None and live.is_live:
                return live
            live = _Socket(self._connection, self._tell, self._lost)
            live.open(deadline)
            self._socket = live
        finally:
            self._opening.release()
        if self._closed:  # close() came while it was opened, and did not see it
            live.close()
            raise HappyClosedError("the client is closed")
        return live

    @property
    def is_live(self) -> bool:
        """Whether updates come in now."""
        live = self._socket
        return live is not None and live.is_live

    def listen(self, listener: Listener) -> None:
        """Have ``listener`` called for each pushed frame, and with ``"lost"`` for a lost socket."""
        with self._changing:
            self._listeners |= {listener}

    def stop_listening(self, listener: Listener) -> None:
        """Forget a listener."""
        with self._changing:
            self._listeners -= {listener}

    def close(self) -> None:
        """Close the socket; calls that wait for an answer end. Idempotent."""
        reset_if_forked()
        self._closed = True
        live, self._socket = self._socket, None
        if live is not None:
            live.close()
        self._tell("closed", {})

    def abandon(self) -> None:
        """Let go of the connection of a client that was dropped without :meth:`close`."""
        self._closed = True
        if self._socket is not None:
            self._socket.cut()

    def _tell(self, event: str, data: Any) -> None:
        for listener in self._listeners:
            listener(event, data)

    def _lost(self, live: _Socket) -> None:
        self._tell("lost", {})


def _session_for(url: str, network: NetworkOptions) -> requests.Session:
    """Return what tells the socket's library the proxies and the certificates."""
    found = network.for_url(url, requests.Session())
    session = requests.Session()
    session.proxies, session.cert = dict(found["proxies"]), found["cert"]
    verify = found["verify"]
    session.verify = requests.utils.DEFAULT_CA_BUNDLE_PATH if verify is True else verify
    return session
