"""What every client holds: attempts, events, an end; and the base URL."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import responses

from buttdial_sync.calls.call import Call
from buttdial_sync.connection import Connection, check_base_url
from buttdial_sync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    AuthError,
    ClientClosedError,
    ConfigError,
    ToolError,
    TransportError,
)
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.transport.network import NetworkOptions
from tests.fakes import add_fault

BASE_URL = "https://butt-dial.test"
Make = Callable[..., Connection]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Connection] = []

    def make_one(**options: Any) -> Connection:
        defaults = {"timeout": 30.0, "connect_timeout": 5.0, "max_attempts": 3}
        made.append(Connection(BASE_URL, **{**defaults, "sleep": lambda _: None, **options}))
        return made[-1]

    yield make_one
    for connection in made:
        connection.close()


class Scripted(Call):
    """A call whose attempts do what a function does."""

    def __init__(self, connection: Connection, attempt: Callable[[], Any]) -> None:
        deadline = connection.deadline()
        super().__init__(connection, "comms_x", deadline, reads_only=False, arguments={})
        self._function = attempt

    def _attempt(self) -> Any:
        return self._function()


def run(connection: Connection, attempt: Callable[[], Any]) -> Any:
    return Scripted(connection, attempt).run()


def failing_once(error: Exception) -> Callable[[], str]:
    left = [error]

    def attempt() -> str:
        if left:
            raise left.pop()
        return "ok"

    return attempt


def test_events_of_a_success(make: Make) -> None:
    """A good attempt is announced and reported, with its duration by the injected clock."""
    events: list[ClientEvent] = []
    times = iter([0.0, 10.0, 12.5])
    connection = make(on_event=events.append, clock=lambda: next(times, 12.5))
    assert run(connection, lambda: 5) == 5
    assert [(e.kind, e.attempt, e.outcome, e.error) for e in events] == [
        ("attempt", 1, None, None),
        ("answer", 1, "sent", None),
    ]
    assert events[0].seconds is None
    assert events[1].seconds == 2.5
    assert {event.operation for event in events} == {"comms_x"}


def test_events_of_a_retry(make: Make) -> None:
    """Attempt, answer, retry, attempt, answer: in this order and with the numbers."""
    events: list[ClientEvent] = []
    connection = make(on_event=events.append, random_fraction=lambda: 1.0, clock=lambda: 0.0)
    assert run(connection, failing_once(TransportError("refused", code="REFUSED"))) == "ok"
    assert [(e.kind, e.attempt, e.seconds, e.outcome, e.error, e.code) for e in events] == [
        ("attempt", 1, None, None, None, None),
        ("answer", 1, 0.0, "not_sent", "TransportError", "REFUSED"),
        ("retry", 1, 0.5, "not_sent", "TransportError", "REFUSED"),
        ("attempt", 2, None, None, None, None),
        ("answer", 2, 0.0, "sent", None, None),
    ]


def test_events_hold_no_texts(make: Make) -> None:
    """The server's words, which may hold anything, are in no event."""
    events: list[ClientEvent] = []
    connection = make(on_event=events.append)
    with pytest.raises(ToolError):
        run(connection, failing_once(ToolError("no to +14155550123", body={"token": "s3cret"})))
    assert "+1415" not in repr(events)
    assert "s3cret" not in repr(events)


