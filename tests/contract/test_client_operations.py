"""Every operation of ``Client`` does on the wire what the catalogue says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from buttdial_sync import (
    ArgumentTypeError,
    ArgumentValueError,
    Client,
    EndpointNotAvailable,
    PreviewNotSupported,
    ToolError,
    ToolNotAvailable,
)
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.dialects import DialectName
from tests.contract.catalogue import Operation, Param, operations, tool_operations

TOKEN = "agent-token-1"
OPERATIONS = tuple(each for each in operations("Client") if each.name != "send_message")
TOOLS = tuple(each for each in OPERATIONS if "tool" in each.facts)
ENDPOINTS = tuple(each for each in OPERATIONS if "http" in each.facts)

CONFIRMED = tuple(each for each in OPERATIONS if "confirm" in each.facts["params"])


def named(operation: Operation) -> str:
    return operation.name


def as_json(value: Any) -> str:
    """Return what tells 1 from 1.0 and from True."""
    return json.dumps(value, sort_keys=True, default=dict)


def recorder(dialect: DialectName) -> FakeButtDialServer:
    """Return a server that has the dialect's tools and endpoints."""
    fake = FakeButtDialServer(dialect=dialect, tokens=[TOKEN])
    for each in ENDPOINTS:
        if dialect == "hosted" or each.facts["on_open_source_server"]:
            fake.on_rest(each.method, each.path, {})
    return fake


@pytest.fixture
def hosted() -> Iterator[FakeButtDialServer]:
    fake = recorder("hosted")
    with fake.mocked():
        yield fake


@pytest.fixture
def open_source() -> Iterator[FakeButtDialServer]:
    fake = recorder("open-source")
    with fake.mocked():
        yield fake


@pytest.fixture
def client() -> Iterator[Client]:
    with Client("https://butt-dial.test", agent_token=TOKEN, token_in="query") as client:
        yield client


@pytest.fixture
def hosted_client() -> Iterator[Client]:
    with Client("https://butt-dial.test", agent_token=TOKEN) as client:
        yield client


@pytest.mark.parametrize("only_required", [False, True], ids=["all", "required"])
@pytest.mark.parametrize("operation", TOOLS, ids=named)
def test_tool(
    operation: Operation, only_required: bool, hosted: FakeButtDialServer, hosted_client: Client
) -> None:
    """A method calls its tool once, with the catalogue's names and constants, and its token."""
    arguments = operation.arguments(only_required=only_required)
    operation.bound(hosted_client)(**arguments)
    (call,) = hosted.calls
    assert call.tool == operation.facts["tool"]
    assert as_json(call.args) == as_json(operation.sent(arguments))
    assert call.token == TOKEN


@pytest.mark.parametrize("operation", TOOLS, ids=named)
def test_tool_on_open_source_server(
    operation: Operation, open_source: FakeButtDialServer, client: Client
) -> None:
    """The open-source server gets its own names; what it lacks is refused before it is sent."""
    arguments = operation.arguments()
    if not operation.facts["on_open_source_server"]:
        with pytest.raises(ToolNotAvailable) as caught:
            operation.bound(client)(**arguments)
        assert caught.value.outcome == "not_sent"
        assert open_source.calls == []
        return
    operation.bound(client)(**arguments)
    (call,) = open_source.calls
    facts = operation.facts
    assert call.tool == facts.get("tool_on_open_source_server", facts["tool"])
    other_names = {
        param.facts["wire"]: param.facts["wire_on_open_source_server"]
        for param in operation.params
        if "wire_on_open_source_server" in param.facts
    }
    sent = operation.sent(arguments)
    sent.pop("confirm", None)
    expected = {other_names.get(key, key): value for key, value in sent.items()}
    assert as_json(call.args) == as_json(expected)


@pytest.mark.parametrize("only_required", [False, True], ids=["all", "required"])
@pytest.mark.parametrize("operation", ENDPOINTS, ids=named)
def test_endpoint(
    operation: Operation, only_required: bool, hosted: FakeButtDialServer, hosted_client: Client
) -> None:
    """A method makes one request, with the catalogue's path, query and body, and its token."""
    arguments = operation.arguments(only_required=only_required)
    operation.bound(hosted_client)(**arguments)
    (request,) = hosted.requests
    assert (request.method, request.path) == (operation.method, operation.path)
    expected = {key: str(value) for key, value in operation.sent(arguments, "query").items()}
    assert request.query == expected
    assert as_json(request.json if request.body else {}) == as_json(operation.sent(arguments))
    assert request.bearer == TOKEN


@pytest.mark.parametrize("operation", ENDPOINTS, ids=named)
def test_endpoint_on_open_source_server(
    operation: Operation, open_source: FakeButtDialServer, client: Client
) -> None:
    """An endpoint that the open-source server lacks is reported as that."""
    if operation.facts["on_open_source_server"]:
        operation.bound(client)(**operation.arguments())
        return
    with pytest.raises(EndpointNotAvailable):
        operation.bound(client)(**operation.arguments())


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_a_no_is_never_taken_for_done(
    operation: Operation, hosted: FakeButtDialServer, hosted_client: Client
) -> None:
    """Servers also say no in an answer that is not marked as an error: it raises, with the why."""
    no = {"success": False, "error": "no credit"}
    if operation in TOOLS:
        hosted.on_tool(operation.facts["tool"], no)
    else:
        hosted.on_rest(operation.method, operation.path, no)
    with pytest.raises(ToolError, match="no credit") as caught:
        operation.bound(hosted_client)(**operation.arguments())
    assert (caught.value.outcome, caught.value.body) == ("rejected", no)


