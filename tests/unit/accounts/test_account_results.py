"""What comes back: both spellings, the tokens' many names, missing fields, times."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import attrs
import pytest

from buttdial_sync import (
    Account,
    AccountsClient,
    AgentTokens,
    ArgumentNotSupported,
    CommChannels,
    OutcomeUnknownError,
    ProtocolError,
)
from buttdial_sync.testing import FakeButtDialServer

from .workspaces import workspace

pytestmark = pytest.mark.filterwarnings(r"ignore:.*is deprecated:DeprecationWarning")

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "answer",
    [
        {"teamToken": "t", "orgId": "o", "scopes": ["a"]},
        {"team_token": "t", "org_id": "o", "scopes": ["a"]},
        {"ownerToken": "t", "orgId": "o", "scopes": ["a"]},
        {"owner_token": "t", "org_id": "o", "scopes": ["a"]},
        {"teamToken": None, "owner_token": "t", "orgId": "o", "scopes": ["a"]},
    ],
)
def test_team_token_under_each_name(answer: dict[str, Any]) -> None:
    """The workspace's token is found under each name that servers give it."""
    with workspace() as (fake, client):
        fake.on_rest("POST", "/api/orgs/verify", answer, public=True)
        fake.on_rest("POST", "/api/orgs/onboarding/accept", answer, public=True)
        for result in (client.verify("link"), client.accept_onboarding("s", "1")):
            assert (result.team_token, result.org_id, result.scopes) == ("t", "o", ["a"])
            assert result.raw == answer


@pytest.mark.parametrize(
    "answer",
    [
        {"agentId": "a", "token": "t"},
        {"agent_id": "a", "agent_token": "t"},
        {"agentId": "a", "agentToken": "t"},
        {"agentId": "a", "securityToken": "t"},
        {"agentId": "a", "provisioning": {"securityToken": "t"}},
        {"agentId": "a", "token": None, "provisioning": {"securityToken": "t"}},
    ],
)
def test_agent_token_under_each_name(answer: dict[str, Any]) -> None:
    """The agent's token is found under each name that servers give it."""
    with workspace() as (fake, client):
        for path in ("agents", "onboard", "provision"):
            fake.on_rest("POST", f"/api/v1/{path}", answer)
        results = [
            client.register_agent("a", "Bot"),
            client.onboard("Bot"),
            client.provision_channels("a", "Bot", {}, callback_url="https://h"),
        ]
    assert [(each.agent_id, each.agent_token) for each in results] == [("a", "t")] * 3


CAMEL = {
    "orgId": 7,
    "ownerEmail": "o@x",
    "ownerPhoneHint": "…1",
    "createdAt": "2026-01-02T03:04:05Z",
}
SNAKE = {
    "org_id": "7",
    "owner_email": "o@x",
    "owner_phone_hint": "…1",
    "created_at": "2026-01-02 03:04:05",
}


@pytest.mark.parametrize("answer", [CAMEL, SNAKE, {**SNAKE, **CAMEL}])
def test_both_spellings_and_times(answer: dict[str, Any]) -> None:
    """camelCase and snake_case, numbers as ids, and times without a zone are read alike."""
    with workspace() as (fake, client):
        fake.on_rest("GET", "/api/orgs/me", answer)
        account = client.get_account()
    assert account == Account(
        org_id="7",
        owner_email="o@x",
        owner_phone_hint="…1",
        created_at=MOMENT,
    )


def test_lists_are_objects() -> None:
    """Tokens and channels come as lists of objects; what is missing is None."""
    with workspace() as (fake, client):
        fake.on_rest(
            "GET",
            "/api/v1/agents/{agent_id}/tokens",
            {"tokens": [{"id": 1, "last_four": "abcd", "createdAt": "2026-01-02T03:04:05Z"}]},
        )
        fake.on_rest(
            "GET",
            "/api/v1/agents/{agent_id}/comm-channels",
            {"records": [{"id": "r", "channelType": "email", "capabilities": ["in"]}]},
        )
        tokens = client.list_agent_tokens("a")
        channels = client.list_agent_comm_channels("a")
    assert isinstance(tokens, AgentTokens)
    assert isinstance(channels, CommChannels)
    (token,) = tokens.tokens
    assert (token.id, token.last_four, token.created_at) == ("1", "abcd", MOMENT)
    assert (token.label, token.last_used_at) == (None, None)
    (record,) = channels.records
    assert (record.channel_type, record.capabilities, record.primary) == ("email", ["in"], None)


def test_empty_answer() -> None:
    """An answer without a body is a result without values, unless one is always sent."""
    with workspace() as (fake, client):
        fake.fault("status", on="rest", status=204, body="")
        assert client.deprovision("a").status is None
        fake.fault("status", on="rest", status=204, body="")
        assert len(client.revoke_token()) == 0
        fake.fault("status", on="rest", status=204, body="")
        with pytest.raises(ProtocolError, match="challenge_id"):
            client.set_phone("+14155550123")


