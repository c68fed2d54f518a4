"""One live session per token."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from buttdial_sync.errors import (
    AuthError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    ToolError,
    TransportError,
)
from buttdial_sync.transport.deadline import Clock, Deadline
from buttdial_sync.transport.fork import leak_until_exit, reset_after_fork


class PooledSession(Protocol):
    """What the pool has to know of a session."""

    @property
    def usable(self) -> bool:
        """Whether a request can still be answered. If not, the session ends by itself."""

    @property
    def silent_for(self) -> float:
        """Seconds since the last sign of life."""

    def ping(self, deadline: Deadline) -> float:
        """Ask for a sign of life."""

    def close(
        self, seconds: float = ..., reason: type[TransportError | ClientClosedError] = ...
    ) -> None:
        """End it; wait at most ``seconds``."""

    def abandon(self) -> None:
        """End it without a lock and without a wait."""


S = TypeVar("S", bound=PooledSession)
OpenSession = Callable[[str, Deadline], S]

# How long a ping may take before a silent stream counts as dead.
_PING_SECONDS = 5.0


def _ended(session: S | None) -> S | None:
    """Close a session that is given up; return None."""
    # One that is not usable ends by itself, when it has handed over the answers that have arrived.
    if session is not None and session.usable:
        session.close(0)
    return None


class _Slot(Generic[S]):
    """A token's place. It changes under the pool's lock only; so does the table of slots."""

    __slots__ = ("idle_since", "loans", "opening", "session")

    def __init__(self) -> None:
        self.session: S | None = None
        self.opening: _Opening[S] | None = None
        self.loans: set[_Loan[S]] = set()  # of those who use the session, or open it
        self.idle_since = 0.0


class _Opening(Generic[S]):
    """One attempt to have a session, which several callers may wait for."""

    def __init__(self, slot: _Slot[S]) -> None:
        self.slot = slot
        self.session: S | None = None
        self.done = threading.Event()
        self.opener = threading.get_ident()
        self.failure: ButtDialError | None = None


class _Loan(Generic[S]):
    """What one caller has of the pool. Noted here first, for Ctrl-C comes between any two lines."""

    __slots__ = ("opening", "session", "slot")

    session: S

    def __init__(self) -> None:
        self.slot: _Slot[S] | None = None
        self.opening: _Opening[S] | None = None


class SessionPool(Generic[S]):
    """
    Keeps one live session per token. Safe to share between threads and across forks.

    One caller opens a session, and the others wait for it, each until its own deadline. So a
    refused token costs one failed login. No lock is held while anything is sent.

    Args:
        open_session: Opens a session.
        max_sessions: At most this many; the one idle for longest is closed for a new one.
        idle_ping: Seconds of silence after which a stream is pinged before it is used.
        close_idle_after: Seconds after which an unused session is closed, when the pool is used
            next; None keeps it.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        open_session: OpenSession[S],
        *,
        max_sessions: int,
        idle_ping: float,
        close_idle_after: float | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._open_session = open_session
        self._max_sessions = max_sessions
        self._idle_ping = idle_ping
        self._close_idle_after = close_idle_after
        self._clock = clock
        self._closed = False
        self._make_empty()
        reset_after_fork(self)

    def _make_empty(self) -> None:
        self._slots: OrderedDict[str, _Slot[S]] = OrderedDict()
        self._room = threading.Condition()
        # Nearly always 0. Counted, so that a call need not wake anybody when it ends.
        self._waiting_for_room = 0

    def _reset_after_fork(self) -> None:
        """In a forked child: no sessions, a new lock, nothing closed."""
        leak_until_exit(self._slots, self._room)
        self._make_empty()

    @contextmanager
    def session(self, token: str, deadline: Deadline) -> Iterator[S]:
        """
        Lend the token's session.

        Raises:
            ClientClosedError: :meth:`close` was called.
            ButtDialError: No session could be opened; nothing was sent.
        """
        loan: _Loan[S] = _Loan()
        try:
            while (others := self._enter(token, loan, deadline)) is not None:
                self._await(others, deadline)
            if loan.opening is not None:
                loan.session = self._opened(token, loan.opening, deadline)
            yield loan.session
        except BaseException as error:
            if loan.opening is not None and not loan.opening.done.is_set():
                self._give_up(token, loan.opening, error)
            raise
        finally:
            with self._room:
                if loan.slot is not None:
                    loan.slot.loans.discard(loan)
                    loan.slot.idle_since = self._clock()
                if self._waiting_for_room:
                    self._room.notify_all()

    @property
    def count(self) -> int:
        """How many tokens have a session."""
        return len(self._slots)

    def drop(self, token: str, end: Callable[[S], object] = _ended) -> None:
        """
        Close the token's session, unless a call uses it now.

        Args:
            token: The token.
            end: Closes it. No call uses it any more, nor can one.
        """
        with self._room:
            slot = self._slots.get(token)
            if slot is None or slot.loans:
                return
            del self._slots[token]
        if slot.session is not None:
            end(slot.session)

    def close(self, seconds: float) -> None:
        """Close every session, and refuse new ones. Waits at most about ``seconds``."""
        with self._room:
            self._closed = True
            sessions = [slot.session for slot in self._slots.values() if slot.session is not None]
            for slot in self._slots.values():
                if slot.opening is not None:
                    slot.opening.done.set()  # who waits for it looks again, and finds this closed
            self._slots.clear()
            self._room.notify_all()
        limit = Deadline(seconds)
        for session in sessions:  # end all of them before waiting for one
            session.close(0, ClientClosedError)
        for session in sessions:
            session.close(limit.remaining(), ClientClosedError)

    def abandon(self) -> None:
        """End every session; see :meth:`PooledSession.abandon`. Only when nobody uses the pool."""
        for slot in list(self._slots.values()):
            if slot.session is not None:
                slot.session.abandon()

    def _enter(self, token: str, loan: _Loan[S], deadline: Deadline) -> _Opening[S] | None:
        """Take the token's slot; return the opening of another caller if that comes first."""
        with self._room:
            slot = self._slot(token, deadline)
            if slot.opening is not None:
                return slot.opening
            loan.slot = slot
            slot.loans.add(loan)
            session = slot.session
            if session is not None and session.usable and session.silent_for < self._idle_ping:
                loan.session = session
            else:
                # From here on this thread is the opener. It works without the lock.
                loan.opening = slot.opening = _Opening(slot)
            return None

    def _slot(self, token: str, deadline: Deadline) -> _Slot[S]:
        """Return the token's slot, made if there is room for it. Under the lock."""
        while True:
            if self._closed:
                raise ClientClosedError("the client is closed")
            slot = self._slots.get(token)
            if slot is not None:
                self._slots.move_to_end(token)
            if self._close_idle_after is not None:
                self._drop_idle_since(self._clock() - self._close_idle_after, token)
            if slot is not None:
                return slot
            if len(self._slots) < self._max_sessions or self._drop_idle():
                return self._slots.setdefault(token, _Slot())
            self._waiting_for_room += 1
            try:
                self._room.wait(deadline.check("waiting for one of max_sessions to be free"))
            finally:
                self._waiting_for_room -= 1

    def _drop_idle(self) -> bool:
        """Drop the slot that has been idle for longest. Under the lock, so without waiting."""
        token = next((token for token, slot in self._slots.items() if not slot.loans), None)
        if token is None:
            return False
        session = self._slots.pop(token).session
        if session is not None:
            session.close(0)
        return True

    def _drop_idle_since(self, moment: float, wanted: str) -> None:
        """Drop the slots that nobody used since a moment. Under the lock, so without waiting."""
        # The longest unused come first, apart from those that were used for long.
        for token, slot in list(self._slots.items()):
            if slot.loans or token == wanted:
                continue
            if slot.idle_since > moment:
                return
            del self._slots[token]
            if slot.session is not None:
                slot.session.close(0)

    def _await(self, opening: _Opening[S], deadline: Deadline) -> None:
        if opening.opener == threading.get_ident():
            raise ConfigError(
                "before_open or on_event called the client while the client opens the stream",
                remediation="Keep what it gets, and use the client after it has returned.",
            )
        opening.done.wait(deadline.check("waiting for the session that another thread opens"))
        # If the opener ran out of its own time, this caller may still have some: it tries again.
        # The copy is this caller's own: a raised error gets a traceback.
        if opening.failure is not None and not isinstance(opening.failure, DeadlineExceededError):
            raise opening.failure.as_kind(type(opening.failure))

    def _opened(self, token: str, opening: _Opening[S], deadline: Deadline) -> S:
        revived = self._revived(opening.slot.session, deadline)
        opening.session = session = revived or self._open_session(token, deadline)
        if not self._settle(token, opening, session):
            session.close(0)
            raise ClientClosedError("the client was closed meanwhile")
        return session

    def _give_up(self, token: str, opening: _Opening[S], error: BaseException) -> None:
        # A copy, because the error's traceback refers to the caller's frame, and that frame to the
        # opening: such a cycle would keep the client alive until the garbage collector runs.
        opening.failure = error.as_kind(type(error)) if isinstance(error, ButtDialError) else None
        # Out of time says nothing about the old session, which may still answer others.
        old = opening.slot.session
        kept = old if isinstance(error, DeadlineExceededError) else _ended(old)
        _ended(opening.session)
        self._settle(token, opening, kept)

    def _revived(self, session: S | None, deadline: Deadline) -> S | None:
        """Return the session if it still answers, else None."""
        if session is None or not session.usable:
            return None
        try:
            session.ping(deadline.within(_PING_SECONDS))
        except AuthError:
            raise
        except ToolError:
            return session  # the server has no ping, but it has answered
        except ButtDialError:
            deadline.check("pinging a silent stream")
            return _ended(session)
        return session

    def _settle(self, token: str, opening: _Opening[S], session: S | None) -> bool:
        """End the opening and wake the waiting callers; return whether the pool is open."""
        slot = opening.slot
        with self._room:
            slot.session = session
            slot.opening = None
            # close() may have removed the slot, and after a fork the table is a new one.
            if session is None and self._slots.get(token) is slot:
                del self._slots[token]
            opening.done.set()
            return not self._closed
