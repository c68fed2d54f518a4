"""What the clients of the neighbours share: REST requests, their attempts and events, the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from buttdial_sync.errors import ButtDialError, ClientClosedError
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.settings import check_count
from buttdial_sync.transport.deadline import Clock, Deadline, check_seconds
from buttdial_sync.transport.event_sink import EventSink
from buttdial_sync.transport.fork import reset_after_fork, reset_if_forked
from buttdial_sync.transport.http import Http
from buttdial_sync.transport.network import NetworkOptions
from buttdial_sync.transport.rest import Rest
from buttdial_sync.transport.retrying import RetryPolicy


class RestConnection:
    """
    Makes the requests of one client. Safe to share between threads and across forks.

    Args:
        server_url: The server, as http(s).
        token: The token, or None.
        timeout: Seconds that a call may take, unless the call has a time of its own.
        connect_timeout: Seconds for each connection.
        max_attempts: Attempts of a request in all.
        network: The proxies and certificates of this client.
        on_event: Called for each attempt, answer and retry, in the calling thread.
        clock: A monotonic clock, in seconds.
        sleep: Sleeps between attempts; by default a sleep that ends when the client is closed.
        random_fraction: Gives numbers from 0 to 1, for the jitter.

    Attributes:
        closed: Whether the client was closed.
        events: Reports to ``on_event``.
        used: Whether a request was made; in a forked child only those after the fork count.

    Raises:
        ConfigError: A number is wrong.
    """

    closed_error: ClassVar[type[ButtDialError]] = ClientClosedError

    def __init__(
        self,
        server_url: str,
        *,
        token: str | None,
        timeout: float,
        connect_timeout: float,
        max_attempts: int,
        network: NetworkOptions | None,
        on_event: Callable[[ClientEvent], None] | None,
        clock: Clock,
        sleep: Callable[[float], None] | None,
        random_fraction: Callable[[], float],
    ) -> None:
        self.server_url = server_url
        self.token = token
        self.clock = clock
        self.timeout = check_seconds(timeout, "timeout")
        self.connect_timeout = check_seconds(connect_timeout, "connect_timeout")
        self.closed = False
        self._retries = RetryPolicy(check_count(max_attempts, "max_attempts"), random_fraction)
        self._http = Http(connect_timeout=self.connect_timeout, network=network)
        self._rest = Rest(self._http, self.server_url)
        self.events = EventSink(on_event)
        self._own_sleep = sleep
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
            raise self.closed_error("the client is closed")
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
        self.closed = True
        self._closed_signal.set()
        self._http.close()

    def attempt(
        self,
        method: str,
        path: str,
        number: int,
        deadline: Deadline,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> Any:
        """
        Make a request once, and return the decoded answer.

        Args:
            method: The HTTP method.
            path: The path, its parts quoted.
            number: The attempt's number, from 1.
            deadline: Over all attempts.
            query: Goes into the URL.
            body: Goes into the body as JSON.
            endpoint: The path's template, for events and messages.

        Raises:
            ButtDialError: The server refused it, or could not be reached.
        """
        operation = f"{method} {endpoint or path}"
        self.events.tell(operation, "attempt", number)
        began = self.clock()
        try:
            answer = self._rest.call(
                method,
                path,
                deadline,
                credential=self.token,
                query=query,
                body=body,
                endpoint=endpoint,
            )
        except ButtDialError as error:
            self.events.tell(operation, "answer", number, self.clock() - began, error)
            raise
        self.events.tell(operation, "answer", number, self.clock() - began)
        return answer

    def pause_after(self, failure: ButtDialError, attempt: int, deadline: Deadline) -> float | None:
        """Return the seconds to wait before the next attempt; None if there must not be one."""
        pause = self._retries.pause_after(failure, attempt)
        if pause is None or self.closed or pause >= deadline.remaining():
            return None
        return pause
