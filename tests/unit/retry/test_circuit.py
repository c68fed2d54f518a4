"""Whether the server answers: how long messages wait when it does not, and who asks again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from buttdial_sync import Client, ClientEvent
from buttdial_sync.retry.circuit import Blocked, Circuit, lives
from buttdial_sync.testing import FakeButtDialServer
from tests.unit.interrupts import InterruptedRelease

BASE_URL = "https://butt-dial.test"
STOP = threading.Event()


class Bench:
    """A circuit and its clock."""

    def __init__(self, client: object) -> None:
        self.now = 1000.0
        self.circuit = Circuit(client, lambda: self.now)

    def state(self) -> str:
        return self.circuit.state

    def check(self) -> Blocked | None:
        return self.circuit.check(STOP)

    def enter(self) -> Blocked | None:
        return self.circuit.enter(STOP)

    def blocked(self) -> Blocked:
        found = self.check()
        assert found is not None
        return found


@pytest.fixture
def own() -> Bench:
    """With a host's own client, which cannot be asked."""
    return Bench(object())


@pytest.fixture
def fake() -> Iterator[FakeButtDialServer]:
    server = FakeButtDialServer(tokens=["a", "b"])
    with server.mocked():
        yield server


@pytest.fixture
def asking(fake: FakeButtDialServer) -> Iterator[Bench]:
    """With a client of ours, which is asked for a sign of life."""
    with Client(BASE_URL, agent_token="a", max_attempts=1, sleep=lambda _: None) as client:
        yield Bench(client)


def asked_with(fake: FakeButtDialServer) -> list[str]:
    """The tokens of the streams that were opened."""
    opened = [each for each in fake.requests if each.method == "GET"]
    return [each.headers["authorization"].removeprefix("Bearer ") for each in opened]


