"""What the clients of a process know about tokens: refusals, lockouts, and who may log in next."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any

import pytest

from buttdial_sync.errors import (
    AuthError,
    AuthForbidden,
    AuthInvalidTokenError,
    AuthLockedOutError,
    AuthMissingHeaderError,
    AuthTokenRevokedError,
    ButtDialError,
    DeadlineExceededError,
    LoginPostponedError,
    TokenRevoked,
    TransportError,
)
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.token_breaker import TokenBreaker, forget_token_breakers
from tests.forks import exit_code, forked

WINDOW = 900.0
PATIENCE = 20.0
WRONG = AuthInvalidTokenError("wrong")


class Bench:
    """A breaker, its clock, and the good logins that it asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.breaker = TokenBreaker(lambda: self.now)
        self.good_logins: list[str] = []
        self.good_login_fails = False

    def log_in(self, token: str, _: Deadline) -> None:
        self.good_logins.append(token)
        if not self.good_login_fails:
            self.breaker.learn(token, None)

    def use(self, token: str, error: ButtDialError | None = None) -> None:
        """Log in, and be answered with this."""
        with self.breaker.login(token, Deadline(PATIENCE), self.log_in):
            if error is not None:
                raise error.as_kind(type(error))

    def refuse(self, token: str, error: ButtDialError = WRONG) -> None:
        with pytest.raises(type(error)):
            self.use(token, error)

    def held_back(self, token: str) -> float:
        """For how long another login has to wait."""
        with pytest.raises(LoginPostponedError) as caught:
            self.use(token)
        assert caught.value.retry_after is not None
        assert caught.value.outcome == "not_sent"
        return caught.value.retry_after


@pytest.fixture
def here() -> Bench:
    return Bench()


def test_a_refused_token_rests(here: Bench) -> None:
    """The same error is raised for 15 minutes, each time a copy; other tokens are not concerned."""
    error = AuthTokenRevokedError("revoked", code="X", status_code=401, remediation="Ask.")
    here.refuse("t", error)
    raised = []
    for _ in range(2):
        with pytest.raises(AuthTokenRevokedError, match="revoked") as caught:
            here.breaker.check("t")
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert (raised[0].code, raised[0].status_code) == ("X", 401)
    assert str(raised[0].remediation).startswith("Ask. It is not tried again for 15 min")
    here.use("other")
    here.now = 300.0
    block = here.breaker.block_of("t")
    assert block is not None
    assert block.seconds == WINDOW - 300.0
    here.now = WINDOW - 1
    with pytest.raises(AuthTokenRevokedError):
        here.use("t")
    here.now = WINDOW
    here.use("t")


