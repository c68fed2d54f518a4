"""What the clients of ailoop and Happy have in common: attempts, pauses, and the end of both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import responses
from responses.matchers import header_matcher, json_params_matcher, query_param_matcher

from buttdial_sync.errors import ClientClosedError, ConfigError, ServerError
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.transport import fork
from buttdial_sync.transport.rest_connection import RestConnection

SERVER = "https://server.test"


class Bench:
    """A connection whose clock moves by a second whenever it is read."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.events: list[ClientEvent] = []
        given: dict[str, Any] = {
            "token": "s3cret",
            "timeout": 30.0,
            "connect_timeout": 5.0,
            "max_attempts": 3,
            "network": None,
            "on_event": self.events.append,
            "clock": self.clock,
            "sleep": self.slept.append,
            "random_fraction": lambda: 1.0,
        }
        self.connection = RestConnection(SERVER, **{**given, **options})

    def clock(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.connection.close()


@pytest.fixture
def mock() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as running:
        yield running


def test_an_attempt(bench: Bench, mock: responses.RequestsMock) -> None:
    """The token, the query and the body go to the server; the host is told of both ends."""
    mock.post(
        f"{SERVER}/jobs/j%2F1",
        json={"id": 7},
        match=[
            header_matcher({"Authorization": "Bearer s3cret"}),
            query_param_matcher({"wait": "1"}),
            json_params_matcher({"text": "hi"}),
        ],
    )
    deadline = bench.connection.deadline()
    answer = bench.connection.attempt(
        "POST",
        "/jobs/j%2F1",
        2,
        deadline,
        query={"wait": "1"},
        body={"text": "hi"},
        endpoint="/jobs/{id}",
    )
    assert answer == {"id": 7}
    name = "POST /jobs/{id}"
    begun, ended = bench.events
    assert begun == ClientEvent(kind="attempt", operation=name, attempt=2)
    assert (ended.kind, ended.operation, ended.attempt) == ("answer", name, 2)
    assert (ended.outcome, ended.error) == ("sent", None)
    assert ended.seconds is not None
    assert 1.0 <= ended.seconds < 100.0  # some readings of the clock, and not its time


def test_an_attempt_that_fails(bench: Bench, mock: responses.RequestsMock) -> None:
    """The host is told of that too; without a template the path is the name."""
    mock.get(f"{SERVER}/jobs", status=500, json={"error": "no"})
    with pytest.raises(ServerError):
        bench.connection.attempt("GET", "/jobs", 1, bench.connection.deadline())
    _, ended = bench.events
    assert (ended.operation, ended.outcome, ended.error) == ("GET /jobs", "unknown", "ServerError")
    assert ended.seconds is not None
    assert 1.0 <= ended.seconds < 100.0


def test_a_call_has_its_own_time(bench: Bench) -> None:
    """It is the connection's if it gives none; no time at all is refused."""
    one_reading = 1.0
    assert bench.connection.deadline().remaining() == 30.0 - one_reading
    assert bench.connection.deadline(7.0).remaining() == 7.0 - one_reading
    for wrong in ({"timeout": 0.0}, {"connect_timeout": -1.0}, {"max_attempts": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Bench(**wrong)
    with pytest.raises(ConfigError, match="timeout"):
        bench.connection.deadline(0.0)


def test_the_pause_before_another_attempt(bench: Bench) -> None:
    """It has to fit into what is left, and there is none after the last attempt."""
    failure = ServerError("busy", retry_after=4.0)
    connection = bench.connection
    assert connection.pause_after(failure, 1, connection.deadline(6.0)) == 4.0
    assert connection.pause_after(failure, 1, connection.deadline(5.0)) is None  # 4.0 are left
    assert connection.pause_after(failure, 3, connection.deadline()) is None
    connection.close()
    assert connection.pause_after(failure, 1, connection.deadline()) is None


def test_a_host_may_sleep_itself(bench: Bench) -> None:
    """A host with a loop of its own does, and tests."""
    bench.connection.sleep(2.5)
    assert bench.slept == [2.5]


def test_a_pause_ends_when_the_client_is_closed() -> None:
    """Whoever closes a client does not wait for a backoff."""
    connection = Bench(sleep=None).connection
    sleeps = threading.Thread(target=connection.sleep, args=(3600.0,))
    sleeps.start()
    sleeps.join(0.05)
    assert sleeps.is_alive()
    connection.close()
    sleeps.join(30.0)
    assert not sleeps.is_alive()
    connection.close()  # once more does no harm


def test_what_is_closed_stays_closed(bench: Bench) -> None:
    """Also in a forked child, which has a signal of its own."""
    connection = bench.connection
    assert fork._registered[id(connection)]() is connection
    assert (connection.closed, connection.used) == (False, False)
    connection.check_open()
    assert (connection.closed, connection.used) == (False, True)
    connection._reset_after_fork()
    assert (connection.closed, connection.used) == (False, False)
    connection.close()
    with pytest.raises(ClientClosedError, match="the client is closed"):
        connection.check_open()
    with pytest.raises(ClientClosedError):
        connection.attempt("GET", "/jobs", 1, connection.deadline())
    assert (connection.closed, connection.used) == (True, False)
    connection._own_sleep = None
    connection._reset_after_fork()
    connection.sleep(3600.0)
