"""The client's connection to one Happy server: requests with their attempts, the clock, closing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from buttdial_sync.errors import ButtDialError
from buttdial_sync.happy.credentials import Credentials
from buttdial_sync.happy.errors import (
    HappyClosedError,
    HappyConfigError,
    HappyOutcomeUnknownError,
    happy_error,
)
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.transport.deadline import Clock, Deadline
from buttdial_sync.transport.network import NetworkOptions, is_private
from buttdial_sync.transport.rest_connection import RestConnection


class HappyConnection(RestConnection):
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
        insecure_hosts: Hosts to which the token may go unencrypted.
        network: The proxies and certificates of this client.
        on_event: Called for each attempt, answer and retry, in the calling thread.
        clock: A monotonic clock, in seconds.
        sleep: Sleeps between attempts; by default a sleep that ends when the client is closed.
        random_fraction: Gives numbers from 0 to 1, for the jitter.

    Attributes:
        network: As given.

    Raises:
        HappyConfigError: An argument is missing or wrong.
    """

    closed_error = HappyClosedError

    def __init__(
        self,
        server_url: str | None,
        credentials: Credentials,
        *,
        timeout: float,
        connect_timeout: float,
        max_attempts: int,
        insecure_hosts: Collection[str],
        network: NetworkOptions,
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(
            _checked_url(server_url, insecure_hosts),
            token=credentials.token,
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_attempts=max_attempts,
            network=network,
            on_event=on_event,
            clock=clock,
            sleep=sleep,
            random_fraction=random_fraction,
        )
        self.network = network

    def deadline_within(self, deadline: Deadline | None) -> Deadline:
        """Return the deadline of one request of many that a call makes, within the call's own."""
        return self.deadline() if deadline is None else deadline.within(self.timeout)

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
                return self.attempt(
                    method, path, attempt, deadline, query=query, body=body, endpoint=endpoint
                )
            except ButtDialError as error:
                failure = happy_error(error)
            may_have_been_done |= failure.outcome == "unknown"
            pause = self.pause_after(failure, attempt, deadline)
            if pause is None:
                break
            self.events.tell(operation, "retry", attempt, pause, failure)
            self.sleep(pause)
        if may_have_been_done and method != "GET":
            failure = failure.as_kind(HappyOutcomeUnknownError, outcome="unknown")
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame, and so the whole client


def _checked_url(server_url: str | None, insecure_hosts: Collection[str]) -> str:
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
    if not is_private(server_url.strip(), insecure_hosts):
        raise HappyConfigError(
            "the token would travel unencrypted, and everybody on the way could read it",
            remediation="Use https://, or name the host in insecure_hosts.",
        )
    return server_url.strip().rstrip("/")
