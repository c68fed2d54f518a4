"""Which token may be used, when and by whom."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from buttdial_sync import Client, FailedMessage
from buttdial_sync.agent import context_of
from buttdial_sync.errors import AuthError, AuthLockedOutError
from buttdial_sync.retry.circuit import Blocked
from buttdial_sync.retry.token_limits import NoTokenError, TokenLimits
from tests.unit.interrupts import InterruptedRelease

WINDOW = 900.0
URL = "https://butt-dial.test"
OWN = Client(URL, agent_id="own", agent_token="own")


class Stopping(threading.Event):
    """A stop that is given as soon as a thread would wait, and says whether one would."""

    would_wait = False

    def is_set(self) -> bool:
        self.would_wait = True
        return True


class Bench:
    """The limits, the client's breaker and their clock."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.client = Client(URL, agent_token="own", clock=lambda: self.now, **options)
        self.breaker = context_of(self.client).connection.logins.breaker
        self.limits = TokenLimits(client=self.client, monotonic=lambda: self.now)

    def blocked(self, token: str | None) -> Blocked | None:
        with self.limits.admit(token, Stopping()) as blocked:
            return blocked

    def must_wait(self, token: str | None) -> bool:
        """Whether a thread that wants to use the token now would wait for another."""
        with ThreadPoolExecutor(1) as another:
            return another.submit(self.waits_here, token).result(30)

    def waits_here(self, token: str | None) -> bool:
        """Whether this thread would wait for another."""
        stopping = Stopping()
        with self.limits.admit(token, stopping):
            return stopping.would_wait

    def probing(self, token: str | None) -> bool:
        """Whether a thread that uses the token now makes the others wait."""
        with self.limits.admit(token, threading.Event()):
            return self.must_wait(token)


@pytest.fixture
def here() -> Bench:
    return Bench()


def message(**fields: Any) -> FailedMessage:
    return FailedMessage(id="a", recipient="+14155550123", body="x", **fields)


@pytest.mark.parametrize(
    ("fields", "token"),
    [
        ({}, None),
        ({"agent_id": "own"}, None),
        ({"agent_id": "own", "agent_token": "row"}, "row"),
        ({"agent_id": "other", "agent_token": "row"}, "row"),
        ({"agent_token": "row"}, "row"),
    ],
)
def test_the_token_of_a_row(fields: dict[str, Any], token: str | None) -> None:
    """The row's, or the client's own for its own agent."""
    assert Bench(agent_id="own").limits.token_of(message(**fields)) == token


def test_token_for_comes_first() -> None:
    """It knows the current one; a row without an agent is not its concern."""
    limits = TokenLimits({"other": "new"}.get, client=OWN)
    assert limits.token_of(message(agent_id="other", agent_token="old")) == "new"
    assert limits.token_of(message(agent_token="old")) == "old"
    assert limits.token_of(message()) is None


@pytest.mark.parametrize("answer", [None, "", 5])
def test_token_for_without_a_token(answer: Any) -> None:
    """Anything but a text with something in it is no token."""
    with pytest.raises(NoTokenError, match="token_for has no token for agent other"):
        TokenLimits(lambda _: answer, client=OWN).token_of(message(agent_id="other"))


def test_an_agent_without_a_token() -> None:
    """It is not sent as the client's own."""
    with pytest.raises(NoTokenError, match="no token for agent other: give the loop token_for"):
        Bench(agent_id="own").limits.token_of(message(agent_id="other"))


def test_one_thread_probes_until_the_token_has_worked(here: Bench) -> None:
    """The others wait for it, and not when it has worked in the last minute."""
    assert here.probing("t")
    assert here.probing("t")
    here.limits.worked("t")
    assert not here.probing("t")
    here.now = 59.9
    assert not here.probing("t")
    here.now = 60.0
    assert here.probing("t")
    assert here.probing(None)
    assert not here.must_wait("t")


def test_who_waits_goes_on_when_the_token_works(here: Bench) -> None:
    """Also while the first one still records what it sent."""
    asked: list[str] = []

    class Once(threading.Event):
        def is_set(self) -> bool:
            here.limits.worked("t")
            asked.append("t")
            return len(asked) > 1

    def use() -> Blocked | None:
        with here.limits.admit("t", Once()) as blocked:
            return blocked

    with here.limits.admit("t", threading.Event()), ThreadPoolExecutor(1) as another:
        assert another.submit(use).result(30) is None
    assert len(asked) == 1


def test_a_second_thread_does_not_end_the_probe(here: Bench) -> None:
    """Only who probes says that the probe is over."""
    with here.limits.admit("t", threading.Event()):
        assert here.must_wait("t")
        assert here.must_wait("t")


def test_nobody_waits_for_the_own_thread(here: Bench) -> None:
    """A hook may send with the same loop: nobody else would end the probe."""
    with here.limits.admit("t", threading.Event()):
        assert not here.waits_here("t")
        assert here.must_wait("t")  # what happened inside did not end it
    assert not here.must_wait("t")


def test_ctrl_c_where_the_probe_begins(here: Bench) -> None:
    """It may come while the lock is given back; then nobody probes."""
    here.limits._changed = InterruptedRelease()
    with pytest.raises(KeyboardInterrupt), here.limits.admit("t", threading.Event()):
        pass
    assert not here.must_wait("t")


