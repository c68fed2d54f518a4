"""Who gets what comes in for a token."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import responses

from buttdial_sync.errors import (
    AuthError,
    ButtDialError,
    ConfigError,
    InvalidRequestError,
    TransportError,
)
from buttdial_sync.listening.inbound_queue import InboundQueue
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.http import Http
from buttdial_sync.transport.logins import Logins
from buttdial_sync.transport.push_router import (
    PAGES_AT_MOST,
    WAITING_PATH,
    PushRouter,
    forget_warnings,
)
from buttdial_sync.transport.rest import Rest
from tests.forks import exit_code, forked
from tests.unit.listening.test_inbound_queue import never, push, taken


@pytest.fixture
def router() -> Iterator[PushRouter]:
    http = Http(connect_timeout=1.0)
    yield PushRouter(
        Rest(http, "https://butt-dial.test", Logins(http, "https://butt-dial.test")), None
    )
    http.close()


def released(queue: InboundQueue) -> list[str]:
    queue.release_pushed(queue.generation)
    return taken(queue)


def test_each_token_has_its_own_sink(router: PushRouter) -> None:
    """What is pushed for one agent reaches no other; a second sink of one agent is refused."""
    first, second = InboundQueue(never, None, 10), InboundQueue(never, None, 10)
    router.add("tok-1", first)
    router.add("tok-2", second)
    with pytest.raises(ConfigError, match="another listener"):
        router.add("tok-1", second)
    router.pushed("tok-2", push("p1"))
    assert (released(first), released(second)) == ([], ["p1"])


def test_removing_twice_does_not_remove_the_successor(router: PushRouter) -> None:
    """A sink takes itself out, and nobody else."""
    first, second = InboundQueue(never, None, 10), InboundQueue(never, None, 10)
    router.add("tok-1", first)
    router.remove("tok-1", first)
    router.add("tok-1", second)
    router.remove("tok-1", first)
    router.pushed("tok-1", push("p1"))
    assert released(second) == ["p1"]


def test_nothing_is_read_when_nobody_wants_it(
    router: PushRouter, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a sink and without before_open the queue stays on the server; a push is reported."""
    router.opening(
        "tok-1", "header", Deadline(1.0)
    )  # a request would be refused: there is no such server
    router.ended("tok-1")
    for name in ("p1", "p2"):
        router.pushed("tok-1", push(name))
    assert caplog.text.count("nobody listens") == 1


WAITING = f"https://butt-dial.test{WAITING_PATH}"
PAGE = 10


class Sink:
    """Notes what it is told, in order."""

    agent_id: str | None = None
    page_size = PAGE

    def __init__(self) -> None:
        self.told: list[Any] = []

    def opening(self) -> None:
        self.told.append("opening")

    def waiting(self, messages: Sequence[WaitingMessage], _: Deadline) -> None:
        self.told.append([each.id for each in messages])

    def pushed(self, notification: Mapping[str, Any]) -> None:
        self.told.append(notification)

    def ended(self) -> None:
        self.told.append("ended")


@pytest.fixture
def mock() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as running:
        yield running


def page(mock: responses.RequestsMock, count: int) -> list[str]:
    """Have the server answer with so many messages, and return their ids."""
    ids = [f"m{number}" for number in range(count)]
    mock.get(WAITING, json={"messages": [{"id": each} for each in ids]})
    return ids


def draining(
    router: PushRouter, taken: list[Any], then: Callable[[], object] = lambda: None
) -> PushRouter:
    """Return a router of the same connections, whose ``before_open`` notes what it gets."""

    def before_open(messages: Sequence[WaitingMessage]) -> None:
        taken.append([each.id for each in messages])
        then()

    return PushRouter(router._rest, before_open)


