"""Tokens for messages, and whether a message may be sent now."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from buttdial_sync.agent import AgentView, context_of
from buttdial_sync.errors import AuthLockedOutError
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry.circuit import Blocked
from buttdial_sync.transport.token_breaker import PROVEN_FOR, TokenBreaker

TokenFor = Callable[[str], str | None]

_LONGEST_PAUSE_FOR_TOKEN = 120.0
_KEPT_AT_MOST = 1000
_LOOK_AGAIN = 0.25  # seconds


class NoTokenError(Exception):
    """There is no token for a message; the text says why."""


@attrs.define
class _Turn:
    """
    What is known about the messages of one token. It changes under the lock of the limits.

    Attributes:
        prober: The thread that sends a message to find out whether the token works.
        proven_at: When it last worked.
        blocked_until, reason: Until when it must not be used, and why.
    """

    prober: int | None = None
    proven_at: float = -math.inf
    blocked_until: float = -math.inf
    reason: str = ""


class TokenLimits:
    """
    Says which messages may be sent now. Safe to share between threads.

    A refused token and a lockout are known to the client's breaker; here are the limits that the
    server named. While a token has not worked in the last minute, one thread sends a message with
    it, and the others wait: so a limited token spends one attempt.

    Args:
        token_for: Gives the current token of an agent.
        client: Sends the messages. A host's own client has no breaker.
        monotonic: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        token_for: TokenFor | None = None,
        *,
        client: Any,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token_for = token_for
        self._own_agent_id = client.agent_id
        self._own_token = ""
        self._breaker: TokenBreaker | None = None
        if isinstance(client, AgentView):
            agent = context_of(client)
            self._own_token = agent.token or ""
            self._breaker = agent.connection.logins.breaker
        self._monotonic = monotonic
        self._limit = ""
        self._limited_until = self._paused_until = -math.inf
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """In a forked child: a new lock, no token known."""
        self._changed = threading.Condition()
        self._turns: dict[str | None, _Turn] = {}

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
        block. A hook in there may use this again in the same thread.
        """
        this_thread = threading.get_ident()
        probed: _Turn | None = None
        try:
            with self._changed:
                turn = self._turn(token)
                while turn.prober not in {None, this_thread} and not (
                    stopping.is_set() or self._is_proven(turn) or self._blocked(token, turn)
                ):
                    # Bounded, because setting ``stopping`` does not notify the condition.
                    self._changed.wait(_LOOK_AGAIN)
                blocked = self._blocked(token, turn)
                # Decided under the lock, so of several threads one becomes the prober.
                if turn.prober is None and not (blocked or self._is_proven(turn)):
                    probed = turn
                    turn.prober = this_thread
            yield blocked
        finally:
            # Also without a result: the next waiting thread becomes the prober.
            if probed is not None:
                with self._changed:
                    probed.prober = None
                    self._changed.notify_all()

    def worked(self, token: str | None) -> None:
        """Note that the server took a message with this token, or refused only the message."""
        with self._changed:
            self._turn(token).proven_at = self._monotonic()

    def limited(self, token: str | None, reason: str, seconds: float) -> None:
        """Do not use this token for a time: its agent has sent too much, or its login waits."""
        with self._changed:
            turn = self._turn(token)
            turn.proven_at = -math.inf
            turn.reason = reason
            turn.blocked_until = max(turn.blocked_until, self._monotonic() + seconds)
            self._pause(seconds)

    def all_limited(self, reason: str, seconds: float) -> None:
        """Send nothing at all for a time."""
        with self._changed:
            until = self._monotonic() + seconds
            if until > self._limited_until:
                self._limited_until, self._limit = until, reason
            self._pause(seconds)

    @property
    def rest_of_all(self) -> float:
        """Seconds until a limit or lockout that concerns every message is over; 0 without one."""
        return max(0.0, self._limited_until - self._monotonic())

    @property
    def pause(self) -> float:
        """Seconds until the last limit and lockout are over; 0 when there is none."""
        return max(0.0, self._paused_until - self._monotonic())

    def _pause(self, seconds: float) -> None:
        self._paused_until = max(self._paused_until, self._monotonic() + seconds)

    def _turn(self, token: str | None) -> _Turn:
        # Hosts may rotate tokens for years: forget those that say nothing any more.
        if len(self._turns) > _KEPT_AT_MOST:
            now = self._monotonic()
            for known, turn in list(self._turns.items()):
                if turn.blocked_until <= now and turn.prober is None:
                    del self._turns[known]
        return self._turns.setdefault(token, _Turn())

    def _is_proven(self, turn: _Turn) -> bool:
        return self._monotonic() - turn.proven_at < PROVEN_FOR

    def _blocked(self, token: str | None, turn: _Turn) -> Blocked | None:
        now = self._monotonic()
        if now < self._limited_until:
            return Blocked(self._limit, self._limited_until - now, concerns_all=True)
        if now < turn.blocked_until:
            return Blocked(turn.reason, turn.blocked_until - now)
        if self._breaker is None:
            return None
        block = self._breaker.block_of(self._own_token if token is None else token)
        if block is None:
            return None
        if isinstance(block.error, AuthLockedOutError):
            return Blocked(block.error.message, block.seconds, concerns_all=True)
        # It may be replaced at any time, so its messages look again soon.
        seconds = min(block.seconds, _LONGEST_PAUSE_FOR_TOKEN)
        return Blocked(block.error.message, seconds, block.error.remediation)


def _ask(token_for: TokenFor, agent_id: str) -> str:
    try:
        token = token_for(agent_id)
    except Exception as error:
        raise NoTokenError(f"token_for failed: {type(error).__name__}") from error
    if not token or not isinstance(token, str):
        raise NoTokenError(f"token_for has no token for agent {agent_id}")
    return token
