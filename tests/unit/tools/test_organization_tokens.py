"""A token of an organization, with an agent's id, over REST."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buttdial_sync import Client, InboundHandler, InboundMessage, Listener, WaitingMessage
from buttdial_sync.errors import InvalidRequestError
from buttdial_sync.testing import FakeButtDialServer
from tests.fakes import add_organization_token

BASE_URL = "https://butt-dial.test"


@pytest.fixture
def fake() -> Iterator[FakeButtDialServer]:
    server = FakeButtDialServer(dialect="open-source")
    add_organization_token(server, "org")
    with server.mocked():
        yield server


def test_the_agent_is_named_where_the_server_asks(fake: FakeButtDialServer) -> None:
    """Once it has asked, each call names it at once."""
    with Client(BASE_URL, agent_token="org", agent_id="agent-1") as client:
        assert client.profile.channel_status().raw
        assert not client.inbox.waiting()
    named = ["agentId" in each.query for each in fake.requests]
    assert named == [False, True, True]
    assert fake.requests[-1].query["agentId"] == "agent-1"


def test_a_report_is_about_the_agent(fake: FakeButtDialServer) -> None:
    """Without the id the server would report on all agents, and nothing would say so."""
    with Client(BASE_URL, agent_token="org", agent_id="agent-1") as client:
        assert client.billing.current().raw.get("agents") is None
        assert client.billing.usage().raw.get("agents") is None
    assert {each.query["agentId"] for each in fake.requests} == {"agent-1"}


def test_without_an_id_the_refusal_is_told(fake: FakeButtDialServer) -> None:
    """It is not tried again, and neither is the id of another agent's token sent."""
    with (
        Client(BASE_URL, agent_token="org") as client,
        pytest.raises(InvalidRequestError, match="Missing agentId"),
    ):
        client.profile.channel_status()
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("answer", "requests"),
    [
        ({"error": "agentId is required"}, [False, True, True]),
        ({"message": "agentId is required"}, [False, False]),
        ({"error": "days is required"}, [False, False]),
    ],
    ids=str,
)
def test_the_agent_is_named_once(
    answer: dict[str, str], requests: list[bool], fake: FakeButtDialServer
) -> None:
    """Not where that does not help, nor what a proxy or something else may have refused."""
    fake.fault("status", on="rest", status=400, body=answer, count=9)
    with Client(BASE_URL, agent_token="org", agent_id="agent-1", max_attempts=1) as client:
        for _ in range(2):
            with pytest.raises(InvalidRequestError):
                client.profile.channel_status()
    assert ["agentId" in each.query for each in fake.requests] == requests


def test_what_waits_is_read_before_a_stream_is_opened(fake: FakeButtDialServer) -> None:
    """The refusal hands nothing out; the next page names the agent at once."""
    got: list[WaitingMessage] = []
    for _ in range(11):
        fake.add_waiting()
    with Client(BASE_URL, agent_token="org", agent_id="agent-1", before_open=got.extend) as client:
        client.ping()
    assert [each.id for each in got] == [f"waiting-{number}" for number in range(1, 12)]
    assert fake.lost_waiting == 0
    queries = [each.query for each in fake.requests if each.path == "/api/v1/waiting-messages"]
    # The last one: before the second attempt to open, with the token in the URL.
    assert [query.get("agentId") for query in queries] == [None, *["agent-1"] * 3]


def test_a_view_without_an_id_takes_none_away(fake: FakeButtDialServer) -> None:
    """The client has said which agent its token stands for."""
    got: list[WaitingMessage] = []
    fake.add_waiting()
    with Client(BASE_URL, agent_token="org", agent_id="agent-1", before_open=got.extend) as client:
        client.as_agent("org")
        client.ping()
    assert [each.id for each in got] == ["waiting-1"]


def test_a_view_of_an_agent_polls(fake: FakeButtDialServer) -> None:
    """One token of the organization serves the agent that the view names."""
    inbound = InboundHandler()
    got: list[InboundMessage] = []
    inbound.on_message(got.append)
    fake.add_waiting(body="hello")
    with Client(BASE_URL) as client:
        Listener(client.as_agent("org", agent_id="agent-1"), inbound).poll()
    assert [message.text for message in got] == ["hello"]


def test_without_an_id_nothing_is_read(fake: FakeButtDialServer) -> None:
    """The stream is not opened either: that would empty the queue."""
    fake.add_waiting()
    with (
        Client(BASE_URL, agent_token="org", before_open=print) as client,
        pytest.raises(InvalidRequestError, match="Missing agentId"),
    ):
        client.ping()
    assert (len(fake.waiting), fake.streams_opened) == (1, 0)
