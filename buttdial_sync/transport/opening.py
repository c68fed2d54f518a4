"""Opening the event stream."""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import urlsplit

import requests

from buttdial_sync.errors import (
    AuthError,
    AuthInvalidTokenError,
    AuthMissingHeaderError,
    AuthTokenRevokedError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    EndpointNotAvailable,
    ProtocolError,
)
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.settings import TokenIn
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.endpoint import BUFFERING_PROXY
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork
from buttdial_sync.transport.http import OK, Http, origin_of, refusal
from buttdial_sync.transport.logins import Logins
from buttdial_sync.transport.secrets import scrub_urls_in_logs
from buttdial_sync.transport.session import McpSession, SessionOptions
from buttdial_sync.transport.sse import EventStream
from buttdial_sync.transport.token_location import Location, TokenLocation

logger = logging.getLogger("buttdial_sync.session")

BeforeOpen = Callable[[str, Location, Deadline], None]
OnOpen = Callable[[str, Location], None]


class SessionOpener:
    """
    Opens sessions at one server. Safe to share between threads.

    Args:
        http: Sends the requests.
        base_url: The server, without ``/sse``.
        logins: Says which tokens may be used, and learns from the answers.
        token_in: Where the token goes; ``"auto"`` finds out.
        options: What the sessions have in common.
        before_open: Called before each attempt to open a stream, with the token and where it will
            be; opening one with the token in the query empties the waiting queue. Its exceptions
            end the opening.
        on_open: Called with the token, and where it was, after the server opened a stream.
        on_event: Called for each stream that is opened.
    """

    def __init__(
        self,
        http: Http,
        base_url: str,
        *,
        logins: Logins,
        token_in: TokenIn,
        options: SessionOptions,
        before_open: BeforeOpen,
        on_open: OnOpen,
        on_event: Callable[[ClientEvent], None],
    ) -> None:
        self._http = http
        self._url = f"{base_url}/sse"
        self._logins = logins
        self._token_in: TokenIn = token_in
        self._options = options
        self._before_open = before_open
        self._on_open = on_open
        self._on_event = on_event
        self._location = TokenLocation.of(origin_of(base_url)) if token_in == "auto" else None
        self._closed = False
        self._starting: set[McpSession] = set()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: what the parent is opening stays the parent's."""
        leak_until_exit(self._starting)
        self._starting = set()

    @property
    def location(self) -> TokenIn | None:
        """Where the server wants the token; None if that is not known yet."""
        return self._token_in if self._location is None else self._location.known

    def open(self, token: str, deadline: Deadline) -> McpSession:
        """
        Open a session: the stream, its endpoint, the handshake.

        Raises:
            ButtDialError: No session; unless the credential was refused, ``outcome`` is
                ``"not_sent"``.
        """
        try:
            return self._opened(token, deadline)
        except ButtDialError as error:
            # The stream is opened for a request that was not posted yet, so that one was not sent.
            error.outcome = "rejected" if isinstance(error, AuthError) else "not_sent"
            raise

    def close(self) -> None:
        """End the sessions that are being opened, and open no more."""
        self._closed = True
        for session in self._starting.copy():
            session.close(0, ClientClosedError)

    def _opened(self, token: str, deadline: Deadline) -> McpSession:
        started = self._options.clock()
        stream = self._open_stream(token, deadline)
        session = McpSession(self._http, stream, token, self._options)
        self._starting.add(session)
        try:
            if self._closed:
                raise ClientClosedError("the client is closed")  # noqa: TRY301 - closed below
            session.start(deadline)
            seconds = self._options.clock() - started
            self._on_event(ClientEvent(kind="connect", operation="session", seconds=seconds))
            return session  # noqa: TRY300 - not after the try, where Ctrl-C would lose it
        except BaseException:  # also Ctrl-C while the host's function runs
            session.close()
            raise
        finally:
            self._starting.discard(session)

    def _open_stream(self, token: str, deadline: Deadline) -> EventStream:
        location = self._location
        if location is None:
            fixed: Location = "query" if self._token_in == "query" else "header"
            return self._open_at(fixed, token, deadline)
        if location.known is None:
            stream = self._open_first(token, location, deadline)
            if stream is not None:
                return stream
        place = location.known or "header"
        try:
            return self._open_at(place, token, deadline)
        except AuthMissingHeaderError:
            place = "query" if place == "header" else "header"
        self._remember(location, place)
        return self._open_at(place, token, deadline)

    def _open_first(
        self, token: str, location: TokenLocation, deadline: Deadline
    ) -> EventStream | None:
        """Find out where the token goes; return the stream if that has opened one."""
        self._before_open(token, "header", deadline)  # may take long, and others wait for a turn
        with location.probe(deadline, is_cancelled=lambda: self._closed):
            if location.known is not None:
                return None
            try:
                stream = self._log_in(token, "header", deadline)
            except AuthMissingHeaderError:
                self._remember(location, "query")
                return None
            except (AuthInvalidTokenError, AuthTokenRevokedError):
                location.remember("header")  # the server saw it there
                raise
            location.remember("header")
            return stream

    def _open_at(self, place: Location, token: str, deadline: Deadline) -> EventStream:
        # Before each attempt, and not once before both: the shorter ago the queue was read, the
        # less is lost, and only the second one may show that there is a queue to be emptied.
        self._before_open(token, place, deadline)
        return self._log_in(token, place, deadline)

    def _remember(self, location: TokenLocation, place: Location) -> None:
        logger.info("the server looks for the token in the %s", place)
        location.remember(place)

    def _log_in(self, token: str, place: Location, deadline: Deadline) -> EventStream:
        with self._logins.breaker.login(
            token, deadline, self._logins.log_in, is_cancelled=lambda: self._closed
        ):
            return self._get(token, place, deadline)

    def _get(self, token: str, place: Location, deadline: Deadline) -> EventStream:
        query = None
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if place == "header":
            headers["Authorization"] = Secret(f"Bearer {token}")
        else:
            query = self._query_with(token)
        request = self._http.prepare("GET", self._url, headers=headers, query=query)
        try:
            response, progress = self._http.send(request, deadline, stream=True)
        except DeadlineExceededError as error:
            if error.outcome == "unknown":  # it was written, and not a byte came back
                error.remediation = BUFFERING_PROXY
            raise
        if response.status_code >= 300:
            try:
                raise self._refusal(response, token)
            finally:
                del response  # its headers may repeat the token, and its pool knows the proxy's
        kind = response.headers.get("content-type", "")
        media_type = kind.partition(";")[0].strip().lower()
        if response.status_code != OK or media_type != "text/event-stream":
            response.close()
            raise ProtocolError(
                f"the server answered HTTP {response.status_code} with {kind or 'no content type'} "
                "instead of an event stream",
                stage="session",
                status_code=response.status_code,
            )
        self._on_open(token, place)
        return EventStream(
            response,
            progress,
            url=self._url,
            max_event_bytes=self._options.max_event_bytes,
            clock=self._options.clock,
        )

    def _refusal(self, response: requests.Response, token: str) -> ButtDialError:
        error = refusal(response, "stream", token)
        if isinstance(error, EndpointNotAvailable):
            error.args = (f"the server has no GET {urlsplit(self._url).path}",)
        return error

    def _query_with(self, token: str) -> dict[str, str]:
        if not self._http.is_private_way(self._url):
            raise ConfigError(
                "the server wants the token in the URL, which everybody on the way could read",
                remediation="Use https, or reach the server on this machine without a proxy.",
            )
        scrub_urls_in_logs()
        return {"token": token}