def test_queue_is_read_to_its_end(router: PushRouter, mock: responses.RequestsMock) -> None:
    """Full pages are followed by the next; each is handed to the sink and to ``before_open``."""
    pages = [page(mock, PAGE), page(mock, PAGE), page(mock, PAGE - 1)]
    taken: list[Any] = []
    sink = Sink()
    router = draining(router, taken)
    router.add("tok-1", sink)
    router.opening("tok-1", "header", Deadline(1.0))
    assert sink.told == ["opening", *pages]
    assert taken == pages
    asked = mock.calls[0].request
    assert asked.headers["Authorization"] == "Bearer tok-1"
    assert str(asked.url).endswith(f"?limit={PAGE}")


def test_sink_alone(router: PushRouter, mock: responses.RequestsMock) -> None:
    """A listener gets what waits, also without ``before_open``; an end is told to it too."""
    ids, sink = page(mock, 2), Sink()
    router.add("tok-1", sink)
    router.opening("tok-1", "header", Deadline(1.0))
    router.ended("tok-1")
    assert sink.told == ["opening", ids, "ended"]


def test_before_open_alone(router: PushRouter, mock: responses.RequestsMock) -> None:
    """Without a listener ``before_open`` gets what waits."""
    ids, taken = page(mock, 1), []  # type: ignore[var-annotated]
    draining(router, taken).opening("tok-1", "header", Deadline(1.0))
    assert taken == [ids]


def test_nothing_waits(router: PushRouter, mock: responses.RequestsMock) -> None:
    """Nobody is called with no messages."""
    page(mock, 0)
    taken: list[Any] = []
    sink, keeper = Sink(), Keeper()
    router = draining(router, taken)
    router.add("tok-1", sink)
    router.keep_waiting(keeper)
    router.drain("tok-1", Deadline(1.0))
    assert (sink.told, keeper.told, taken, len(mock.calls)) == ([], [], [], 1)


def test_server_without_a_queue(router: PushRouter, mock: responses.RequestsMock) -> None:
    """There is nothing to drain then."""
    mock.get(WAITING, status=404, body="<!DOCTYPE html><pre>Cannot GET /x</pre>")
    assert router.take_page("tok-1", Deadline(1.0)) is False


def test_queue_that_never_ends(router: PushRouter, mock: responses.RequestsMock) -> None:
    """A server that gives full pages again and again is left after so many."""
    page(mock, PAGE)
    router.drain("tok-1", Deadline(60.0))
    assert len(mock.calls) == PAGES_AT_MOST == 1000


