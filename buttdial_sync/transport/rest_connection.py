"""What the clients of the neighbours share: REST requests, their attempts and events, the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from buttdial_sync.errors import ButtDialError, OutcomeUnknownError
from buttdial_sync.transport.client_connection import ClientConnection, ConnectionOptions
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.rest import Rest


class RestConnection(ClientConnection):
    """
    Makes the requests of one client. Safe to share between threads and across forks.

    Args:
        server_url: The server, as http(s).
        token: The token, or None.
        options: See :class:`ConnectionOptions`.

    Raises:
        ConfigError: A number is wrong.
    """

    repeats_everything: ClassVar[bool] = False
    unknown_error: ClassVar[type[ButtDialError]] = OutcomeUnknownError

    def __init__(self, server_url: str, token: str | None, options: ConnectionOptions) -> None:
        super().__init__(options)
        self.server_url = server_url
        self.token = token
        self.network = options.network
        self.random_fraction = options.random_fraction
        self._rest = Rest(self.http, server_url)

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
        pause = self.retries.pause_after(failure, attempt)
        if pause is None or self.closed or pause >= deadline.remaining():
            return None
        return pause
