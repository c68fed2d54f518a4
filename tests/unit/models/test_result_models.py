"""The result types that everything else rests on."""

from __future__ import annotations

import pickle
from typing import get_args

import attrs
import pytest

from buttdial_sync.errors import Outcome
from buttdial_sync.models.converter import structure
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.inbox import WaitingMessage, WaitingMessages
from buttdial_sync.models.message import CHANNELS
from buttdial_sync.models.sending import SendResult
from buttdial_sync.models.tools import Tool

STATES = {
    "sent": (True, False, False),
    "rejected": (False, True, False),
    "not_sent": (False, True, False),
    "unknown": (False, False, True),
}


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_exactly_one_state(outcome: Outcome) -> None:
    """Of ``ok``, ``failed`` and ``unknown`` exactly one is true, for every outcome."""
    result = SendResult(outcome=outcome)
    states = (result.ok, result.failed, result.unknown)
    assert states == STATES[outcome]
    assert sum(states) == 1


def test_every_outcome_has_its_state() -> None:
    """The table above forgets no outcome."""
    assert set(STATES) == set(get_args(Outcome))


@pytest.mark.parametrize(
    "kind", [SendResult, ClientEvent, FailedMessage, WaitingMessage, WaitingMessages, Tool]
)
def test_results_are_values(kind: type) -> None:
    """Results cannot be changed, take keywords only, and ``raw`` stays out of ``==``."""
    fields = attrs.fields_dict(kind)
    assert all(field.kw_only for field in fields.values())
    if "raw" in fields:
        assert list(fields)[-1] == "raw"
        assert (fields["raw"].eq, fields["raw"].repr) == (False, False)
    assert kind.__doc__
    for name in fields:
        assert name == "raw" or name in kind.__doc__, f"{kind.__name__}.{name} is undocumented"


def test_results_are_frozen() -> None:
    """Setting an attribute is an error."""
    result = SendResult(outcome="sent")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        result.outcome = "unknown"  # type: ignore[misc]


def test_results_pickle() -> None:
    """A result travels through a task queue."""
    result = SendResult(outcome="sent", message_sid="SM1", attempts=2, raw={"a": 1})
    back = pickle.loads(pickle.dumps(result))  # noqa: S301 - our own bytes
    assert back == result
    assert back.raw == {"a": 1}


def test_failed_message_hides_its_token() -> None:
    """The credential of a queued message is not shown."""
    message = FailedMessage(id="1", recipient="+1", body="hi", agent_token="agent-secret")
    assert "agent-secret" not in repr(message)


def test_channels() -> None:
    """The channels are the four of the wire."""
    assert CHANNELS == ("whatsapp", "sms", "email", "line")


@pytest.mark.parametrize("schema", [{}, {"properties": None}, {"properties": []}])
def test_tool_without_properties(schema: dict[str, object]) -> None:
    """A schema that says nothing has no properties."""
    assert Tool(name="x", input_schema=schema).properties == {}


def test_a_waiting_message_with_odd_fields_is_kept() -> None:
    """It has left the server, so it comes with its raw fields, and the others come whole."""
    answer = {"messages": [{"id": 1, "body": "one"}, {"id": 2, "body": {"odd": True}}]}
    one, two = structure(answer, WaitingMessages, source="test").messages
    assert one.body == "one"
    assert two.body is None
    assert two.raw == {"id": 2, "body": {"odd": True}}