@pytest.mark.parametrize("operation", CONFIRMED, ids=named)
class TestConfirm:
    """What cannot be undone is confirmed, or previewed where the server can."""

    def test_preview(
        self, operation: Operation, hosted: FakeButtDialServer, hosted_client: Client
    ) -> None:
        """The result says whether anything was carried out."""
        method, arguments = operation.bound(hosted_client), operation.arguments()
        assert method(**{**arguments, "confirm": False}).previewed is True
        assert method(**{**arguments, "confirm": True}).previewed is False
        assert [call.args["confirm"] for call in hosted.calls] == [False, True]

    def test_no_default(self, operation: Operation, hosted_client: Client) -> None:
        """Forgetting it carries nothing out."""
        arguments = operation.arguments()
        del arguments["confirm"]
        with pytest.raises(TypeError, match="confirm"):
            operation.bound(hosted_client)(**arguments)


@pytest.mark.parametrize(
    "operation", [each for each in CONFIRMED if each.facts["on_open_source_server"]], ids=named
)
def test_no_preview_on_open_source_server(
    operation: Operation, open_source: FakeButtDialServer, client: Client
) -> None:
    """A tool without ``confirm`` would carry out the preview, so it is not called."""
    with pytest.raises(PreviewNotSupported):
        operation.bound(client)(**{**operation.arguments(), "confirm": False})
    assert open_source.calls == []


def refused(operation: Operation, client: Client, name: str, value: Any) -> BaseException:
    with pytest.raises((ArgumentTypeError, ArgumentValueError), match=name) as caught:
        operation.bound(client)(**{**operation.arguments(), name: value})
    return caught.value


@pytest.mark.parametrize(
    ("operation", "param"),
    [
        pytest.param(operation, param, id=f"{operation.name}-{param.name}")
        for operation in OPERATIONS
        for param in operation.params
    ],
)
def test_refused_before_sending(
    operation: Operation, param: Param, hosted: FakeButtDialServer, hosted_client: Client
) -> None:
    """A wrong type, an unknown value and an empty id are refused by name; nothing is sent."""
    for value in param.wrong:
        error = refused(operation, hosted_client, param.name, value)
        assert isinstance(error, TypeError), value
    if param.values:
        assert isinstance(refused(operation, hosted_client, param.name, "no such"), ValueError)
    if param.must_not_be_blank:
        assert isinstance(refused(operation, hosted_client, param.name, ""), ValueError)
        assert isinstance(refused(operation, hosted_client, param.name, " \n"), ValueError)
    assert hosted.requests == []


def test_whatsapp_action_takes_more(hosted: FakeButtDialServer, hosted_client: Client) -> None:
    """``**params`` go to the server in camelCase, those that are None do not go."""
    hosted_client.whatsapp.action("pin", message_id="m-1", ttlSeconds=60, chat_id=None)
    assert hosted.calls[0].args == {"action": "pin", "messageId": "m-1", "ttlSeconds": 60}


def test_defaults_are_the_catalogues() -> None:
    """What the schema check takes for a default is one."""
    expected: dict[str, dict[str, Any]] = {}
    for operation in TOOLS:
        for param in operation.params:
            if "default" in param.facts:
                defaults = expected.setdefault(operation.facts["tool"], {})
                defaults[param.facts["wire"]] = param.facts["default"]
    assert expected == {each.name: each.defaults for each in tool_operations() if each.defaults}


def test_other_names_are_the_catalogues() -> None:
    """The tables of the open-source server's names, and of what needs no question, are true."""
    tools: dict[str, str] = {}
    arguments: dict[str, dict[str, str]] = {}
    everywhere: dict[str, set[str]] = {}
    for operation in TOOLS:
        facts, name = operation.facts, operation.facts["tool"]
        if "tool_on_open_source_server" in facts:
            tools[name] = facts["tool_on_open_source_server"]
        for param in operation.params:
            if "wire_on_open_source_server" in param.facts:
                other = param.facts["wire_on_open_source_server"]
                arguments.setdefault(name, {})[param.facts["wire"]] = other
        if facts["on_open_source_server"] and name not in tools:
            constants = set(facts.get("constants", ()))
            required = {param.facts["wire"] for param in operation.params if param.required}
            everywhere[name] = (everywhere.get(name) or required | constants) & (
                required | constants
            )
    ours = tool_operations()
    assert tools == {each.name: each.open_source_name for each in ours if each.open_source_name}
    assert arguments == {
        each.name: each.open_source_names for each in ours if each.open_source_names
    }
    for each in ours:
        if each.shared is not None:
            assert set(each.shared) == everywhere[each.name]
            assert set(each.shared).isdisjoint(each.open_source_names)
