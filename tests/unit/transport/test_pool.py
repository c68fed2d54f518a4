"""One session per token: who opens, who waits, and what is closed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest

from buttdial_sync.errors import (
    AuthInvalidTokenError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    StreamLostError,
    ToolError,
    TransportError,
)
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.pool import SessionPool
from buttdial_sync.transport.session import McpSession
from tests.unit.moments import every_line

PATIENCE = 5.0
TOKEN = "agent-secret-1"


class StubSession:
    """What the pool needs of a session."""

    def __init__(self) -> None:
        self.usable = True
        self.silent_for = 0.0
        self.pings = 0
        self.ping_seconds = 0.0
        self.closed = 0
        self.abandoned = 0
        self.closings: list[tuple[Any, ...]] = []
        self.on_ping: Callable[[], None] = lambda: None
        self.on_close: Callable[[tuple[StubSession, float]], None] = lambda _: None

    def ping(self, deadline: Deadline) -> float:
        assert deadline.seconds <= PATIENCE
        self.pings += 1
        self.ping_seconds = deadline.seconds
        self.on_ping()
        return 0.0

    def close(self, *arguments: Any) -> None:
        self.closed += 1
        self.closings.append(arguments)
        self.on_close((self, arguments[0]))
        self.usable = False

    def abandon(self) -> None:
        self.abandoned += 1


class Opener:
    """Opens stub sessions; what it shall do first is programmed."""

    def __init__(self) -> None:
        self.opened: list[StubSession] = []
        self.attempts = 0
        self.before: Callable[[], None] = lambda: None

    def __call__(self, token: str, deadline: Deadline) -> McpSession:
        assert token
        assert deadline.remaining() >= 0
        self.attempts += 1
        self.before()
        session = StubSession()
        self.opened.append(session)
        return cast("McpSession", session)


@pytest.fixture
def opener() -> Opener:
    return Opener()


def pool_of(opener: Opener, **options: Any) -> SessionPool[McpSession]:
    return SessionPool(opener, **{"max_sessions": 2, "idle_ping": 60.0, **options})


def use(pool: SessionPool[McpSession], token: str = TOKEN, seconds: float = PATIENCE) -> McpSession:
    with pool.session(token, Deadline(seconds)) as session:
        return session


def fail_with(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


class Caller(threading.Thread):
    """A thread that uses the pool, and keeps what came of it."""

    def __init__(
        self, pool: SessionPool[McpSession], token: str = TOKEN, deadline: Deadline | None = None
    ) -> None:
        super().__init__()
        self.pool, self.token, self.deadline = pool, token, deadline or Deadline(60.0)
        self.session: McpSession | None = None
        self.error: ButtDialError | None = None
        self.start()

    def run(self) -> None:
        try:
            with self.pool.session(self.token, self.deadline) as self.session:
                pass
        except ButtDialError as error:
            self.error = error

    def ended(self) -> Caller:
        self.join(PATIENCE)
        assert not self.is_alive()
        return self


def test_one_session_for_all(opener: Opener) -> None:
    """A token's session is opened once and lent again; another token has its own."""
    pool = pool_of(opener)
    assert use(pool) is use(pool)
    assert use(pool, "agent-secret-2") is not use(pool)
    assert (opener.attempts, pool.count) == (2, 2)
    assert [session.pings for session in opener.opened] == [0, 0]


def test_an_error_of_a_caller_is_not_the_sessions(opener: Opener) -> None:
    """Whatever a call ends with, the session that was opened for it is lent again."""
    pool = pool_of(opener)
    with pytest.raises(TransportError), pool.session(TOKEN, Deadline(PATIENCE)) as session:
        raise TransportError("reset")
    assert use(pool) is session
    assert (opener.opened[0].closed, opener.attempts) == (0, 1)


