"""A client's connection to one server: HTTP, sessions, the clock, the retry policy, closing."""

from __future__ import annotations

import random
import sys
import time
import warnings
from collections.abc import Callable, Sequence

from buttdial_sync.errors import ArgumentTypeError, ConfigError
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.settings import TokenIn, check_count, check_token_in
from buttdial_sync.transport.client_connection import ClientConnection, ConnectionOptions
from buttdial_sync.transport.deadline import Clock, check_seconds
from buttdial_sync.transport.http import origin_of
from buttdial_sync.transport.logins import Logins
from buttdial_sync.transport.network import NetworkOptions, address_of
from buttdial_sync.transport.opening import SessionOpener
from buttdial_sync.transport.pool import SessionPool
from buttdial_sync.transport.push_router import PushRouter
from buttdial_sync.transport.rest import Rest
from buttdial_sync.transport.session import McpSession, SessionOptions


class Connection(ClientConnection):
    """
    The one connection of a client, which all its views share.

    Safe to share between threads and across forks. Nothing is opened before the first call.

    Args:
        base_url: The server, with or without ``/sse``.
        timeout: This and the others are those of :class:`ConnectionOptions`.

    Attributes:
        holds_sessions: Whether it has the next two.
        pool: The live sessions.
        router: Passes on what comes in.
        logins: What is known about the server's tokens.
        rest: Makes REST requests.
        variants: The variant of an endpoint that this server has, as far as known, by its path.

    Raises:
        ConfigError: An argument is missing or wrong.
    """

    def __init__(
        self,
        base_url: str | None,
        *,
        timeout: float,
        connect_timeout: float,
        max_attempts: int,
        network: NetworkOptions | None = None,
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self.base_url = check_base_url(base_url)
        super().__init__(
            ConnectionOptions(
                timeout=timeout,
                connect_timeout=connect_timeout,
                max_attempts=max_attempts,
                network=network or NetworkOptions(),
                on_event=on_event,
                clock=clock,
                sleep=sleep,
                random_fraction=random_fraction,
            )
        )
        self.logins = Logins(self.http, self.base_url, clock)
        self.rest = Rest(self.http, self.base_url, self.logins)
        self.variants: dict[str, int] = {}
        self.holds_sessions = False

    def hold_sessions(
        self,
        *,
        token_in: TokenIn,
        before_open: Callable[[Sequence[WaitingMessage]], object] | None,
        max_event_bytes: int,
        max_sessions: int,
        idle_ping: float,
        close_idle_after: float | None = None,
        leaves_queue: bool = False,
    ) -> None:
        """
        Hold MCP sessions too, one for each token.

        Args:
            token_in: Where the token goes when a stream is opened.
            before_open: Gets the waiting messages before each stream is opened.
            max_event_bytes: Larger answers end a session.
            max_sessions: Sessions held at once; the one idle for longest goes.
            idle_ping: Seconds of silence after which a stream is pinged before it is used.
            close_idle_after: Seconds after which an unused session is closed; None keeps it.
            leaves_queue: Open no stream that would throw away what waits.

        Raises:
            ConfigError: An argument is wrong.
        """
        self.router = PushRouter(self.rest, before_open, leaves_queue=leaves_queue)
        options = SessionOptions(
            max_event_bytes=check_count(max_event_bytes, "max_event_bytes"),
            on_notification=self.router.pushed,
            on_end=self.router.ended,
            breaker=self.logins.breaker,
            clock=self.clock,
        )
        self._opener = SessionOpener(
            self.http,
            self.base_url,
            logins=self.logins,
            token_in=check_token_in(token_in, "token_in") or "auto",
            options=options,
            before_open=self.router.opening,
            on_open=self.router.opened,
            on_event=self.events.emit,
        )
        self.pool: SessionPool[McpSession] = SessionPool(
            self._opener.open,
            max_sessions=check_count(max_sessions, "max_sessions"),
            idle_ping=check_seconds(idle_ping, "idle_ping"),
            close_idle_after=(
                None
                if close_idle_after is None
                else check_seconds(close_idle_after, "close_idle_after")
            ),
            clock=self.clock,
        )
        self.holds_sessions = True

    @property
    def origin(self) -> str:
        """The server's scheme, host and port."""
        return origin_of(self.base_url)

    @property
    def pushes_to_sessions(self) -> bool:
        """Whether the server is one that pushes messages, as far as is known."""
        return self._opener.location == "header"

    @property
    def token_goes_into_url(self) -> bool:
        """Whether the server wants the token of a stream in its URL, as far as is known."""
        return self._opener.location == "query"

    @property
    def is_open(self) -> bool:
        """Whether the client was used and not closed."""
        return self.used and not self.closed

    def close(self, timeout: float = 0.0) -> None:
        """
        End the pauses, the requests under way and the sessions. Idempotent, from any thread.

        Args:
            timeout: How long to wait for the sessions' threads to end, in seconds.
        """
        try:
            super().close()
        finally:  # closing an adapter of the host's may raise
            if self.holds_sessions:
                self._opener.close()
                self.pool.close(timeout)

    def __del__(self) -> None:
        # Here and not in the client: its views and families need only the connection. A constructor
        # that raised has left nothing.
        if not getattr(self, "used", False) or self.closed:
            return
        self.closed = True  # whoever gets it back from the warning cannot use it
        if self.holds_sessions and not sys.is_finalizing():  # then everything ends anyway
            self.pool.abandon()
        # Last, because a host may turn warnings into errors.
        told = f"the client of {self.base_url} was not closed"
        warnings.warn(told, ResourceWarning, source=self, stacklevel=2)


def check_base_url(base_url: str | None) -> str:
    """
    Return the server's address without a trailing slash and without ``/sse``.

    Raises:
        ConfigError: It is missing, or not a plain http(s) address.
    """
    if not base_url:
        raise ConfigError("no base_url", remediation="Give base_url, or set BUTT_DIAL_BASE_URL.")
    if not isinstance(base_url, str):
        raise ArgumentTypeError("base_url must be text")
    parts = address_of(base_url, ("http", "https"))
    if parts is None:
        raise ConfigError(
            "base_url must begin with http:// or https:// and name a host",
            remediation="Write https:// before the host, as in https://butt-dial.example.",
        )
    if parts.query or parts.fragment or parts.username is not None:
        raise ConfigError(
            "base_url must be a plain address: no query, no fragment, no user",
            remediation="Give the token as agent_token or team_token.",
        )
    return base_url.strip().rstrip("/").removesuffix("/sse").rstrip("/")
