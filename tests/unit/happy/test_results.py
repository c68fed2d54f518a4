"""What a result says: text, usage, and the shapes of messages."""

from __future__ import annotations

from typing import Any

import pytest

from buttdial_sync.happy.models import Message, PermissionRequest, Session, moment_of
from buttdial_sync.happy.results import TaskResult, without_notifications
from buttdial_sync.happy.updates import (
    AgentReady,
    AgentText,
    RawUpdate,
    ServiceText,
    ToolCallEnded,
    ToolCallStarted,
    TurnEnded,
    TurnStarted,
    UserText,
    update_of,
)

NOTE = "<task-notification>x</task-notification>"


def message(content: Any, seq: int = 1) -> Message:
    return Message(id="m", session_id="s", seq=seq, content=content)


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"role": "session", "content": {"role": "agent", "ev": {"t": kind, **fields}}}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"role": "user", "content": {"type": "text", "text": "x"}}, UserText),
        (
            {"role": "session", "content": {"role": "user", "ev": {"t": "text", "text": "x"}}},
            UserText,
        ),
        (event("text", text="x"), AgentText),
        (event("service", text="x"), ServiceText),
        (event("tool-call-start", call="c", name="Bash", args={}), ToolCallStarted),
        (event("tool-call-end", call="c"), ToolCallEnded),
        (event("turn-start"), TurnStarted),
        (event("turn-end", status="failed"), TurnEnded),
        ({"role": "agent", "content": {"type": "event", "data": {"type": "ready"}}}, AgentReady),
        ({"role": "agent", "content": {"type": "event", "data": {"type": "other"}}}, RawUpdate),
        ({"role": "agent", "content": {"type": "event", "data": None}}, RawUpdate),
        ({"role": "agent", "content": {"type": "output"}}, RawUpdate),
        (event("file", ref="f"), RawUpdate),
        (event("start", title="x"), RawUpdate),
        (event("text", text=None), RawUpdate),
        (event("tool-call-start", call=None), RawUpdate),
        (event("tool-call-end"), RawUpdate),
        ({"role": "session", "content": {"ev": "text"}}, RawUpdate),
        ({"role": "user", "content": {"type": "image"}}, RawUpdate),
        ({"role": "user", "content": "text"}, RawUpdate),
        ({"role": 7}, RawUpdate),
        ({}, RawUpdate),
        ([], RawUpdate),
        ("text", RawUpdate),
        (None, RawUpdate),
    ],
)
def test_shapes(content: Any, kind: type[Any]) -> None:
    """Every shape gives an update, and keeps what it was made of."""
    update = update_of(message(content))
    assert type(update) is kind
    assert update.raw == content
    assert (update.session_id, update.seq) == ("s", 1)


def test_what_an_event_says() -> None:
    """The turn, the sub-agent and the tokens are read wherever they stand."""
    content = event("text", text="x", thinking=True)
    content["content"] |= {"turn": "t", "subagent": "a", "usage": {"input_tokens": 1}}
    update = update_of(message(content))
    assert isinstance(update, AgentText)
    assert (update.turn, update.subagent, update.is_thinking) == ("t", "a", True)
    assert update.usage == {"input_tokens": 1}


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("plain", "plain"),
        ("  plain", "  plain"),
        (f"{NOTE}rest", "rest"),
        (f"{NOTE}\n{NOTE}\nrest", "rest"),
        (f"<task-notification>a{NOTE}b</task-notification> rest", "rest"),
        (f"rest {NOTE}", f"rest {NOTE}"),
        ("<task-notification>open", "<task-notification>open"),
        (NOTE, ""),
    ],
)
def test_notifications(text: str, rest: str) -> None:
    """Blocks about background tasks at the beginning are left out, as the apps do."""
    assert without_notifications(text) == rest


def test_text() -> None:
    """The text is what the agent said to the person."""
    texts = [
        event("text", text=f"{NOTE}one"),
        event("text", text="thought", thinking=True),
        event("service", text="service"),
        event("text", text=NOTE),
        event("text", text="two"),
    ]
    sub = event("text", text="a helper's")
    sub["content"]["subagent"] = "helper"
    updates = [update_of(message(each)) for each in [*texts, sub]]
    result = TaskResult(session_id="s", status="completed", updates=updates)
    assert (result.text, result.ok) == ("one\n\ntwo", True)


def test_usage() -> None:
    """The report of one answer of the model counts once, though each part of it has it."""

    def used(uuid: str | None, **usage: Any) -> dict[str, Any]:
        content = event("text", text="x")
        content["content"] |= {"usage": usage} | ({"claudeUuid": uuid} if uuid else {})
        return content

    contents = [
        used("a", input_tokens=10, output_tokens=1, service_tier="x"),
        used("a", input_tokens=10, output_tokens=5),
        used("b", input_tokens=1, context_window=200_000),
        used(None, input_tokens=100),
        used(None, input_tokens="many"),
        event("text", text="x"),
    ]
    updates = [update_of(message(each, seq)) for seq, each in enumerate(contents)]
    result = TaskResult(session_id="s", status="completed", updates=updates)
    assert result.usage == {"input_tokens": 111, "output_tokens": 5}


@pytest.mark.parametrize(
    "state", [None, {}, {"requests": None}, {"requests": [1]}, {"requests": {"a": 1}}]
)
def test_malformed_states(state: Any) -> None:
    """A state without requests, or with something else, has none."""
    assert Session(id="s", agent_state=state).pending_requests == []


def test_requests_are_in_their_order() -> None:
    """The oldest comes first; one without a time before all."""
    requests = {
        "c": {"tool": "C", "createdAt": 2000},
        "a": {"tool": "A", "createdAt": 1000, "arguments": {"x": 1}, "toolUseId": "u"},
        "b": {"tool": "B", "createdAt": "soon"},
    }
    found = Session(id="s", agent_state={"requests": requests}).pending_requests
    assert [each.tool for each in found] == ["B", "A", "C"]
    assert found[1] == PermissionRequest(
        id="a",
        session_id="s",
        tool="A",
        arguments={"x": 1},
        created_at=moment_of(1000),
        tool_use_id="u",
    )


@pytest.mark.parametrize("value", [None, True, "1", float("inf"), 1e30])
def test_moments_that_are_none(value: Any) -> None:
    """What is not a time in milliseconds is none."""
    assert moment_of(value) is None


def test_names() -> None:
    """The title of the apps comes before the plain name; blanks are none."""
    assert Session(id="s", metadata={"name": "n", "summary": {"text": "t"}}).name == "t"
    assert Session(id="s", metadata={"name": "n", "summary": {"text": " "}}).name == "n"
    assert Session(id="s", metadata={"name": 7, "summary": "x"}).name is None
