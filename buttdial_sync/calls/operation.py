"""Operations: the facts about a tool or an endpoint, before anybody calls it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

import attrs

from buttdial_sync.errors import ArgumentValueError, error_from_tool_answer
from buttdial_sync.errors.scrubbing import secrets_in
from buttdial_sync.models.names import camel_case

T = TypeVar("T")
Auth = Literal["token", "given", "none"]
AnswerCheck = Callable[[Any], None]

HINTS = frozenset(
    {"idempotencyKey", "threadId", "entityId", "replyMsgId", "senderName", "targetGender"}
)
"""Arguments that a server may drop: what is done stays the same."""


@attrs.frozen
class ToolOperation(Generic[T]):
    """
    A tool.

    Attributes:
        name: Its name on the hosted server.
        result: The type of its result.
        reads_only: It changes nothing, so an unknown outcome is repeated.
        shared: The arguments that every server knows under the same name. None where a server may
            lack the tool, or has it under another name.
        open_source_name: Its name on the open-source server, where that is another.
        open_source_names: Arguments that the open-source server calls otherwise.
        defaults: Arguments that the method sends although nobody gave them. A caller loses nothing
            where a server does not know them.
        agent_id_is_subject: Its ``agentId`` is the subject of the call, not the agent that speaks.
        recipients: The arguments that are recipients, and the channel that reaches each.
        without_tool: The advice for a server that lacks the tool, where there is another way.
        check: Looks at the decoded answer, and raises if it is not a yes. With or without one,
            ``success`` false is a no.
    """

    name: str
    result: type[T]
    reads_only: bool = attrs.field(default=False, kw_only=True)
    shared: tuple[str, ...] | None = attrs.field(default=None, kw_only=True)
    open_source_name: str | None = attrs.field(default=None, kw_only=True)
    open_source_names: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    defaults: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    agent_id_is_subject: bool = attrs.field(default=False, kw_only=True)
    recipients: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    without_tool: str | None = attrs.field(default=None, kw_only=True)
    check: AnswerCheck | None = attrs.field(default=None, kw_only=True)

    def is_understood_everywhere(self, arguments: Mapping[str, Any]) -> bool:
        """Whether every server has the tool, and none drops or misreads one of these arguments."""
        shared = self.shared
        return shared is not None and all(
            key in shared or key in HINTS or self.is_default(key, value)
            for key, value in arguments.items()
        )

    def is_default(self, key: str, value: Any) -> bool:
        """Whether the method sends this argument although nobody gave it."""
        return key in self.defaults and bool(self.defaults[key] == value)


@attrs.frozen(kw_only=True)
class Variant:
    """
    How one kind of server names an endpoint and its body's keys.

    Attributes:
        path: The path.
        names: The body's keys that it names in its own way.
        schema: The JSON schema of the body that it reads; empty where it reads all of it.
    """

    path: str
    names: Mapping[str, str] = attrs.field(factory=dict)
    schema: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Endpoint(Generic[T]):
    """
    A REST endpoint.

    Attributes:
        method: The HTTP method.
        path: The path, with ``{name}`` where an argument goes.
        result: The type of its result.
        auth: Whose credential goes with it: the client's own ``"token"`` (unless the call gives
            another), one ``"given"`` by the call, or ``"none"``.
        reads_only: It changes nothing, so an unknown outcome is repeated.
        query: The arguments that go into the URL under their own names.
        takes_key: It honours an ``Idempotency-Key``.
        is_signed: It wants a timestamp and a fresh nonce with each request.
        spell: Converts argument names to JSON keys.
        names: Names that ``spell`` does not find.
        open_source_path: The path on the open-source server, where it is another.
        open_source_names: Keys of the body that the open-source server calls otherwise.
        open_source_schema: The JSON schema of the body that the open-source server reads, where it
            drops the rest silently.
        defaults: Keys of the body that the method sends although nobody gave them. A caller loses
            nothing where a server does not know them.
        check: Looks at the decoded answer, and raises if it is not a yes. With or without one,
            ``success`` false is a no.
        always_names_agent: ``agentId`` is sent wherever it is known: without it, a token of an
            organization gets an answer about all agents.
    """

    method: str
    path: str
    result: type[T]
    auth: Auth = attrs.field(default="token", kw_only=True)
    reads_only: bool = attrs.field(default=False, kw_only=True)
    query: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    takes_key: bool = attrs.field(default=False, kw_only=True)
    is_signed: bool = attrs.field(default=False, kw_only=True)
    spell: Callable[[str], str] = attrs.field(default=camel_case, kw_only=True)
    names: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    open_source_path: str | None = attrs.field(default=None, kw_only=True)
    open_source_names: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    open_source_schema: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    defaults: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True)
    check: AnswerCheck | None = attrs.field(default=None, kw_only=True)
    always_names_agent: bool = attrs.field(default=False, kw_only=True)

    @property
    def name(self) -> str:
        """Its name in logs and events."""
        return f"{self.method} {self.path}"

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The ways to write it, the hosted server's first."""
        hosted = Variant(path=self.path)
        if not (self.open_source_path or self.open_source_names):
            return (hosted,)
        other = Variant(
            path=self.open_source_path or self.path,
            names=self.open_source_names,
            schema=self.open_source_schema,
        )
        return hosted, other

    def key_of(self, argument: str) -> str:
        """Return the body's key for an argument."""
        return self.names.get(argument) or self.spell(argument)

    def is_in_body(self, argument: str) -> bool:
        """Whether an argument goes into the body, and not into the path or the query."""
        return argument not in self.query and f"{{{argument}}}" not in self.path


def check_answer(answer: Any, check: AnswerCheck | None) -> None:
    """
    Raise if a decoded answer is a no.

    A server may say no in an answer that is not marked as an error, with ``success`` false. An
    answer that brings a credential is not one, whatever it says: something was made, and the
    credential comes only this once.

    Args:
        answer: The decoded answer.
        check: The operation's own check, if it has one.

    Raises:
        ToolError: It is a refusal.
        ButtDialError: The check's.
    """
    if (
        isinstance(answer, Mapping)
        and answer.get("success") is False
        and not any(secrets_in(answer))
    ):
        raise error_from_tool_answer(answer)
    if check is not None:
        check(answer)


def fill_path(template: str, arguments: Mapping[str, Any]) -> str:
    """
    Put arguments into a path, each one quoted as a single part of it.

    Raises:
        ArgumentValueError: One is ``.`` or ``..``, which no URL can hold: it would name another
            endpoint.
    """
    for name in re.findall(r"{(\w+)}", template):
        if arguments[name] in {".", ".."}:
            raise ArgumentValueError(f"{name} must not be {arguments[name]!r}")
    return re.sub(r"{(\w+)}", lambda found: quote(arguments[found[1]], safe=""), template)
