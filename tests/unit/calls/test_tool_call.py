"""Calls of tools: what is learned from a refusal, and what a schema says about keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.calls.tool_call import AgentContext, SessionCall, ToolCall, takes_key
from buttdial_sync.connection import Connection
from buttdial_sync.errors import (
    ArgumentTypeError,
    ConfigError,
    InvalidRequestError,
    OutcomeUnknownError,
    StreamLostError,
)
from buttdial_sync.models.tools import Tool
from buttdial_sync.testing import FakeButtDialServer

URL = "https://butt-dial.test"
PING = ToolOperation("comms_ping", dict)


@pytest.fixture
def fake() -> Iterator[FakeButtDialServer]:
    server = FakeButtDialServer()
    with server.mocked(URL):
        yield server


@pytest.fixture
def connection(fake: FakeButtDialServer) -> Iterator[Connection]:
    made = Connection(URL, timeout=10.0, connect_timeout=5.0, max_attempts=3, sleep=lambda _: None)
    made.hold_sessions(
        token_in="header",
        before_open=None,
        max_event_bytes=1_000_000,
        max_sessions=2,
        idle_ping=60.0,
    )
    yield made
    made.close()


@pytest.fixture
def agent(connection: Connection) -> AgentContext:
    return AgentContext(connection, agent_id="a-1", token="tok-1")


def tool(name: str, *properties: str) -> Tool:
    schema = {"type": "object", "properties": {each: {} for each in properties}}
    return Tool(name=name, input_schema=schema)


def test_token_to_speak_with(connection: Connection) -> None:
    """The given one, else the agent's; blank ones and none are refused."""
    assert AgentContext(connection, token="own").token_or(None) == "own"
    assert AgentContext(connection, token="own").token_or("given") == "given"
    with pytest.raises(ConfigError):
        AgentContext(connection).token_or(None)
    with pytest.raises(ConfigError):
        AgentContext(connection, token="own").token_or("")
    with pytest.raises(ArgumentTypeError):
        AgentContext(connection).token_or(5)  # type: ignore[arg-type]


def test_takes_key() -> None:
    """A tool takes a key where its schema says so; one that is not there does not."""
    tools = [tool("a", "idempotencyKey"), tool("b", "to")]
    assert takes_key(tools, "a")
    assert not takes_key(tools, "b")
    assert not takes_key(tools, "c")
    assert not takes_key([], "a")


@pytest.mark.parametrize("failures", [1, 2])
def test_questions_are_asked_again(failures: int, agent: AgentContext) -> None:
    """A question changes nothing, so one whose answer is lost is asked again."""
    left = [StreamLostError("cut", outcome="unknown")] * failures

    def question(*_: Any) -> str:
        if left:
            raise left.pop()
        return "answer"

    call = SessionCall(agent, "question", question)
    assert call.answer() == "answer"
    assert call.attempts == failures + 1


def refusing(agent: AgentContext, refusal: InvalidRequestError, **options: Any) -> ToolCall:
    """Return a call whose server refuses it once; another token and options may be given."""
    left = [refusal]

    def check(_: Any) -> None:
        if left:
            raise left.pop()

    operation = ToolOperation("comms_ping", dict, shared=(), check=check)
    return ToolCall(agent, operation, {}, **options)


@pytest.mark.parametrize("words", ["agentId is required", "Agent ID is required for teams"])
def test_learns(words: str, agent: AgentContext, fake: FakeButtDialServer) -> None:
    """A refusal that asks for the agent is answered at once, within the same attempt."""
    call = refusing(agent, InvalidRequestError(words, outcome="rejected"))
    call.answer()
    assert agent.must_send_agent_id
    assert (call.attempts, len(fake.calls)) == (1, 2)


@pytest.mark.parametrize(
    ("words", "outcome", "options"),
    [
        ("agentId is required", "rejected", {"check_schema": False}),
        ("agentId is required", "rejected", {"agent_token": "tok-2"}),
        ("agentId is required", "unknown", {}),
        ("to is required", "rejected", {}),
    ],
)
def test_does_not_learn(
    words: str,
    outcome: Any,
    options: dict[str, Any],
    agent: AgentContext,
    fake: FakeButtDialServer,
) -> None:
    """Unchecked, for another agent, with an unknown outcome and of another refusal: no."""
    with pytest.raises((InvalidRequestError, OutcomeUnknownError)):
        refusing(agent, InvalidRequestError(words, outcome=outcome), **options).answer()
    assert not agent.must_send_agent_id
    assert len(fake.calls) == 1


def test_agent_without_an_id_does_not_learn(agent: AgentContext, fake: FakeButtDialServer) -> None:
    """There is nothing that could be sent along."""
    agent.agent_id = None
    with pytest.raises(InvalidRequestError):
        refusing(agent, InvalidRequestError("agentId is required", outcome="rejected")).answer()
    assert not agent.must_send_agent_id


def test_learned_once(agent: AgentContext, fake: FakeButtDialServer) -> None:
    """What was learned stays, and another refusal is not asked for again."""
    agent.must_send_agent_id = True
    with pytest.raises(InvalidRequestError):
        refusing(agent, InvalidRequestError("agentId is required", outcome="rejected")).answer()
    assert agent.must_send_agent_id
    assert len(fake.calls) == 1


def test_own_settings_win(agent: AgentContext, fake: FakeButtDialServer) -> None:
    """An agent that is never checked asks no schema, whatever a call says."""
    agent.check_schema = False
    ToolCall(agent, PING, {"nonsense": 1}, check_schema=True).answer()
    assert fake.calls[0].args == {"nonsense": 1}
    assert not any(b"tools/list" in each.body for each in fake.requests)


def test_unknown_outcome(agent: AgentContext, fake: FakeButtDialServer) -> None:
    """A lost answer is told as such, once, with what to do about it."""
    fake.fault("cut", on="call")
    with pytest.raises(OutcomeUnknownError, match="comms_ping may have been carried") as caught:
        ToolCall(agent, PING, {}).answer()
    assert caught.value.remediation == OutcomeUnknownError.remedy
    assert isinstance(caught.value.__cause__, StreamLostError)
    assert len(fake.calls) == 1


def test_tokens_are_not_shown(agent: AgentContext) -> None:
    """An agent's description has its id and not its token."""
    assert "a-1" in repr(agent)
    assert "tok-1" not in repr(agent)
