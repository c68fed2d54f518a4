"""Every operation of a workspace, compared with the catalogue of what goes over the wire."""

from __future__ import annotations

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest

import buttdial_sync
from buttdial_sync import (
    AccountsClient,
    AccountsView,
    ArgumentNotSupported,
    ArgumentTypeError,
    ArgumentValueError,
    ConfigError,
    ToolError,
)
from buttdial_sync.testing import FakeButtDialServer, Request
from buttdial_sync.testing.dialects import DialectName

from .catalogue import Operation, docstring, operations

pytestmark = pytest.mark.filterwarnings(r"ignore:.*is deprecated:DeprecationWarning")

OPERATIONS = {operation.name: operation for operation in operations("AccountsClient")}
ROTATION = "rotate_token"
SINGLE = [name for name in OPERATIONS if name != ROTATION]
BASE_URL = "https://butt-dial.test"
TEAM_TOKEN = "team-s3cret"
ODD_ID = "a/b c?&é%2F"

# One answer that has every required field of every result.
ANSWER = {
    "orgId": "o",
    "status": "pending",
    "token": "t",
    "agentId": "a",
    "challenge_id": "c",
    "erasureRequestId": "e",
}


def arguments_of(operation: Operation, *, everything: bool) -> dict[str, Any]:
    if operation.name == ROTATION:
        return {"otp_prompt": str}
    given = operation.arguments(only_required=not everything)
    for param in operation.params:
        if param.name in given and param.place in {"path", "query"}:
            given[param.name] = ODD_ID
        elif param.name in given and param.place != "wire":
            given[param.name] = f"{param.name}-s3cret"
    return given


class Recorder:
    """Calls methods and keeps the requests that left."""

    def __init__(self, dialect: DialectName = "hosted") -> None:
        self.fake = FakeButtDialServer(dialect=dialect)
        self.answer(ANSWER)

    def answer(self, answer: Any) -> None:
        """Answer every request with this."""
        for method in ("GET", "POST", "PATCH", "DELETE"):
            for parts in range(2, 7):
                path = "".join(f"/{{p{number}}}" for number in range(parts))
                self.fake.on_rest(method, path, answer, public=True)

    def call(self, name: str, **arguments: Any) -> Request:
        with (
            self.fake.mocked(BASE_URL),
            AccountsClient(BASE_URL, team_token=TEAM_TOKEN) as client,
        ):
            getattr(client, name)(**arguments)
        (request,) = self.fake.requests
        return request


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def credential_of(operation: Operation, given: Mapping[str, Any]) -> str | None:
    kinds: dict[str, str | None] = {
        "none": None,
        "team token": TEAM_TOKEN,
        "webhook secret": given.get("webhook_secret"),
        "poll token if given, else team token": given.get("poll_token", TEAM_TOKEN),
    }
    return kinds[operation.facts["auth"]]


@pytest.mark.parametrize("name", SINGLE)
def test_a_no_is_never_taken_for_done(recorder: Recorder, name: str) -> None:
    """Servers also say no with a 200: it raises, with the why."""
    recorder.answer({**ANSWER, "token": None, "success": False, "error": "not today"})
    with pytest.raises(ToolError, match="not today") as caught:
        recorder.call(name, **arguments_of(OPERATIONS[name], everything=False))
    assert caught.value.outcome == "rejected"


@pytest.mark.parametrize("everything", [True, False], ids=["everything", "required"])
@pytest.mark.parametrize("name", SINGLE)
def test_request_is_the_catalogues(recorder: Recorder, name: str, everything: bool) -> None:
    """Method, path, query, body, headers and credential are the catalogue's, with odd ids too."""
    operation = OPERATIONS[name]
    given = arguments_of(operation, everything=everything)
    extra = {"some_Extra": {"kept": None}} if "extra" in operation.facts and everything else {}
    request = recorder.call(name, **given, **extra)
    assert request.method == operation.method
    assert request.path == re.sub(
        r"{(\w+)}", lambda found: quote(given[found[1]], safe=""), operation.path
    )
    assert request.query == operation.sent(given, "query")
    wanted = {**operation.sent(given), **extra}
    assert (request.json if request.body else {}) == wanted
    assert request.bearer == credential_of(operation, given)
    check_extra_headers(operation, given, request)


