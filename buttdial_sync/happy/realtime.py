"""The live connection of a client: one for all its threads, and a new one when it was lost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from buttdial_sync.happy.connection import HappyConnection
from buttdial_sync.happy.errors import (
    HappyClosedError,
    HappyError,
    HappyTimeoutError,
    RpcOutcomeUnknownError,
    RpcTransportError,
)
from buttdial_sync.happy.live_socket import Listener, LiveSocket
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork, reset_if_forked


class Realtime:
    """
    The live connection of a client, opened on first use. Safe between threads and across forks.

    Args:
        connection: The client's.
    """

    def __init__(self, connection: HappyConnection) -> None:
        self._connection = connection
        self._closed = False
        self._socket: LiveSocket | None = None
        self._being_opened: LiveSocket | None = None
        self._listeners: frozenset[Listener] = frozenset()
        self._make_locks()
        reset_after_fork(self)

    def _make_locks(self) -> None:
        self._opening = threading.Lock()
        self._changing = threading.Lock()

    def _reset_after_fork(self) -> None:
        """In a forked child: no socket. The inherited one stays the parent's."""
        leak_until_exit(
            self._socket, self._being_opened, self._opening, self._changing, self._listeners
        )
        self._socket = self._being_opened = None
        self._listeners = frozenset()
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

    def ensure(self, deadline: Deadline) -> LiveSocket:
        """Return the live socket; one thread opens it, the others wait for that."""
        self._connection.check_open()
        live = self._socket
        if live is not None and live.is_live:
            return live
        if not self._opening.acquire(timeout=deadline.remaining()):
            raise HappyTimeoutError(f"no live connection within {deadline.seconds:g} s")
        try:
            live = self._socket
            if live is None or not live.is_live:
                live = self._socket = self._opened(deadline)
        finally:
            self._opening.release()
        if self._closed:  # close() came while it was opened, and did not see it
            live.close()
            raise HappyClosedError("the client is closed")
        return live

    def _opened(self, deadline: Deadline) -> LiveSocket:
        live = LiveSocket(self._connection, self._tell, self._lost, deadline)
        self._being_opened = live
        try:
            self._connection.check_open()  # or close() has not seen it, and does not end it
            live.open()
        except HappyError:
            self._connection.check_open()  # close() ended it
            raise
        finally:
            self._being_opened = None
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
        opening = self._being_opened
        if opening is not None:
            opening.cut()
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

    def _lost(self) -> None:
        self._tell("lost", {})
