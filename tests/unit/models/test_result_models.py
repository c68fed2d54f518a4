"""The result types that everything else rests on."""

from __future__ import annotations

import copy
import pickle
import pkgutil
from importlib import import_module
from typing import Any, get_args

import attrs
import pytest

from buttdial_sync import models
from buttdial_sync.errors import Outcome, ProtocolError
from buttdial_sync.models.channels import CommChannel
from buttdial_sync.models.converter import MUST_FIT, structure
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.inbound import Attachment, InboundEvent, InboundMessage, Location
from buttdial_sync.models.inbox import WaitingMessage, WaitingMessages
from buttdial_sync.models.message import CHANNELS
from buttdial_sync.models.profile import RotatedToken
from buttdial_sync.models.sending import SendResult
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.models.tools import Tool
from buttdial_sync.models.usage import BillingReport

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
        assert (fields["raw"].eq, fields["raw"].repr) == (False, False)
    assert kind.__doc__
    for name in fields:
        assert name == "raw" or name in kind.__doc__, f"{kind.__name__}.{name} is undocumented"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            InboundMessage(sender="+1", channel="sms", session={"id": "s"}, contacts=({"a": 1},)),
            InboundMessage(sender="+1", channel="sms", session={"id": "t"}),
        ),
        (WaitingMessage(id="1", error_details={"code": 5}), WaitingMessage(id="1")),
        (CommChannel(id="1", capabilities=["sms"]), CommChannel(id="1", capabilities=["mms"])),
    ],
)
def test_what_comes_in_lists_fits_into_sets(one: Any, other: Any) -> None:
    """Whatever the server has written into it; what differs is still two."""
    assert {one, other, attrs.evolve(one), copy.deepcopy(other)} == {one, other}
    assert one != other


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


@pytest.mark.parametrize(
    "odd",
    [
        {"createdAt": "yesterday at noon"},
        {"createdAt": 1767323045000000},
        {"mediaUrl": ["https://x.example/1"]},
        {"reason": {"code": 5}},
        {"to": 14155550123},
    ],
)
def test_a_waiting_message_with_an_odd_field(odd: dict[str, object]) -> None:
    """It has left the server, so that all its other fields come."""
    item = {"id": 1, "from": "+1", "body": "help", "channel": "sms", **odd}
    (found,) = structure({"messages": [item]}, WaitingMessages, source="test")
    assert found == WaitingMessage(id="1", from_="+1", body="help", channel="sms")
    assert found.raw == item


def test_a_waiting_message_that_is_not_even_an_object() -> None:
    """It comes in ``raw``, in its place."""
    one, two = structure({"messages": ["odd", {"id": 2}]}, WaitingMessages, source="test")
    assert (one, one.raw) == (WaitingMessage(), "odd")
    assert two.id == "2"


@pytest.mark.parametrize("messages", ["odd", {"id": 1, "body": "help"}, 1])
def test_waiting_messages_that_cannot_be_found(messages: object) -> None:
    """An answer that may hold messages is not "no messages": the error has it."""
    with pytest.raises(ProtocolError, match=r"\$\.messages") as caught:
        structure({"messages": messages}, WaitingMessages, source="test")
    assert caught.value.body == {"messages": messages}


def _results() -> list[type]:
    found = {
        each
        for module in pkgutil.iter_modules(models.__path__)
        for each in vars(import_module(f"{models.__name__}.{module.name}")).values()
        if isinstance(each, type) and attrs.has(each) and "raw" in attrs.fields_dict(each)
    }
    found -= {SendResult, ToolResult, *get_args(InboundEvent), Attachment, Location}  # made by hand
    return sorted(found, key=lambda kind: kind.__name__)


def _optional_fields() -> list[tuple[type, str]]:
    return [
        (kind, field.name)
        for kind in _results()
        for field in attrs.fields(kind)
        if field.default is not attrs.NOTHING and MUST_FIT not in field.metadata
    ]


def test_optional_fields_are_found() -> None:
    """The test below looks at something."""
    assert (BillingReport, "by_channel") in _optional_fields()
    assert (RotatedToken, "previewed") in _optional_fields()


@pytest.mark.parametrize(("kind", "name"), _optional_fields())
@pytest.mark.parametrize("odd", [None, {"odd": {"odd": []}}, [[[]]], "\0", -0.5, True])
def test_an_optional_field_never_costs_the_result(kind: type, name: str, odd: object) -> None:
    """Whatever a server writes into it: what was carried out is not called a failure."""
    needed: dict[str, object] = {
        field.name: field.name == "valid" or "x"
        for field in attrs.fields(kind)
        if field.default is attrs.NOTHING
    }
    found: object = structure({**needed, name: odd}, kind, source="test")
    assert [getattr(found, each) for each in needed] == [*needed.values()]