def check_extra_headers(operation: Operation, given: Mapping[str, Any], request: Request) -> None:
    named = operation.facts.get("extra_headers", [])
    key = request.headers.get("idempotency-key")
    assert (key is not None) == ("idempotency_key" in operation.facts["params"])
    if "idempotency_key" in given:
        assert key == given["idempotency_key"]
    elif key is not None:
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f-]{17}", key)
    nonce = request.headers.get("x-request-nonce")
    assert (nonce is not None) == ("X-Request-Nonce" in named)
    assert ("x-request-timestamp" in request.headers) == ("X-Request-Timestamp" in named)
    if nonce is not None:
        assert re.fullmatch(r"[0-9a-f]{32}", nonce)


def refusals() -> Iterator[Any]:
    """Each parameter with each value that it must not have."""
    for name, operation in OPERATIONS.items():
        if name == ROTATION:
            yield pytest.param(name, "otp_prompt", "123456", ArgumentTypeError)
            continue
        for param in operation.params:
            wrong: list[tuple[Any, type[ConfigError]]] = []
            wrong += [(value, ArgumentTypeError) for value in param.wrong]
            wrong += [(value, ArgumentValueError) for value in ("", " ") if param.must_not_be_blank]
            wrong += [("nonsense", ArgumentValueError)] if param.values else []
            wrong += [(dots, ArgumentValueError) for dots in (".", "..") if param.place == "path"]
            wrong += _NOT_JSON.get(param.facts["type"], [])
            yield from (pytest.param(name, param.name, value, kind) for value, kind in wrong)


_NOT_JSON: Mapping[str, list[tuple[Any, type[ConfigError]]]] = {
    "object": [({"moment": object()}, ArgumentTypeError), ({"n": [math.inf]}, ArgumentValueError)],
    "float": [(math.nan, ArgumentValueError)],
}


@pytest.mark.parametrize(("name", "argument", "value", "kind"), list(refusals()))
def test_wrong_arguments_are_refused_before_sending(
    name: str, argument: str, value: Any, kind: type[ConfigError]
) -> None:
    """A wrong type, value, blank or dot segment raises, naming its parameter; nothing leaves."""
    given = arguments_of(OPERATIONS[name], everything=False)
    fake = FakeButtDialServer()
    with (
        fake.mocked(BASE_URL),
        AccountsClient(BASE_URL, team_token=TEAM_TOKEN) as client,
        pytest.raises(kind, match=argument),
    ):
        getattr(client, name)(**{**given, argument: value})
    assert fake.requests == []


@pytest.mark.parametrize("name", SINGLE)
def test_team_token_is_asked_for_where_it_is_needed(name: str) -> None:
    """Without a team token nothing leaves, and the error says how to give one."""
    operation = OPERATIONS[name]
    if "team token" not in operation.facts["auth"]:
        return
    fake = FakeButtDialServer()
    with (
        fake.mocked(BASE_URL),
        AccountsClient(BASE_URL) as client,
        pytest.raises(ConfigError, match="team_token") as caught,
    ):
        getattr(client, name)(**arguments_of(operation, everything=False))
    assert "BUTT_DIAL_TEAM_TOKEN" in str(caught.value.remediation)
    assert fake.requests == []


def test_rotation_is_two_requests() -> None:
    """``rotate_token`` asks, prompts with the phone's hint, and confirms."""
    fake = FakeButtDialServer()
    first, second = (step["path"] for step in OPERATIONS[ROTATION].facts["http"])
    fake.on_rest("POST", first, {"challenge_id": "c-1", "phone_hint": "…0123"})
    fake.on_rest("POST", second, {"token": "new-s3cret"})
    hints: list[str] = []

    def prompt(hint: str) -> str:
        hints.append(hint)
        return "123456"

    with fake.mocked(BASE_URL), AccountsClient(BASE_URL, team_token=TEAM_TOKEN) as client:
        assert client.rotate_token(prompt).team_token == "new-s3cret"
    assert [(request.path, request.json) for request in fake.requests] == [
        (first, {}),
        (second, {"challengeId": "c-1", "otp": "123456"}),
    ]
    assert hints == ["…0123"]
    assert {request.bearer for request in fake.requests} == {TEAM_TOKEN}


def test_every_operation_has_its_method_and_no_other_is_there() -> None:
    """The public methods are the catalogue's operations and the client's own life."""
    own = {"from_env", "with_token", "close", "forget_refusals"}
    methods = {name for name, _ in public_methods()}
    assert methods - own == set(OPERATIONS)


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_parameters_are_the_catalogues(name: str) -> None:
    """Names and defaults are the catalogue's; what is required may be given by position."""
    parameters = dict(inspect.signature(getattr(AccountsClient, name)).parameters)
    del parameters["self"]
    if "extra" in OPERATIONS[name].facts:
        assert parameters.pop("extra").kind is inspect.Parameter.VAR_KEYWORD
    assert list(parameters) == [param.name for param in OPERATIONS[name].params]
    for param in OPERATIONS[name].params:
        parameter = parameters[param.name]
        if param.required:
            assert parameter.default is parameter.empty
            assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        else:
            assert parameter.default == param.facts.get("default")


