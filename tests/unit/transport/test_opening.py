"""Opening a session: what is closed when it fails, and what closing does meanwhile."""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import requests
import responses

from buttdial_sync.errors import (
    AuthError,
    ButtDialError,
    ClientClosedError,
    DeadlineExceededError,
    EndpointNotAvailable,
    ProtocolError,
    StreamLostError,
)
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.endpoint import BUFFERING_PROXY
from buttdial_sync.transport.http import Http, origin_of
from buttdial_sync.transport.logins import Logins
from buttdial_sync.transport.opening import SessionOpener
from buttdial_sync.transport.session import McpSession, SessionOptions
from buttdial_sync.transport.token_location import TokenLocation
from tests.fakes import add_fault, open_streams
from tests.unit.moments import every_line
from tests.unit.transport.test_http import Server, answer

URL = "https://butt-dial.test"
TOKEN = "agent-secret-1"
PATIENCE = 10.0
LOGGERS = ("connectionpool", "connection", "util.retry")

Make = Callable[..., SessionOpener]


@pytest.fixture
def fake() -> Iterator[FakeButtDialServer]:
    server = FakeButtDialServer()
    with server.mocked(URL):
        yield server


@pytest.fixture
def events() -> list[ClientEvent]:
    return []


@pytest.fixture
def make(events: list[ClientEvent]) -> Iterator[Make]:
    http = Http(connect_timeout=PATIENCE)

    def make_one(url: str = URL, **options: Any) -> SessionOpener:
        seconds = count(1000)
        logins = Logins(http, url)
        session_options = SessionOptions(
            max_event_bytes=1_000_000,
            on_notification=lambda *_: None,
            on_end=lambda _: None,
            breaker=logins.breaker,
            clock=lambda: float(next(seconds)),
        )
        given = {
            "token_in": "header",
            "options": session_options,
            "before_open": lambda *_: None,
            "on_open": lambda *_: None,
            "on_event": events.append,
            **options,
        }
        return SessionOpener(http, url, logins=logins, **given)

    yield make_one
    http.close()


def deadline(seconds: float = PATIENCE) -> Deadline:
    return Deadline(seconds, lambda: 0.0)


def test_opening_is_told(make: Make, fake: FakeButtDialServer, events: list[ClientEvent]) -> None:
    """A stream that was opened is told, with how long it took."""
    session = make().open(TOKEN, deadline())
    (event,) = events
    assert (event.kind, event.operation) == ("connect", "session")
    assert event.seconds is not None
    assert 0 < event.seconds < 100
    session.close()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_interrupted_while_opening_is_told(make: Make, fake: FakeButtDialServer) -> None:
    """Ctrl-C in the host's function: nobody gets the session, so it is closed."""
    with pytest.raises(KeyboardInterrupt):
        make(on_event=interrupt).open(TOKEN, deadline())
    assert fake.wait_for(lambda: open_streams(fake) == 0)


def test_interrupted_before_the_session_is_handed_over(
    make: Make, fake: FakeButtDialServer
) -> None:
    """Ctrl-C before any line: nobody reads the stream any more, once the opener is closed."""
    for moment in every_line(SessionOpener._opened.__code__, interrupt):
        opener = make()
        with suppress(KeyboardInterrupt), moment:
            opener.open(TOKEN, deadline()).close()
        opener.close()
        for thread in threading.enumerate():
            if thread.name.endswith("-reader"):
                thread.join(PATIENCE)
                assert not thread.is_alive()


def test_what_is_open_is_not_the_openers(make: Make, fake: FakeButtDialServer) -> None:
    """Closing the opener ends what is being opened, and not a session that it has given away."""
    opener = make()
    session = opener.open(TOKEN, deadline())
    opener.close()
    assert session.usable
    session.close()


def test_closed_opener(make: Make, fake: FakeButtDialServer, events: list[ClientEvent]) -> None:
    """It opens nothing, and leaves no stream open."""
    opener = make()
    opener.close()
    with pytest.raises(ClientClosedError) as caught:
        opener.open(TOKEN, deadline())
    assert caught.value.outcome == "not_sent"
    assert fake.wait_for(lambda: open_streams(fake) == 0)
    assert fake.posts == 0
    assert events == []


def test_closing_ends_an_opening(make: Make, fake: FakeButtDialServer) -> None:
    """A caller that waits for the handshake is told at once."""
    add_fault(fake, "no_endpoint", on="stream")
    opener = make()
    told: list[ButtDialError] = []
    shaking_hands = threading.Event()

    def clock() -> float:
        if opener._starting:
            shaking_hands.set()
        return 0.0

    def call() -> None:
        try:
            opener.open(TOKEN, Deadline(60.0, clock))
        except ButtDialError as error:
            told.append(error)

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    assert shaking_hands.wait(PATIENCE)
    opener.close()
    caller.join(PATIENCE)
    assert [(type(error), error.outcome) for error in told] == [(ClientClosedError, "not_sent")]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("foreign_endpoint", ProtocolError), ("no_endpoint", DeadlineExceededError)],
)
def test_failed_handshake(
    fault: Any, kind: type[ButtDialError], make: Make, fake: FakeButtDialServer
) -> None:
    """The failure is raised, nothing was sent, and the stream is closed."""
    add_fault(fake, fault, on="stream")
    with pytest.raises(kind) as caught:
        make().open(TOKEN, deadline(0.01))
    assert caught.value.outcome == "not_sent"
    assert fake.wait_for(lambda: open_streams(fake) == 0)


