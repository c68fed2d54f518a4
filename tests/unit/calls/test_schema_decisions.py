"""What the server's schemas decide before a call is sent."""

from __future__ import annotations

from typing import Any

import pytest

from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.calls.schema import fit
from buttdial_sync.calls.sending import SEND
from buttdial_sync.errors import (
    ArgumentNotSupported,
    ArgumentValueError,
    PreviewNotSupported,
    ToolNotAvailable,
)
from buttdial_sync.models.tools import Tool
from tests.contract.catalogue import tool_operations


def tool(name: str, *properties: str, **schema: Any) -> Tool:
    known: dict[str, Any] = {"properties": {each: {} for each in properties}} if properties else {}
    return Tool(name=name, input_schema={"type": "object", **known, **schema})


def op(name: str) -> ToolOperation[Any]:
    """Return a family's operation on this tool, or one of a tool that no family knows."""
    known = (each for each in (*tool_operations(), SEND) if each.name == name)
    return next(known, ToolOperation(name, object))


MAKE_CALL = tool("comms_make_call", "to", "greeting")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("comms_make_call", {"to": "+1"}),
        ("comms_make_call", {"to": "+1", "targetGender": "female"}),
        ("comms_send_otp", {"to": "+1", "channel": "sms"}),
        ("comms_verify_otp", {"code": "123456"}),
        ("comms_get_billing_summary", {"period": "month"}),
        ("comms_bridge_call", {"action": "list"}),
        ("comms_send_message", {"to": "+1", "body": "x", "channel": "sms", "idempotencyKey": "k"}),
    ],
)
def test_nothing_doubtful(name: str, arguments: dict[str, Any]) -> None:
    """What every server understands, or may ignore, and the defaults need no question."""
    assert op(name).is_understood_everywhere(arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("comms_make_call", {"to": "+1", "greeting": "Hello"}),
        ("comms_verify_otp", {"code": "123456", "to": "+1"}),
        ("comms_get_billing_summary", {"period": "week"}),
        ("comms_check_consent", {"contact": "+1", "channel": "sms"}),
        ("comms_revoke_consent", {"contactAddress": "+1", "channel": "sms", "confirm": True}),
        ("comms_list_teams", {}),
        ("comms_whatsapp_action", {"action": "react"}),
    ],
)
def test_something_doubtful(name: str, arguments: dict[str, Any]) -> None:
    """Other names, previews, optional arguments and tools that a server may lack need one."""
    assert not op(name).is_understood_everywhere(arguments)


def test_missing_tool_names_the_nearest() -> None:
    """The caller learns what there is instead."""
    with pytest.raises(ToolNotAvailable, match="comms_make_call") as caught:
        fit([MAKE_CALL, tool("comms_ping")], op("comms_make_calls"), {})
    assert caught.value.outcome == "not_sent"
    assert "comms_ping" not in str(caught.value)


def test_three_of_the_nearest() -> None:
    """Not more than three are named, and by their own names."""
    tools = [tool(f"comms_make_call{number}") for number in range(4)]
    with pytest.raises(ToolNotAvailable) as caught:
        fit(tools, op("comms_make_call"), {})
    _, _, nearest = caught.value.message.partition("; the nearest are ")
    assert len(nearest.split(", ")) == 3
    assert set(nearest.split(", ")) < {each.name for each in tools}


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("comms_rotate_token", ["comms_revoke_consent", "comms_create_organization"]),
        ("comms_grant_trust", ["comms_set_agent_limits", "comms_record_consent"]),
        ("comms_whatsapp_action", ["comms_create_organization", "comms_send_message"]),
        ("comms_get_me", ["comms_ping", "comms_get_message"]),
    ],
)
def test_only_a_near_tool_is_named(wanted: str, there: list[str]) -> None:
    """That all tools begin alike does not make them alike."""
    with pytest.raises(ToolNotAvailable, match=rf"no tool {wanted}(\n|$)"):
        fit([tool(each) for each in there], op(wanted), {})


def test_near_without_the_common_beginning() -> None:
    """A name that somebody typed without it is still near, and named as the server has it."""
    with pytest.raises(ToolNotAvailable, match=r"the nearest are comms_make_call(\n|$)"):
        fit([MAKE_CALL], op("make_call"), {})


def test_another_way_than_the_tool() -> None:
    """Where the same can be done otherwise, that is the advice."""
    with pytest.raises(ToolNotAvailable) as caught:
        fit([MAKE_CALL], op("comms_rotate_token"), {})
    assert "regenerate_agent_token" in str(caught.value.remediation)
    with pytest.raises(ToolNotAvailable) as caught:
        fit([MAKE_CALL], op("comms_get_me"), {})
    assert caught.value.remediation == ToolNotAvailable.remedy


