"""Clients that speak as other agents over the connections of one."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from buttdial_sync import ArgumentTypeError, ArgumentValueError, Client, ClientClosedError
from buttdial_sync.testing import FakeButtDialServer
from tests.fakes import open_streams


def test_speaks_with_its_token(hosted: FakeButtDialServer, client: Client) -> None:
    """Tools, messages and endpoints go out with the other agent's token, this client's with its."""
    other = client.as_agent("token-2", agent_id="a-2")
    other.voice.make_call("+1")
    other.send_message("+1", "text")
    other.inbox.waiting()
    client.voice.make_call("+1")
    assert [call.token for call in hosted.calls] == ["token-2", "token-2", "token-1"]
    rest = [each for each in hosted.requests if each.path == "/api/v1/waiting-messages"]
    assert [each.bearer for each in rest] == ["token-2"]


def test_shares_sessions(hosted: FakeButtDialServer, client: Client) -> None:
    """Two views of one agent have one stream."""
    client.as_agent("token-2").ping()
    client.as_agent("token-2").voice.make_call("+1")
    assert hosted.streams_opened == 1


def test_closing_it_closes_nothing(hosted: FakeButtDialServer, client: Client) -> None:
    """Neither the other agent's stream nor the client's."""
    client.ping()
    with client.as_agent("token-2") as other:
        other.ping()
    assert open_streams(hosted) == 2
    assert client.ping() >= 0
    assert other.ping() >= 0


@pytest.mark.usefixtures("hosted")
def test_ends_with_the_client(client: Client) -> None:
    """Closing the client ends its views, and views of views."""
    other = client.as_agent("token-2").as_agent("token-3")
    client.close()
    with pytest.raises(ClientClosedError):
        other.voice.make_call("+1")


@pytest.mark.usefixtures("hosted")
def test_keeps_the_client_alive() -> None:
    """A view holds the client; that nobody closed it is said when the last of them goes."""
    client = Client("https://butt-dial.test", agent_token="token-1")
    other = client.as_agent("token-2")
    del client
    gc.collect()
    assert other.ping() >= 0
    with pytest.warns(ResourceWarning, match="was not closed"):
        del other


@pytest.mark.usefixtures("hosted")
@pytest.mark.parametrize("of_a_view", [False, True])
def test_a_family_keeps_the_connection(of_a_view: bool) -> None:
    """A part of a program may hold the family alone; nobody has closed the client then."""
    client = Client("https://butt-dial.test", agent_token="token-1")
    family = (client.as_agent("token-2") if of_a_view else client).directory
    family.validate_number("+14155550123")
    del client
    gc.collect()
    assert family.validate_number("+14155550123")
    with pytest.warns(ResourceWarning, match="was not closed"):
        del family


def test_repr(client: Client) -> None:
    """It shows the agent's id and no token."""
    assert repr(client.as_agent("secret-2", agent_id="a-2")) == (
        "AgentView('https://butt-dial.test', agent_id='a-2')"
    )
    assert "secret" not in repr(client.as_agent("secret-2"))


@pytest.mark.parametrize("token", ["", " ", None, 5])
def test_bad_token(client: Client, token: Any) -> None:
    """A missing token would silently mean the client's own, so it is refused."""
    with pytest.raises((ArgumentTypeError, ArgumentValueError), match="agent_token"):
        client.as_agent(token)
