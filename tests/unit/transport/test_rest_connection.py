"""What the clients of ailoop and Happy have in common: attempts, pauses, and the end of both."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import responses
from responses.matchers import header_matcher, json_params_matcher, query_param_matcher

from buttdial_sync.errors import (
    ButtDialError,
    ClientClosedError,
    ConfigError,
    DeadlineExceededError,
    OutcomeUnknownError,
    ServerError,
)
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.transport import fork
from buttdial_sync.transport.client_connection import ConnectionOptions
from buttdial_sync.transport.network import NetworkOptions
from buttdial_sync.transport.rest_connection import RestConnection

SERVER = "https://server.test"


class Bench:
    """A connection whose clock moves by a second whenever it is read."""

    def __init__(self, kind: type[RestConnection] = RestConnection, **options: Any) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.events: list[ClientEvent] = []
        given: dict[str, Any] = {
            "timeout": 30.0,
            "connect_timeout": 5.0,
            "max_attempts": 3,
            "network": NetworkOptions(),
            "on_event": self.events.append,
            "clock": self.clock,
            "sleep": self.slept.append,
            "random_fraction": lambda: 1.0,
        }
        self.connection = kind(SERVER, "s3cret", ConnectionOptions(**{**given, **options}))

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


def test_a_request(bench: Bench, mock: responses.RequestsMock) -> None:
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
    answer = bench.connection.request(
        "POST",
        "/jobs/j%2F1",
        deadline,
        query={"wait": "1"},
        body={"text": "hi"},
        endpoint="/jobs/{id}",
    )
    assert answer == {"id": 7}
    name = "POST /jobs/{id}"
    begun, ended = bench.events
    assert begun == ClientEvent(kind="attempt", operation=name, attempt=1)
    assert (ended.kind, ended.operation, ended.attempt) == ("answer", name, 1)
    assert (ended.outcome, ended.error) == ("sent", None)
    assert ended.seconds is not None
    assert 1.0 <= ended.seconds < 100.0  # some readings of the clock, and not its time


def test_a_request_that_fails(mock: responses.RequestsMock) -> None:
    """The host is told of each attempt; without a template the path is the name."""
    bench = Bench(max_attempts=2)
    mock.get(f"{SERVER}/jobs", status=500, json={"error": "no"})
    with pytest.raises(ServerError):
        bench.connection.request("GET", "/jobs", bench.connection.deadline(60.0))
    told = [(each.kind, each.attempt) for each in bench.events]
    assert told == [("attempt", 1), ("answer", 1), ("retry", 1), ("attempt", 2), ("answer", 2)]
    _, ended, retry, _, _ = bench.events
    assert (ended.operation, ended.outcome, ended.error) == ("GET /jobs", "unknown", "ServerError")
    assert ended.seconds is not None
    assert 1.0 <= ended.seconds < 100.0
    assert (retry.operation, retry.error) == ("GET /jobs", "ServerError")
    assert [retry.seconds] == bench.slept


class Repeating(RestConnection):
    """A connection to a server that knows a repetition."""

    repeats_everything = True


NO_DECISION: Any = {"status": 500, "json": {"error": "no"}}
UNREACHED: Any = {"body": requests.ConnectTimeout()}


@pytest.mark.parametrize(
    ("kind", "method", "failure", "attempts", "error"),
    [
        (RestConnection, "GET", NO_DECISION, 2, ServerError),
        (RestConnection, "POST", NO_DECISION, 1, OutcomeUnknownError),
        (RestConnection, "POST", UNREACHED, 2, DeadlineExceededError),
        (Repeating, "GET", NO_DECISION, 2, ServerError),
        (Repeating, "POST", NO_DECISION, 2, OutcomeUnknownError),
    ],
)
def test_what_is_repeated(
    kind: type[RestConnection],
    method: str,
    failure: Any,
    attempts: int,
    error: type[Exception],
    mock: responses.RequestsMock,
) -> None:
    """What only reads, what did not leave; and all of it where the server knows a repetition."""
    bench = Bench(kind, max_attempts=2)
    mock.add(method, f"{SERVER}/jobs", **failure)
    with pytest.raises(error) as caught:
        bench.connection.request(method, "/jobs", bench.connection.deadline(100.0))
    assert type(caught.value) is error
    assert len(mock.calls) == attempts


def test_what_may_have_been_done_stays_unknown(mock: responses.RequestsMock) -> None:
    """Also if the last attempt certainly did not leave."""
    bench = Bench(Repeating, max_attempts=2)
    mock.post(f"{SERVER}/jobs", **NO_DECISION)
    mock.post(f"{SERVER}/jobs", **UNREACHED)
    with pytest.raises(OutcomeUnknownError) as caught:
        bench.connection.request("POST", "/jobs", bench.connection.deadline(100.0))
    assert caught.value.outcome == "unknown"


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


@pytest.mark.parametrize(("seconds", "slept"), [(4.5, [4.0]), (4.0, [])])
def test_the_pause_before_another_attempt(
    seconds: float, slept: list[float], mock: responses.RequestsMock
) -> None:
    """It has to fit into what is left, and there is none after the last attempt."""
    bench = Bench(max_attempts=2, clock=lambda: 100.0)
    mock.get(f"{SERVER}/jobs", status=503, json={"error": "busy"}, headers={"Retry-After": "4"})
    with pytest.raises(ServerError):
        bench.connection.request("GET", "/jobs", bench.connection.deadline(seconds))
    assert bench.slept == slept


def test_no_attempt_after_the_end(bench: Bench, mock: responses.RequestsMock) -> None:
    """A client that is closed meanwhile does not wait for another one."""

    def close(_: Any) -> tuple[int, dict[str, str], str]:
        bench.connection.close()
        return 500, {}, '{"error": "no"}'

    mock.add_callback("GET", f"{SERVER}/jobs", close)
    with pytest.raises(ServerError):
        bench.connection.request("GET", "/jobs", bench.connection.deadline())
    assert bench.slept == []


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
        connection.request("GET", "/jobs", connection.deadline())
    assert bench.events == []
    assert (connection.closed, connection.used) == (True, False)
    connection._own_sleep = None
    connection._reset_after_fork()
    connection.sleep(3600.0)


def test_what_the_parts_of_a_client_read() -> None:
    """They open sockets of their own, and wait at random, as the client was told."""
    network = NetworkOptions(proxies={"https": "http://proxy.test:3128"})
    connection = Bench(network=network, random_fraction=lambda: 0.25).connection
    assert (connection.server_url, connection.network) == (SERVER, network)
    assert connection.random_fraction() == 0.25
    connection.close()


def test_a_failure_does_not_keep_the_connection(mock: responses.RequestsMock) -> None:
    """It is freed without the garbage collector once the exception is."""
    mock.get(f"{SERVER}/jobs", status=404, json={"error": "no"})
    connection = Bench(on_event=None, clock=time.monotonic, sleep=None).connection
    gone = weakref.ref(connection)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ButtDialError):
            connection.request("GET", "/jobs", connection.deadline())
        connection.close()
        del connection
        assert gone() is None
    finally:
        gc.enable()
