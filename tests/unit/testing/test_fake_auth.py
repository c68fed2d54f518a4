"""Who may enter the fake server, and what the others hear."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests

from buttdial_sync.testing import FakeButtDialServer, Request
from buttdial_sync.testing.dialects import DialectName
from buttdial_sync.testing.http_messages import HttpResponse, StreamResponse
from tests.fakes import cut_streams, failed_logins
from tests.unit.testing.fake_wire import Wire

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def get(server: FakeButtDialServer, path: str, token: str | None = None, **query: str) -> Any:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    reply = server.handle(Request("GET", path, query, headers))
    assert isinstance(reply, HttpResponse)
    return reply


def test_open_source_wants_the_token_in_the_query() -> None:
    """Without ``?token=`` the open-source server answers 401, whatever the header says."""
    server = FakeButtDialServer(dialect="open-source")
    answer = get(server, "/sse", "t")
    assert answer.status == 401
    assert answer.body == b'{"error": "Missing token. Use: /sse?token=<token>"}'
    assert failed_logins(server) == 1
    assert isinstance(server.handle(Request("GET", "/sse", {"token": "t"})), StreamResponse)


def test_hosted_wants_the_token_in_the_header() -> None:
    """The hosted service does not look at the query."""
    server = FakeButtDialServer()
    answer = get(server, "/sse", token=None)
    assert answer.status == 401
    assert b"AUTH_MISSING_HEADER" in answer.body
    headers = {"authorization": "Bearer t"}
    assert isinstance(server.handle(Request("GET", "/sse", {}, headers)), StreamResponse)


def test_hosted_counts_down_to_the_lockout() -> None:
    """Ten wrong tokens lock everyone out, the holder of a good one too, until time has passed."""
    times = [NOW]
    server = FakeButtDialServer(tokens={"good"}, clock=lambda: times[0])
    remaining = []
    for _ in range(10):
        answer = get(server, "/sse", "bad")
        assert answer.status == 401
        assert b"AUTH_INVALID_TOKEN" in answer.body
        remaining.append(int(answer.body.split(b'"remainingAttempts": ')[1].rstrip(b"}")))
    assert remaining == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    locked = get(server, "/api/v1/waiting-messages", "good")
    assert locked.status == 429
    assert locked.headers["Retry-After"] == "900"
    assert b'"lockedUntil": "2026-01-02T03:19:05Z"' in locked.body
    assert failed_logins(server) == 10
    times[0] += timedelta(minutes=15)
    assert get(server, "/api/v1/waiting-messages", "good").status == 200


def test_open_source_lockout() -> None:
    """The open-source server's lockout has neither a code nor a header."""
    server = FakeButtDialServer(dialect="open-source", tokens=())
    for _ in range(10):
        answer = get(server, "/sse", token="bad")
        assert get(server, "/api/v1/waiting-messages", "bad").status == 401
        if failed_logins(server) == 10:
            break
    locked = get(server, "/api/v1/waiting-messages", "bad")
    assert locked.status == 429
    assert locked.body == b'{"error": "Too many failed attempts. Try again later."}'
    assert not locked.headers
    assert answer.status == 401


@pytest.mark.parametrize(
    ("dialect", "text"),
    [("hosted", "AUTH_TOKEN_REVOKED"), ("open-source", "Invalid or revoked token")],
)
def test_revoked_token_is_refused_at_each_post(dialect: DialectName, text: str) -> None:
    """A token that is revoked while its stream is open is refused at the next POST."""
    fake = FakeButtDialServer(dialect=dialect)
    with fake.listen() as loopback, Wire(loopback.base_url, query=dialect != "hosted") as wire:
        wire.greet()
        fake.revoke("t")
        answer = wire.post_call(to="+1")
        assert answer.status_code == 401
        assert text in answer.text
        assert not fake.delivered
        assert [call.to for call in fake.sent_messages] == ["+1"]  # it was tried


