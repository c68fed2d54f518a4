"""What the fake server answers when nobody programmed it: something sensible, for every call."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from buttdial_sync import AccountsClient, Client, OtpVerification, ToolResult
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.dialects import DialectName
from buttdial_sync.testing.tool_answers import DEFAULT_ANSWERS
from buttdial_sync.testing.tools import SEND_MESSAGE
from tests.contract.catalogue import Operation, operations

OPERATIONS = {
    operation.name: operation
    for operation in operations("Client")
    if operation.name != "send_message"
}


def call(dialect: DialectName, operation: Operation, **more: Any) -> Any:
    fake = FakeButtDialServer(dialect=dialect)
    with fake.listen() as server, Client(server.base_url, agent_token="good-token") as client:
        return operation.bound(client)(**{**operation.arguments(only_required=True), **more})


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_hosted_server_answers(name: str) -> None:
    """Every call has an answer that says more than "ok", and that can be read."""
    result = call("hosted", OPERATIONS[name])
    assert result.raw
    assert "tool" not in result.raw


@pytest.mark.parametrize(
    "name", [name for name, each in OPERATIONS.items() if each.facts["on_open_source_server"]]
)
def test_the_open_source_server_answers(name: str) -> None:
    """The same of every call that it has."""
    assert call("open-source", OPERATIONS[name]).raw


@pytest.mark.parametrize("dialect", ["hosted", "open-source"])
def test_every_tool_has_a_row(dialect: DialectName) -> None:
    """A tool that is new in the catalogue is missed here."""
    fake = FakeButtDialServer(dialect=dialect)
    with fake.listen() as server, Client(server.base_url, agent_token="good-token") as client:
        names = {tool.name for tool in client.list_tools()}
    assert not names - DEFAULT_ANSWERS.keys() - {SEND_MESSAGE}


def test_previews() -> None:
    """With ``confirm`` false nothing is done, and no token is made."""
    revoked = call("hosted", OPERATIONS["consent.revoke"], confirm=False)
    assert isinstance(revoked, ToolResult)
    assert (revoked.previewed, revoked["preview"]) == (True, True)
    rotated = call("hosted", OPERATIONS["profile.rotate_token"], confirm=False)
    assert (rotated.previewed, rotated.token) == (True, None)
    assert call("hosted", OPERATIONS["profile.rotate_token"], confirm=True).token


@pytest.mark.parametrize(("code", "valid"), [("123456", True), ("654321", False)])
def test_passcodes(code: str, valid: bool) -> None:
    """One passcode is right, all others are wrong with a reason."""
    answer = call("hosted", OPERATIONS["otp.verify"], code=code)
    assert isinstance(answer, OtpVerification)
    assert (answer.valid, answer.reason is None) == (valid, valid)


def test_ids_differ() -> None:
    """Two messages have two ids, the same call has the same one."""
    poll = OPERATIONS["whatsapp.send_poll"]
    first, again = call("hosted", poll), call("hosted", poll)
    assert first.message_id == again.message_id
    assert call("hosted", poll, title="Another").message_id != first.message_id


def test_a_token_is_replaced() -> None:
    """Each rotation makes a good token; the old one goes on for half a minute."""
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    moments = [now]
    fake = FakeButtDialServer(tokens={"first": "ann"}, clock=lambda: moments[0])
    with fake.mocked() as mocked, Client(mocked.base_url, agent_token="first") as client:
        second = str(client.profile.rotate_token(confirm=True).token)
        other = client.as_agent(second)
        third = str(other.profile.rotate_token(confirm=True).token)
        assert len({"first", second, third}) == 3
        fake.add_waiting(agentId="bob")
        assert list(client.as_agent(third).inbox.waiting()) == []  # it is Ann's token
        moments[0] = now + timedelta(seconds=29)
        assert client.send_message("+14155550123", "hi").ok
        moments[0] = now + timedelta(seconds=30)
        for view in (client, other):
            assert view.send_message("+14155550123", "hi").error_code == "AUTH_TOKEN_REVOKED"
        assert client.as_agent(third).send_message("+14155550123", "hi").ok


def test_tokens_that_tools_make_are_good() -> None:
    """Who was onboarded can send, and a new team's token is a team token."""
    fake = FakeButtDialServer(tokens=["admin"])
    with fake.mocked() as mocked, Client(mocked.base_url, agent_token="admin") as client:
        onboarded = client.organization.onboard_customer("Shop", {"whatsapp": True})
        assert client.as_agent(str(onboarded.agent_token)).send_message("+14155550123", "hi").ok
        teams = [client.organization.create_team("A", "a").admin_token for _ in range(2)]
        assert len({*teams}) == 2
        with AccountsClient(mocked.base_url, team_token=teams[0]) as accounts:
            assert accounts.get_account().org_id
