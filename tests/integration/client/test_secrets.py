"""No token shows anywhere: in success and in failure, from a header and from a URL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from buttdial_sync import AccountsClient, AuthError, ButtDialError, Client, ClientEvent, ConfigError
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.fakes import add_fault, clear_faults
from tests.leaks import leaks_of

TOKEN = "s3cr3t/T+ken"
ENCODED = "s3cr3t%2FT%2Bken"


@pytest.fixture(params=["hosted", "open-source"])
def server(request: pytest.FixtureRequest) -> Iterator[LoopbackServer]:
    with FakeButtDialServer(dialect=request.param).listen() as loopback:
        yield loopback


def assert_clean(text: str) -> None:
    assert TOKEN not in text
    assert ENCODED not in text


def assert_clean_chain(error: BaseException) -> None:
    """Look at the whole chain, also at what `from None` hides, and at all frames."""
    assert leaks_of(error, TOKEN) == []


FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    ("refuse", "stream", {}),
    ("reset", "stream", {}),
    ("hang", "stream", {}),
    ("html", "stream", {}),
    ("redirect", "stream", {}),
    ("no_endpoint", "stream", {}),
    ("foreign_endpoint", "stream", {}),
    ("status", "stream", {"status": 500, "body": f"bad token {TOKEN} {ENCODED}"}),
    ("status", "stream", {"status": 401, "body": {"error": f"Invalid token {TOKEN}"}}),
    ("status", "call", {"status": 500, "body": {"error": f"bad token {TOKEN}"}}),
    ("reset", "call", {}),
    ("hang", "call", {}),
    ("cut", "call", {}),
    ("garbage", "call", {"data": f"{{not json {TOKEN}"}),
]


@pytest.mark.parametrize(("kind", "place", "options"), FAULTS)
def test_failures_show_no_token(
    server: LoopbackServer,
    caplog: pytest.LogCaptureFixture,
    kind: Any,
    place: Any,
    options: dict[str, Any],
) -> None:
    """Exceptions, their chains, results, events and every log record are clean."""
    events: list[ClientEvent] = []
    caplog.set_level(logging.DEBUG)
    with Client(
        server.base_url,
        agent_token=TOKEN,
        timeout=0.5,
        on_event=events.append,
        sleep=lambda _: None,
    ) as client:
        add_fault(server.fake, kind, on=place, count=4, **options)
        try:
            assert_clean(repr(client.send_message("+1", "x")))
        except ButtDialError as error:
            assert_clean_chain(error)
        clear_faults(server.fake)
        add_fault(server.fake, kind, on=place, count=4, **options)
        with pytest.raises(ButtDialError) as caught:
            client.call_tool("comms_ping")
        assert_clean_chain(caught.value)
        assert_clean(repr(client))
        assert_clean(repr(events))
    assert_clean("\n".join(record.getMessage() for record in caplog.records))
    assert_clean(caplog.text)


def test_success_shows_no_token(server: LoopbackServer, caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 logs the URL of each request at DEBUG; ours are scrubbed before they are written."""
    caplog.set_level(logging.DEBUG)
    with Client(server.base_url, agent_token=TOKEN) as client:
        assert client.send_message("+1", "x").ok
        assert client.list_tools()
    assert any(record.name == "urllib3.connectionpool" for record in caplog.records)
    assert_clean(caplog.text)


def test_a_server_that_is_down_shows_no_token(caplog: pytest.LogCaptureFixture) -> None:
    """A failed connect puts the whole URL into the exception of requests."""
    caplog.set_level(logging.DEBUG)
    with FakeButtDialServer(dialect="open-source").listen() as server:
        url = server.base_url
    with Client(url, agent_token=TOKEN, token_in="query", sleep=lambda _: None) as client:
        assert_clean(repr(client.send_message("+1", "x")))
        with pytest.raises(ButtDialError) as caught:
            client.ping()
        assert_clean_chain(caught.value)
    assert_clean(caplog.text)


@pytest.mark.parametrize("token_in", ["header", "query"])
def test_a_token_that_makes_no_header_is_not_shown(server: LoopbackServer, token_in: Any) -> None:
    """requests quotes the whole header in its complaint; we do not. A URL can hold such a token."""
    client = Client(server.base_url, agent_token=f"{TOKEN}\n", token_in=token_in)
    with client, pytest.raises(ButtDialError) as caught:
        client.ping()
    assert_clean_chain(caught.value)


def test_a_token_does_not_travel_in_a_url_that_others_can_read() -> None:
    """Plain http to another machine: refused before anything is sent."""
    client = Client("http://butt-dial.invalid", agent_token=TOKEN, token_in="query")
    with client, pytest.raises(ConfigError, match="everybody on the way"):
        client.ping()


def test_the_token_goes_to_the_configured_origin_only(server: LoopbackServer) -> None:
    """Neither a foreign endpoint nor a redirect gets a request at all."""
    with FakeButtDialServer().listen() as elsewhere:
        add_fault(server.fake, "foreign_endpoint", on="stream", origin=elsewhere.base_url)
        add_fault(server.fake, "redirect", on="stream", location=f"{elsewhere.base_url}/sse")
        with Client(server.base_url, agent_token=TOKEN, max_attempts=1) as client:
            for _ in range(2):
                assert client.send_message("+1", "x").outcome == "not_sent"
        assert elsewhere.fake.requests == []


def test_an_error_within_a_success_shows_no_token(server: LoopbackServer) -> None:
    """A "no" without isError that repeats the token is masked too."""
    server.fake.on_send(raw_text=f'{{"error": "bad token {TOKEN}", "details": ["{TOKEN}"]}}')
    with Client(server.base_url, agent_token=TOKEN) as client:
        result = client.send_message("+1", "x")
    assert result.outcome == "rejected"
    assert_clean(repr(result))
    assert_clean(repr(result.raw))


def test_frames_show_no_token_that_is_given(server: LoopbackServer) -> None:
    """Neither one that comes with a message, nor a family's, nor a workspace's."""
    unknown = FakeButtDialServer(tokens=["another"])
    with unknown.listen() as strict, Client(strict.base_url, agent_token="another") as client:
        with pytest.raises(AuthError) as refused:
            client.send_message("+1", "x", agent_token=TOKEN).raise_for_outcome()
        assert_clean_chain(refused.value)
        with pytest.raises(AuthError) as refused:
            client.as_agent(TOKEN).profile.get()
        assert_clean_chain(refused.value)
    with AccountsClient(server.base_url, team_token=TOKEN, sleep=lambda _: None) as accounts:
        add_fault(server.fake, "reset", on="rest", count=4)
        with pytest.raises(ButtDialError) as broken:
            accounts.get_account()
        assert_clean_chain(broken.value)
