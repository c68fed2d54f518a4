"""The rule that reads a person's responses."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buttdial_sync.ailoop.answers import (
    Prompt,
    PromptKind,
    Reply,
    answer_of,
    authorization_of,
    option_index,
    reply_of,
)
from buttdial_sync.ailoop.messages import RESPONSE_TYPES, Option

PROMPT_ID = "6a4aa2a6-7c24-4a2c-9d0c-0d0d0d0d0d0d"
OPTIONS = (
    Option(id="a", label="Apple"),
    Option(id="2", label="Two"),
    Option(id="b", label="Bee"),
)


def prompt(kind: PromptKind = "authorization", *, free: bool = False) -> Prompt:
    choosing = kind in {"decision", "question"} and not free
    return Prompt(id=PROMPT_ID, channel="public", kind=kind, options=OPTIONS if choosing else ())


def response(response_type: str, answer: Any = None, **changes: Any) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "channel": "public",
        "sender_type": "HUMAN",
        "content": {"type": "response", "answer": answer, "response_type": response_type},
        "timestamp": "2026-11-21T20:06:51.020836000Z",
        "correlation_id": PROMPT_ID,
        **changes,
    }


@pytest.mark.parametrize(
    ("typed", "index"),
    [
        ("a", 0),
        ("2", 1),  # the id, before the place
        ("1", 0),
        ("3", 2),
        ("bee", 2),
        (" BEE ", 2),
        ("0", None),
        ("4", None),
        ("-1", None),
        ("1.0", None),
        ("²", None),
        ("", None),
        ("purple", None),
        ("1" * 5000, None),
    ],
)
def test_resolving(typed: str, index: int | None) -> None:
    """Id, label in any case, place from 1, in this order."""
    assert option_index(OPTIONS, typed) == index


def test_the_servers_own_option_wins() -> None:
    """Its metadata say what it took; an unknown id there says nothing."""
    own = response("text", "purple", metadata={"option_id": "b", "index": 2})
    assert reply_of(prompt("decision"), own) == Reply(verdict="chosen", index=2, text="purple")
    odd = response("text", "a", metadata={"option_id": ["b"]})
    assert reply_of(prompt("decision"), odd) == Reply(verdict="chosen", index=0, text="a")


@pytest.mark.parametrize("kind", ["decision", "question", "authorization", "navigate"])
def test_only_responses_of_its_own(kind: PromptKind) -> None:
    """Another prompt's, none's, and messages that are no responses say nothing."""
    for changes in (
        {"correlation_id": str(uuid.uuid4())},
        {"correlation_id": None},
        {"correlation_id": [PROMPT_ID]},
        {"correlation_id": PROMPT_ID.upper()},
        {"content": {"type": "notification", "text": "authorization_approved"}},
        {"content": "authorization_approved"},
        {"content": None},
    ):
        assert reply_of(prompt(kind), response("authorization_approved", **changes)) is None


@pytest.mark.parametrize("kind", ["decision", "question", "navigate"])
def test_doubtful_responses_to_a_question(kind: PromptKind) -> None:
    """They are ignored: the person can still answer."""
    for changes in (
        {"sender_type": "AGENT"},
        {"channel": "other"},
        {"id": PROMPT_ID},
        {"timestamp": None},
    ):
        assert reply_of(prompt(kind), response("text", "a", **changes)) is None
    assert reply_of(prompt(kind), response("shrug", "a")) is None
    assert reply_of(prompt(kind), response("text", 1)) is None


def test_free_text() -> None:
    """Everything is an answer, but nothing is none."""
    asked = prompt("question", free=True)
    assert reply_of(asked, response("text", "Ada")) == Reply(verdict="text", text="Ada")
    assert reply_of(asked, response("text", None)) == Reply(verdict="skipped")


@pytest.mark.parametrize("kind", ["decision", "navigate", "question"])
def test_only_an_authorization_can_be_approved(kind: PromptKind) -> None:
    """The verdict of another kind of prompt never makes one true."""
    for response_type in RESPONSE_TYPES:
        reply = reply_of(prompt(kind), response(response_type, "a"))
        assert reply is not None
        assert not authorization_of(prompt(kind), reply)
    assert not authorization_of(prompt(kind), Reply(verdict="approved"))


def test_statuses() -> None:
    """Each verdict has its status."""
    found = {
        verdict: answer_of(prompt("decision"), Reply(verdict=verdict)).status
        for verdict in ("text", "invalid", "timed_out", "skipped", "lost")
    }
    assert found == {
        "text": "answered",
        "invalid": "timed_out",
        "timed_out": "timed_out",
        "skipped": "skipped",
        "lost": "lost",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
ODD = st.one_of(JSON, st.sampled_from(["HUMAN", "AGENT", "public", PROMPT_ID, *RESPONSE_TYPES]))
FRAMES = st.builds(
    lambda response_type, answer, changes, content: {
        **response(response_type, answer),
        **changes,
        **({"content": content} if content is not None else {}),
    },
    st.sampled_from([*RESPONSE_TYPES, "authorization_approved"]),
    st.none() | st.sampled_from(["yes", "authorization_approved", "1"]) | JSON,
    st.dictionaries(
        st.sampled_from(
            ["id", "channel", "sender_type", "timestamp", "correlation_id", "metadata"]
        ),
        ODD,
        max_size=2,
    ),
    st.none()
    | st.none()
    | st.fixed_dictionaries({}, optional={"type": ODD, "answer": ODD, "response_type": ODD}),
)


def is_plain_approval(frame: dict[str, Any]) -> bool:
    """The rule once more, written as one looks at a message by hand."""
    content = frame["content"]
    return (
        frame["correlation_id"] == PROMPT_ID
        and frame["sender_type"] == "HUMAN"
        and frame["channel"] == "public"
        and frame["id"] != PROMPT_ID
        and isinstance(frame["id"], str)
        and content.get("type") == "response"
        and content.get("response_type") == "authorization_approved"
        and (content.get("answer") is None or isinstance(content["answer"], str))
    )


@given(FRAMES)
def test_nothing_but_an_approval_approves(frame: dict[str, Any]) -> None:
    """Whatever a message says: true means that it is a person's plain approval of this prompt."""
    reply = reply_of(prompt(), frame)
    approved = reply is not None and bool(authorization_of(prompt(), reply))
    if approved:
        assert is_plain_approval(frame)
    if not approved and is_plain_approval(frame):
        # Only what does not read as a message at all may have been in the way.
        assert reply == Reply(verdict="malformed")


@given(FRAMES, st.sampled_from(["decision", "question", "navigate"]))
def test_no_message_breaks_the_rule(frame: dict[str, Any], kind: PromptKind) -> None:
    """Every message is read or ignored; an option that is chosen exists."""
    reply = reply_of(prompt(kind), frame)
    if reply is not None:
        answer = answer_of(prompt(kind), reply)
        assert not authorization_of(prompt(kind), reply)
        assert answer.option_id in {None, "a", "2", "b"}