def test_callback_that_raises(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What ``on_event`` raises is logged, and the call goes on."""

    def fail(_: ClientEvent) -> None:
        raise ValueError("the callback's own")

    with caplog.at_level(logging.ERROR, "buttdial_sync"):
        assert run(make(on_event=fail), lambda: "ok") == "ok"
    assert "on_event failed" in caplog.text
    assert "the callback's own" in caplog.text


def test_retries_are_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A pause is logged with its reason, also where nobody listens to events."""
    with caplog.at_level(logging.INFO, "buttdial_sync"):
        assert run(make(), failing_once(TransportError("refused"))) == "ok"
    assert "comms_x: attempt 1 failed (refused)" in caplog.text


def test_closed_connection_runs_nothing(make: Make) -> None:
    """After ``close``, which may be called twice, nothing is attempted."""
    connection = make()
    connection.close()
    connection.close()
    attempts: list[int] = []
    with pytest.raises(ClientClosedError):
        run(connection, lambda: attempts.append(1))
    assert connection.closed
    assert attempts == []


def test_close_ends_a_pause(make: Make) -> None:
    """A caller in a pause of a minute is told at once that the client was closed."""
    paused = threading.Event()
    connection = make(
        sleep=None, on_event=lambda event: paused.set() if event.kind == "retry" else None
    )
    told: list[BaseException] = []

    def call() -> None:
        try:
            run(connection, failing_once(TransportError("refused", retry_after=29.0)))
        except ClientClosedError as error:
            told.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert paused.wait(5)
    connection.close()
    caller.join(5)
    assert len(told) == 1


@pytest.mark.parametrize("name", ["timeout", "connect_timeout"])
def test_seconds_are_checked(make: Make, name: str) -> None:
    """Durations must be positive numbers; the message names them."""
    with pytest.raises(ArgumentValueError, match=name):
        make(**{name: 0})
    with pytest.raises(ArgumentTypeError, match=name):
        make(**{name: "3"})


@pytest.mark.parametrize(
    ("value", "kind"),
    [(0, ArgumentValueError), (True, ArgumentTypeError), (1.5, ArgumentTypeError)],
)
def test_max_attempts_is_checked(make: Make, value: int, kind: type[Exception]) -> None:
    """There is at least one attempt, and their number is whole."""
    with pytest.raises(kind, match="max_attempts"):
        make(max_attempts=value)


def test_deadline_of_a_call(make: Make) -> None:
    """A call's own timeout wins over the client's, and is checked too."""
    connection = make(clock=lambda: 0.0)
    assert connection.deadline(None).seconds == 30.0
    assert connection.deadline(2).seconds == 2.0
    with pytest.raises(ArgumentValueError, match="timeout"):
        connection.deadline(-1)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("https://h.example", "https://h.example"),
        ("https://h.example/", "https://h.example"),
        ("https://h.example/sse", "https://h.example"),
        ("https://h.example/sse/", "https://h.example"),
        ("https://h.example/bd/", "https://h.example/bd"),
        ("https://h.example/bd/sse", "https://h.example/bd"),
        ("  http://127.0.0.1:3100 \n", "http://127.0.0.1:3100"),
        ("http://[::1]:3100", "http://[::1]:3100"),
        ("HTTPS://H.example", "HTTPS://H.example"),
        ("https://h.example/classe", "https://h.example/classe"),
    ],
)
def test_base_url(given: str, wanted: str) -> None:
    """With or without a slash and ``/sse``, it is the same server."""
    assert check_base_url(given) == wanted


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "   ",
        "h.example",
        "ftp://h.example",
        "https://",
        "https:///x",
        "//h.example",
        "https://h.example?token=s3cret",
        "https://h.example/sse?token=s3cret",
        "https://h.example/#s3cret",
        "https://user:s3cret@h.example",
        "http://[::1",
        "http://h.example:99999",
        "http://h.example:s3cret",
        "http://h.example:0",
    ],
)
def test_bad_base_url(given: str) -> None:
    """Whatever is no plain address is a config error that does not show it."""
    with pytest.raises(ConfigError) as caught:
        check_base_url(given)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("given", [5, b"https://h.example"])
def test_base_url_that_is_no_text(given: Any) -> None:
    """It is a wrong type, like that of any argument."""
    with pytest.raises(ArgumentTypeError, match="base_url must be text"):
        check_base_url(given)


SESSIONS: dict[str, Any] = {
    "token_in": "header",
    "before_open": None,
    "max_event_bytes": 1000,
    "max_sessions": 2,
    "idle_ping": 60.0,
}


def test_sessions(make: Make) -> None:
    """A connection holds sessions when it is told to; without them there is no pool."""
    connection = make()
    assert not hasattr(connection, "pool")
    connection.hold_sessions(**SESSIONS)
    assert connection.pool.count == 0
    assert connection.origin == f"{BASE_URL}:443"


@pytest.mark.parametrize("name", ["token_in", "max_event_bytes", "max_sessions", "idle_ping"])
def test_sessions_are_checked(make: Make, name: str) -> None:
    """A wrong option is named."""
    with pytest.raises(ConfigError, match=name):
        make().hold_sessions(**{**SESSIONS, name: "bad"})


def test_place_of_the_token(make: Make) -> None:
    """It goes where it was said; "auto" and nothing find out."""
    with FakeButtDialServer(dialect="open-source").mocked(BASE_URL):
        for place in ("auto", None, "query"):
            connection = make()
            connection.hold_sessions(**{**SESSIONS, "token_in": place})
            with connection.pool.session("tok-1", connection.deadline()) as session:
                assert session.usable
        connection = make()
        connection.hold_sessions(**SESSIONS)
        with (
            pytest.raises(AuthError),
            connection.pool.session("tok-1", connection.deadline()),
        ):
            pass