LIMITS = {"type": "object", "properties": {"a": {}, "deep": {"properties": {"b": {}}}}}


@pytest.mark.parametrize(
    ("schema", "value", "dropped"),
    [
        (LIMITS, {"a": 1, "deep": {"b": 2}}, ""),
        (LIMITS, {"A": 1}, "limits.A"),
        (LIMITS, {"a": 1, "deep": {"B": 2}, "c": 3}, "limits.c, limits.deep.B"),
        (LIMITS, {"deep": "not an object"}, ""),
        (LIMITS, {}, ""),
        ({**LIMITS, "additionalProperties": False}, {"A": 1}, "limits.A"),
        ({**LIMITS, "additionalProperties": True}, {"A": 1}, ""),
        ({**LIMITS, "additionalProperties": {"type": "string"}}, {"A": 1}, ""),
        ({"type": "object"}, {"A": 1}, ""),
        ({"type": "object", "properties": {}}, {"A": 1}, ""),
        ({"type": "object", "properties": ["a"]}, {"A": 1}, ""),
        ({"properties": {"a": "no schema"}}, {"a": {"b": 1}}, ""),
        ({"type": "array", "items": LIMITS}, [{"a": 1}, {"A": 1}, {"A": 2}], "limits.A"),
        ({"type": "array", "items": [LIMITS]}, [{"A": 1}], ""),
        ({"type": "array", "items": LIMITS}, 5, ""),
        ("no schema", {"A": 1}, ""),
    ],
)
def test_keys_inside_of_an_argument(schema: Any, value: Any, dropped: str) -> None:
    """A typo inside of an object is refused as one outside: servers drop both silently."""
    there = Tool(name="comms_x", input_schema={"properties": {"limits": schema}})
    if not dropped:
        assert fit([there], op("comms_x"), {"limits": value}) == ("comms_x", {"limits": value})
        return
    with pytest.raises(ArgumentNotSupported, match=rf"does not know {dropped}(\n|$)") as caught:
        fit([there], op("comms_x"), {"limits": value})
    assert caught.value.outcome == "not_sent"


def test_what_the_server_requires() -> None:
    """It is asked for before the call; only the agent's id may come from the token."""
    there = tool("comms_x", "to", "body", "agentId", required=["agentId", "to", "body"])
    with pytest.raises(
        ArgumentValueError, match=r"comms_x on this server requires body(\n|$)"
    ) as caught:
        fit([there], op("comms_x"), {"to": "+1"})
    assert caught.value.outcome == "not_sent"
    assert "Give it too" in str(caught.value.remediation)
    fit([there], op("comms_x"), {"to": "+1", "body": "x"})
    odd = tool("comms_x", "to", required="to")
    fit([odd], op("comms_x"), {})


def test_argument_under_neither_name() -> None:
    """It is refused under the name that the caller knows."""
    with pytest.raises(ArgumentNotSupported, match=r"does not know to(\n|$)"):
        fit([tool("comms_verify_otp", "code")], op("comms_verify_otp"), {"to": "+1"})


def test_no_tools_at_all() -> None:
    """A server without tools has no nearest one."""
    with pytest.raises(ToolNotAvailable, match=r"no tool comms_make_call(\n|$)"):
        fit([], op("comms_make_call"), {"to": "+1"})


def test_other_names() -> None:
    """Tool and argument go out under the names that this server has."""
    tools = [tool("comms_create_organization", "name"), tool("comms_verify_otp", "contactAddress")]
    assert fit(tools, op("comms_create_team"), {"name": "A"}) == (
        "comms_create_organization",
        {"name": "A"},
    )
    assert fit(tools, op("comms_verify_otp"), {"to": "+1"})[1] == {"contactAddress": "+1"}


def test_own_name_wins() -> None:
    """A server that knows both names gets the hosted one."""
    tools = [tool("comms_verify_otp", "to", "contactAddress"), tool("comms_create_organization")]
    assert fit(tools, op("comms_verify_otp"), {"to": "+1"})[1] == {"to": "+1"}
    both = [*tools, tool("comms_create_team")]
    assert fit(both, op("comms_create_team"), {})[0] == "comms_create_team"


def test_argument_that_the_server_lacks() -> None:
    """It would be dropped silently, so it is refused, and named."""
    with pytest.raises(ArgumentNotSupported, match="systemPrompt") as caught:
        fit(
            [MAKE_CALL],
            op("comms_make_call"),
            {"to": "+1", "systemPrompt": "x", "greeting": "y"},
        )
    assert "greeting" not in str(caught.value)
    assert caught.value.outcome == "not_sent"