@pytest.mark.parametrize(
    ("error", "rests"),
    [
        (AuthError("401"), True),
        (WRONG, True),
        (TokenRevoked("revoked", stage="server"), True),
        (AuthInvalidTokenError("wrong", stage="server"), True),
        (AuthForbidden("no", stage="session"), True),
        (AuthForbidden("no", stage="server"), False),
        (AuthMissingHeaderError("missing"), False),
        (AuthInvalidTokenError("a proxy's", outcome="unknown"), False),
        (TransportError("broken"), False),
        (ButtDialError("the message is refused", outcome="rejected"), False),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_what_makes_a_token_rest(here: Bench, error: ButtDialError, rests: bool) -> None:
    """The server's own word about the token, and nothing else."""
    here.refuse("t", error)
    assert (here.breaker.block_of("t") is not None) is rests


def test_a_lockout_holds_for_all_until_its_end(here: Bench) -> None:
    """The time that is left is told; the longest of several counts; proven tokens wait too."""
    here.use("good")
    here.refuse("t", AuthLockedOutError("locked", retry_after=600.0))
    here.breaker.learn("t", AuthLockedOutError("short", retry_after=60.0))
    here.now = 100.0
    for token in ("good", "t", "new"):
        with pytest.raises(AuthLockedOutError, match="locked") as caught:
            here.use(token)
        assert caught.value.retry_after == 500.0
    here.now = 600.0
    here.use("new")
    here.refuse("t", AuthLockedOutError("no time"))
    assert here.breaker.block_of("good") is not None
    here.now = 600.0 + WINDOW
    assert here.breaker.block_of("good") is None


def test_after_two_refusals_a_good_login_comes_first(here: Bench) -> None:
    """It makes the server count from 0 again, so any number of dead tokens does no harm."""
    here.use("good")
    for number in range(15):
        here.refuse(str(number))
    assert here.good_logins == ["good"] * 7
    here.use("new")
    assert here.good_logins == ["good"] * 7


def test_a_good_login_that_fails_is_not_one(here: Bench) -> None:
    """The new token waits then, as without one."""
    here.use("good")
    here.refuse("1")
    here.refuse("2")
    here.good_login_fails = True
    assert here.held_back("3") == 1.0
    assert here.good_logins == ["good"]


def test_a_token_that_was_refused_meanwhile_is_no_good_login(here: Bench) -> None:
    """However shortly before it worked; and after its rest it is tried by one thread again."""
    here.use("good")
    here.refuse("good")
    here.refuse("1")
    assert here.held_back("2") == 1.0
    assert here.good_logins == []
    here.now = WINDOW
    assert not here.breaker.is_proven("good")


def test_a_good_login_is_made_for_who_needs_it(here: Bench) -> None:
    """Not for a token that rests, nor for one that works."""
    here.use("works")
    here.use("good")
    here.refuse("1")
    here.refuse("2")
    with pytest.raises(AuthInvalidTokenError):
        here.use("1")
    here.use("works")
    assert here.good_logins == []


def test_no_good_login_after_the_servers_last_warning(here: Bench) -> None:
    """It would not help: the new token waits all the same."""
    here.use("good")
    here.refuse("1")
    here.refuse("2", AuthInvalidTokenError("wrong", remaining_attempts=1))
    assert here.held_back("3") == WINDOW
    assert here.good_logins == []


def test_a_token_that_worked_long_ago_is_no_good_login(here: Bench) -> None:
    """It may be one of those that do not work any more."""
    here.use("old")
    here.refuse("1")
    here.refuse("2")
    here.now = 60.0
    here.refuse("old")
    assert here.good_logins == []


def test_without_a_good_token_the_pauses_grow(here: Bench) -> None:
    """Nine failed logins in 15 minutes at most, and the tenth would lock the address out."""
    failed: list[float] = []
    number = 0
    while here.now < 2 * WINDOW:
        number += 1
        try:
            here.refuse(str(number))
        except LoginPostponedError as error:
            here.now += error.retry_after or 0.0
        else:
            failed.append(here.now)
    assert failed[:5] == [0.0, 0.0, 1.0, 4.0, 13.0]
    for end in failed:
        assert sum(end - WINDOW < moment <= end for moment in failed) < 10


def test_the_servers_last_warning_is_heeded(here: Bench) -> None:
    """With one failed login left only proven tokens are used, whatever else worked meanwhile."""
    here.use("good")
    here.refuse("t", AuthInvalidTokenError("wrong", remaining_attempts=1))
    assert here.held_back("new") == WINDOW
    here.use("good")
    assert here.held_back("new") == WINDOW
    assert here.good_logins == []
    here.now = WINDOW
    here.use("new")


@pytest.mark.parametrize("left", [None, 2, 9])
def test_a_warning_that_is_not_the_last(here: Bench, left: int | None) -> None:
    """The next token may be tried."""
    here.refuse("1", AuthInvalidTokenError("wrong", remaining_attempts=left))
    here.use("2")


def test_a_missing_token_counts_as_failed(here: Bench) -> None:
    """Also one that the client left out to find the place, and that is then accepted."""
    here.refuse("t", AuthMissingHeaderError("missing"))
    here.refuse("t", AuthMissingHeaderError("missing"))
    assert here.held_back("t") == 1.0
    here.now = 1.0
    with here.breaker.login("t", Deadline(PATIENCE), here.log_in):
        here.breaker.learn("t", AuthMissingHeaderError("missing"))
    here.refuse("1")
    here.refuse("2")


@pytest.mark.parametrize(
    ("failed_before", "at_once"), [(None, 8), (0.0, 2), (WINDOW - 1.0, 2), (WINDOW, 8)]
)
def test_so_many_unknown_tokens_log_in_at_once(
    here: Bench, failed_before: float | None, at_once: int
) -> None:
    """Each of them may fail; proven ones do not count."""
    here.use("proven")
    if failed_before is not None:
        here.refuse("dead")
        here.use("proven")
        here.now = failed_before
    inside: list[Any] = []
    for number in range(at_once):
        login = here.breaker.login(str(number), Deadline(PATIENCE), here.log_in)
        login.__enter__()
        inside.append(login)
    here.use("proven")
    with pytest.raises(DeadlineExceededError, match="waiting for another login"):
        here.breaker.login("new", Deadline(0.01), here.log_in).__enter__()
    inside.pop().__exit__(None, None, None)
    here.use("new")
    for login in inside:
        login.__exit__(None, None, None)


@pytest.mark.parametrize("failed", [1, 2, 3])
def test_one_at_a_time_after_failures_in_a_row(here: Bench, failed: int) -> None:
    """They count as if they were still logging in; after a pause it is one all the same."""
    for number in range(failed):
        here.refuse(str(number))
        here.now += 3.0
    with (
        here.breaker.login("a", Deadline(PATIENCE), here.log_in),
        pytest.raises(DeadlineExceededError, match="waiting for another login"),
    ):
        here.breaker.login("b", Deadline(0.01), here.log_in).__enter__()


def test_who_waits_heeds_a_clock_that_is_not_the_systems(here: Bench) -> None:
    """A test or a simulation moves it on, and nobody wakes who waits."""
    moments = [0.0]
    is_asked = threading.Event()
    errors: list[ButtDialError] = []

    def clock() -> float:
        is_asked.set()
        return moments[-1]

    def use() -> None:
        try:
            here.breaker.login("t", deadline, here.log_in).__enter__()
        except DeadlineExceededError as error:
            errors.append(error)

    deadline = Deadline(WINDOW, clock)
    is_asked.clear()
    thread = threading.Thread(target=use, daemon=True)
    with here.breaker.login("t", Deadline(PATIENCE), here.log_in):
        thread.start()
        assert is_asked.wait(PATIENCE)
        moments.append(WINDOW)
        thread.join(PATIENCE)
        assert len(errors) == 1


def test_one_thread_tries_a_token_and_the_others_learn(here: Bench) -> None:
    """Twenty threads with a dead token are one failed login."""
    tried = threading.Event()
    go_on = threading.Event()
    logins: list[int] = []
    errors: list[str] = []

    def use() -> None:
        try:
            with here.breaker.login("t", Deadline(PATIENCE), here.log_in):
                logins.append(1)
                tried.set()
                assert go_on.wait(PATIENCE)
                raise WRONG.as_kind(AuthInvalidTokenError)
        except AuthInvalidTokenError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=use) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert tried.wait(PATIENCE)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert (len(logins), len(errors)) == (1, 20)


def test_a_token_that_works_is_used_side_by_side(here: Bench) -> None:
    """Also after a silent minute, as long as no login failed meanwhile."""
    here.use("t")
    here.now = 61.0
    with here.breaker.login("t", Deadline(PATIENCE), here.log_in):
        here.use("t")
    here.refuse("dead")
    here.now = 61.0 + 59.9
    assert here.breaker.is_proven("t")
    here.now = 61.0 + 60.0
    assert not here.breaker.is_proven("t")
    with (
        here.breaker.login("t", Deadline(PATIENCE), here.log_in),
        pytest.raises(DeadlineExceededError),
    ):
        here.breaker.login("t", Deadline(0.01), here.log_in).__enter__()


def test_refusals_can_be_forgotten(here: Bench) -> None:
    """All of them, or those of one token; a lockout in both cases."""
    for token in ("a", "b"):
        here.refuse(token)
    here.breaker.learn("a", AuthLockedOutError("locked", retry_after=60.0))
    here.breaker.forget("a")
    assert here.breaker.block_of("a") is None
    assert here.breaker.block_of("b") is not None
    here.breaker.forget()
    here.refuse("a")
    here.refuse("b")
    assert here.held_back("c") == 1.0  # the count began anew
    here.breaker.forget()
    here.refuse("a", AuthInvalidTokenError("wrong", remaining_attempts=1))
    here.breaker.forget()
    for token in ("a", "b", "c"):
        here.use(token)
    here.breaker.learn("a", AuthLockedOutError("locked", retry_after=30.0))
    block = here.breaker.block_of("c")
    assert block is not None
    assert block.seconds == 30.0  # not that of the forgotten one


@pytest.mark.parametrize("error", [WRONG, AuthLockedOutError("locked", retry_after=60.0)])
def test_refusal_from_before_it_was_forgotten(here: Bench, error: AuthError) -> None:
    """The host corrects the server while an older refusal is still on its way."""
    with suppress(AuthError), here.breaker.login("t", Deadline(PATIENCE), here.log_in):
        here.breaker.forget()
        raise error.as_kind(type(error))
    assert here.breaker.block_of("t") is None
    here.use("t")
    here.refuse("t", error)
    assert here.breaker.block_of("t") is not None


def test_failures_count_for_fifteen_minutes(here: Bench) -> None:
    """As on the server. A moment before their end they still hold the next one back."""
    here.refuse("1")
    here.refuse("2")
    here.now = WINDOW - 1.0
    here.refuse("3")
    assert here.held_back("4") == 3.0
    here.now = 2 * WINDOW - 1.0
    here.refuse("4")
    here.refuse("5")
    assert here.held_back("6") == 1.0


def test_a_lockout_ends_the_count(here: Bench) -> None:
    """The server counts anew after it."""
    here.refuse("1")
    here.refuse("2")
    here.breaker.learn("3", AuthLockedOutError("locked", retry_after=60.0))
    here.now = 60.0
    here.refuse("4")
    here.refuse("5")
    assert here.held_back("6") == 1.0


def test_a_token_that_is_accepted_after_all(here: Bench) -> None:
    """Two calls used it at once, and a server that was restarting refused the first."""
    here.breaker.learn("t", WRONG)
    here.breaker.learn("t", None)
    assert here.breaker.block_of("t") is None
    here.use("t")


def test_who_waits_goes_on_when_refusals_are_forgotten(here: Bench) -> None:
    """A thread behind another one's login does not hang because the table was emptied."""
    with here.breaker.login("t", Deadline(PATIENCE), here.log_in):
        here.breaker.forget()
        here.use("t")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_keeps_what_is_known_and_waits_for_nobody(here: Bench) -> None:
    """The threads of the parent are not there; its refusals still hold."""
    here.refuse("dead")

    def in_child() -> None:
        here.use("t")
        assert here.breaker.block_of("dead") is not None
        assert here.breaker.block_of("t") is None

    with here.breaker.login("t", Deadline(PATIENCE), here.log_in):
        assert exit_code(forked(in_child)) == 0


def test_clients_share_one_for_an_origin_and_a_clock() -> None:
    """Another origin, or a clock for tests, has another one; a test can begin anew."""
    clock = threading.get_ident
    one = TokenBreaker.of("https://a:443", clock)
    assert TokenBreaker.of("https://a:443", clock) is one
    assert TokenBreaker.of("https://b:443", clock) is not one
    assert TokenBreaker.of("https://a:443", lambda: 0.0) is not one
    one.learn("t", WRONG.as_kind(AuthInvalidTokenError))
    forget_token_breakers()
    assert one.block_of("t") is None
    assert TokenBreaker.of("https://a:443", clock) is not one


def test_tokens_that_are_long_gone_are_forgotten(here: Bench) -> None:
    """Hosts may rotate tokens for years; what rests or works stays, and no text of a token."""
    here.refuse("resting")
    here.now = WINDOW - 61.0
    for number in range(1001):
        here.use(f"secret-{number}")
    here.now = WINDOW - 1.0
    for number in range(1001):
        here.use(f"new-{number}")
    assert here.breaker.block_of("resting") is not None
    assert len(here.breaker._tokens) <= 1002
    assert here.breaker.is_proven("new-0")
    assert "secret" not in repr(vars(here.breaker))


def test_a_token_that_is_tried_is_not_forgotten(here: Bench) -> None:
    """Or another thread would try it, too, while a thousand others come and go."""
    with here.breaker.login("t", Deadline(PATIENCE), here.log_in):
        here.now = 61.0
        for number in range(1001):
            here.use(str(number))
        with pytest.raises(DeadlineExceededError, match="waiting for another login"):
            here.breaker.login("t", Deadline(0.01), here.log_in).__enter__()
