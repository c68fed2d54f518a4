"""The client's connection to one Happy server: requests with their attempts, the clock, closing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from buttdial_sync.errors import ButtDialError
from buttdial_sync.happy.credentials import Credentials
from buttdial_sync.happy.errors import (
    HappyClosedError,
    HappyConfigError,
    HappyError,
    HappyOutcomeUnknownError,
    happy_error,
)
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.settings import check_count
from buttdial_sync.transport.deadline import Clock, Deadline, check_seconds
from buttdial_sync.transport.event_sink import EventSink
from buttdial_sync.transport.fork import reset_after_fork, reset_if_forked
from buttdial_sync.transport.http import Http
from buttdial_sync.transport.network import NetworkOptions
from buttdial_sync.transport.rest import Rest
from buttdial_sync.transport.retrying import RetryPolicy


class HappyConnection:
    """
    Makes the requests of one client. Safe to share between threads and across forks.

    Every request of this API may be repeated: it reads, it deletes, or it carries an id by which
    the server knows a repetition. So each is tried again until ``max_attempts``.

    Args:
        server_url: The server.
        credentials: The token, and where it comes from.
        timeout: Seconds that a call may take, unless the call has a time of its own.
        connect_timeout: Seconds for each connection.
        max_attempts: Attempts of a request in all.
        network: The proxies and certificates of this client.
        on_event: Called for each attempt, answer and retry, in the calling thread.
        clock: A monotonic clock, in seconds.
        sleep: Sleeps between attempts; by default a sleep that ends when the client is closed.
        random_fraction: Gives numbers from 0 to 1, for the jitter.

    Attributes:
        used: Whether a request was made; in a forked child only those after the fork count.

    Raises:
        HappyConfigError: An argument is missing or wrong.
    """

    def __init__(
        self,
        server_url: str | None,
        credentials: Credentials,
        *,
        timeout: float,
        connect_timeout: float,
        max_attempts: int,
        network: NetworkOptions,
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self.server_url = _checked_url(server_url)
        self.token = credentials.token
        self.clock = clock
        self.timeout = check_seconds(timeout, "timeout")
        self.connect_timeout = check_seconds(connect_timeout, "connect_timeout")
        self.closed = False
        self._retries = RetryPolicy(check_count(max_attempts, "max_attempts"), random_fraction)
        self.network = network
        self._http = Http(connect_timeout=self.connect_timeout, network=network)
        self._rest = Rest(self._http, self.server_url)
        self._events = EventSink(on_event)
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
            HappyClosedError: The client is closed.
        """
        reset_if_forked()
        if self.closed:
            raise HappyClosedError("the client is closed")
        self.used = True

    def deadline(self, timeout: float | None = None) -> Deadline:
        """Return the deadline of a call that begins now; ``timeout`` is in seconds."""
        seconds = self.timeout if timeout is None else check_seconds(timeout, "timeout")
        return Deadline(seconds, self.clock)

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
        Make a request, again if it may be, and return the decoded answer.

        Args:
            method: The HTTP method.
            path: The path, its parts quoted.
            deadline: Over all attempts.
            query: Goes into the URL.
            body: Goes into the body as JSON.
            endpoint: The path's template, for events and messages.

        Raises:
            HappyOutcomeUnknownError: It may have been carried out; its answer was lost.
            HappyError: The server refused it, or could not be reached.
        """
        self.check_open()
        operation = f"{method} {endpoint or path}"
        attempt, may_have_been_done = 0, False
        while True:
            attempt += 1
            try:
                return self._attempt(operation, attempt, deadline, path, query, body)
            except ButtDialError as error:
                failure = happy_error(error)
            may_have_been_done |= failure.outcome == "unknown"
            pause = self._pause_after(failure, attempt, deadline)
            if pause is None:
                break
            self._tell(operation, attempt, "retry", pause, failure)
            self.pause(pause)
        if may_have_been_done and method != "GET":
            failure = failure.as_kind(HappyOutcomeUnknownError, outcome="unknown")
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame, and so the whole client

    def pause(self, seconds: float) -> None:
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

    def _attempt(
        self,
        operation: str,
        attempt: int,
        deadline: Deadline,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> Any:
        method, _, endpoint = operation.partition(" ")
        self._tell(operation, attempt, "attempt")
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
            self._tell(operation, attempt, "answer", self.clock() - began, error)
            raise
        self._tell(operation, attempt, "answer", self.clock() - began)
        return answer

    def _pause_after(self, failure: HappyError, attempt: int, deadline: Deadline) -> float | None:
        pause = self._retries.pause_after(failure, attempt)
        if pause is None or self.closed or pause >= deadline.remaining():
            return None
        return pause

    def _tell(
        self,
        operation: str,
        attempt: int,
        kind: Any,
        seconds: float | None = None,
        error: ButtDialError | None = None,
    ) -> None:
        if not self._events.has_listener:
            return
        self._events.emit(
            ClientEvent(
                kind=kind,
                operation=operation,
                attempt=attempt,
                seconds=seconds,
                outcome=None if kind == "attempt" else error.outcome if error else "sent",
                error=type(error).__name__ if error else None,
                code=error.code if error else None,
            )
        )


def _checked_url(server_url: str | None) -> str:
    if not server_url:
        raise HappyConfigError(
            "no server_url", remediation="Give server_url, or set HAPPY_SERVER_URL."
        )
    try:
        parts = urlsplit(server_url.strip())
        is_address = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except (AttributeError, ValueError):
        is_address = False
    if not is_address or parts.query or parts.fragment or parts.username is not None:
        raise HappyConfigError(
            "server_url must be a plain address that begins with http:// or https://",
            remediation="Give the token as token, and nothing after the path.",
        )
    return server_url.strip().rstrip("/")
