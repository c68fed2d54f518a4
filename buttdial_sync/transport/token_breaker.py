"""
The circuit breaker of tokens: what the clients of a process know about the tokens of one server.

Both servers lock an address out for 15 minutes after ten failed logins, for valid tokens too. So a
refused token is not used again for as long, a lockout is waited for, and while tokens fail, those
that nobody knows yet log in one or two at a time, with a good login in between.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from buttdial_sync.errors import (
    AccountsError,
    AuthError,
    AuthLockedOutError,
    AuthMissingHeaderError,
    AuthTokenRevokedError,
    ButtDialError,
    ClientClosedError,
    LoginPostponedError,
)
from buttdial_sync.errors.answers import LOCKOUT_SECONDS
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.transport.deadline import Clock, Deadline
from buttdial_sync.transport.fork import reset_after_fork, reset_if_forked

PROVEN_FOR = 60.0
# Tokens that nobody knows yet may fail. As many may log in at the same time:
_AT_ONCE = 8
# And after a failed login only so many, failed ones in a row included. Four processes at one
# address then cause at most eight in a row.
_AT_ONCE_AFTER_FAILURE = 2
# Without a good login each further pause is three times as long: nine failed logins in 15 minutes.
_FIRST_PAUSE = 1.0
_PAUSE_GROWS = 3.0
_FEW_LEFT = 1
_FORGET_ABOVE = 1000
_LOOK_AGAIN = 0.25  # seconds

_breakers: dict[tuple[str, Clock], TokenBreaker] = {}
_all_breakers: weakref.WeakSet[TokenBreaker] = weakref.WeakSet()


@attrs.frozen
class TokenBlock:
    """
    Why a token is not used now.

    Attributes:
        error: What the server said.
        seconds: For how much longer.
    """

    error: AuthError
    seconds: float

    def as_error(self) -> AuthError:
        """Return a copy of the error, which says how long it still holds."""
        error = self.error.as_kind(type(self.error))
        if isinstance(error, AuthLockedOutError):
            error.retry_after = self.seconds
        else:
            error.remediation = (
                f"{error.remediation} It is not tried again for {self.seconds / 60:.0f} min; a new "
                "token is at once. After a correction on the server: forget_refusals()."
            )
        return error


@attrs.define
class _Token:
    """What is known about a token. It changes under the lock of the breaker."""

    is_tried: bool = False
    proven_at: float = -math.inf
    refusal: AuthError | None = None
    blocked_until: float = -math.inf


class TokenBreaker:
    """
    Keeps refused tokens from locking the address out. Safe to share between threads and forks.

    A token is *proven* if the server accepted it in the last minute, or earlier and no login failed
    since. One thread at a time tries a token that is not. Tokens are kept as digests, except the
    last one that worked.

    Args:
        clock: A monotonic clock, in seconds.

    Attributes:
        generation: How often :meth:`forget` was called.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self.generation = 0
        self._tokens: dict[bytes, _Token] = {}
        self._forget_above = _FORGET_ABOVE
        self._lockout: AuthLockedOutError | None = None
        self._locked_until = self._failed_at = self._few_left_until = -math.inf
        self._in_a_row = 0
        self._last_good: str | None = None
        self._reset_after_fork()
        reset_after_fork(self)
        _all_breakers.add(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: what is known stays known; nobody is trying."""
        # Not an RLock: eventlet, patching late, replaces the one inside of a condition.
        self._changed = threading.Condition(threading.Lock())
        self._trying = 0
        for token in self._tokens.values():
            token.is_tried = False

    @classmethod
    def of(cls, origin: str, clock: Clock) -> TokenBreaker:
        """Return the one of this origin; a client with a clock of its own has one of its own."""
        return _breakers.get((origin, clock)) or _breakers.setdefault((origin, clock), cls(clock))

    def check(self, token: str) -> None:
        """
        Raise what the server said before, if it still holds.

        Raises:
            AuthError: The token was refused, or the address is locked out. A copy.
        """
        block = self.block_of(token)
        if block is not None:
            raise block.as_error()  # without a local name: the frame and the error would hold both

    def block_of(self, token: str) -> TokenBlock | None:
        """Return why this token must not be used now, or None."""
        now = self._clock()
        lockout = self._lockout
        if lockout is not None and now < self._locked_until:
            return TokenBlock(lockout, self._locked_until - now)
        known = self._tokens.get(_key(token))
        if known is not None and known.refusal is not None and now < known.blocked_until:
            return TokenBlock(known.refusal, known.blocked_until - now)
        return None

    def is_proven(self, token: str) -> bool:
        """Whether this token may be used freely."""
        known = self._tokens.get(_key(token))
        if known is None or known.proven_at == -math.inf:
            return False
        now = self._clock()
        return now - known.proven_at < PROVEN_FOR or not self._failures(now)

    @contextmanager
    def login(
        self,
        token: str,
        deadline: Deadline,
        log_in: Callable[[str, Deadline], None],
        *,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """
        Use a token, and learn from how that ends. No lock is held inside the block.

        Args:
            token: The token.
            deadline: Until when to wait for its turn.
            log_in: Logs in with a token that is proven, after some that failed.
            is_cancelled: Whether the caller gives up.

        Raises:
            ClientClosedError: It did.
            AuthError: The server refused the token before, or the address is locked out.
            LoginPostponedError: Another failed login could cause a lockout.
            DeadlineExceededError: Another thread tried the token, or others, for too long.
        """
        good = self._last_good
        if good is not None and self.is_proven(good) and self._needs_good_login(token):
            log_in(good, deadline)
        state = self._begin(token, deadline, is_cancelled)
        generation = self.generation
        try:
            yield
        except ButtDialError as error:
            self.learn(token, error, generation)
            raise
        else:
            self.learn(token, None)
        finally:
            if state is not None:
                with self._changed:
                    state.is_tried = False
                    self._trying -= 1
                    self._changed.notify_all()

    def learn(self, token: str, error: ButtDialError | None, generation: int | None = None) -> None:
        """
        Note what the server said to a token.

        Args:
            token: The token.
            error: What it said; None means that it accepted it.
            generation: The attribute when the server was asked. A refusal from before
                :meth:`forget` is ignored. None if it was asked just now.
        """
        if error is not None and not (isinstance(error, AuthError) and error.outcome == "rejected"):
            return  # it says nothing about the token, or was perhaps said by a proxy
        with self._changed:
            if error is not None and generation not in {None, self.generation}:
                return
            now = self._clock()
            if error is None:
                state = self._state(token)
                state.proven_at, state.refusal = now, None
                self._last_good = Secret(token)
                self._in_a_row = 0
            elif isinstance(error, AuthLockedOutError):
                self._lock_out(error, now)
            else:
                self._count_failure(error, now)
                if _is_about_token(error):
                    state = self._state(token)
                    state.proven_at = -math.inf
                    state.refusal = error.as_kind(type(error))
                    state.blocked_until = now + LOCKOUT_SECONDS

    def forget(self, token: str | None = None) -> None:
        """
        Ask the server again from now on.

        Args:
            token: Forget what it said to this one only; None forgets what it said to all.
        """
        reset_if_forked()
        with self._changed:
            self.generation += 1
            self._lockout = None
            self._in_a_row = 0
            self._few_left_until = -math.inf
            for key in [*self._tokens] if token is None else [_key(token)]:
                self._tokens.pop(key, None)
            self._changed.notify_all()

    def _needs_good_login(self, token: str) -> bool:
        now = self._clock()
        is_at_limit = self._failures(now) >= _AT_ONCE_AFTER_FAILURE
        is_useful = now >= self._few_left_until and self.block_of(token) is None
        return is_at_limit and is_useful and not self.is_proven(token)

    def _begin(
        self, token: str, deadline: Deadline, is_cancelled: Callable[[], bool]
    ) -> _Token | None:
        """Wait for the token's turn; return its state if this thread is the one that tries it."""
        with self._changed:
            while True:
                self.check(token)
                if self.is_proven(token):
                    return None
                state = self._state(token)
                if not state.is_tried and self._has_room():
                    break
                if not self._trying:
                    raise self._postponed()
                if is_cancelled():
                    raise ClientClosedError("the client was closed meanwhile")
                left = deadline.check("waiting for another login")
                # Bounded, because nobody wakes those who are cancelled, and because the clock may
                # be another than the one that waits here.
                self._changed.wait(min(left, _LOOK_AGAIN))
            state.is_tried = True
            self._trying += 1
            return state

    def _has_room(self) -> bool:
        now = self._clock()
        if now < self._few_left_until:
            return False
        recent = now - self._failed_at < LOCKOUT_SECONDS
        limit = _AT_ONCE_AFTER_FAILURE if recent else _AT_ONCE
        failures = self._failures(now)
        if failures < limit:
            return self._trying + failures < limit
        return not self._trying and now >= self._next_login_at()

    def _postponed(self) -> LoginPostponedError:
        now = self._clock()
        return LoginPostponedError(
            "this login waits: several failed, and more could lock the address out",
            retry_after=max(self._next_login_at(), self._few_left_until) - now,
        )

    def _next_login_at(self) -> float:
        over = self._failures(self._clock()) - _AT_ONCE_AFTER_FAILURE
        return self._failed_at + _FIRST_PAUSE * _PAUSE_GROWS**over

    def _failures(self, now: float) -> int:
        """How many logins failed in a row, as far as the server still counts them."""
        return self._in_a_row if now - self._failed_at < LOCKOUT_SECONDS else 0

    def _count_failure(self, error: AuthError, now: float) -> None:
        self._in_a_row = self._failures(now) + 1
        self._failed_at = now
        left = error.remaining_attempts
        if left is not None and left <= _FEW_LEFT:
            self._few_left_until = now + LOCKOUT_SECONDS

    def _lock_out(self, error: AuthLockedOutError, now: float) -> None:
        seconds = LOCKOUT_SECONDS if error.retry_after is None else error.retry_after
        self._in_a_row = 0  # the server begins to count anew when it is over
        if now + seconds > self._locked_until or self._lockout is None:
            self._lockout, self._locked_until = error.as_kind(type(error)), now + seconds

    def _state(self, token: str) -> _Token:
        # Hosts may rotate tokens for years: forget those that say nothing any more.
        if len(self._tokens) > self._forget_above:
            now = self._clock()
            self._tokens = {
                key: state
                for key, state in self._tokens.items()
                if state.is_tried or state.blocked_until > now or now - state.proven_at < PROVEN_FOR
            }
            self._forget_above = max(_FORGET_ABOVE, 2 * len(self._tokens))
        return self._tokens.setdefault(_key(token), _Token())


def _key(token: str) -> bytes:
    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _is_about_token(error: AuthError) -> bool:
    """Whether a refusal is about the token, and not about the request that it came with."""
    if isinstance(error, AuthTokenRevokedError):
        return True
    is_of_request = isinstance(error, AccountsError) and error.stage == "server"
    return not (is_of_request or isinstance(error, AuthMissingHeaderError))


def forget_token_breakers() -> None:
    """Forget all tokens of all servers, for tests."""
    for breaker in list(_all_breakers):
        breaker.forget()
    _breakers.clear()
