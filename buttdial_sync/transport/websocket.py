"""One live WebSocket connection whose messages are JSON objects."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Generic, Protocol, TypeVar, cast

from buttdial_sync.errors import (
    AuthError,
    ButtDialError,
    ClientClosedError,
    DeadlineExceededError,
    Outcome,
    ProtocolError,
    StreamLostError,
    TransportError,
)
from buttdial_sync.errors.scrubbing import scrub
from buttdial_sync.transport.deadline import Clock, Deadline
from buttdial_sync.transport.deadline_socket import DeadlineSocket
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork
from buttdial_sync.transport.http import json_bytes
from buttdial_sync.transport.pending import Failure, copies_of

MISSING = "this needs the package websockets: pip install 'buttdial-sync[websocket]'"

try:
    from websockets.exceptions import ConnectionClosed, PayloadTooBig, WebSocketException
    from websockets.frames import DATA_OPCODES, CloseCode, Frame
    from websockets.protocol import State
    from websockets.sync.client import ClientConnection
except ImportError as error:
    raise ImportError(MISSING) from error

logger = logging.getLogger("buttdial_sync.websocket")
# The library's own debug log shows each frame and each header, passwords and tokens too. A logger
# that no configuration reaches keeps it silent; errors go where ours go.
wire_logger = logging.Logger("buttdial_sync.websocket.wire", logging.WARNING)
wire_logger.parent = logger

# Codes with which servers refuse a token, from the range for applications.
_AUTH_CLOSE_CODES = frozenset({4001, 4003, 4401, 4403})
_numbers = count(1)


class Receiver(Protocol):
    """
    Gets what comes on a connection. Called in the reading thread: it may only queue.

    In a forked child it is reset by itself; see :mod:`buttdial_sync.transport.fork`.
    """

    def take(self, message: dict[str, Any]) -> None:
        """Take a message. A :class:`ProtocolError` ends the connection."""

    def end(self, failure: Failure) -> None:
        """Fail whoever waits, now and later. May be called again; the first reason stays."""


R = TypeVar("R", bound=Receiver)


class ReadingConnection(ClientConnection):
    """
    The library's connection, whose reading thread hands each message on at once.

    Otherwise a second thread would have to fetch the messages, and every answer would wait for one
    more switch of threads.

    Attributes:
        wire: The socket that it was given.
    """

    def __init__(
        self,
        wire: Any,
        *args: Any,
        on_message: Callable[[bytearray], None],
        on_end: Callable[[ReadingConnection], None],
        **kwargs: Any,
    ) -> None:
        self.wire: DeadlineSocket = wire
        self._on_message = on_message
        self._on_end = on_end
        self._message = bytearray()
        super().__init__(wire, *args, **kwargs)  # this starts the reading thread

    def process_event(self, event: Any) -> None:
        """Join the parts of a message, and hand it on."""
        if not isinstance(event, Frame) or event.opcode not in DATA_OPCODES:
            super().process_event(event)
            return
        self._message += event.data
        if event.fin:
            message, self._message = self._message, bytearray()
            self._on_message(message)

    def recv_events(self) -> None:
        """Read until the end, and tell it."""
        try:
            super().recv_events()
        finally:
            self._on_end(self)


class WebSocket(Generic[R]):
    """
    A live connection. Safe to share between threads; a broken one is replaced, never repaired.

    Args:
        receiver: Gets what comes.
        secrets: What must not stand in an error or a log.
        clock: A monotonic clock, in seconds.

    Attributes:
        receiver: As given.
    """

    def __init__(self, receiver: R, *, secrets: tuple[str, ...], clock: Clock) -> None:
        self.receiver = receiver
        self._secrets = secrets
        self._clock = clock
        self._connection: ReadingConnection | None = None
        self._closer: threading.Thread | None = None
        self._closing = False
        self._ended = False
        self._name = f"buttdial-sync-websocket-{next(_numbers)}"
        self._sending = threading.Lock()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: the connection stays the parent's."""
        leak_until_exit(self._sending, self._connection, self._closer)
        self._sending = threading.Lock()
        self._connection = self._closer = None
        self._ended = True

    def attach(self, connection: ReadingConnection) -> None:
        """Use a connection whose handshake is done."""
        self._connection = connection
        connection.recv_events_thread.name = f"{self._name}-reader"
        if connection.keepalive_thread is not None:
            connection.keepalive_thread.name = f"{self._name}-pings"
        if self._ended:  # by the first message that came
            self._start_closing(connection)

    def send(self, message: Mapping[str, Any], deadline: Deadline) -> None:
        """
        Send a message.

        Raises:
            DeadlineExceededError: The deadline passed.
            TransportError: The connection is lost. In both cases ``outcome`` is ``"not_sent"`` if
                no byte of the message has left.
            ClientClosedError: The connection was closed by this side.
            ConfigError: The message cannot be sent as JSON.
        """
        failure = self._write(message, deadline)
        if failure is None:
            return
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame, and so the whole client

    def ping(self, deadline: Deadline) -> float:
        """
        Ask for a sign of life and return the round trip in seconds.

        Raises:
            DeadlineExceededError: There was none within the deadline.
            StreamLostError: The connection is lost.
        """
        started = self._clock()
        connection = self._connection
        if connection is None:
            raise StreamLostError("the connection is lost")
        answer = self._send_ping(connection, deadline)
        answered = answer is not None and answer.wait(deadline.remaining())
        # The library also ends the wait when the connection ends, before it tells us.
        if not self.usable or connection.protocol.state is not State.OPEN:
            raise StreamLostError("the connection is lost")
        if not answered:
            raise DeadlineExceededError(f"no answer to a ping within {deadline.seconds:g} s")
        return self._clock() - started

    def _send_ping(
        self, connection: ReadingConnection, deadline: Deadline
    ) -> threading.Event | None:
        """Return what is set with the answer; None if the ping could not be sent."""
        # In turn with messages: the library lets nobody else write while it writes one.
        if not self._sending.acquire(timeout=deadline.remaining()):
            return None
        try:
            if not connection.wire.wait_until_writable(deadline.remaining()):
                return None
            connection.wire.bind(deadline)
            return connection.ping(ack_on_close=True)
        except (ConnectionClosed, OSError):
            return None
        finally:
            connection.wire.bind(None)
            self._sending.release()

    @property
    def usable(self) -> bool:
        """Whether a message can be sent."""
        return not (self._closing or self._ended)

    @property
    def silent_for(self) -> float:
        """Always 0: pings are sent all the time, and a peer that does not answer ends it."""
        return 0.0

    def close(
        self,
        seconds: float = 1.0,
        reason: type[TransportError | ClientClosedError] = StreamLostError,
    ) -> None:
        """
        Fail whoever waits, and end the connection with a Close frame. Idempotent, from any thread.

        Args:
            seconds: The longest time to wait for the end; then it is cut.
            reason: The class of the error with which the waiting calls fail.
        """
        self._closing = True
        self.receiver.end(lambda outcome: reason("the connection was closed", outcome=outcome))
        connection = self._connection
        if connection is None:
            return
        closer = self._start_closing(connection)
        if not seconds or threading.current_thread() is connection.recv_events_thread:
            return
        limit = Deadline(seconds)
        closer.join(limit.remaining())
        if closer.is_alive():
            connection.wire.shut_down()
        connection.recv_events_thread.join(limit.remaining())

    def abandon(self) -> None:
        """End it at once, without a lock or a wait. For a client that is collected unclosed."""
        self._closing = True
        if self._connection is not None:
            self._connection.wire.shut_down()

    def take(self, data: bytearray) -> None:
        """Take a message that has arrived. In the reading thread."""
        if self._ended:
            return
        try:
            message = json.loads(data.decode())
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self._end(ProtocolError("the server sent something that is not a JSON object"))
            return
        try:
            self.receiver.take(message)
        except ProtocolError as error:
            self._end(error)

    def ended(self, connection: ReadingConnection) -> None:
        """Tell why the connection is over. In the reading thread, as the last thing."""
        self._end(self._reason(connection))

    def _write(self, message: Mapping[str, Any], deadline: Deadline) -> ButtDialError | None:
        """Send a message; return the error to raise, so that no frame of it holds the bytes."""
        data = json_bytes(message)
        connection = self._connection
        if connection is None:
            return self._lost("not_sent")
        if not self._sending.acquire(timeout=deadline.remaining()):
            return self._late(deadline, "not_sent")
        wire = connection.wire
        try:
            writes = wire.writes
            if not self.usable:
                return self._lost("not_sent")
            if not wire.wait_until_writable(deadline.remaining()):
                return self._late(deadline, "not_sent")
            wire.bind(deadline)
            connection.send(data, text=True)
        except (WebSocketException, OSError):
            outcome: Outcome = "not_sent" if wire.writes == writes else "unknown"
            return (
                self._late(deadline, outcome) if deadline.remaining() <= 0 else self._lost(outcome)
            )
        finally:
            wire.bind(None)
            self._sending.release()
        return None

    def _late(self, deadline: Deadline, outcome: Outcome) -> ButtDialError:
        return DeadlineExceededError(
            f"not sent within {deadline.seconds:g} s", code="TIMEOUT", outcome=outcome
        )

    def _lost(self, outcome: Outcome) -> ButtDialError:
        return StreamLostError("the connection is lost", outcome=outcome)

    def _end(self, reason: ButtDialError) -> None:
        if self._ended:
            return
        self._ended = True
        if not self._closing:
            logger.info("the connection ended: %s", reason.message)
        self.receiver.end(copies_of(reason))
        if self._connection is not None:
            self._start_closing(self._connection)

    def _start_closing(self, connection: ReadingConnection) -> threading.Thread:
        # A thread, because the library waits for the server, and for locks that may be held.
        if self._closer is None:
            closer = threading.Thread(
                target=_say_goodbye,
                args=(connection,),
                name=f"{self._name}-close",
                daemon=True,
            )
            closer.start()
            self._closer = closer  # only now: another thread may join it at once
        return self._closer

    def _reason(self, connection: ReadingConnection) -> ButtDialError:
        protocol = connection.protocol
        if isinstance(protocol.parser_exc, PayloadTooBig):
            return ProtocolError(
                "the server sent a message over the limit",
                code=str(int(CloseCode.MESSAGE_TOO_BIG)),
                remediation="Raise max_size if such messages are wanted.",
            )
        code, words = protocol.close_code, scrub(protocol.close_reason or "", self._secrets)
        told = f"the server closed the connection ({code}{f': {words}' if words else ''})"
        if protocol.close_rcvd is None:
            return StreamLostError("the connection broke")
        if code in _AUTH_CLOSE_CODES:
            return AuthError(told, code=str(code))
        return StreamLostError(told, code=str(code))


def _say_goodbye(connection: ReadingConnection) -> None:
    try:
        if connection.wire.wait_until_writable(0):
            connection.close()
    except (WebSocketException, OSError):
        logger.debug("no Close frame could be sent")
    finally:
        connection.wire.shut_down()


def factory_of(socket: WebSocket[Any]) -> type[ClientConnection]:
    """Return what makes the library's connection for a WebSocket."""

    def make(*args: Any, **kwargs: Any) -> ReadingConnection:
        return ReadingConnection(*args, on_message=socket.take, on_end=socket.ended, **kwargs)

    return cast("type[ClientConnection]", make)