def test_one_opens_the_others_wait(opener: Opener) -> None:
    """Callers that come while it is opened get the same session."""
    gate, opening = threading.Event(), threading.Event()

    def hold() -> None:
        opening.set()
        gate.wait(PATIENCE)

    opener.before = hold
    pool = pool_of(opener)
    callers = [Caller(pool)]
    assert opening.wait(PATIENCE)
    callers += [Caller(pool) for _ in range(5)]
    gate.set()
    assert len({id(caller.ended().session) for caller in callers}) == 1
    assert opener.attempts == 1


def test_waiting_ends_with_ones_own_deadline(opener: Opener) -> None:
    """A caller with little time does not wait for the opener's."""
    gate, opening = threading.Event(), threading.Event()

    def hold() -> None:
        opening.set()
        gate.wait(PATIENCE)

    opener.before = hold
    pool = pool_of(opener)
    first = Caller(pool)
    assert opening.wait(PATIENCE)
    with pytest.raises(DeadlineExceededError):
        use(pool, seconds=0.02)
    gate.set()
    assert first.ended().session is not None


def test_failed_opening_leaves_nothing(opener: Opener) -> None:
    """After a failure the next caller opens anew."""
    opener.before = fail_with(TransportError("refused"))
    pool = pool_of(opener)
    for _ in range(3):
        with pytest.raises(TransportError):
            use(pool)
    opener.before = lambda: None
    assert use(pool) is not None
    assert opener.attempts == 4


def test_foreign_exception_wakes_the_others(opener: Opener) -> None:
    """Also after an interrupt nobody waits for an opening that is over."""
    opener.before = fail_with(KeyboardInterrupt())
    pool = pool_of(opener)
    with pytest.raises(KeyboardInterrupt):
        use(pool)
    opener.before = lambda: None
    assert Caller(pool).ended().session is not None


class InterruptedRoom(threading.Condition):
    """A lock at which Ctrl-C comes: just before it is taken, or just after it was given back."""

    entered = left = 0
    on_enter = on_exit = 0

    def __enter__(self) -> bool:
        self.entered += 1
        if self.entered == self.on_enter:
            raise KeyboardInterrupt
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:  # noqa: PYI036 - they are passed on
        super().__exit__(*error)
        self.left += 1
        if self.left == self.on_exit:
            raise KeyboardInterrupt


