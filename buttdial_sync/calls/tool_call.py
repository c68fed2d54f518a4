"""Calling a tool, or asking the session itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from buttdial_sync.calls.call import Call
from buttdial_sync.calls.operation import ToolOperation, check_answer
from buttdial_sync.calls.recipients import RecipientCheck
from buttdial_sync.calls.schema import fit, nearest_names
from buttdial_sync.connection import Connection
from buttdial_sync.errors import (
    ArgumentTypeError,
    ButtDialError,
    ConfigError,
    InvalidRequestError,
    ProtocolError,
    error_from_tool_answer,
)
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.models.tools import Tool
from buttdial_sync.settings import SendVia
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.http import decoded_text
from buttdial_sync.transport.session import McpSession

logger = logging.getLogger("buttdial_sync")

_AGENT_REQUIRED = re.compile(r"agent ?id is required", re.IGNORECASE)


@attrs.define
class AgentContext:
    """
    The agent that speaks, and its connection.

    Safe to share between threads: its one value that changes is learned once and then stays.

    Attributes:
        connection: The client's.
        agent_id: The agent's id.
        token: Its token.
        check_schema: Whether the server's schemas are asked before something is sent.
        send_via: How messages are sent.
        recipients: How recipients are checked.
        must_send_agent_id: The token turned out to be an organization's: it does not belong to
            one agent, so that ``agentId`` has to be sent too.
    """

    connection: Connection
    agent_id: str | None = None
    token: str | None = attrs.field(default=None, repr=False)
    check_schema: bool = True
    send_via: SendVia = "stream"
    recipients: RecipientCheck = attrs.field(factory=RecipientCheck)
    must_send_agent_id: bool = False

    def __attrs_post_init__(self) -> None:
        if self.token and self.agent_id:
            self.connection.router.name_agent(self.token, self.agent_id)

    @property
    def sends_over_rest(self) -> bool:
        """Whether messages go over REST, as far as is known."""
        if self.send_via == "auto":
            return self.connection.token_goes_into_url
        return self.send_via == "rest"

    def id_with(self, token: str | None) -> str | None:
        """Return the agent's id, if it is this agent's token that is spoken with."""
        return self.agent_id if token == self.token else None

    def token_or(self, agent_token: str | None) -> str:
        """
        Return the token to speak with: the given one, else the agent's.

        Raises:
            ConfigError: There is none.
        """
        token = self.token if agent_token is None else agent_token
        if token is not None and not isinstance(token, str):
            raise ArgumentTypeError("agent_token must be text")
        if not token:
            raise ConfigError(
                "no agent_token",
                remediation="Give agent_token to the client or to the call, "
                "or set BUTT_DIAL_AGENT_TOKEN.",
            )
        return Secret(token)


class SessionCall(Call):
    """
    A question to the session that changes nothing, such as a ping.

    Args:
        agent: The agent that asks.
        operation: The question's name, for events and messages.
        question: Asks it.
        agent_token: Ask as another agent.
        timeout: In seconds, over everything.

    Raises:
        ConfigError: There is no token.
    """

    def __init__(
        self,
        agent: AgentContext,
        operation: str,
        question: Callable[[McpSession, Deadline], Any],
        *,
        agent_token: str | None = None,
        timeout: float | None = None,
    ) -> None:
        self._token = agent.token_or(agent_token)
        self._question = question
        deadline = agent.connection.deadline(timeout)
        super().__init__(
            agent.connection,
            operation,
            deadline,
            reads_only=True,
            arguments={},
            credential=self._token,
        )

    def _attempt(self) -> Any:
        with self.connection.pool.session(self._token, self.deadline) as session:
            return self._question(session, self.deadline)


class ToolCall(Call):
    """
    A call of a tool.

    Args:
        agent: The agent that calls.
        tool: The tool.
        arguments: By their names on the hosted server.
        agent_token: Speak as another agent.
        timeout: In seconds, over everything.
        check_schema: False sends it as it is.

    Raises:
        ConfigError: There is no token.
    """

    def __init__(
        self,
        agent: AgentContext,
        tool: ToolOperation[Any],
        arguments: Mapping[str, Any],
        *,
        agent_token: str | None = None,
        timeout: float | None = None,
        check_schema: bool = True,
    ) -> None:
        self._agent = agent
        self._tool = tool
        self._token = agent.token_or(agent_token)
        self._check_schema = check_schema and agent.check_schema
        super().__init__(
            agent.connection,
            tool.name,
            agent.connection.deadline(timeout),
            reads_only=tool.reads_only,
            arguments=arguments,
            credential=self._token,
        )

    @property
    def idempotency_key(self) -> str | None:
        """The key that all attempts have in common."""
        return self._arguments.get("idempotencyKey")

    def nearest_tools(self) -> list[str]:
        """Return the server's tools whose names are like this one's; none if it does not say."""
        return nearest_names(self._tool.name, (tool.name for tool in self._tools_if_known()))

    def _attempt(self) -> Any:
        """
        Make one attempt; send ``agentId`` from now on, if that is what the server asks for.

        Which kind a token is shows only by what the server says: "agentId is required" is a
        refusal, so nothing was carried out, and calling again is the same attempt.
        """
        # Before the call: while it waits, another thread may learn it.
        was_told = self._agent.must_send_agent_id
        try:
            return self._call_tool()
        except InvalidRequestError as refusal:
            if was_told or not self._is_for_lack_of_agent_id(refusal):
                raise
        self._agent.must_send_agent_id = True
        return self._call_tool()

    def _call_tool(self) -> Any:
        """
        Call the tool under the names that this server knows.

        The server's schema is asked for where it may lack the tool, or drop or misread an argument.
        So a call that every server understands costs one POST, and any other one more, once per
        session.
        """
        name, arguments = self._tool.name, self._arguments
        if self._check_schema and (
            self._agent.must_send_agent_id or not self._tool.is_understood_everywhere(arguments)
        ):
            tools = list_tools(self.connection, self._token, self.deadline)
            name, arguments = fit(tools, self._tool, arguments, agent_id=self._own_agent_id)
        with self.connection.pool.session(self._token, self.deadline) as session:
            params = {"name": name, "arguments": dict(arguments)}
            result = session.request("tools/call", params, self.deadline)
        answer = _answer_of(result, name)
        check_answer(answer, self._tool.check)
        return answer

    def _server_honours_key(self) -> bool:
        if not self.idempotency_key:
            return False
        return takes_key(self._tools_if_known(), self._tool.name)

    def _tools_if_known(self) -> list[Tool]:
        try:
            return list_tools(self.connection, self._token, self.deadline)
        except ButtDialError as error:
            logger.info("the server's tools are not known: %s", error.message)
            return []

    @property
    def _own_agent_id(self) -> str | None:
        return self._agent.id_with(self._token)

    def _is_for_lack_of_agent_id(self, refusal: InvalidRequestError) -> bool:
        return (
            self._check_schema
            and self._own_agent_id is not None
            and refusal.outcome == "rejected"
            and _AGENT_REQUIRED.search(str(refusal)) is not None
        )


def list_tools(connection: Connection, token: str, deadline: Deadline) -> list[Tool]:
    """Return the server's tools; one attempt, asked once per session."""
    try:
        with connection.pool.session(token, deadline) as session:
            return session.list_tools(deadline)
    except ButtDialError as error:
        # Asking for the tools has failed, so the call itself was certainly not sent.
        error.outcome = "rejected" if error.outcome == "rejected" else "not_sent"
        raise


def takes_key(tools: list[Tool], name: str) -> bool:
    """Whether the server carries out calls of a tool with the same key only once."""
    return any("idempotencyKey" in tool.properties for tool in tools if tool.name == name)


def _answer_of(result: Mapping[str, Any], tool: str) -> Any:
    """
    Return a tool's answer: decoded JSON, or its text if it is not JSON.

    Raises:
        ToolError: The result is marked as an error.
        ProtocolError: It has no content. Its ``outcome`` is ``"unknown"``.
    """
    contents = _contents(result)
    answer = next(iter(contents), None)
    if result.get("isError") is True:
        raise error_from_tool_answer(answer)
    if not contents:
        raise ProtocolError(
            f"{tool} answered without content", stage="parse", outcome="unknown", body=dict(result)
        )
    return answer


def _contents(result: Mapping[str, Any]) -> list[Any]:
    """Return the answer in a list, which is empty where there is none: JSON null is an answer."""
    items = result.get("content")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, Mapping) and isinstance(item.get("text"), str):
            return [decoded_text(item["text"])]
    structured = result.get("structuredContent")
    return [] if structured is None else [structured]
