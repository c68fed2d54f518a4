"""The harmless login: what it asks, how long, and what its answer says about the token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import responses
from requests.adapters import HTTPAdapter

from buttdial_sync import AccountsClient, Client
from buttdial_sync.errors import AuthInvalidTokenError, ButtDialError, ClientClosedError
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.http import Http
from buttdial_sync.transport.logins import Logins
from buttdial_sync.transport.network import NetworkOptions
from buttdial_sync.transport.token_breaker import forget_token_breakers

BASE_URL = "https://logins.test/prefix"
ADDRESS = f"{BASE_URL}/api/v1/channel-status"


@pytest.fixture
def logins() -> Iterator[Logins]:
    http = Http(connect_timeout=5.0)
    yield Logins(http, BASE_URL)
    http.close()
    forget_token_breakers()


@pytest.fixture
def mock() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def test_closing_ends_the_wait_for_a_login(logins: Logins) -> None:
    """Another client tries the same token for long; who closes does not wait for that."""
    errors: list[ButtDialError] = []
    agent = Client(BASE_URL, agent_token="new", token_in="header", timeout=30.0)
    accounts = AccountsClient(BASE_URL, team_token="new", timeout=30.0)

    def call(ask: Callable[[], object]) -> None:
        try:
            ask()
        except ButtDialError as error:
            errors.append(error)

    with logins.breaker.login("new", Deadline(30.0), logins.log_in):
        threads = [
            threading.Thread(target=call, args=[ask]) for ask in (agent.ping, accounts.get_account)
        ]
        for thread in threads:
            thread.start()
        for client in (agent, accounts):
            client.close()
        for thread in threads:
            thread.join(30.0)
        assert [type(error) for error in errors] == [ClientClosedError] * 2
        assert {error.outcome for error in errors} == {"not_sent"}


def test_refusals_that_are_forgotten_meanwhile(
    logins: Logins, mock: responses.RequestsMock
) -> None:
    """The host corrects the server while the refusal of a good login is on its way."""

    def refuse(_: object) -> tuple[int, dict[str, str], str]:
        logins.breaker.forget()
        return 401, {}, '{"code": "AUTH_INVALID_TOKEN"}'

    mock.add_callback("GET", ADDRESS, refuse)
    logins.log_in("good", Deadline(30.0))
    assert logins.breaker.block_of("good") is None


@pytest.mark.parametrize("status", [200, 400, 403])
def test_a_good_token(logins: Logins, mock: responses.RequestsMock, status: int) -> None:
    """The server looks at the token first: what it says of the rest does not matter."""
    mock.get(ADDRESS, status=status, json={"error": "channel is required"})
    logins.log_in("good", Deadline(30.0))
    assert logins.breaker.is_proven("good")
    (call,) = mock.calls
    assert call.request.headers["Authorization"] == "Bearer good"
    assert call.request.headers["Accept"] == "application/json"


def test_a_refused_token(logins: Logins, mock: responses.RequestsMock) -> None:
    """It rests from now on, and is not good."""
    mock.get(ADDRESS, status=401, json={"error": "Invalid token"})
    logins.log_in("bad", Deadline(30.0))
    assert not logins.breaker.is_proven("bad")
    with pytest.raises(AuthInvalidTokenError):
        logins.breaker.check("bad")


@pytest.mark.parametrize("status", [402, 404, 429, 500, 503])
def test_an_answer_about_something_else(
    logins: Logins, mock: responses.RequestsMock, status: int
) -> None:
    """Nothing is learned about the token."""
    mock.get(ADDRESS, status=status, json={"error": "no"})
    logins.log_in("token", Deadline(30.0))
    assert not logins.breaker.is_proven("token")
    logins.breaker.check("token")


def test_no_answer(logins: Logins, mock: responses.RequestsMock) -> None:
    """Nor from a connection that fails."""
    mock.get(ADDRESS, body=requests.ConnectionError("refused"))
    logins.log_in("token", Deadline(30.0))
    assert not logins.breaker.is_proven("token")
    logins.breaker.check("token")


class Silent(HTTPAdapter):
    """An adapter that writes down how long it may wait, and gets no answer."""

    def __init__(self) -> None:
        super().__init__()
        self.timeouts: list[Any] = []

    def send(self, request: Any, *args: Any, timeout: Any = None, **options: Any) -> Any:
        self.timeouts.append(timeout)
        raise requests.ConnectionError("refused", request=request)


@pytest.mark.parametrize(("left", "given"), [(30.0, 5.0), (2.0, 2.0)])
def test_how_long_it_may_take(left: float, given: float) -> None:
    """Five seconds at most, and no more than the call has."""
    silent = Silent()
    http = Http(connect_timeout=60.0, network=NetworkOptions(transport_adapter=silent))
    Logins(http, BASE_URL).log_in("token", Deadline(left, clock=lambda: 0.0))
    http.close()
    assert silent.timeouts == [(given, given)]
