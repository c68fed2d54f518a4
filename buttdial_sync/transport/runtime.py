"""What every client has: connections, a clock, attempts, events, and an end."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

# For the answers' models, which load it on first use: that must not be after something was sent,
# when descriptors may have run out.
import cattrs  # noqa: F401

from buttdial_sync.errors import (
    ArgumentTypeError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
)
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.settings import check_count
from buttdial_sync.transport.deadline import Clock, Deadline, check_seconds
from buttdial_sync.transport.fork import on_fork_start_anew, start_anew_if_forked
from buttdial_sync.transport.http import Http
from buttdial_sync.transport.retrying import RetryPolicy

logger = logging.getLogger("buttdial_sync")

T = TypeVar("T")


class Runtime:
    """
    Runs calls for a client. Safe to share between threads and across forks.

    Args:
        timeout: Seconds that a whole call may take, unless it says otherwise.
        connect_timeout: Seconds for each connection.
        max_attempts: Attempts in all, the first included.
        on_event: Told of each attempt, answer, retry and connection, in the thread that caused it.
        clock: A monotonic clock, in seconds.
        sleep: Sleeps; by default a sleep that ends early when the client is closed.
        random_fraction: Gives numbers from 0 to 1, for the jitter between attempts.
    """

    def __init__(
        self,
        *,
        timeout: float,
        connect_timeout: float,
        max_attempts: int,
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self.clock = clock
        self.timeout = check_seconds(timeout, "timeout")
        self.http = Http(connect_timeout=check_seconds(connect_timeout, "connect_timeout"))
        self._on_event = on_event
        self._closing = False
        self.start_anew()
        self._policy = RetryPolicy(
            max_attempts=check_count(max_attempts, "max_attempts"),
            sleep=sleep or self._sleep,
            is_closing=lambda: self._closing,
            random_fraction=random_fraction,
        )
        on_fork_start_anew(self)

    def start_anew(self) -> None:
        """In a forked child: a new signal, whose lock nobody holds."""
        self._closed = threading.Event()
        if self._closing:
            self._closed.set()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closing

    def deadline(self, timeout: float | None) -> Deadline:
        """Return the deadline of a call that begins now."""
        seconds = self.timeout if timeout is None else check_seconds(timeout, "timeout")
        return Deadline(seconds, self.clock)

    def run(
        self,
        operation: str,
        attempt: Callable[[], T],
        deadline: Deadline,
        *,
        may_repeat_unknown: Callable[[], bool],
    ) -> T:
        """
        Carry out a call: attempts, pauses and events, all within the deadline.

        Raises:
            ClientClosedError: The client is closed.
            ButtDialError: The last attempt's.
        """
        start_anew_if_forked()
        if self._closing:
            raise ClientClosedError("the client is closed")
        if self._on_event is None:
            return self._policy.run(
                lambda _: attempt(),
                deadline,
                may_repeat_unknown=may_repeat_unknown,
                on_retry=lambda number, error, pause: _log_retry(operation, number, error, pause),
            )
        return self._policy.run(
            lambda number: self._watched(operation, number, attempt),
            deadline,
            may_repeat_unknown=may_repeat_unknown,
            on_retry=lambda number, error, pause: self._announce_retry(
                operation, number, error, pause
            ),
        )

    def emit(self, event: ClientEvent) -> None:
        """Tell the host; what its callback raises is logged."""
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            logger.exception("on_event failed")

    def close(self) -> bool:
        """End the pauses and the requests under way; return False if that was done before."""
        start_anew_if_forked()
        if self._closing:
            return False
        self._closing = True
        self._closed.set()
        self.http.close()
        return True

    def _sleep(self, seconds: float) -> None:
        self._closed.wait(seconds)

    def _watched(self, operation: str, number: int, attempt: Callable[[], T]) -> T:
        self.emit(ClientEvent(kind="attempt", operation=operation, attempt=number))
        started = self.clock()
        try:
            result = attempt()
        except ButtDialError as error:
            self.emit(
                ClientEvent(
                    kind="answer",
                    operation=operation,
                    attempt=number,
                    seconds=self.clock() - started,
                    outcome=error.outcome,
                    error=type(error).__name__,
                    code=error.code,
                )
            )
            raise
        self.emit(
            ClientEvent(
                kind="answer",
                operation=operation,
                attempt=number,
                seconds=self.clock() - started,
                outcome="sent",
            )
        )
        return result

    def _announce_retry(
        self, operation: str, number: int, error: ButtDialError, pause: float
    ) -> None:
        _log_retry(operation, number, error, pause)
        self.emit(
            ClientEvent(
                kind="retry",
                operation=operation,
                attempt=number,
                seconds=pause,
                outcome=error.outcome,
                error=type(error).__name__,
                code=error.code,
            )
        )


def _log_retry(operation: str, number: int, error: ButtDialError, pause: float) -> None:
    logger.info("%s: attempt %d failed (%s); next in %.2f s", operation, number, error, pause)


def check_base_url(base_url: str | None) -> str:
    """
    Return the server's address without a trailing slash and without ``/sse``.

    Raises:
        ConfigError: There is none, or it is no plain http(s) address.
    """
    if not base_url:
        raise ConfigError("no base_url", remediation="Give base_url, or set BUTT_DIAL_BASE_URL.")
    if not isinstance(base_url, str):
        raise ArgumentTypeError("base_url must be text")
    try:
        parts = urlsplit(base_url.strip())
        is_address = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError("base_url must begin with http:// or https:// and name a host")
    if parts.query or parts.fragment or parts.username is not None:
        raise ConfigError(
            "base_url must be a plain address: no query, no fragment, no user",
            remediation="Give the token as agent_token or team_token.",
        )
    return base_url.strip().rstrip("/").removesuffix("/sse").rstrip("/")
