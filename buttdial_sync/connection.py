"""A client's connection to one server: HTTP, sessions, the clock, the retry policy, closing."""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence

from buttdial_sync.errors import ArgumentTypeError, ClientClosedError, ConfigError
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.settings import TokenIn, check_count, check_token_in
from buttdial_sync.transport.deadline import Clock, Deadline, check_seconds
from buttdial_sync.transport.event_sink import EventSink
from buttdial_sync.transport.fork import reset_after_fork, reset_if_forked
from buttdial_sync.transport.http import Http, origin_of
from buttdial_sync.transport.logins import Logins
from buttdial_sync.transport.network import NetworkOptions, address_of
from buttdial_sync.transport.opening import SessionOpener
from buttdial_sync.transport.pool import SessionPool
from buttdial_sync.transport.push_router import PushRouter
from buttdial_sync.transport.rest import Rest
from buttdial_sync.transport.retrying import RetryPolicy
from buttdial_sync.transport.session import McpSession, SessionOptions

logger = logging.getLogger("buttdial_sync")


class Connection:
    """
    The one connection of a client, which all its views share.

    Safe to share between threads and across forks. Nothing is opened before the first call.

    Args:
        base_url: The server, with or without ``/sse``.
        timeout: Seconds that a whole call may take, unless the call has its own ``timeout``.
        connect_timeout: Seconds for each address of the host.
        max_attempts: Attempts in all, the first included.
        network: Proxies, certificates, headers and adapter of this client.
        on_event: Called for each attempt, answer, retry and connection, in the calling thread.
        clock: A monotonic clock, in seconds.
        sleep: Sleeps; by default a sleep that ends early when the client is closed.
        random_fraction: Gives numbers from 0 to 1, for the jitter between attempts.

    Attributes:
        used: Whether a call was made; in a forked child only calls after the fork count.
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
        self.clock = clock
        self.timeout = check_seconds(timeout, "timeout")
        self.retries = RetryPolicy(check_count(max_attempts, "max_attempts"), random_fraction)
        self.http = Http(
            connect_timeout=check_seconds(connect_timeout, "connect_timeout"), network=network
        )
        self.logins = Logins(self.http, self.base_url, clock)
        self.rest = Rest(self.http, self.base_url, self.logins)
        self.events = EventSink(on_event)
        self._own_sleep = sleep
        self.closed = False
        self.variants: dict[str, int] = {}
        self._opener: SessionOpener | None = None
        self._pool: SessionPool[McpSession] | None = None
        self._router: PushRouter | None = None
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a new signal, whose lock nobody holds."""
        self.used = False
        self._closed_signal = threading.Event()
        if self.closed:
            self._closed_signal.set()

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
        self._router = PushRouter(self.rest, before_open, leaves_queue=leaves_queue)
        options = SessionOptions(
            max_event_bytes=check_count(max_event_bytes, "max_event_bytes"),
            on_notification=self._router.pushed,
            on_end=self._router.ended,
            breaker=self.logins.breaker,
            clock=self.clock,
        )
        self._opener = SessionOpener(
            self.http,
            self.base_url,
            logins=self.logins,
            token_in=check_token_in(token_in, "token_in") or "auto",
            options=options,
            before_open=self._router.opening,
            on_open=self._router.opened,
            on_event=self.events.emit,
        )
        self._pool = SessionPool(
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

    @property
    def pool(self) -> SessionPool[McpSession]:
        """The live sessions."""
        assert self._pool is not None, "this client holds no sessions"  # noqa: S101
        return self._pool

    @property
    def origin(self) -> str:
        """The server's scheme, host and port."""
        return origin_of(self.base_url)

    @property
    def pushes_to_sessions(self) -> bool:
        """Whether the server is one that pushes messages, as far as is known."""
        assert self._opener is not None, "this client holds no sessions"  # noqa: S101
        return self._opener.location == "header"

    @property
    def token_goes_into_url(self) -> bool:
        """Whether the server wants the token of a stream in its URL, as far as is known."""
        assert self._opener is not None, "this client holds no sessions"  # noqa: S101
        return self._opener.location == "query"

    @property
    def router(self) -> PushRouter:
        """Passes on what comes in."""
        assert self._router is not None, "this client holds no sessions"  # noqa: S101
        return self._router

    @property
    def is_open(self) -> bool:
        """Whether the client was used and not closed."""
        return self.used and not self.closed

    def check_open(self) -> None:
        """
        Begin a call.

        Raises:
            ClientClosedError: The client is closed.
        """
        reset_if_forked()
        if self.closed:
            raise ClientClosedError("the client is closed")
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

    def close(self, timeout: float = 0.0) -> None:
        """
        End the pauses, the requests under way and the sessions. Idempotent, from any thread.

        Args:
            timeout: How long to wait for the sessions' threads to end, in seconds.
        """
        reset_if_forked()
        if self.closed:
            return
        self.closed = True
        self._closed_signal.set()
        try:
            self.http.close()
        finally:  # closing an adapter of the host's may raise
            if self._opener is not None and self._pool is not None:
                self._opener.close()
                self._pool.close(timeout)

    def abandon(self) -> None:
        """End the sessions of a client that is collected without close(). Never waits."""
        self.closed = True
        if self._pool is not None:
            self._pool.abandon()

    def __del__(self) -> None:
        # Here and not in the client: its views and families need only the connection. A constructor
        # that raised has left nothing.
        if not getattr(self, "used", False) or self.closed:
            return
        if not sys.is_finalizing():  # then everything ends anyway
            self.abandon()
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
