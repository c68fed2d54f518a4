"""Tokens for messages, and a circuit breaker for each token."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from buttdial_sync.models.failed import FailedMessage

TokenFor = Callable[[str], str | None]

_LOCKOUT_WINDOW = 900.0
# Both servers lock an address out after ten failed logins in that time, for valid tokens too. Four
# leaves room for the failed logins of other processes at the same address.
_FAILURES_AT_MOST = 4
_PROVEN_FOR = 60.0
_LONGEST_PAUSE_FOR_TOKEN = 120.0
_KEPT_AT_MOST = 1000
_LOOK_AGAIN = 0.25  # seconds


@attrs.frozen
class Blocked:
    """
    The reason why nothing may be sent now.

    Attributes:
        reason: In words.
        seconds: After how long to ask again.
    """

    reason: str
    seconds: float


class NoTokenError(Exception):
    """There is no token for a message; the text says why."""


@attrs.define
class _TokenState:
    """The state of one token. It changes under the lock of the breaker."""

    is_probed: bool = False
    proven_at: float | None = None
    rests_until: float = -math.inf
    reason: str = ""
    to_blame: bool = False


class TokenBreaker:
    """
    Keeps a wrong token from locking the address out, and a limited one from spending attempts.

    A token is *proven* if the server accepted it in the last minute. While it is not, one thread
    probes it with its message, and the others wait. A refused token rests until it is replaced or
    the lockout window has passed. After four failed logins in that window only proven tokens are
    used. Safe to share between
    threads.

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
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """In a forked child: new locks, no token known."""
        self._changed = threading.Condition()
        self._states: dict[str | None, _TokenState] = {}
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
    def admit(self, token: str | None, stopping: threading.Event) -> Iterator[Blocked | None]:
        """
        Wait until this token may be used; yield the reason if it must not be used.

        The waiting also ends when ``stopping`` is set: check that first. No lock is held inside the
        block.
        """
        with self._changed:
            state = self._state(token)
            while state.is_probed and not (
                stopping.is_set() or self._is_proven(state) or self._blocked(state)
            ):
                # Bounded, because setting ``stopping`` does not notify the condition.
                self._changed.wait(_LOOK_AGAIN)
            blocked = self._blocked(state)
            # Decided under the lock, so of several threads one becomes the prober.
            probes = not (state.is_probed or blocked or self._is_proven(state))
            state.is_probed |= probes
        try:
            yield blocked
        finally:
            # Also without a result: the next waiting thread becomes the prober.
            if probes:
                with self._changed:
                    state.is_probed = False
                    self._changed.notify_all()

    def worked(self, token: str | None) -> None:
        """Note that the server accepted this token."""
        with self._changed:
            self._state(token).proven_at = self._monotonic()

    def refused(self, token: str | None, reason: str) -> None:
        """Note that the server refused this token."""
        with self._changed:
            self._failures.append(self._monotonic())
            self._rest(token, reason, _LOCKOUT_WINDOW, to_blame=True)

    def limited(self, token: str | None, reason: str, seconds: float) -> None:
        """Do not use this token for a time: its agent has sent too much."""
        with self._changed:
            self._rest(token, reason, seconds, to_blame=False)
            self._pause(seconds)

    def locked_out(self, reason: str, seconds: float) -> None:
        """Send nothing at all for a time."""
        with self._changed:
            until = self._monotonic() + seconds
            if until > self._locked_until:
                self._locked_until, self._lockout = until, reason
            self._pause(seconds)

    @property
    def pause(self) -> float:
        """Seconds until the last limit and lockout are over; 0 when there is none."""
        return max(0.0, self._paused_until - self._monotonic())

    def _pause(self, seconds: float) -> None:
        self._paused_until = max(self._paused_until, self._monotonic() + seconds)

    def _rest(self, token: str | None, reason: str, seconds: float, *, to_blame: bool) -> None:
        state = self._state(token)
        state.proven_at = None
        state.reason, state.to_blame = reason, to_blame
        state.rests_until = max(state.rests_until, self._monotonic() + seconds)

    def _state(self, token: str | None) -> _TokenState:
        # Hosts may rotate tokens for years: forget those that say nothing any more.
        if len(self._states) > _KEPT_AT_MOST:
            now = self._monotonic()
            for known, state in list(self._states.items()):
                if state.rests_until <= now and not state.is_probed:
                    del self._states[known]
        return self._states.setdefault(token, _TokenState())

    def _is_proven(self, state: _TokenState) -> bool:
        at = state.proven_at
        return at is not None and self._monotonic() - at < _PROVEN_FOR

    def _blocked(self, state: _TokenState) -> Blocked | None:
        now = self._monotonic()
        if now < self._locked_until:
            return Blocked(self._lockout, self._locked_until - now)
        if now < state.rests_until:
            left = state.rests_until - now
            # A refused token may be replaced at any time, so its messages look again soon. A limit
            # ends at a known time.
            longest = _LONGEST_PAUSE_FOR_TOKEN if state.to_blame else left
            return Blocked(state.reason, min(left, longest))
        self._failures = [at for at in self._failures if now - at < _LOCKOUT_WINDOW]
        # A proven token cannot cause a failed login, so it need not wait.
        if len(self._failures) >= _FAILURES_AT_MOST and not self._is_proven(state):
            left = self._failures[0] + _LOCKOUT_WINDOW - now
            reason = "several tokens were refused: another refusal could cause a lockout"
            return Blocked(reason, min(left, _LONGEST_PAUSE_FOR_TOKEN))
        return None


def _ask(token_for: TokenFor, agent_id: str) -> str:
    try:
        token = token_for(agent_id)
    except Exception as error:
        raise NoTokenError(f"token_for failed: {type(error).__name__}") from error
    if not token or not isinstance(token, str):
        raise NoTokenError(f"token_for has no token for agent {agent_id}")
    return token
