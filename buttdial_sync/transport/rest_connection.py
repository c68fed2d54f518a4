"""What the clients of the neighbours share: REST requests, their attempts and events, the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import attrs

from buttdial_sync.errors import ButtDialError, ClientClosedError, OutcomeUnknownError
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.settings import check_count
from buttdial_sync.transport.deadline import Clock, Deadline, check_seconds
from buttdial_sync.transport.event_sink import EventSink
from buttdial_sync.transport.fork import reset_after_fork, reset_if_forked
from buttdial_sync.transport.http import Http
from buttdial_sync.transport.network import NetworkOptions
from buttdial_sync.transport.rest import Rest
from buttdial_sync.transport.retrying import RetryPolicy


@attrs.frozen(kw_only=True)
class RestOptions:
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


class RestConnection:
    """
    Makes the requests of one client. Safe to share between threads and across forks.

    Args:
        server_url: The server, as http(s).
        token: The token, or None.
        options: See :class:`RestOptions`.

    Attributes:
        closed: Whether the client was closed.
        events: Reports to ``on_event``.
        used: Whether a request was made; in a forked child only those after the fork count.

    Raises:
        ConfigError: A number is wrong.
    """

    repeats_everything: ClassVar[bool] = False
    unknown_error: ClassVar[type[ButtDialError]] = OutcomeUnknownError

    def __init__(self, server_url: str, token: str | None, options: RestOptions) -> None:
        self.server_url = server_url
        self.token = token
        self.timeout = check_seconds(options.timeout, "timeout")
        self.connect_timeout = check_seconds(options.connect_timeout, "connect_timeout")
        self.network = options.network
        self.clock = options.clock
        self.random_fraction = options.random_fraction
        self.closed = False
        max_attempts = check_count(options.max_attempts, "max_attempts")
        self._retries = RetryPolicy(max_attempts, options.random_fraction)
        self._http = Http(connect_timeout=self.connect_timeout, network=options.network)
        self._rest = Rest(self._http, server_url)
        self.events = EventSink(options.on_event)
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
        self.closed = True
        self._closed_signal.set()
        self._http.close()

    def own_error(self, error: ButtDialError) -> ButtDialError:
        """Return the error of this client for one of the layers below."""
        return error

    def request(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> Any:
        """
        Make a request, again where that does no harm, and return the decoded answer.

        A GET may be repeated, and what certainly was not carried out.

        Args:
            method: The HTTP method.
            path: The path, its parts quoted.
            deadline: Over all attempts.
            query: Goes into the URL.
            body: Goes into the body as JSON.
            endpoint: The path's template, for events and messages.

        Raises:
            OutcomeUnknownError: It may have been carried out; its answer was lost.
            ButtDialError: The server refused it, or could not be reached.
        """
        self.check_open()
        operation = f"{method} {endpoint or path}"
        attempt, may_have_been_done = 0, False
        while True:
            attempt += 1
            try:
                with self.events.attempt(operation, attempt, self.clock):
                    return self._rest.call(
                        method,
                        path,
                        deadline,
                        credential=self.token,
                        query=query,
                        body=body,
                        endpoint=endpoint,
                    )
            except ButtDialError as error:
                failure = self.own_error(error)
            may_have_been_done |= failure.outcome == "unknown"
            is_harmless = method == "GET" or failure.outcome == "not_sent"
            may_repeat = self.repeats_everything or is_harmless
            pause = self._pause_after(failure, attempt, deadline) if may_repeat else None
            if pause is None:
                break
            self.events.tell(operation, "retry", attempt, pause, failure)
            self.sleep(pause)
        if may_have_been_done and method != "GET":
            failure = failure.as_kind(self.unknown_error, outcome="unknown")
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame, and so the whole client

    def _pause_after(
        self, failure: ButtDialError, attempt: int, deadline: Deadline
    ) -> float | None:
        """Return the seconds to wait before the next attempt; None if there must not be one."""
        pause = self._retries.pause_after(failure, attempt)
        if pause is None or self.closed or pause >= deadline.remaining():
            return None
        return pause