def test_refused_token(make: Make, fake: FakeButtDialServer) -> None:
    """A refused credential is a refusal."""
    fake.revoke(TOKEN)
    with pytest.raises(AuthError) as caught:
        make().open(TOKEN, deadline())
    assert caught.value.outcome == "rejected"


def test_before_open_comes_first(make: Make, fake: FakeButtDialServer) -> None:
    """It gets the token, and what it raises ends the opening before anything is asked."""
    told: list[tuple[str, str]] = []

    def before(token: str, place: str, _: Deadline) -> None:
        told.append((token, place))
        raise ProtocolError("no", outcome="unknown")

    with pytest.raises(ProtocolError) as caught:
        make(before_open=before).open(TOKEN, deadline())
    assert told == [(TOKEN, "header")]
    assert caught.value.outcome == "not_sent"
    assert fake.requests == []


@pytest.mark.parametrize("place", ["header", "query"])
def test_place_of_the_token(place: Any, make: Make) -> None:
    """It is in one place, and quoted where that is the URL."""
    fake = FakeButtDialServer(dialect="open-source" if place == "query" else "hosted")
    token = "a/b+c d"
    with fake.mocked(URL):
        make(token_in=place).open(token, deadline()).close()
    request = next(each for each in fake.requests if each.method == "GET")
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["cache-control"] == "no-store"
    found = request.headers.get("authorization"), dict(request.query).get("token")
    assert token in str(found)
    assert (found[0] is None) is (place == "query")
    assert (found[1] is None) is (place == "header")


def test_finding_the_place_takes_a_turn(make: Make, fake: FakeButtDialServer) -> None:
    """While one finds out where the token goes, nobody else asks the server."""
    calls = count()
    waiting = threading.Event()

    def clock() -> float:
        if next(calls) > 8:  # it has looked up more than once
            waiting.set()
        return 0.0

    opener = make(token_in="auto")
    sessions: list[McpSession] = []
    second = threading.Thread(
        target=lambda: sessions.append(opener.open(TOKEN, Deadline(PATIENCE, clock)))
    )
    with TokenLocation.of(origin_of(URL)).probe(deadline()):
        second.start()
        assert waiting.wait(PATIENCE)
        assert fake.requests == []
    second.join(PATIENCE)
    assert len(sessions) == 1
    sessions[0].close()


def test_what_waits_is_read_before_each_attempt(make: Make) -> None:
    """Also before the second one, at another place; nobody has to wait for the reading."""
    location = TokenLocation.of(origin_of(URL))
    told: list[tuple[str, bool]] = []

    def before(_: str, place: str, __: Deadline) -> None:
        lock = location._locks.get(os.getpid())
        told.append((place, lock is not None and lock.locked()))

    fake = FakeButtDialServer(dialect="open-source")
    with fake.mocked(URL):
        opener = make(token_in="auto", before_open=before)
        opener.open(TOKEN, deadline()).close()
        assert told == [("header", False), ("query", False)]
        opener.open(TOKEN, deadline()).close()
    assert told[2:] == [("query", False)]
    assert [each.path for each in fake.requests if each.method == "GET"] == ["/sse"] * 3


@pytest.mark.parametrize(("dialect", "place"), [("hosted", "header"), ("open-source", "query")])
def test_a_server_that_moved_the_place(dialect: Any, place: str, make: Make) -> None:
    """It is asked once at the other place, which is then known."""
    fake = FakeButtDialServer(dialect=dialect)
    opener = make(token_in="auto")
    with fake.mocked(URL):
        TokenLocation.of(origin_of(URL)).remember("query" if place == "header" else "header")
        opener.open(TOKEN, deadline()).close()
        assert opener.location == place
        opener.open(TOKEN, deadline()).close()
    gets = [each for each in fake.requests if each.method == "GET"]
    assert ["token" in dict(each.query) for each in gets] == [
        place == "header",
        place == "query",
        place == "query",
    ]


def test_a_refused_token_was_seen(make: Make, fake: FakeButtDialServer) -> None:
    """A server that names the token as wrong has found it, so nobody has to look again."""
    fake.revoke(TOKEN)
    opener = make(token_in="auto")
    with pytest.raises(AuthError):
        opener.open(TOKEN, deadline())
    assert opener.location == "header"


