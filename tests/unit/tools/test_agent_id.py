"""Tokens that stand for no single agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from buttdial_sync import Client, InvalidRequestError
from buttdial_sync.testing import FakeButtDialServer, ToolFailure
from tests.fakes import set_tools

Make = Callable[..., Client]


def agent_tool(name: str, *properties: str) -> dict[str, Any]:
    known = {each: {"type": "string"} for each in ("agentId", *properties)}
    return {"name": name, "inputSchema": {"type": "object", "properties": known}}


def needs_agent(args: dict[str, Any]) -> dict[str, Any] | ToolFailure:
    if "agentId" not in args:
        return ToolFailure("agentId is required for organization tokens")
    return {"callSid": "CA1", "success": True, "externalId": "SM1"}


def asked_for_tools(fake: FakeButtDialServer) -> bool:
    return any(b"tools/list" in each.body for each in fake.requests)


class TestAgentId:
    """An organization's token is told by the server that it has to name the agent."""

    @pytest.fixture(autouse=True)
    def _server(self, hosted: FakeButtDialServer) -> None:
        set_tools(
            hosted,
            [
                agent_tool("comms_make_call", "to"),
                agent_tool("comms_send_message", "to", "body", "channel"),
            ],
        )

    def test_per_agent_token(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """Where the server does not ask for it, nothing is added and nothing asked."""
        make_client(token_in="auto", agent_id="a-1").voice.make_call("+1")
        assert hosted.calls[0].args == {"to": "+1"}
        assert not asked_for_tools(hosted)

    def test_learns(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """The refusal costs one more call, once; messages profit too."""
        hosted.on_tool("comms_make_call", needs_agent)
        hosted.on_tool("comms_send_message", needs_agent)
        client = make_client(token_in="auto", agent_id="a-1")
        assert client.voice.make_call("+1").call_sid == "CA1"
        assert client.voice.make_call("+1").call_sid == "CA1"
        assert client.send_message("+1", "text", "sms").ok
        assert [call.args.get("agentId") for call in hosted.calls] == [None, "a-1", "a-1", "a-1"]

    def test_message_first(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """A message is sent again too: it was refused, and it keeps its key."""
        hosted.on_tool("comms_send_message", needs_agent)
        assert make_client(token_in="auto", agent_id="a-1").send_message("+1", "text", "sms").ok
        assert len({call.idempotency_key for call in hosted.calls}) == 1

    def test_two_threads_learn_at_once(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """Both were refused before either learned, so both call again."""
        hosted.on_tool("comms_send_message", needs_agent)
        client = make_client(token_in="auto", agent_id="a-1")
        client.ping()
        hosted.fault("late", on="call", count=2)
        with ThreadPoolExecutor(2) as threads:
            sends = [threads.submit(client.send_message, "+1", text, "sms") for text in "ab"]
            assert hosted.wait_for(lambda: hosted.held == 2)
            hosted.release()
            assert [each.result().outcome for each in sends] == ["sent", "sent"]
        agents = [call.args.get("agentId") for call in hosted.calls]
        assert agents == [None, None, "a-1", "a-1"]

    @pytest.mark.parametrize("options", [{}, {"agent_id": "a-1", "check_schema": False}])
    def test_cannot_learn(
        self, hosted: FakeButtDialServer, make_client: Make, options: dict[str, Any]
    ) -> None:
        """Without an agent_id, or unchecked, the refusal stands."""
        hosted.on_tool("comms_make_call", needs_agent)
        with pytest.raises(InvalidRequestError, match="agentId is required"):
            make_client(token_in="auto", **options).voice.make_call("+1")
        assert len(hosted.calls) == 1

    def test_gives_up(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """A server that is not content with it is not asked for ever."""
        hosted.on_tool("comms_make_call", ToolFailure("agentId is required"))
        with pytest.raises(InvalidRequestError):
            make_client(token_in="auto", agent_id="a-1").voice.make_call("+1")
        assert len(hosted.calls) == 2

    def test_another_token(self, hosted: FakeButtDialServer, make_client: Make) -> None:
        """The client's agent_id belongs to its own token, not to another one."""
        hosted.on_tool("comms_send_message", needs_agent)
        client = make_client(token_in="auto", agent_id="a-1")
        assert client.send_message("+1", "text", "sms", agent_token="token-2").failed
        assert client.as_agent("token-2").send_message("+1", "text", "sms").failed
        assert "agentId" not in json.dumps([dict(call.args) for call in hosted.calls])