@pytest.mark.parametrize("moment", [{"on_exit": 1}, {"on_enter": 2}])
def test_interrupted_opener(
    moment: dict[str, int], opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for an opening that was marked, or was done, but that its thread has left."""
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Condition", type("Room", (InterruptedRoom,), moment))
        pool = pool_of(opener)
    with pytest.raises(KeyboardInterrupt):
        use(pool)
    assert Caller(pool).ended().session is not None
    assert [session.closed for session in opener.opened] in ([0], [1, 0])


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("silence", "function"),
    [
        (None, SessionPool.session.__wrapped__),  # type: ignore[attr-defined]
        (None, SessionPool._enter),
        (None, SessionPool._opened),
        (None, SessionPool._settle),
        (0.0, SessionPool.session.__wrapped__),  # type: ignore[attr-defined]
        (0.0, SessionPool._enter),
        (61.0, SessionPool._opened),
        (61.0, SessionPool._settle),
    ],
)
def test_interrupted_before_the_session_is_lent(
    silence: float | None, function: Callable[..., Any]
) -> None:
    """Ctrl-C before any line: nobody counts as a user, and no session is left to itself."""
    for moment in every_line(function.__code__, interrupt):
        opener = Opener()
        pool = pool_of(opener, close_idle_after=10.0)
        if silence is not None:
            use(pool)
            opener.opened[0].silent_for = silence
        lent = pool.session(TOKEN, Deadline(PATIENCE))
        with suppress(KeyboardInterrupt), moment:
            lent.__enter__()
        if not moment.came:
            lent.__exit__(None, None, None)
        use(pool, "agent-secret-2")
        pool.drop(TOKEN)
        assert pool.count == 1
        assert [session.closed for session in opener.opened] in ([0], [1, 0])


def test_dead_session_is_replaced(opener: Opener) -> None:
    """
    A session that ended is opened anew.

    It is not closed: that would fail those whose answers have arrived and are just being read.
    """
    pool = pool_of(opener)
    use(pool)
    opener.opened[0].usable = False
    opener.before = fail_with(TransportError("refused"))
    with pytest.raises(TransportError):
        use(pool)
    opener.before = lambda: None
    assert use(pool) is cast("McpSession", opener.opened[1])
    assert (opener.opened[0].closed, opener.opened[0].pings) == (0, 0)


def test_silent_session_is_pinged(opener: Opener) -> None:
    """A session that was silent for long is pinged first; a "no" is a sign of life."""
    pool = pool_of(opener)
    use(pool)
    session = opener.opened[0]
    session.silent_for = 60.0
    assert use(pool) is cast("McpSession", session)
    session.on_ping = fail_with(ToolError("no such method"))
    assert use(pool) is cast("McpSession", session)
    assert (session.pings, session.closed, opener.attempts) == (2, 0, 1)


@pytest.mark.parametrize(
    "error", [StreamLostError("gone"), DeadlineExceededError("silence"), TransportError("reset")]
)
def test_session_without_a_sign_of_life(error: ButtDialError, opener: Opener) -> None:
    """A session that does not answer the ping is closed, and another one opened."""
    pool = pool_of(opener)
    use(pool)
    opener.opened[0].silent_for = 61.0
    opener.opened[0].on_ping = fail_with(error)
    assert use(pool) is cast("McpSession", opener.opened[1])
    assert opener.opened[0].closings == [(0,)]  # nobody waits for what is dead


def test_revoked_meanwhile(opener: Opener) -> None:
    """A ping that is refused raises, closes the session, and opens no other."""
    pool = pool_of(opener)
    use(pool)
    opener.opened[0].silent_for = 61.0
    opener.opened[0].on_ping = fail_with(AuthInvalidTokenError("revoked"))
    with pytest.raises(AuthInvalidTokenError):
        use(pool)
    assert opener.opened[0].closed
    assert (opener.attempts, pool.count) == (1, 0)


def run_out_of_time(pool: SessionPool[McpSession], session: StubSession) -> None:
    """Let a caller's time pass while a silent session is pinged."""
    session.silent_for = 61.0
    now = [0.0]

    def take_long() -> None:
        now[0] = 100.0
        raise DeadlineExceededError("no answer", outcome="unknown")

    session.on_ping = take_long
    hasty = Deadline(1.0, lambda: now[0])
    with pytest.raises(DeadlineExceededError), pool.session(TOKEN, hasty):
        pass


def test_no_session_is_lost_to_a_short_deadline(opener: Opener) -> None:
    """A caller whose time passes during the ping neither kills nor loses the session."""
    pool = pool_of(opener)
    use(pool)
    session = opener.opened[0]
    run_out_of_time(pool, session)
    pool.close(1.0)
    assert session.closed


def test_idle_longest_goes(opener: Opener) -> None:
    """For a third token the session that was not used for longest is closed."""
    pool = pool_of(opener)
    for token in ("agent-secret-a", "agent-secret-b", "agent-secret-a", "agent-secret-c"):
        use(pool, token)
    assert [session.closed for session in opener.opened] == [0, 1, 0]


def test_used_sessions_stay(opener: Opener) -> None:
    """A session that is in use is not closed for another token; that one waits for room."""
    pool = pool_of(opener, max_sessions=1)
    with pool.session("agent-secret-a", Deadline(PATIENCE)):
        with pytest.raises(DeadlineExceededError):
            use(pool, "agent-secret-b", seconds=0.02)
        waiting = Caller(pool)
    assert waiting.ended().session is not None
    assert opener.opened[0].closed


def test_close(opener: Opener) -> None:
    """Closing closes all sessions, and nothing is lent afterwards."""
    pool = pool_of(opener)
    use(pool)
    use(pool, "agent-secret-2")
    pool.close(1.0)
    pool.close(1.0)
    assert all(session.closed for session in opener.opened)
    assert pool.count == 0
    with pytest.raises(ClientClosedError):
        use(pool)


def test_abandoned(opener: Opener) -> None:
    """Each session is told, and none is waited for."""
    pool = pool_of(opener)
    use(pool, "a")
    use(pool, "b")
    pool.abandon()
    assert [(each.abandoned, each.closed) for each in opener.opened] == [(1, 0)] * 2


def test_close_while_opening(opener: Opener) -> None:
    """A session that is ready only after the close is closed, and all who wait are told at once."""
    gate, opening = threading.Event(), threading.Event()

    def hold() -> None:
        opening.set()
        gate.wait(6 * PATIENCE)

    opener.before = hold
    pool = pool_of(opener)
    first = Caller(pool)
    assert opening.wait(PATIENCE)
    waiting = [seen_waiting() for _ in range(3)]
    others = [Caller(pool, deadline=deadline) for deadline, _ in waiting]
    assert all(waits.wait(PATIENCE) for _, waits in waiting)
    pool.close(1.0)
    for caller in others:
        assert isinstance(caller.ended().error, ClientClosedError)
    gate.set()
    assert isinstance(first.ended().error, ClientClosedError)
    assert [session.closings for session in opener.opened] == [[(0,)]]


def test_close_tells_who_waits_for_room(opener: Opener) -> None:
    """A caller that waits for one of ``max_sessions`` is told when the pool closes."""
    pool = pool_of(opener, max_sessions=1)
    with pool.session("agent-secret-a", Deadline(PATIENCE)):
        waiting = Caller(pool)
        pool.close(1.0)
        assert isinstance(waiting.ended().error, ClientClosedError)


def test_opener_may_not_need_its_own_session(opener: Opener) -> None:
    """Who asks for the session that it is opening is told so instead of waiting for itself."""
    pool = pool_of(opener)
    opener.before = lambda: cast("None", use(pool))
    with pytest.raises(ConfigError, match="before_open"):
        use(pool)


def test_start_anew(opener: Opener) -> None:
    """A forked child has no session, and closes none of its parent's."""
    pool = pool_of(opener)
    use(pool)
    pool._reset_after_fork()
    assert pool.count == 0
    use(pool)
    pool.close(1.0)
    assert [session.closed > 0 for session in opener.opened] == [False, True]


def seen_waiting() -> tuple[Deadline, threading.Event]:
    """A deadline that never passes, and an event that tells when its caller has begun to wait."""
    waits = threading.Event()

    def clock() -> float:
        waits.set()
        return 0.0

    deadline = Deadline(60.0, clock)
    waits.clear()
    return deadline, waits


class Held:
    """What an opener does first: the first time it waits, and then fails if it shall."""

    def __init__(self, error: ButtDialError | None = None) -> None:
        self.error = error
        self.opening, self.gate = threading.Event(), threading.Event()

    def __call__(self) -> None:
        if not self.opening.is_set():
            self.opening.set()
            self.gate.wait(PATIENCE)
            if self.error is not None:
                raise self.error


def test_ping_has_little_time(opener: Opener) -> None:
    """However patient the caller is, a stream that is silent for five seconds more is dead."""
    pool = pool_of(opener)
    use(pool)
    session = opener.opened[0]
    session.silent_for = 61.0
    for seconds, given in ((60.0, 5.0), (2.0, 2.0)):
        with pool.session(TOKEN, Deadline(seconds, lambda: 0.0)):
            assert session.ping_seconds == given


def test_failure_is_shared_by_copy(opener: Opener) -> None:
    """Who waited for a refused opening is refused too, without a second login."""
    opener.before = held = Held(AuthInvalidTokenError("wrong", remaining_attempts=3))
    pool = pool_of(opener)
    first = Caller(pool)
    assert held.opening.wait(PATIENCE)
    deadline, waits = seen_waiting()
    second = Caller(pool, deadline=deadline)
    assert waits.wait(PATIENCE)
    held.gate.set()
    errors = [first.ended().error, second.ended().error]
    for error in errors:
        assert isinstance(error, AuthInvalidTokenError)
        assert error.remaining_attempts == 3
    assert errors[0] is not errors[1]
    assert (opener.attempts, pool.count) == (1, 0)


def test_anothers_deadline_is_not_mine(opener: Opener) -> None:
    """When the opener runs out of time, who waited for it opens for himself."""
    opener.before = held = Held(DeadlineExceededError("too slow"))
    pool = pool_of(opener)
    hasty = Caller(pool)
    assert held.opening.wait(PATIENCE)
    deadline, waits = seen_waiting()
    patient = Caller(pool, deadline=deadline)
    assert waits.wait(PATIENCE)
    held.gate.set()
    assert isinstance(hasty.ended().error, DeadlineExceededError)
    assert patient.ended().error is None
    assert opener.attempts == 2


def test_room_after_a_failed_opening(opener: Opener) -> None:
    """Who waits for one of ``max_sessions`` is woken when an opening fails, not at his deadline."""
    opener.before = held = Held(TransportError("refused"))
    pool = pool_of(opener, max_sessions=1)
    first = Caller(pool)
    assert held.opening.wait(PATIENCE)
    deadline, waits = seen_waiting()
    second = Caller(pool, token="agent-secret-2", deadline=deadline)
    assert waits.wait(PATIENCE)
    held.gate.set()
    try:
        assert isinstance(first.ended().error, TransportError)
        assert second.ended().session is not None
    finally:
        pool.close(0)


def test_drop(opener: Opener) -> None:
    """An idle session is closed when it is dropped; a token without one does no harm."""
    pool = pool_of(opener)
    use(pool)
    use(pool, "agent-secret-2")
    pool.drop(TOKEN)
    pool.drop(TOKEN)
    assert [session.closed for session in opener.opened] == [1, 0]
    assert pool.count == 1


def test_drop_of_a_session_in_use(opener: Opener) -> None:
    """What somebody uses now is not closed under him; it stays in the pool."""
    pool = pool_of(opener)
    for _ in ("just opened", "lent again"):
        with pool.session(TOKEN, Deadline(PATIENCE)) as session:
            use(pool)  # one user of two goes
            pool.drop(TOKEN)
            assert opener.opened[0].closed == 0
        assert use(pool) is session


def test_drop_of_a_session_that_is_opened(opener: Opener) -> None:
    """What is being opened now stays, and is lent again."""
    opener.before = held = Held()
    pool = pool_of(opener)
    first = Caller(pool)
    assert held.opening.wait(PATIENCE)
    pool.drop(TOKEN)
    held.gate.set()
    assert first.ended().session is use(pool)
    assert (pool.count, opener.attempts) == (1, 1)


def test_session_that_is_opened_keeps_its_room(opener: Opener) -> None:
    """A session that is being opened is not idle: another token waits for room."""
    opener.before = held = Held()
    pool = pool_of(opener, max_sessions=1)
    first = Caller(pool)
    assert held.opening.wait(PATIENCE)
    with pytest.raises(DeadlineExceededError, match="max_sessions"):
        use(pool, "agent-secret-2", seconds=0.001)
    held.gate.set()
    assert first.ended().session is use(pool)


def test_short_deadline_leaves_the_session(opener: Opener) -> None:
    """The caller's time passed, not the stream's: the next caller gets the same session."""
    pool = pool_of(opener)
    use(pool)
    session = opener.opened[0]
    run_out_of_time(pool, session)
    session.on_ping = lambda: None
    assert use(pool) is cast("McpSession", session)
    assert (session.closed, opener.attempts) == (0, 1)
    pool.drop(TOKEN)  # nobody counts as its user any more
    assert session.closed == 1


def test_freshness(opener: Opener) -> None:
    """Silent for less than ``idle_ping`` a session is trusted; from then on it is asked."""
    pool = pool_of(opener, idle_ping=30.0)
    use(pool)
    session = opener.opened[0]
    for silence, pings in ((29.9, 0), (30.0, 1)):
        session.silent_for = silence
        use(pool)
        assert session.pings == pings


def test_room_again_and_again(opener: Opener) -> None:
    """Who waits for room is woken each time, not only the first."""
    pool = pool_of(opener, max_sessions=1)
    for _ in range(2):
        deadline, waits = seen_waiting()
        with pool.session(TOKEN, Deadline(PATIENCE)):
            waiting = Caller(pool, token="agent-secret-2", deadline=deadline)
            assert waits.wait(PATIENCE)
        try:
            assert waiting.ended().session is not None
        except BaseException:
            pool.close(0)
            raise
    # Under the lock nobody is waited for.
    assert [session.closings for session in opener.opened[:3]] == [[(0,)]] * 3


def test_inherited_sessions_are_kept(opener: Opener) -> None:
    """In a forked child nothing inherited is collected: that would close the parent's stream."""
    pool = pool_of(opener)
    use(pool)
    inherited = weakref.ref(opener.opened.pop())
    pool._reset_after_fork()
    gc.collect()
    assert inherited() is not None


def test_opening_that_fails_in_a_forked_child(opener: Opener) -> None:
    """A child that was forked in the middle of it has another table, and hears why it failed."""
    pool = pool_of(opener)

    def fork() -> None:
        pool._reset_after_fork()
        raise TransportError("refused")

    opener.before = fork
    with pytest.raises(TransportError):
        use(pool)
    assert pool.count == 0


def test_close_tells_all_before_it_waits(opener: Opener) -> None:
    """Every session is ended first, then each is waited for with what is left of the time."""
    order: list[tuple[StubSession, float]] = []
    pool = pool_of(opener)
    use(pool)
    use(pool, "agent-secret-2")
    first, second = opener.opened
    for session in opener.opened:
        session.on_close = order.append
    pool.close(3.0)
    assert order[:2] == [(first, 0), (second, 0)]
    assert [session for session, _ in order[2:]] == [first, second]
    assert all(0 < seconds <= 3.0 for _, seconds in order[2:])
    assert {reason for session in opener.opened for _, reason in session.closings} == {
        ClientClosedError
    }


def test_close_while_an_opening_fails(opener: Opener) -> None:
    """The opener hears why it failed; that the pool was closed meanwhile changes nothing."""
    opener.before = held = Held(TransportError("refused"))
    pool = pool_of(opener)
    first = Caller(pool)
    assert held.opening.wait(PATIENCE)
    pool.close(0)
    held.gate.set()
    assert isinstance(first.ended().error, TransportError)
    assert pool.count == 0


def test_idle_sessions_are_closed_if_that_is_wanted() -> None:
    """Those that nobody used for so long, at the next use of the pool; not those in use."""
    now = [0.0]
    opener = Opener()
    pool = pool_of(opener, max_sessions=9, close_idle_after=10.0, clock=lambda: now[0])
    with pool.session("busy", Deadline(PATIENCE)):
        use(pool, "a")
        now[0] = 5.0
        use(pool, "b")
        now[0] = 9.9
        use(pool, "b")
        assert pool.count == 3
        now[0] = 10.0
        use(pool, "b")
        assert pool.count == 2  # busy, b
        assert [each.closings for each in opener.opened] == [[], [(0,)], []]
        use(pool, "a")
        assert (len(opener.opened), pool.count) == (4, 3)
        now[0] = 30.0
        use(pool, "a")  # its own session is the one that is wanted
        assert len(opener.opened) == 4
        assert pool.count == 2
    pool.close(0)


def test_idle_sessions_stay_by_default() -> None:
    """However long nobody used them."""
    now = [0.0]
    opener = Opener()
    pool = pool_of(opener, max_sessions=9, clock=lambda: now[0])
    use(pool, "a")
    now[0] = 1e6
    use(pool, "b")
    assert pool.count == 2
    pool.close(0)