def test_an_opened_stream_is_told_with_its_token(make: Make, fake: FakeButtDialServer) -> None:
    """Who looks for missed pushes has to know which token works where."""
    told: list[tuple[str, str]] = []
    make(on_open=lambda token, place: told.append((token, place))).open(TOKEN, deadline()).close()
    assert told == [(TOKEN, "header")]


def test_a_stream_that_somebody_buffers(make: Make) -> None:
    """A proxy that collects the answer lets no byte through: the error says what to look at."""
    server = Server(b"")
    with pytest.raises(DeadlineExceededError) as caught:
        make(server.url).open(TOKEN, deadline(0.2))
    server.end()
    assert caught.value.outcome == "not_sent"
    assert caught.value.remediation == BUFFERING_PROXY


def test_time_that_is_over_says_nothing_about_proxies(make: Make, fake: FakeButtDialServer) -> None:
    """A request that was not written was not buffered."""
    with pytest.raises(DeadlineExceededError) as caught:
        make().open(TOKEN, deadline(0.0))
    assert caught.value.remediation != BUFFERING_PROXY
    assert fake.requests == []


def test_frames_of_a_refusal_hold_no_answer(make: Make, fake: FakeButtDialServer) -> None:
    """Its headers may repeat the token, and programs that report errors print frames."""
    fake.revoke(TOKEN)
    with pytest.raises(AuthError) as caught:
        make().open(TOKEN, deadline())
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    kept = [value for frame in frames for value in frame.f_locals.values()]
    assert not [value for value in kept if isinstance(value, requests.Response)]


def test_tokens_in_urls_are_not_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Before a token goes into a URL, the loggers that print URLs are told to mask it."""
    loggers = [logging.getLogger(f"urllib3.{name}") for name in LOGGERS]
    for logger in loggers:
        logger.filters.clear()
    with FakeButtDialServer(dialect="open-source").mocked(URL):
        make(token_in="query").open(TOKEN, deadline()).close()
    for logger in loggers:
        logger.warning("GET /sse?token=%s", TOKEN)
    assert caplog.text.count("token=***") == len(loggers)
    assert TOKEN not in caplog.text


def test_refused_streams_are_closed(make: Make) -> None:
    """What is not a stream is not left open, also while somebody keeps the error."""
    server = Server(answer(200, b"{", 1000, "application/json"))
    with pytest.raises(ProtocolError) as caught:
        make(server.url).open(TOKEN, deadline())
    server.end()
    assert server.client_left.is_set()
    assert caught.value.outcome == "not_sent"


def test_other_statuses(make: Make) -> None:
    """From 300 on an answer is a refusal, whatever its kind."""
    with responses.RequestsMock() as mock:
        mock.get(f"{URL}/sse", status=300, content_type="text/event-stream", body="x")
        with pytest.raises(ButtDialError) as caught:
            make().open(TOKEN, deadline())
    assert "instead of an event stream" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (200, "application/json", "HTTP 200 with application/json instead"),
        (200, "text/event-streams", "HTTP 200 with text/event-streams instead"),
        (200, "text/html; text/event-stream", "HTTP 200 with text/html"),
        (202, "text/event-stream", "HTTP 202 with text/event-stream instead"),
        (299, "text/event-stream", "HTTP 299"),
    ],
)
def test_answers_that_are_no_stream(status: int, kind: str, words: str, make: Make) -> None:
    """Only a 200 with events is a stream."""
    with responses.RequestsMock() as mock:
        mock.get(f"{URL}/sse", status=status, content_type=kind, body="x")
        with pytest.raises(ProtocolError, match=words) as caught:
            make().open(TOKEN, deadline())
    assert (caught.value.stage, caught.value.outcome) == ("session", "not_sent")


@pytest.mark.parametrize(
    "kind", ["Text/Event-Stream", "text/event-stream;charset=utf-8", "TEXT/EVENT-STREAM ; x=y"]
)
def test_media_types_have_no_case(kind: str, make: Make) -> None:
    """Names of media types are the same in any case, with and without parameters."""
    with responses.RequestsMock() as mock:
        mock.get(f"{URL}/sse", content_type=kind, body=": hello\n\n")
        with pytest.raises(StreamLostError):
            make().open(TOKEN, deadline())


@pytest.mark.parametrize("path", ["", "/dial"])
def test_a_server_without_streams(path: str, make: Make) -> None:
    """A page for the stream's path names that path."""
    page = "<html><body><pre>Cannot GET /sse</pre></body></html>"
    with responses.RequestsMock() as mock:
        mock.get(f"{URL}{path}/sse", status=404, body=page)
        with pytest.raises(EndpointNotAvailable, match=rf"has no GET {path}/sse(\n|$)") as caught:
            make(f"{URL}{path}").open(TOKEN, deadline())
    assert caught.value.outcome == "not_sent"
