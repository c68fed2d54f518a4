"""Calls of REST endpoints, as they are on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import responses

from buttdial_sync.calls.endpoint_call import EndpointCall, RequestSigner
from buttdial_sync.calls.operation import Endpoint
from buttdial_sync.connection import Connection
from buttdial_sync.errors import (
    ArgumentValueError,
    ButtDialError,
    ConfigError,
    EndpointNotAvailable,
    OutcomeUnknownError,
    ProtocolError,
)
from buttdial_sync.errors.scrubbing import Secret
from tests.leaks import leaks_of

URL = "https://butt-dial.test"
PAGE = "<!DOCTYPE html><html><body><pre>Cannot POST /x</pre></body></html>"

PLAIN = Endpoint("POST", "/agents/{agent_id}", dict)
KEYED = Endpoint("POST", "/register", dict, takes_key=True)
READING = Endpoint("GET", "/agents/{agent_id}", dict, reads_only=True, query=("page", "team_token"))
MOVED = Endpoint("POST", "/teams", dict, open_source_path="/orgs")
RENAMED = Endpoint("POST", "/login", dict, open_source_names={"email": "userEmail"})


@pytest.fixture
def mock() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as running:
        yield running


@pytest.fixture
def connect() -> Iterator[Callable[..., Connection]]:
    made: list[Connection] = []

    def make(base_url: str = URL) -> Connection:
        options: dict[str, Any] = {"timeout": 30.0, "connect_timeout": 5.0, "max_attempts": 2}
        made.append(Connection(base_url, sleep=lambda _: None, **options))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


@pytest.fixture
def connection(connect: Callable[..., Connection]) -> Connection:
    return connect()


def call(
    connection: Connection,
    endpoint: Endpoint[Any],
    arguments: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    options = {"credential": "team-s3cret", **options}
    return EndpointCall(connection, endpoint, arguments or {}, **options).answer()


def bodies(mock: responses.RequestsMock) -> list[Any]:
    return [json.loads(each.request.body or b"null") for each in mock.calls]


def paths(mock: responses.RequestsMock) -> list[str]:
    return [str(each.request.url).removeprefix(URL) for each in mock.calls]


def test_where_arguments_go(connection: Connection, mock: responses.RequestsMock) -> None:
    """Into the path, the query or the body; what is None goes nowhere."""
    mock.post(f"{URL}/agents/a%2F1", json={"ok": True})
    arguments = {"agent_id": "a/1", "display_name": "A\r\n", "note": None}
    assert call(connection, PLAIN, arguments, extra={"as_given": 1}) == {"ok": True}
    assert bodies(mock) == [{"displayName": "A\n", "as_given": 1}]
    headers = mock.calls[0].request.headers
    assert headers["Authorization"] == "Bearer team-s3cret"
    assert headers["Content-Type"] == "application/json"


def test_query(connection: Connection, mock: responses.RequestsMock) -> None:
    """A reading call has no body; a number in the query is text."""
    mock.get(f"{URL}/agents/a", json={})
    call(connection, READING, {"agent_id": "a", "page": 2, "team_token": None})
    assert paths(mock) == ["/agents/a?page=2"]
    assert bodies(mock) == [None]


def test_post_without_arguments(connection: Connection, mock: responses.RequestsMock) -> None:
    """A POST has a body, if an empty one."""
    mock.post(f"{URL}/register", json={})
    call(connection, KEYED)
    assert bodies(mock) == [{}]


@pytest.mark.parametrize("value", [".", ".."])
def test_paths_are_checked_before_the_first_attempt(value: str, connection: Connection) -> None:
    """A bad part of a path is refused as soon as the call is made out."""
    with pytest.raises(ArgumentValueError, match="agent_id"):
        EndpointCall(connection, PLAIN, {"agent_id": value}, credential=None)


@pytest.mark.parametrize(
    ("endpoint", "key", "sent"),
    [(KEYED, "k-1", "k-1"), (KEYED, None, None), (PLAIN, "k-1", None)],
    ids=["takes it", "has none", "takes none"],
)
def test_idempotency_keys(
    endpoint: Endpoint[Any],
    key: str | None,
    sent: str | None,
    connection: Connection,
    mock: responses.RequestsMock,
) -> None:
    """A key goes along where the endpoint takes one and the call has one."""
    mock.post(f"{URL}{endpoint.path.format(agent_id='a')}", json={})
    call(connection, endpoint, {"agent_id": "a"}, idempotency_key=key)
    assert mock.calls[0].request.headers.get("Idempotency-Key") == sent


@pytest.mark.parametrize(("endpoint", "attempts"), [(KEYED, 2), (PLAIN, 1), (READING, 2)])
def test_lost_answers(
    endpoint: Endpoint[Any], attempts: int, connection: Connection, mock: responses.RequestsMock
) -> None:
    """A lost answer is asked for again where that does no harm."""
    url = f"{URL}{endpoint.path.format(agent_id='a')}"
    mock.add(endpoint.method, url, body=ConnectionResetError("reset"))
    with pytest.raises(ButtDialError) as caught:
        call(connection, endpoint, {"agent_id": "a"}, idempotency_key="k-1")
    assert len(mock.calls) == attempts
    assert caught.value.outcome == "unknown"
    if endpoint is not READING:
        assert isinstance(caught.value, OutcomeUnknownError)
        told = "idempotency_key='k-1'" in str(caught.value.remediation)
        assert told is endpoint.takes_key
        assert told or caught.value.remediation == OutcomeUnknownError.remedy


def test_each_attempt_is_signed_anew(connection: Connection, mock: responses.RequestsMock) -> None:
    """A signed endpoint gets whole seconds and a fresh nonce with each attempt, others nothing."""
    nonces = iter(["n1", "n2", "n3"])
    signer = RequestSigner(wall_clock=lambda: 1_700_000_000.9, make_nonce=lambda: next(nonces))
    signed = Endpoint("POST", "/sign", dict, is_signed=True, reads_only=True)
    mock.post(f"{URL}/sign", status=503, json={"error": "busy"})
    mock.post(f"{URL}/sign", json={})
    mock.post(f"{URL}/register", json={})
    call(connection, signed, signer=signer)
    call(connection, KEYED, signer=signer)
    headers = [each.request.headers for each in mock.calls]
    assert [each.get("X-Request-Nonce") for each in headers] == ["n1", "n2", None]
    assert [each.get("X-Request-Timestamp") for each in headers[:2]] == ["1700000000"] * 2


def test_secrets_leave_errors_and_nothing_else(
    connection: Connection, mock: responses.RequestsMock
) -> None:
    """What a secret's name has is not shown, and the rest of the server's words is."""
    mock.post(
        f"{URL}/register",
        status=400,
        json={"error": "no to passw0rd, tok-extra, team-s3cret for Acme"},
    )
    with pytest.raises(ButtDialError) as caught:
        call(
            connection,
            KEYED,
            {"password": "passw0rd", "name": "Acme"},
            extra={"inviteToken": "tok-extra"},
        )
    assert "Acme" in str(caught.value)
    for secret in ("passw0rd", "tok-extra", "team-s3cret"):
        assert secret not in str(caught.value)


def test_secrets_of_a_query_are_in_no_frame(
    connection: Connection, mock: responses.RequestsMock
) -> None:
    """Pages that show local variables show a mask, in whatever part of the request it goes."""
    mock.get(f"{URL}/agents/a", status=403, json={"error": "no"})
    token = Secret("-".join(("query", "s3cret")))
    with pytest.raises(ButtDialError) as caught:
        call(connection, READING, {"agent_id": "a", "team_token": token})
    assert leaks_of(caught.value, token) == []


def test_secrets_in_a_readable_url(connect: Callable[..., Connection]) -> None:
    """A secret goes into a URL over TLS or on this machine only."""
    for url in (URL, "http://127.0.0.1:3100"):
        EndpointCall(connect(url), READING, {"agent_id": "a"}, credential=None)
    with pytest.raises(ConfigError, match="team_token in a URL that others can read"):
        EndpointCall(connect("http://h.example"), READING, {"agent_id": "a"}, credential=None)
    EndpointCall(connect("http://h.example"), PLAIN, {"agent_id": "a"}, credential=None)


def test_other_path_is_found_and_remembered(
    connection: Connection, mock: responses.RequestsMock
) -> None:
    """A page instead of JSON makes it try the other path; the next call begins there."""
    mock.post(f"{URL}/teams", status=404, body=PAGE)
    mock.post(f"{URL}/orgs", json={"id": 1})
    assert call(connection, MOVED) == {"id": 1}
    assert call(connection, MOVED) == {"id": 1}
    assert paths(mock) == ["/teams", "/orgs", "/orgs"]


def test_server_that_changes_its_kind(connection: Connection, mock: responses.RequestsMock) -> None:
    """What was remembered may become wrong: then the first path is tried again, and kept."""
    first = mock.post(f"{URL}/teams", status=404, body=PAGE)
    second = mock.post(f"{URL}/orgs", json={})
    call(connection, MOVED)
    mock.remove(first)
    mock.remove(second)
    mock.post(f"{URL}/orgs", status=404, body=PAGE)
    mock.post(f"{URL}/teams", json={})
    call(connection, MOVED)
    call(connection, MOVED)
    assert paths(mock) == ["/teams", "/orgs", "/orgs", "/teams", "/teams"]


def test_endpoint_that_no_server_has(connection: Connection, mock: responses.RequestsMock) -> None:
    """When both paths are unknown, the error names the last one, and nothing is remembered."""
    mock.post(f"{URL}/teams", status=404, body=PAGE)
    mock.post(f"{URL}/orgs", status=404, body=PAGE)
    for _ in range(2):
        with pytest.raises(EndpointNotAvailable, match="this server has no POST /orgs"):
            call(connection, MOVED)
    assert paths(mock) == ["/teams", "/orgs"] * 2


def test_other_keys_of_the_body(connection: Connection, mock: responses.RequestsMock) -> None:
    """A 400 that misses the other key makes it write the body that way, both ways round."""
    first = mock.post(f"{URL}/login", status=400, json={"error": "userEmail is required"})
    second = mock.post(f"{URL}/login", json={})
    call(connection, RENAMED, {"email": "o@h.example", "x": 1})
    assert bodies(mock) == [{"email": "o@h.example", "x": 1}, {"userEmail": "o@h.example", "x": 1}]
    mock.remove(first)
    mock.remove(second)
    mock.post(f"{URL}/login", status=400, json={"error": "email is required"})
    mock.post(f"{URL}/login", json={})
    call(connection, RENAMED, {"email": "o@h.example"})
    assert bodies(mock)[2:] == [{"userEmail": "o@h.example"}, {"email": "o@h.example"}]


@pytest.mark.parametrize(
    ("endpoint", "status", "body"),
    [
        (PLAIN, 404, PAGE),
        (RENAMED, 404, PAGE),
        (RENAMED, 400, '{"error": "password is required"}'),
        (RENAMED, 422, '{"error": "userEmail is required"}'),
        (MOVED, 500, PAGE),
        (MOVED, 400, '{"error": "bad"}'),
    ],
)
def test_no_other_way(
    endpoint: Endpoint[Any],
    status: int,
    body: str,
    connection: Connection,
    mock: responses.RequestsMock,
) -> None:
    """A refusal that says nothing of another way, and an unknown outcome, are final."""
    url = f"{URL}{endpoint.path.format(agent_id='a')}"
    mock.post(url, status=status, body=body)
    with pytest.raises(ButtDialError):
        call(connection, endpoint, {"agent_id": "a"})
    assert len(mock.calls) == 1


def test_answers_are_checked(connection: Connection, mock: responses.RequestsMock) -> None:
    """An endpoint's own check sees the answer, and its no is the call's."""

    def refuse(answer: Any) -> None:
        raise ProtocolError(f"not {answer}", outcome="rejected")

    mock.post(f"{URL}/register", json={"a": 1})
    with pytest.raises(ProtocolError, match=r"not \{'a': 1\}"):
        call(connection, Endpoint("POST", "/register", dict, check=refuse))