def test_post_wants_the_header_in_both_dialects() -> None:
    """A POST without ``Authorization`` is refused by the open-source server as well."""
    fake = FakeButtDialServer(dialect="open-source")
    with fake.listen() as loopback, Wire(loopback.base_url, query=True) as wire:
        answer = requests.post(wire.endpoint, json={}, timeout=5)
        assert answer.status_code == 401
        assert answer.json() == {"error": "Missing Authorization header. Use: Bearer <token>"}


def post(server: FakeButtDialServer, token: str | None = None) -> int:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    reply = server.handle(Request("POST", "/messages", {"sessionId": "1"}, headers, b"{}"))
    assert isinstance(reply, HttpResponse)
    return reply.status


def test_open_source_counts_a_missing_token() -> None:
    """It is a failed login as a wrong one is: at a stream, a POST and REST, in one counter."""
    server = FakeButtDialServer(dialect="open-source")
    for _ in range(3):
        assert get(server, "/sse", "t").status == 401  # it does not look at the header
        assert get(server, "/api/v1/waiting-messages").status == 401
        assert post(server) == 401
    assert failed_logins(server) == 9
    assert get(server, "/sse").status == 401
    for locked in (get(server, "/sse", token="t"), get(server, "/api/v1/waiting-messages", "t")):
        assert locked.status == 429
    assert post(server, "t") == 429


@pytest.mark.parametrize("login", ["stream", "post", "rest"])
def test_open_source_forgets_failures_at_a_good_login(login: str) -> None:
    """Nine failures, a good login, nine failures: nobody is locked out."""
    server = FakeButtDialServer(dialect="open-source", tokens={"good"})
    for _ in range(2):
        for _ in range(9):
            assert get(server, "/sse", token="bad").status == 401
        if login == "stream":
            assert isinstance(
                server.handle(Request("GET", "/sse", {"token": "good"})), StreamResponse
            )
        elif login == "post":
            assert post(server, "good") == 400  # there is no such session
        else:
            assert get(server, "/api/v1/waiting-messages", "good").status == 200
    assert failed_logins(server) == 18
    cut_streams(server)


def test_hosted_does_not_count_a_missing_token() -> None:
    """Nothing is known of that on the hosted service, nor of a counter that starts anew."""
    server = FakeButtDialServer(tokens={"good"})
    for _ in range(9):
        assert get(server, "/sse").status == 401
        assert get(server, "/sse", "bad").status == 401
    assert failed_logins(server) == 9
    assert get(server, "/api/v1/waiting-messages", "good").status == 200
    assert get(server, "/sse", "bad").status == 401
    assert get(server, "/sse", "bad").status == 429


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_the_limiter_names_no_time(dialect: DialectName) -> None:
    """The 429 of the address limiter has words and no header."""
    server = FakeButtDialServer(dialect=dialect)
    server.fault("status", on="rest", status=429)
    answer = get(server, "/api/v1/waiting-messages", "t")
    assert (answer.status, answer.body) == (429, b'{"error": "Too many requests"}')
    assert not answer.headers


def test_repr_of_a_request_hides_tokens() -> None:
    """A recorded request can be printed without giving a token away."""
    request = Request(
        "GET", "/sse", {"token": "s3cret"}, {"authorization": "Bearer s3cret"}, b"s3cret"
    )
    assert "s3cret" not in repr(request)
    assert request.bearer == "s3cret"


@pytest.mark.parametrize("wrong", [{"dialect": "x"}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    """An unknown dialect, place of the token or line ending is an error at once."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FakeButtDialServer(**wrong)


def test_clear_ends_a_lockout() -> None:
    """What has happened is forgotten, what was revoked is not."""
    fake = FakeButtDialServer(dialect="open-source", tokens=["good", "old"])
    fake.revoke("old")
    assert {post(fake, "bad") for _ in range(11)} == {401, 429}
    fake.clear()
    assert post(fake, "good") == 400  # let in; there is no such session
    assert (post(fake, "old"), failed_logins(fake)) == (401, 1)
