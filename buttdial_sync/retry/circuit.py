"""The circuit breaker of a server: while nobody answers, no message is tried."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any, Literal

import attrs

from buttdial_sync.agent import AgentView, context_of
from buttdial_sync.errors import (
    AuthError,
    ButtDialError,
    LoginPostponedError,
    RateLimitError,
    ServerError,
    TransportError,
)

logger = logging.getLogger("buttdial_sync.retry")

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_LONGEST_AFTER_DOUBT = 1800.0
_DOUBLINGS = 6
_LOOK_AGAIN = 0.25  # seconds

State = Literal["closed", "half-open", "open"]


@attrs.frozen
class Blocked:
    """
    The reason why nothing may be sent now.

    Attributes:
        reason: In words.
        seconds: After how long to ask again.
        remediation: Advice for a person, if the token was refused.
        concerns_all: Whether no message may be sent, of no agent.
    """

    reason: str
    seconds: float
    remediation: str | None = None
    concerns_all: bool = False


class Circuit:
    """
    Knows whether the server answers. Safe to share between threads.

    It is *closed* while messages get answers. After one that got none it is *half-open*: before
    the next message one thread asks for a sign of life, which cannot be sent twice as a message
    could, and the others wait. With a sign one message goes, on trial, and the others wait for its
    answer. Without a sign, or without an answer, the circuit is *open*: nothing is tried for a time
    that doubles from a second to a minute. Then it is half-open again. A host's own client cannot
    be asked for a sign of life: there the next message is the sign.

    A message on trial that may have been sent is in doubt. If the server answers other requests
    only, each of them costs one, so these pauses grow fourfold, up to half an hour.

    If one agent's token gets no answer and another's does, only the one agent rests for a minute.

    Args:
        client: Is asked.
        monotonic: A monotonic clock, in seconds.
    """

    def __init__(self, client: Any, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._monotonic = monotonic
        self._reason = ""
        self._token: str | None = None
        self._good_tokens: list[str | None] = []
        self._met_tokens: list[str | None] = []
        self._alone: dict[str | None, tuple[float, str]] = {}
        self._since = self._open_until = -math.inf
        self._failures = self._lost_trials = 0
        self._is_on_trial = False
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """In a forked child: a new lock, and nobody is asking."""
        self._changed = threading.Condition()
        self._is_asking = False
        self._on_trial: int | None = None

    @property
    def state(self) -> State:
        """``"closed"``, ``"half-open"`` or ``"open"``."""
        if not self._reason:
            return "closed"
        return "open" if self._monotonic() < self._open_until else "half-open"

    def answered(self, token: str | None) -> None:
        """Note that the server answered a message that was sent with this token."""
        if self._reason or self._is_on_trial or self._good_tokens != [token]:
            with self._changed:
                self._good_tokens = [token]
                self._alone.pop(token, None)
                self._close()

    def unanswered(self, token: str | None, reason: str, *, in_doubt: bool = False) -> None:
        """
        Note that nobody answered a message that was sent with this token.

        Args:
            token: The token.
            reason: In words.
            in_doubt: The message may have been sent.
        """
        with self._changed:
            if not self._reason:
                self._reason, self._token = reason, token
                if not self._failures:
                    self._since = self._monotonic()
                # A sign of life is not worth much if the next message is not answered either.
                if self._is_on_trial or not isinstance(self._client, AgentView):
                    self._open()
                if in_doubt and self._is_on_trial:
                    self._rest_after_doubt()

    def enter(self, stopping: threading.Event) -> Blocked | None:
        """
        Return why no message may be sent, as :meth:`check` does; if None, call :meth:`leave` later.

        While a message is on trial, wait for what becomes of it.
        """
        while True:
            blocked = self.check(stopping)
            if blocked is not None or not self._is_on_trial or stopping.is_set():
                return blocked
            with self._changed:
                # A hook may send with this loop, in the thread whose message is on trial.
                if self._on_trial not in {None, threading.get_ident()}:
                    # Bounded, because setting ``stopping`` does not notify the condition.
                    self._changed.wait(_LOOK_AGAIN)
                elif not self._reason:
                    self._on_trial = threading.get_ident()
                    return None

    def leave(self) -> None:
        """Note that this thread's message has its end: if it was on trial, the next one may be."""
        if self._on_trial == threading.get_ident():
            with self._changed:
                self._end_trial()

    def met(self, token: str | None) -> bool:
        """Note a token to ask with, if no other has worked; False if it is the silent one."""
        if token == self._token:
            return False
        self._met_tokens = [token]
        return True

    def block_of(self, token: str | None) -> Blocked | None:
        """Return why nothing may be sent with this token, while others are answered; or None."""
        until, reason = self._alone.get(token, (-math.inf, ""))
        left = until - self._monotonic()
        return Blocked(reason, left) if left > 0 else None

    def check(self, stopping: threading.Event) -> Blocked | None:
        """
        Return why nothing may be sent, or None; ask for a sign of life if it is time for that.

        Waits while another thread asks. No lock is held while asking.
        """
        if not self._reason:
            return None
        asks = False
        try:
            with self._changed:
                while self._is_asking and not stopping.is_set():
                    # Bounded, because setting ``stopping`` does not notify the condition.
                    self._changed.wait(_LOOK_AGAIN)
                left = self._open_until - self._monotonic()
                if not self._reason or stopping.is_set():
                    return None
                if left > 0:
                    return Blocked(self._reason, left, concerns_all=True)
                if not isinstance(self._client, AgentView):
                    self._try_again()
                    return None
                # In here, because Ctrl-C may come while the lock is released.
                asks = self._is_asking = True
            return self._ask(self._client)
        finally:
            if asks:
                with self._changed:
                    self._is_asking = False
                    self._changed.notify_all()

    def _ask(self, client: AgentView) -> Blocked | None:
        token = self._token
        known = [each for each in (*self._good_tokens, *self._met_tokens) if each != token]
        if lives(client, token):
            with self._changed:
                self._try_again()
            return None
        if known and lives(client, known[0]):
            with self._changed:
                self._alone[token] = self._monotonic() + _LONGEST_PAUSE, self._reason
                self._try_again()
            return None
        with self._changed:
            self._open()
            left = self._open_until - self._monotonic()
            return Blocked(self._reason, left, concerns_all=True)

    def _open(self) -> None:
        if not self._failures:
            logger.error("the server does not answer, and messages wait: %s", self._reason)
        pause = min(_FIRST_PAUSE * 2 ** min(self._failures, _DOUBLINGS), _LONGEST_PAUSE)
        self._failures += 1
        self._open_until = self._monotonic() + pause
        self._end_trial()

    def _rest_after_doubt(self) -> None:
        pause = min(_FIRST_PAUSE * 4 ** min(self._lost_trials, _DOUBLINGS), _LONGEST_AFTER_DOUBT)
        self._lost_trials += 1
        self._open_until = max(self._open_until, self._monotonic() + pause)
        logger.error(
            "the server seemed to answer again, and lost a message, which may have been sent: "
            "the next one is tried in %.0f s",
            self._open_until - self._monotonic(),
        )

    def _end_trial(self) -> None:
        self._on_trial = None
        self._changed.notify_all()

    def _try_again(self) -> None:
        """Let one message go; with its answer the circuit closes."""
        self._reason, self._is_on_trial = "", True

    def _close(self) -> None:
        if self._failures:
            seconds = self._monotonic() - self._since
            logger.warning("the server answers again, after %.0f s", seconds)
        self._reason, self._is_on_trial = "", False
        self._failures = self._lost_trials = 0
        self._open_until = -math.inf
        self._end_trial()


def lives(client: AgentView, token: str | None) -> bool:
    """Whether the server answers: also if it says no."""
    try:
        if context_of(client).send_via == "rest":
            view = client if token is None else client.as_agent(token)
            view.voice.list_voices()
        else:
            client.ping(agent_token=token)
    except (AuthError, LoginPostponedError, RateLimitError):
        return True
    except ButtDialError as error:
        is_opening = error.stage in {"transport", "session"}
        is_silent = is_opening or isinstance(error, TransportError | ServerError)
        return error.outcome == "rejected" or not is_silent
    return True