def test_results_are_frozen() -> None:
    """A result cannot be changed, and two of the same values are equal."""
    with workspace() as (_, client):
        first = client.get_account()
        assert first == client.get_account()
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            first.name = "other"  # type: ignore[misc]


def test_name_of_the_agent_on_both_servers() -> None:
    """``agentName`` and ``displayName`` are one thing."""
    for key in ("agentName", "displayName"):
        with workspace() as (fake, client):
            fake.on_rest("POST", "/api/v1/onboard", {"token": "t", key: "Bot"})
            assert client.onboard("Bot").agent_name == "Bot"


def test_extra_is_sent_as_given() -> None:
    """What a server knows beyond the documents can be said, whatever the spelling."""
    with workspace() as (fake, client):
        client.register_agent("a", "Bot", some_key=1, otherKey={"x": None}, nothing=None)
        assert fake.requests[0].json == {
            "agent_id": "a",
            "display_name": "Bot",
            "some_key": 1,
            "otherKey": {"x": None},
            "nothing": None,
        }


def test_other_kinds_of_mappings_and_lists_are_sent() -> None:
    """Tuples and mappings of any kind become plain JSON."""
    from types import MappingProxyType

    with workspace() as (fake, client):
        client.register_agent("a", "Bot")
        client.add_agent_comm_channel("a", "email", capabilities=("in", "out"))
        client.set_client_limits(MappingProxyType({"maxActionsPerDay": 1}))
        assert fake.requests[1].json["capabilities"] == ["in", "out"]
        assert fake.requests[2].json["limits"] == {"maxActionsPerDay": 1}


def test_bad_request_that_names_neither_key_is_no_reason_to_ask_again() -> None:
    """Only a 400 that misses the other server's key is answered with the other key."""
    with workspace() as (fake, client):
        fake.fault("status", on="rest", status=400, body={"error": "Agent pool is full"})
        with pytest.raises(Exception, match="pool is full"):
            client.onboard("Bot")
        assert len(fake.requests) == 1


def test_other_name_is_asked_for_only_once() -> None:
    """A server that wants both keys gets two requests, not more."""
    body = {"error": "Missing required field 'displayName' or 'agentName'"}
    with workspace() as (fake, client):
        fake.fault("status", on="rest", status=400, body=body, count=9)
        with pytest.raises(Exception, match="Missing required field"):
            client.onboard("Bot")
        assert [sorted(request.json) for request in fake.requests] == [
            ["agentName", "country"],
            ["country", "displayName"],
        ]


def test_neither_path_is_there() -> None:
    """A server that has neither path of the limits says so after both."""
    with workspace() as (fake, client):
        page = "<html><body><pre>Cannot POST /x</pre></body></html>"
        fake.fault("status", on="rest", status=404, body=page, count=2)
        with pytest.raises(Exception, match="has no POST"):
            client.set_client_limits({"maxActionsPerDay": 1})
        assert [request.path for request in fake.requests] == [
            "/api/v1/client-limits",
            "/api/v1/agent-limits",
        ]


def test_a_proxys_page_is_no_missing_path() -> None:
    """Behind a proxy's own 404 the first path may have been served: the other is not tried."""
    with workspace() as (fake, client):
        fake.fault("html", on="rest", status=404)
        with pytest.raises(OutcomeUnknownError):
            client.set_client_limits({"maxActionsPerDay": 1})
        assert len(fake.requests) == 1


def test_public_surface_is_flat() -> None:
    """Every operation stands on the client itself."""
    assert callable(AccountsClient.list_my_memberships)


def test_onboarding_at_the_open_source_server() -> None:
    """It puts id, name, token and channels under ``provisioning``."""
    with workspace(FakeButtDialServer(dialect="open-source")) as (_, client):
        made = client.onboard("Maya", capabilities={"email": True})
    assert made.agent_id is not None
    assert made.raw["provisioning"]["agentId"] == made.agent_id
    assert (made.agent_name, made.channels) == ("Maya", {"email": {"status": "active"}})
    assert made.agent_token


def test_unknown_capabilities_at_the_open_source_server() -> None:
    """They are refused: the server would make an agent without these channels."""
    with workspace(FakeButtDialServer(dialect="open-source")) as (fake, client):
        with pytest.raises(ArgumentNotSupported, match=r"capabilities\.sms(\n|$)"):
            client.onboard("Maya", agent_id="a", capabilities={"sms": True, "email": True})
        with pytest.raises(ArgumentNotSupported, match=r"limits\.maxActions(\n|$)"):
            client.set_client_limits({"maxActions": 1}, agent_id="a")
        assert fake.workspace.agents == {}
