"""What the connections of all clients share: HTTP, the time of a call, pauses, and the end."""

from __future__ import annotations

import threading
from collections.abc import Callable

import attrs

from buttdial_sync.errors import ButtDialError, ClientClosedError
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.settings import check_count
from buttdial_sync.transport.deadline import Clock, Deadline, check_seconds
from buttdial_sync.transport.event_sink import EventSink
from buttdial_sync.transport.fork import reset_after_fork, reset_if_forked
from buttdial_sync.transport.http import Http
from buttdial_sync.transport.network import NetworkOptions
from buttdial_sync.transport.retrying import RetryPolicy


@attrs.frozen(kw_only=True)
class ConnectionOptions:
    """
    What a host chooses for the requests of a client.

    Attributes:
        timeout: Seconds that a call may take, unless the call has a time of its own.
        connect_timeout: Seconds for each connection.
        max_attempts: Attempts of a request in all.
        network: The proxies and certificates of this client.
        on_event: Called for each attempt, answer, retry and connection, in the calling thread.
        clock: A monotonic clock, in seconds.
        sleep: Sleeps between attempts; by default a sleep that ends when the client is closed.
        random_fraction: Gives numbers from 0 to 1, for the jitter.
    """

    timeout: float
    connect_timeout: float
    max_attempts: int
    network: NetworkOptions
    on_event: Callable[[ClientEvent], None] | None
    clock: Clock
    sleep: Callable[[float], None] | None
    random_fraction: Callable[[], float]


class ClientConnection:
    """
    The base of the connections. Safe to share between threads and across forks.

    Args:
        options: See :class:`ConnectionOptions`.

    Attributes:
        closed: Whether the client was closed.
        events: Reports to ``on_event``.
        http: Sends the requests.
        retries: Which failures are tried again, and when.
        used: Whether a call was made; in a forked child only calls after the fork count.

    Raises:
        ConfigError: A number is wrong.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        self.clock = options.clock
        self.timeout = check_seconds(options.timeout, "timeout")
        self.connect_timeout = check_seconds(options.connect_timeout, "connect_timeout")
        max_attempts = check_count(options.max_attempts, "max_attempts")
        self.retries = RetryPolicy(max_attempts, options.random_fraction)
        self.http = Http(connect_timeout=self.connect_timeout, network=options.network)
        self.events = EventSink(options.on_event)
        self.closed = False
        self._own_sleep = options.sleep
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a new signal, whose lock nobody holds."""
        self.used = False
        self._closed_signal = threading.Event()
        if self.closed:
            self._closed_signal.set()

    def check_open(self) -> None:
        """
        Begin a call.

        Raises:
            ClientClosedError: The client is closed.
        """
        reset_if_forked()
        if self.closed:
            raise self.own_error(ClientClosedError("the client is closed"))
        self.used = True

    def deadline(self, timeout: float | None = None) -> Deadline:
        """Return the deadline of a call that begins now; ``timeout`` is in seconds."""
        seconds = self.timeout if timeout is None else check_seconds(timeout, "timeout")
        return Deadline(seconds, self.clock)

    def sleep(self, seconds: float) -> None:
        """Sleep; by default until the client is closed at most."""
        if self._own_sleep is not None:
            self._own_sleep(seconds)
        else:
            self._closed_signal.wait(seconds)

    def close(self) -> None:
        """End the pauses and the requests under way. Idempotent, from any thread."""
        reset_if_forked()
        if self.closed:
            return
        self.closed = True
        self._closed_signal.set()
        self.http.close()

    def own_error(self, error: ButtDialError) -> ButtDialError:
        """Return the error of this client for one of the layers below."""
        return error