@pytest.mark.parametrize(
    "name",
    ["idempotencyKey", "threadId", "entityId", "replyMsgId", "senderName", "targetGender"],
)
def test_free_to_be_ignored(name: str) -> None:
    """Some arguments change nothing of what is done."""
    assert fit([MAKE_CALL], op("comms_make_call"), {"to": "+1", name: "x"})[1][name] == "x"


def test_default_that_the_server_lacks() -> None:
    """What the caller did not ask for is left out; what he did ask for is refused."""
    tools = [tool("comms_list_sessions", "status")]
    sent = fit(tools, op("comms_list_sessions"), {"status": "active", "limit": 50})[1]
    assert sent == {"status": "active"}
    with pytest.raises(ArgumentNotSupported, match="limit"):
        fit(tools, op("comms_list_sessions"), {"status": "active", "limit": 5})


@pytest.mark.parametrize("schema", [{}, {"properties": {}}, {"additionalProperties": True}])
def test_schema_that_says_nothing(schema: dict[str, Any]) -> None:
    """Where a server does not say what it takes, nothing is refused."""
    arguments = {"to": "+1", "greeting": "x"}
    known = ("to",) if "additionalProperties" in schema else ()
    assert fit([tool("comms_make_call", *known, **schema)], op("comms_make_call"), arguments)[
        1
    ] == (arguments)


class TestConfirm:
    """A preview is never carried out."""

    arguments: dict[str, Any] = {"contactAddress": "+1", "channel": "sms"}  # noqa: RUF012
    with_preview = tool("comms_revoke_consent", "contactAddress", "channel", "confirm")
    without = tool("comms_revoke_consent", "contactAddress", "channel")

    @pytest.mark.parametrize("confirm", [True, False])
    def test_server_with_preview(self, confirm: bool) -> None:
        """It is told."""
        arguments = {**self.arguments, "confirm": confirm}
        assert fit([self.with_preview], op("comms_revoke_consent"), arguments)[1] == arguments

    def test_confirmed_without_preview(self) -> None:
        """A server that knows no preview carries out what it is asked for."""
        sent = fit([self.without], op("comms_revoke_consent"), {**self.arguments, "confirm": True})[
            1
        ]
        assert sent == self.arguments

    def test_preview_without_preview(self) -> None:
        """It is not called."""
        with pytest.raises(PreviewNotSupported) as caught:
            fit(
                [self.without],
                op("comms_revoke_consent"),
                {**self.arguments, "confirm": False},
            )
        assert caught.value.outcome == "not_sent"

    def test_tool_without_any_arguments(self) -> None:
        """An empty list of arguments has no ``confirm`` either."""
        empty = tool("comms_deprovision_channels", properties={})
        assert fit([empty], op("comms_deprovision_channels"), {"confirm": True})[1] == {}
        with pytest.raises(PreviewNotSupported):
            fit([empty], op("comms_deprovision_channels"), {"confirm": False})

    def test_silent_schema(self) -> None:
        """Where a server does not say what it takes, only a preview is refused."""
        silent = tool("comms_deprovision_channels", additionalProperties=True)
        assert fit([silent], op("comms_deprovision_channels"), {"confirm": True})[1] == {
            "confirm": True
        }
        with pytest.raises(PreviewNotSupported):
            fit([silent], op("comms_deprovision_channels"), {"confirm": False})


class TestAgentId:
    """Tokens that stand for no single agent need to be told which."""

    def test_goes_along(self) -> None:
        """A tool that takes it gets it."""
        tools = [tool("comms_make_call", "to", "agentId")]
        sent = fit(tools, op("comms_make_call"), {"to": "+1"}, agent_id="a-1")[1]
        assert sent == {"to": "+1", "agentId": "a-1"}

    def test_tool_that_takes_none(self) -> None:
        """A tool without it does not get it."""
        assert fit([MAKE_CALL], op("comms_make_call"), {"to": "+1"}, agent_id="a-1")[1] == {
            "to": "+1"
        }

    def test_unknown_agent(self) -> None:
        """Nothing is made up for it."""
        tools = [tool("comms_make_call", "to", "agentId")]
        assert fit(tools, op("comms_make_call"), {"to": "+1"})[1] == {"to": "+1"}

    def test_given_one_wins(self) -> None:
        """What the call says is not changed."""
        tools = [tool("comms_make_call", "to", "agentId")]
        sent = fit(tools, op("comms_make_call"), {"agentId": "a-2"}, agent_id="a-1")[1]
        assert sent == {"agentId": "a-2"}

    @pytest.mark.parametrize("name", ["comms_get_billing_summary", "comms_onboard_customer"])
    def test_other_meaning(self, name: str) -> None:
        """Where it says what the call is about, it is the caller's to give."""
        assert fit([tool(name, "agentId")], op(name), {}, agent_id="a-1")[1] == {}