def test_before_open_that_fails(
    router: PushRouter, mock: responses.RequestsMock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing more is read, and it gets the same messages again until it has them."""
    pages = [page(mock, PAGE), page(mock, 1)]
    taken: list[Any] = []
    failing = [ValueError("the host's own"), OSError("disk full")]

    def fail() -> None:
        if failing:
            raise failing.pop(0)

    router = draining(router, taken, fail)
    for name in ("ValueError", "OSError"):
        with pytest.raises(TransportError, match=f"with {PAGE} messages: {name}") as caught:
            router.opening("tok-1", "query", Deadline(1.0))
        assert caught.value.outcome == "not_sent"
    assert len(mock.calls) == 1
    assert f"before_open failed with {PAGE} messages" in caplog.text
    assert "the host's own" in caplog.text
    router.drain("tok-2", Deadline(1.0))
    router.drain("tok-1", Deadline(1.0))
    assert taken == [pages[0], pages[0], pages[1], pages[0], pages[1]]


@pytest.mark.parametrize(
    ("answer", "lost"),
    [
        ({"body": ConnectionResetError("reset")}, True),
        ({"status": 401, "json": {"error": "Invalid token"}}, False),
    ],
)
def test_queue_that_cannot_be_read(
    answer: dict[str, Any],
    lost: bool,
    router: PushRouter,
    mock: responses.RequestsMock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The failure ends the opening; that an answer was lost, and messages with it, is logged."""
    mock.get(WAITING, **answer)
    with pytest.raises(ButtDialError) as caught:
        router.drain("tok-1", Deadline(1.0))
    assert isinstance(caught.value, AuthError) is not lost
    assert ("waiting messages was lost" in caplog.text) is lost


def test_only_messages_are_missed(router: PushRouter, caplog: pytest.LogCaptureFixture) -> None:
    """Other notifications that nobody hears are worth no warning; each agent has one of its own."""
    router.pushed("tok-1", {"method": "notifications/progress"})
    assert caplog.records == []
    for token in ("tok-1", "tok-2", "tok-1"):
        router.pushed(token, push("p1"))
    assert caplog.text.count("nobody listens") == 2


def test_a_sink_that_retires_gets_all_until_another_comes(router: PushRouter) -> None:
    """There is a sink at every moment, so that nothing is pushed to nobody."""
    first, second, other = Sink(), Sink(), Sink()
    router.add("tok-1", first)
    router.add("tok-2", other)
    router.retire("tok-2", other)
    router.retire("tok-1", first)
    router.pushed("tok-1", push("p1"))
    router.add("tok-1", second)
    router.pushed("tok-1", push("p2"))
    router.remove("tok-1", second)
    router.pushed("tok-1", push("p3"))
    assert (first.told, second.told) == ([push("p1"), push("p3")], [push("p2")])
    router.remove("tok-1", first)
    router.pushed("tok-1", push("p4"))
    assert (len(first.told), other.told) == (2, [])


class Interrupted(dict[str, list[WaitingMessage]]):
    """Lets another thread run, once, right after messages were kept."""

    def __init__(self, another: Callable[[], object]) -> None:
        super().__init__()
        self.others = [another]

    def setdefault(self, *arguments: Any) -> Any:
        kept = super().setdefault(*arguments)
        while self.others:
            self.others.pop()()
        return kept


def test_messages_that_are_refused_while_others_are_read(
    router: PushRouter, mock: responses.RequestsMock
) -> None:
    """Each thread that reads the queue takes what was refused; none adds to what another took."""
    taken: list[Any] = []
    is_down = True

    def fail_while_down() -> None:
        if is_down:
            raise OSError

    def another() -> None:
        nonlocal is_down
        is_down = False
        router.drain("tok-1", Deadline(1.0))

    router = draining(router, taken, fail_while_down)
    router._refused = Interrupted(another)
    ids = page(mock, 2)
    page(mock, 0)
    with pytest.raises(TransportError):
        router.drain("tok-1", Deadline(1.0))
    router.drain("tok-1", Deadline(1.0))
    assert taken == [ids, ids]


def test_messages_that_two_threads_could_not_give(
    router: PushRouter, mock: responses.RequestsMock
) -> None:
    """The host gets both the next time, in the order in which they were refused."""
    tried: list[Any] = []

    def fail_twice() -> None:
        if len(tried) == 1:
            with pytest.raises(TransportError):  # another thread, meanwhile
                router.drain("tok-1", Deadline(1.0))
        if len(tried) <= 2:
            raise OSError

    router = draining(router, tried, fail_twice)
    for name in ("m1", "m2"):
        mock.get(WAITING, json={"messages": [{"id": name}]})
    with pytest.raises(TransportError):
        router.drain("tok-1", Deadline(1.0))
    page(mock, 0)
    router.drain("tok-1", Deadline(1.0))
    assert tried == [["m1"], ["m2"], ["m2", "m1"]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gives_nothing_again(
    router: PushRouter, mock: responses.RequestsMock
) -> None:
    """The parent does, or else the host would get it twice."""
    tried: list[Any] = []

    def fail_once() -> None:
        if len(tried) == 1:
            raise OSError

    def drain() -> None:
        router.drain("tok-1", Deadline(1.0))

    def drain_in_child() -> None:
        drain()
        assert len(tried) == 1

    router = draining(router, tried, fail_once)
    ids = page(mock, 2)
    with pytest.raises(TransportError):
        drain()
    page(mock, 0)
    assert exit_code(forked(drain_in_child)) == 0
    drain()
    assert tried == [ids, ids]


@pytest.mark.parametrize("at", ["before the first page", "while it is read"])
def test_a_sink_that_is_removed_during_a_reading(
    at: str, router: PushRouter, mock: responses.RequestsMock
) -> None:
    """It still gets all that is read, for that is not on the server any more."""

    class Leaving(Sink):
        page_size = 3

        def opening(self) -> None:
            if at == "before the first page":
                router.remove("tok-1", self)

    sink = Leaving()

    def answer(_: object) -> tuple[int, dict[str, str], str]:
        router.remove("tok-1", sink)
        return 200, {}, json.dumps({"messages": [{"id": each} for each in "abc"]})

    router.add("tok-1", sink)
    mock.add_callback("GET", WAITING, answer)
    last = page(mock, 1)
    router.opening("tok-1", "header", Deadline(1.0))
    assert sink.told == [["a", "b", "c"], last]
    router.add("tok-1", Sink())  # it is gone


def test_a_page_goes_to_the_sink_that_came_meanwhile(
    router: PushRouter, mock: responses.RequestsMock
) -> None:
    """That one hands it over, and says how the next is read; the one before has ended."""
    first, second = Sink(), Sink()
    first.page_size, second.page_size = 1, 2

    def answer(_: object) -> tuple[int, dict[str, str], str]:
        router.remove("tok-1", first)
        router.add("tok-1", second)
        return 200, {}, json.dumps({"messages": [{"id": "m0"}]})

    router.add("tok-1", first)
    mock.add_callback("GET", WAITING, answer)
    page(mock, 0)
    router.drain("tok-1", Deadline(1.0))
    assert (first.told, second.told) == ([], [["m0"]])
    assert [str(call.request.url)[-8:] for call in mock.calls] == ["?limit=1", "?limit=2"]


class Keeper:
    """Notes what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def opening(self) -> None:
        self.told.append("opening")

    def waiting(self, messages: Sequence[WaitingMessage]) -> None:
        self.told.append([each.id for each in messages])


def test_keeper_gets_what_an_opening_would_throw_away(
    router: PushRouter, mock: responses.RequestsMock
) -> None:
    """Only a token in the URL empties the queue, so only then is it asked to keep it."""
    keeper = Keeper()
    router.keep_waiting(keeper)
    router.opening("tok-1", "header", Deadline(1.0))
    assert (keeper.told, len(mock.calls)) == ([], 0)
    ids = page(mock, 2)
    router.opening("tok-1", "query", Deadline(1.0))
    assert keeper.told == ["opening", ids]


def test_keeper_that_cannot_keep_anything(router: PushRouter, mock: responses.RequestsMock) -> None:
    """Then nothing is read from the server."""

    class Full(Keeper):
        def opening(self) -> None:
            raise TransportError("the disk is full")

    router.keep_waiting(Full())
    with pytest.raises(TransportError, match="disk is full"):
        router.opening("tok-1", "query", Deadline(1.0))
    assert len(mock.calls) == 0


def test_a_queue_that_is_left_alone(router: PushRouter, mock: responses.RequestsMock) -> None:
    """Nobody takes what waits: no stream is opened that would empty the queue, if so asked."""
    router.opening("tok-1", "query", Deadline(1.0))
    careful = PushRouter(router._rest, None, leaves_queue=True)
    careful.opening("tok-1", "header", Deadline(1.0))
    with pytest.raises(ConfigError, match="would empty the agent's waiting queue"):
        careful.opening("tok-1", "query", Deadline(1.0))
    assert len(mock.calls) == 0


@pytest.mark.parametrize("takes", ["sink", "keeper", "before_open", "nobody"])
@pytest.mark.parametrize("location", ["query", "header"])
def test_a_queue_that_was_emptied(
    location: Any, takes: str, router: PushRouter, caplog: pytest.LogCaptureFixture
) -> None:
    """The loss is told once in a process; there is none if somebody had read what waits."""
    forget_warnings()
    if takes == "before_open":
        router = draining(router, [])
    elif takes == "keeper":
        router.keep_waiting(Keeper())
    elif takes == "sink":
        router.add("tok-1", Sink())
    for _ in range(2):
        router.opened("tok-1", location)
    is_lost = location == "query" and takes == "nobody"
    assert caplog.text.count("nobody read the waiting queue") == int(is_lost)


class AskingForTheAgent:
    """A server that wants to know whose messages are meant, as with an organization's token."""

    def __init__(self, mock: responses.RequestsMock, knows: str = "agent-1") -> None:
        self.asked: list[str | None] = []
        self._knows = knows
        mock.add_callback(responses.GET, WAITING, self._answer)

    def _answer(self, request: Any) -> tuple[int, dict[str, str], str]:
        self.asked.append(request.params.get("agentId"))
        if self.asked[-1] != self._knows:
            return 400, {}, '{"error": "agentId is required", "code": "AGENT_ID_REQUIRED"}'
        return 200, {}, '{"messages": []}'


@pytest.mark.parametrize("by", ["name", "sink"])
def test_a_token_of_an_organization(
    by: str, router: PushRouter, mock: responses.RequestsMock
) -> None:
    """The agent is named where the server asks for it, and from then on at once."""
    server = AskingForTheAgent(mock)
    if by == "name":
        router.name_agent("tok-1", "agent-1")
    else:
        sink = Sink()
        sink.agent_id = "agent-1"
        router.add("tok-1", sink)
    for _ in range(2):
        router.drain("tok-1", Deadline(1.0))
    assert server.asked == [None, "agent-1", "agent-1"]


def test_a_token_of_an_organization_without_an_agent(
    router: PushRouter, mock: responses.RequestsMock
) -> None:
    """The refusal is told, and not tried again."""
    server = AskingForTheAgent(mock)
    with pytest.raises(ButtDialError) as caught:
        router.drain("tok-1", Deadline(1.0))
    assert (caught.value.code, server.asked) == ("AGENT_ID_REQUIRED", [None])


def test_a_token_of_an_organization_whose_agent_is_gone(
    router: PushRouter, mock: responses.RequestsMock
) -> None:
    """No agent is named then, and the refusal is told."""
    server, sink = AskingForTheAgent(mock), Sink()
    sink.agent_id = "agent-1"
    router.add("tok-1", sink)
    router.drain("tok-1", Deadline(1.0))
    router.remove("tok-1", sink)
    with pytest.raises(ButtDialError):
        router.drain("tok-1", Deadline(1.0))
    assert server.asked == [None, "agent-1", None]


def test_a_refusal_for_another_reason(router: PushRouter, mock: responses.RequestsMock) -> None:
    """The agent is not named to a server that did not ask for it."""
    mock.get(WAITING, status=400, json={"error": "limit is odd", "code": "VALIDATION_FAILED"})
    router.name_agent("tok-1", "agent-1")
    with pytest.raises(InvalidRequestError):
        router.drain("tok-1", Deadline(1.0))
    assert len(mock.calls) == 1


def test_an_agent_that_the_organization_does_not_have(
    router: PushRouter, mock: responses.RequestsMock
) -> None:
    """It is named once, and the refusal is told."""
    server = AskingForTheAgent(mock, knows="agent-2")
    router.name_agent("tok-1", "agent-1")
    with pytest.raises(ButtDialError):
        router.drain("tok-1", Deadline(1.0))
    assert server.asked == [None, "agent-1"]


@pytest.mark.parametrize("size", [3, 10])
def test_size_of_a_page(size: int, router: PushRouter, mock: responses.RequestsMock) -> None:
    """It is the sink's; a page that is full may be followed by another."""
    sink = Sink()
    sink.page_size = size
    if size != PAGE:
        router.add("tok-1", sink)
    page(mock, size)
    page(mock, size - 1)
    assert router.take_page("tok-1", Deadline(1.0)) is True
    assert router.take_page("tok-1", Deadline(1.0)) is False
    assert str(mock.calls[0].request.url).endswith(f"?limit={size}")
