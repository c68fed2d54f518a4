"""Which token a message goes out with, and which tokens had better rest."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.transport.fork import on_fork_start_anew

TokenFor = Callable[[str], str | None]

LOCKOUT_WINDOW = 900.0
# Both servers lock an address out after ten failed logins in that time, good tokens too.
_FAILURES_AT_MOST = 4
_PROVEN_FOR = 60.0
_KEPT_AT_MOST = 1000


@attrs.frozen
class Obstacle:
    """
    Why nothing may be sent now.

    Attributes:
        reason: In words.
        seconds: For how long.
        token_to_blame: A new token would help.
    """

    reason: str
    seconds: float
    token_to_blame: bool = False


class NoTokenError(Exception):
    """There is no token for a message; the text says why."""


@attrs.define
class _Standing:
    """What is known about one token. It changes under the lock of its owner."""

    alone: threading.Lock = attrs.field(factory=threading.Lock)
    proven_at: float | None = None
    rests_until: float = -math.inf
    reason: str = ""
    to_blame: bool = False


class Credentials:
    """
    Keeps a wrong token from locking the address out, and a limited one from spending attempts.

    A token that was not proven lately goes alone until it is; a refused one rests until it is
    replaced or the lockout window has passed; after some failed logins only proven ones are used.
    Safe to share between threads.

    Args:
        token_for: Gives the current token of an agent.
        own_agent_id: The agent that the client speaks as.
        monotonic: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        token_for: TokenFor | None = None,
        *,
        own_agent_id: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token_for = token_for
        self._own_agent_id = own_agent_id
        self._monotonic = monotonic
        self._lockout = ""
        self._locked_until = self._paused_until = -math.inf
        self.start_anew()
        on_fork_start_anew(self)

    def start_anew(self) -> None:
        """In a forked child: new locks, nothing known."""
        self._lock = threading.Lock()
        self._standings: dict[str | None, _Standing] = {}
        self._failures: list[float] = []

    def token_of(self, message: FailedMessage) -> str | None:
        """
        Return the token to send a message with; None is the client's own.

        Raises:
            NoTokenError: There is none, or ``token_for`` failed.
        """
        if message.agent_id is not None and self._token_for is not None:
            return _ask(self._token_for, message.agent_id)
        if message.agent_token:
            return message.agent_token
        if message.agent_id not in {None, self._own_agent_id}:
            raise NoTokenError(f"no token for agent {message.agent_id}: give the loop token_for")
        return None

    @contextmanager
    def turn(self, token: str | None) -> Iterator[Obstacle | None]:
        """Wait until this token may be used; what is yielded says why it may not at all."""
        standing = self._standing(token)
        if self._is_proven(standing):
            yield self._obstacle(standing)
            return
        with standing.alone:
            yield self._obstacle(standing)

    def worked(self, token: str | None) -> None:
        """Note that the server let this token in."""
        self._standing(token).proven_at = self._monotonic()

    def refused(self, token: str | None, reason: str) -> None:
        """Note that the server refused this token."""
        with self._lock:
            self._failures.append(self._monotonic())
        self._rest(token, reason, LOCKOUT_WINDOW, to_blame=True)

    def limited(self, token: str | None, reason: str, seconds: float) -> None:
        """Use this token no more for a time: it sent too much."""
        self._rest(token, reason, seconds, to_blame=False)
        self._pause(seconds)

    def locked_out(self, reason: str, seconds: float) -> None:
        """Send nothing at all for a time."""
        with self._lock:
            until = self._monotonic() + seconds
            if until > self._locked_until:
                self._locked_until, self._lockout = until, reason
        self._pause(seconds)

    @property
    def pause(self) -> float:
        """Seconds until the last limit and lockout are over; 0 when there is none."""
        return max(0.0, self._paused_until - self._monotonic())

    def _pause(self, seconds: float) -> None:
        with self._lock:
            self._paused_until = max(self._paused_until, self._monotonic() + seconds)

    def _rest(self, token: str | None, reason: str, seconds: float, *, to_blame: bool) -> None:
        standing = self._standing(token)
        with self._lock:
            standing.proven_at = None
            standing.reason, standing.to_blame = reason, to_blame
            standing.rests_until = max(standing.rests_until, self._monotonic() + seconds)

    def _standing(self, token: str | None) -> _Standing:
        with self._lock:
            if len(self._standings) > _KEPT_AT_MOST:
                now = self._monotonic()
                for known, standing in list(self._standings.items()):
                    if standing.rests_until <= now and not standing.alone.locked():
                        del self._standings[known]
            return self._standings.setdefault(token, _Standing())

    def _is_proven(self, standing: _Standing) -> bool:
        at = standing.proven_at
        return at is not None and self._monotonic() - at < _PROVEN_FOR

    def _obstacle(self, standing: _Standing) -> Obstacle | None:
        now = self._monotonic()
        with self._lock:
            if now < self._locked_until:
                return Obstacle(self._lockout, self._locked_until - now)
            if now < standing.rests_until:
                return Obstacle(standing.reason, standing.rests_until - now, standing.to_blame)
            self._failures = [at for at in self._failures if now - at < LOCKOUT_WINDOW]
            if len(self._failures) >= _FAILURES_AT_MOST and not self._is_proven(standing):
                left = self._failures[0] + LOCKOUT_WINDOW - now
                return Obstacle(
                    "several tokens were refused: another would risk a lockout", left, True
                )
        return None


def _ask(token_for: TokenFor, agent_id: str) -> str:
    try:
        token = token_for(agent_id)
    except Exception as error:
        raise NoTokenError(f"token_for failed: {type(error).__name__}") from error
    if not token or not isinstance(token, str):
        raise NoTokenError(f"token_for has no token for agent {agent_id}")
    return token