def public_methods() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, method in inspect.getmembers(AccountsClient, callable):
        if not name.startswith("_"):
            yield name, method


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_documentation_is_complete(name: str) -> None:
    """A method says what it does and takes, and what a second call does, unless it only reads."""
    operation = OPERATIONS[name]
    text = docstring(getattr(AccountsClient, name))
    assert operation.facts["scope"] == "workspace" or f"Scope: {operation.facts['scope']}" in text
    assert ("Calling it twice" in text) != operation.facts["reads_only"]
    for param in operation.params:
        assert f" {param.name}: " in text


def test_what_all_share_is_said_once() -> None:
    """The class says what all its methods return and raise, and their scope."""
    text = docstring(AccountsView)
    for part in ("Scope: workspace", "Returns: ", "Raises: ", "OutcomeUnknownError: "):
        assert part in text


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_methods_are_short(name: str) -> None:
    """A method is its docstring and one or two statements, with every argument checked."""
    method = getattr(AccountsClient, name)
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(method)))).body
    assert isinstance(tree, ast.FunctionDef)
    assert len(tree.body) <= 3
    assert [ast.unparse(decorator) for decorator in tree.decorator_list] == ["checked"]


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_results_are_exported(name: str) -> None:
    """What a method returns can be imported from the package."""
    returned = inspect.unwrap(getattr(AccountsClient, name)).__annotations__["return"]
    assert getattr(buttdial_sync, returned).__name__ == returned


@pytest.mark.parametrize("name", ["onboard", "provision_channels"])
def test_names_of_the_other_server(name: str) -> None:
    """The open-source server's own key is used once its answer asks for it, and remembered."""
    fake = FakeButtDialServer(dialect="open-source")
    operation = OPERATIONS[name]
    given = arguments_of(operation, everything=True)
    for param in operation.params:
        if "dropped_on_open_source_server" in param.facts:
            del given[param.name]
    other = {
        param.facts["wire"]: param.facts["wire_on_open_source_server"]
        for param in operation.params
        if "wire_on_open_source_server" in param.facts
    }
    with (
        fake.mocked(BASE_URL),
        AccountsClient(BASE_URL, team_token=TEAM_TOKEN) as client,
    ):
        method = getattr(client, name)
        assert method(**given).agent_token
        assert method(**{**given, "agent_id": "another"}).agent_token
    written = [request.json for request in fake.requests]
    hosted = operation.sent(given)
    unasked = {param.facts["wire"] for param in operation.params if param.name not in given}
    renamed = {other.get(key, key): hosted[key] for key in hosted.keys() - unasked}
    assert other
    assert written == [hosted, renamed, {**renamed, "agentId": "another"}]


@pytest.mark.parametrize(
    ("name", "argument", "wire"),
    [
        (operation.name, param.name, param.facts["wire"])
        for operation in OPERATIONS.values()
        for param in operation.params
        if "dropped_on_open_source_server" in param.facts
    ],
)
def test_what_the_other_server_would_drop(name: str, argument: str, wire: str) -> None:
    """It is refused where it was given, before the server carries the call out without it."""
    fake = FakeButtDialServer(dialect="open-source")
    operation = OPERATIONS[name]
    given = arguments_of(operation, everything=False)
    unwanted = arguments_of(operation, everything=True)[argument]
    with (
        fake.mocked(BASE_URL),
        AccountsClient(BASE_URL, team_token=TEAM_TOKEN) as client,
    ):
        method = getattr(client, name)
        for _ in range(2):
            with pytest.raises(ArgumentNotSupported, match=rf"does not know {wire}(\n|$)"):
                method(**given, **{argument: unwanted})
        assert fake.workspace.agents == {}
        assert method(**given).agent_token


def test_other_path_of_the_other_server() -> None:
    """A page instead of JSON leads to the open-source server's path, once; it is remembered."""
    fake = FakeButtDialServer(dialect="open-source")
    operation = OPERATIONS["set_client_limits"]
    with fake.mocked(BASE_URL), AccountsClient(BASE_URL, team_token=TEAM_TOKEN) as client:
        for _ in range(2):
            limits = client.set_client_limits({"maxActionsPerDay": 7}).current_limits
            assert limits["maxActionsPerDay"] == 7
    hosted, other = operation.path, operation.facts["path_on_open_source_server"]
    assert [request.path for request in fake.requests] == [hosted, other, other]