def test_the_pauses_double_up_to_a_minute(own: Bench) -> None:
    """After each one the next message is tried; without an answer the pause is longer."""
    assert (own.state(), own.check()) == ("closed", None)
    pauses: list[float] = []
    for _ in range(8):
        own.circuit.unanswered("t", "down")
        assert own.state() == "open"
        blocked = own.blocked()
        assert (blocked.reason, blocked.concerns_all) == ("down", True)
        pauses.append(blocked.seconds)
        own.now += blocked.seconds / 2
        assert own.blocked().seconds == blocked.seconds / 2
        own.now += blocked.seconds / 2
        assert own.state() == "half-open"
        assert own.check() is None
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_an_answer_closes_it(own: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """How long it took is logged once, and the next outage begins with a second."""
    own.circuit.answered("t")
    with caplog.at_level(logging.WARNING, "buttdial_sync.retry"):
        own.circuit.unanswered("t", "down")
        own.circuit.unanswered("t", "down, too")
        own.now += 1.0
        assert own.check() is None
        own.now += 4.0
        own.circuit.answered("t")
        own.circuit.answered("t")
    assert [record.message for record in caplog.records] == [
        "the server does not answer, and messages wait: down",
        "the server answers again, after 5 s",
    ]
    assert (own.state(), own.check()) == ("closed", None)
    own.circuit.unanswered("t", "down again")
    assert own.blocked().seconds == 1.0
    own.circuit.answered("t")  # of another thread, which had begun before
    assert (own.state(), own.check()) == ("closed", None)


def test_the_server_is_asked_before_the_next_message(asking: Bench) -> None:
    """A sign of life lets messages go; if the next is not answered either, they wait at once."""
    asking.circuit.unanswered("a", "down")
    assert asking.state() == "half-open"
    assert asking.check() is None
    assert asking.state() == "closed"
    asking.circuit.unanswered("a", "down")
    assert asking.state() == "open"
    assert asking.blocked().seconds == 1.0


def test_a_server_that_gives_no_sign(asking: Bench, fake: FakeButtDialServer) -> None:
    """It is asked once per pause, and the pauses grow."""
    fake.fault("refuse", on="stream", count=2)
    asking.circuit.unanswered("a", "down")
    assert asking.blocked() == Blocked("down", 1.0, concerns_all=True)
    assert asking.blocked().seconds == 1.0
    asking.now += 1.0
    assert asking.blocked().seconds == 2.0
    asking.now += 2.0
    assert asking.check() is None
    asking.circuit.answered("a")
    assert asking.state() == "closed"


def test_an_outage_that_ended_leaves_nothing(asking: Bench, fake: FakeButtDialServer) -> None:
    """The next one begins with a question, though the pause of the last is not over."""
    fake.fault("refuse", on="stream")
    asking.circuit.unanswered("a", "down")
    assert asking.blocked().seconds == 1.0
    asking.circuit.answered("a")
    asking.circuit.unanswered("a", "down again")
    assert asking.state() == "half-open"
    assert asking.check() is None


def test_one_silent_agent_rests_alone(asking: Bench, fake: FakeButtDialServer) -> None:
    """If another one's token gets an answer, only this one waits, for a minute."""
    asking.circuit.answered("b")
    asking.circuit.met("c")  # asked only if no token has worked
    fake.fault("refuse", on="stream")
    asking.circuit.unanswered("a", "down")
    assert asking.check() is None
    assert asking.circuit.block_of("a") == Blocked("down", 60.0, concerns_all=False)
    assert asking.circuit.block_of("b") is None
    assert asked_with(fake) == ["b"]  # a refused connection is no request
    asking.now += 59.0
    assert asking.circuit.block_of("a") == Blocked("down", 1.0)
    asking.now += 1.0
    assert asking.circuit.block_of("a") is None


def test_an_answer_ends_the_rest_of_an_agent(asking: Bench, fake: FakeButtDialServer) -> None:
    """It was sent with that token, so it is not silent any more."""
    asking.circuit.unanswered("a", "down")
    assert asking.circuit.met("b")  # waits too, and may be asked with
    assert not asking.circuit.met("a")
    fake.fault("refuse", on="stream")
    assert asking.check() is None
    assert asking.circuit.block_of("a") is not None
    asking.circuit.answered("a")
    assert asking.circuit.block_of("a") is None


def test_who_stops_does_not_ask(asking: Bench, fake: FakeButtDialServer) -> None:
    """The loop ends, and no message is sent in any case."""
    stopping = threading.Event()
    stopping.set()
    asking.circuit.unanswered("a", "down")
    asking.circuit._is_asking = True  # another thread, which may take its time
    assert asking.circuit.check(stopping) is None
    assert asking.state() == "half-open"
    assert fake.streams_opened == 0


def test_a_child_asks_itself(asking: Bench) -> None:
    """What is known stays known; the thread of the parent that asks is not there."""
    asking.circuit.unanswered("a", "down")
    asking.circuit._is_asking = True
    asking.circuit.reset_after_fork()
    assert asking.state() == "half-open"
    assert asking.check() is None


def test_one_thread_asks(fake: FakeButtDialServer) -> None:
    """The others wait for its answer."""
    begun, go_on = threading.Event(), threading.Event()
    asked: list[str] = []

    def take_time(event: ClientEvent) -> None:
        if event.kind == "attempt":
            asked.append(event.operation)
            begun.set()
            assert go_on.wait(30)

    with Client(BASE_URL, agent_token="a", on_event=take_time) as client:
        here = Bench(client)
        here.circuit.unanswered("a", "down")
        threads = [threading.Thread(target=here.check) for _ in range(2)]
        threads[0].start()
        assert begun.wait(30)
        threads[1].start()
        threads[1].join(0.05)
        go_on.set()
        for thread in threads:
            thread.join(30)
    assert asked == ["ping"]


def test_one_message_is_tried(own: Bench) -> None:
    """After a pause the others wait for what becomes of it; with its answer all of them go."""
    own.circuit.unanswered("t", "down")
    own.now += 1.0
    assert own.enter() is None
    entered: list[Blocked | None] = []
    others = [threading.Thread(target=lambda: entered.append(own.enter())) for _ in range(3)]
    for thread in others:
        thread.start()
    others[0].join(0.05)
    assert entered == []
    own.circuit.answered("t")
    for thread in others:
        thread.join(30)
    assert entered == [None] * 3


def test_nobody_waits_for_a_trial_of_the_own_thread(own: Bench) -> None:
    """A hook may send with the same loop: nobody else would end the trial."""
    asked: list[str] = []

    class AtTheSecondLook(threading.Event):
        def is_set(self) -> bool:
            asked.append("is it stopping?")
            return len(asked) > 1

    own.circuit.unanswered("t", "down")
    own.now += 1.0
    assert own.enter() is None
    assert own.circuit.enter(AtTheSecondLook()) is None
    assert len(asked) == 1


def test_ctrl_c_where_asking_begins(asking: Bench) -> None:
    """It may come while the lock is given back; then nobody asks, and the next one does."""
    asking.circuit.unanswered("a", "down")
    asking.circuit._changed = InterruptedRelease()
    with pytest.raises(KeyboardInterrupt):
        asking.check()
    assert not asking.circuit._is_asking
    assert asking.check() is None
    assert asking.state() == "closed"


def entered_after_a_trial(own: Bench, end: Callable[[], object]) -> list[Blocked | None]:
    """Let one message go on trial and another wait for it; return what that one is told."""
    own.circuit.unanswered("t", "down")
    own.now += 1.0
    assert own.enter() is None
    entered: list[Blocked | None] = []
    other = threading.Thread(target=lambda: entered.append(own.enter()))
    other.start()
    end()
    other.join(30)
    return entered


def test_a_message_on_trial_without_an_answer(own: Bench) -> None:
    """Those that waited for it are not tried."""
    entered = entered_after_a_trial(own, lambda: own.circuit.unanswered("t", "still down"))
    assert entered == [Blocked("still down", 2.0, concerns_all=True)]


def test_a_message_on_trial_that_is_not_sent(own: Bench) -> None:
    """It says nothing about the server, so the next one is tried."""
    assert entered_after_a_trial(own, own.circuit.leave) == [None]
    own.circuit.leave()  # this thread's message is not on trial any more
    stopping = threading.Event()
    stopping.set()
    assert own.circuit.enter(stopping) is None  # it does not wait for the other's


def test_messages_on_trial_that_may_have_been_sent(
    own: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of them is in doubt, so there are few: the pauses grow, and the log says so."""
    pauses: list[float] = []
    for _ in range(9):
        assert own.enter() is None
        own.circuit.unanswered("t", "lost", in_doubt=True)
        pauses.append(own.blocked().seconds)
        own.now += pauses[-1]
    assert pauses == [1.0, 2.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 1800.0, 1800.0]
    assert caplog.text.count("which may have been sent: the next one is tried in") == 8
    assert "tried in 1800 s" in caplog.text
    own.circuit.answered("t")
    own.circuit.unanswered("t", "lost", in_doubt=True)
    assert own.blocked().seconds == 1.0


def test_the_first_of_an_outage_is_not_on_trial(asking: Bench) -> None:
    """The server is asked at once, whatever became of the message."""
    asking.circuit.unanswered("a", "lost", in_doubt=True)
    assert asking.enter() is None
    asking.circuit.unanswered("a", "lost", in_doubt=True)
    assert asking.blocked().seconds == 1.0


PAGE = {"status": 502, "body": "<html>Bad Gateway</html>"}
NOT_HERE = {"status": 404, "body": "<html>Not Found</html>"}
TOO_MANY = {"status": 429, "body": {"error": "Too many requests"}}
REFUSED = {"status": 400, "body": {"error": "bad"}}
BROKEN = {"status": 500, "body": {"error": "broken"}}
BUSY = {"status": 503, "body": {"error": "busy", "retryable": True}}


@pytest.mark.parametrize(
    ("via", "kind", "details", "alive"),
    [
        ("stream", "refuse", {}, False),
        ("stream", "reset", {}, False),
        ("stream", "status", PAGE, False),
        ("stream", "status", NOT_HERE, False),  # a proxy's: the server has this address
        ("stream", "status", TOO_MANY, True),
        ("rest", "refuse", {}, False),
        ("rest", "reset", {}, False),
        ("rest", "status", PAGE, False),
        ("rest", "status", BROKEN, False),
        ("rest", "status", NOT_HERE, True),  # a server may lack this endpoint
        ("rest", "status", TOO_MANY, True),
        ("rest", "status", REFUSED, True),
        ("rest", "status", BUSY, True),
    ],
    ids=str,
)
def test_what_is_a_sign_of_life(
    via: Any, kind: Any, details: dict[str, Any], alive: bool, fake: FakeButtDialServer
) -> None:
    """An answer of the server's own, also if it says no."""
    with Client(BASE_URL, agent_token="a", max_attempts=1, send_via=via) as client:
        fake.fault(kind, on=via, **details)
        assert lives(client, None) is alive


@pytest.mark.parametrize("via", ["stream", "rest"])
@pytest.mark.parametrize(("token", "asked"), [(None, "a"), ("b", "b"), ("dead", "dead")])
def test_which_token_asks(
    via: Any, token: str | None, asked: str, fake: FakeButtDialServer
) -> None:
    """That of the messages that wait; a refusal of it is an answer too."""
    with Client(BASE_URL, agent_token="a", max_attempts=1, send_via=via) as client:
        assert lives(client, token)
    assert asked_with(fake) == [asked]