@pytest.mark.parametrize(
    ("place", "dialect", "known"),
    [
        ("header", None, (True, False)),
        ("query", None, (False, True)),
        ("auto", None, (False, False)),
        ("auto", "open-source", (False, True)),
    ],
)
def test_where_the_server_wants_the_token(
    place: str, dialect: Any, known: tuple[bool, bool], make: Make
) -> None:
    """It is known from an option, or once a stream was opened."""
    connection = make()
    connection.hold_sessions(**{**SESSIONS, "token_in": place})
    if dialect:
        with (
            FakeButtDialServer(dialect=dialect).mocked(BASE_URL),
            connection.pool.session("tok-1", connection.deadline()),
        ):
            pass
    assert (connection.pushes_to_sessions, connection.token_goes_into_url) == known


def test_a_connection_that_is_dropped_ends_its_sessions() -> None:
    """The warning names the line that dropped it, and what it hands out is closed."""
    with FakeButtDialServer().mocked(BASE_URL):
        connection = Connection(BASE_URL, timeout=30.0, connect_timeout=5.0, max_attempts=3)
        connection.hold_sessions(**SESSIONS)
        connection.check_open()
        with connection.pool.session("tok-1", connection.deadline()) as session:
            pass
        with pytest.warns(ResourceWarning, match=f"client of {BASE_URL} was not closed") as told:
            del connection
        assert not session.usable
    assert told[0].filename == __file__
    dropped = told[0].source
    assert isinstance(dropped, Connection)
    assert dropped.closed


def test_a_connection_without_sessions_is_dropped() -> None:
    """There is nothing to end, but a warning all the same."""
    connection = Connection(BASE_URL, timeout=30.0, connect_timeout=5.0, max_attempts=3)
    connection.check_open()
    with pytest.warns(ResourceWarning, match="was not closed"):
        del connection


def test_closing_ends_an_opening(make: Make) -> None:
    """Whoever waits for a server that opens a stream and says nothing is told at once."""
    shaking_hands = threading.Event()

    def clock() -> float:
        if connection.holds_sessions and connection._opener._starting:
            shaking_hands.set()
        return 0.0

    connection = make(clock=clock)
    connection.hold_sessions(**SESSIONS)
    told: list[BaseException] = []

    def call() -> None:
        try:
            with connection.pool.session("tok-1", connection.deadline()):
                pass
        except ClientClosedError as error:
            told.append(error)

    fake = FakeButtDialServer()
    add_fault(fake, "no_endpoint", on="stream")
    caller = threading.Thread(target=call, daemon=True)
    with fake.mocked(BASE_URL):
        caller.start()
        assert shaking_hands.wait(5)
        connection.close()
        caller.join(5)
    assert len(told) == 1


def test_closing_closes_what_is_held(make: Make) -> None:
    """Sessions end, and neither the pool nor HTTP can be used."""
    with FakeButtDialServer().mocked(BASE_URL):
        connection = make()
        connection.hold_sessions(**SESSIONS)
        with connection.pool.session("tok-1", connection.deadline()) as session:
            connection.close(5.0)
            assert not session.usable
        with (
            pytest.raises(ClientClosedError),
            connection.pool.session("tok-1", connection.deadline()),
        ):
            pass
        with pytest.raises(ClientClosedError):
            connection.rest.call("GET", "/x", connection.deadline())
    assert not connection.is_open


def test_whether_something_is_open(make: Make) -> None:
    """Only a used connection that was not closed may hold something."""
    connection = make()
    found = [connection.is_open]
    for step in (
        connection.check_open,
        connection._reset_after_fork,  # as in a forked child
        connection.check_open,
        connection.close,
    ):
        step()
        found.append(connection.is_open)
    assert found == [False, True, False, True, False]


def test_fork_after_close(make: Make) -> None:
    """In the child of a closed client no pause is slept through."""
    connection = make(sleep=None)
    connection.close()
    connection._reset_after_fork()
    pause = threading.Thread(target=connection.sleep, args=(60.0,), daemon=True)
    pause.start()
    pause.join(5)
    assert not pause.is_alive()


def test_a_connection_has_its_own_network(make: Make) -> None:
    """Headers that a gateway wants go along with every request of this client, and of no other."""
    with responses.RequestsMock() as server:
        server.get(f"{BASE_URL}/x", json={})
        for connection in (make(network=NetworkOptions(headers={"X-Gateway": "g"})), make()):
            connection.rest.call("GET", "/x", connection.deadline())
        told = [call.request.headers.get("X-Gateway") for call in server.calls]
    assert told == ["g", None]


def test_what_is_learned_is_each_connections_own(make: Make) -> None:
    """One server's ways of writing say nothing of another's."""
    first, second = make(), make()
    first.variants["/x"] = 1
    assert second.variants == {}