def test_the_end_of_a_probe_wakes_who_waits(here: Bench) -> None:
    """A thread that waits for its turn gets it when the one before is through."""
    waits, came = threading.Event(), threading.Event()

    class Watched(threading.Event):
        def is_set(self) -> bool:
            waits.set()
            return False

    def use() -> None:
        with here.limits.admit("t", Watched()) as blocked:
            assert blocked is None
            came.set()

    with here.limits.admit("t", threading.Event()):
        thread = threading.Thread(target=use)
        thread.start()
        assert waits.wait(10)
        assert not came.is_set()
    assert came.wait(10)
    thread.join(10)


def test_what_the_client_knows_blocks_messages(here: Bench) -> None:
    """A refused token is looked at again every two minutes: it may be replaced. Others go on."""
    here.limits.worked("t")
    for token in ("t", "own"):
        here.breaker.learn(token, AuthError("unknown token"))
    assert (
        here.blocked("t") == here.blocked(None) == Blocked("unknown token", 120.0, AuthError.remedy)
    )
    assert here.blocked("other") is None
    assert not here.probing(None)  # nobody waits for a token that may not be used
    here.now = 800.0
    assert here.blocked("t") == Blocked("unknown token", 100.0, AuthError.remedy)
    here.now = WINDOW
    assert here.blocked("t") is None
    assert here.probing("t")
    assert here.limits.pause == 0


def test_a_lockout_that_the_client_met_blocks_all(here: Bench) -> None:
    """It is looked at again before its end, because somebody may end it."""
    here.breaker.learn("t", AuthLockedOutError("locked", retry_after=60.0))
    assert here.blocked("other") == Blocked("locked", 60.0, concerns_all=True)
    here.breaker.forget()
    assert here.blocked("other") is None


def test_a_limited_token_rests_as_long_as_it_is_told(here: Bench) -> None:
    """Its end is known, and the shorter one does not count."""
    here.limits.limited("t", "too much", 3600.0)
    here.limits.limited("t", "still too much", 60.0)
    assert here.blocked("t") == Blocked("still too much", 3600.0)
    assert here.blocked("other") is None
    assert here.limits.pause == 3600
    here.now = 3599.0
    assert here.limits.pause == 1
    here.now = 3600.0
    assert here.blocked("t") is None
    assert here.limits.pause == 0
    here.now = 4000.0
    assert here.limits.pause == 0


def test_a_token_that_rested_is_probed_again(here: Bench) -> None:
    """That it worked before does not count any more."""
    here.limits.worked("t")
    here.limits.limited("t", "too much", 10.0)
    here.now = 10.0
    assert here.probing("t")


def test_a_limit_of_the_address_stops_every_token(here: Bench) -> None:
    """The longest one counts, with its own reason."""
    here.limits.worked("t")
    here.limits.all_limited("long", 600.0)
    here.limits.all_limited("short", 60.0)
    assert here.blocked("t") == here.blocked(None) == Blocked("long", 600.0, concerns_all=True)
    assert here.limits.pause == 600
    here.limits.all_limited("longer", 700.0)
    assert here.blocked("t") == Blocked("longer", 700.0, concerns_all=True)
    here.now = 100.0
    assert here.blocked("t") == Blocked("longer", 600.0, concerns_all=True)
    here.now = 700.0
    assert here.blocked("t") is None
    here.limits.all_limited("again", 10.0)
    assert here.limits.pause == 10


@pytest.mark.parametrize(("others", "is_known"), [(999, True), (1000, False)])
def test_tokens_that_are_long_gone_are_forgotten(here: Bench, others: int, is_known: bool) -> None:
    """Above a thousand all go but those that rest or are being used."""
    here.limits.limited("resting", "no", WINDOW)
    here.now = WINDOW
    here.limits.limited("limited", "too much", 60.0)
    here.limits.worked("proven")
    with here.limits.admit("probed", threading.Event()):
        for number in range(others - 3):
            assert here.blocked(str(number)) is None
        assert here.probing("proven") is not is_known
        assert here.must_wait("probed")
    assert here.blocked("limited") == Blocked("too much", 60.0)
    assert len(here.limits._turns) == (others + 1 if is_known else 3)


def test_a_forked_child_knows_no_token(here: Bench) -> None:
    """It begins with a new lock, but the address is as limited as it was."""
    here.limits.limited("0", "too much", 900.0)
    here.limits.all_limited("locked", 60.0)
    with here.limits.admit("t", threading.Event()):
        here.limits.reset_after_fork()
    assert here.blocked("0") == Blocked("locked", 60.0, concerns_all=True)
    here.now = 60.0
    assert here.blocked("0") is None
    assert here.probing("t")


def test_a_client_without_a_token() -> None:
    """Some servers want none; its messages are sent like all others."""
    with Client(URL) as client:
        limits = TokenLimits(client=client, monotonic=lambda: 0.0)
        with limits.admit(None, Stopping()) as blocked:
            assert blocked is None


def test_how_long_all_of_them_rest(here: Bench) -> None:
    """The longest limit counts; when it is over there is none."""
    assert (here.limits.rest_of_all, here.limits.pause) == (0.0, 0.0)
    here.limits.all_limited("first", 30.0)
    here.limits.all_limited("second", 10.0)
    here.now += 5.0
    assert here.limits.rest_of_all == here.limits.pause == 25.0
    assert here.blocked("t") == Blocked("first", 25.0, concerns_all=True)
    here.now += 26.0
    assert (here.limits.rest_of_all, here.limits.pause) == (0.0, 0.0)
    assert here.blocked("t") is None
