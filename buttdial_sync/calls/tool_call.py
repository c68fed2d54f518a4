"""Calling a tool, or asking the session itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from buttdial_sync.calls.answers import answer_of
from buttdial_sync.calls.call import Call
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.calls.schema import fit, needs_schema
from buttdial_sync.connection import Connection
from buttdial_sync.errors import ButtDialError, InvalidRequestError
from buttdial_sync.models.tools import Tool
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.session import McpSession

logger = logging.getLogger("buttdial_sync")

T = TypeVar("T")

_AGENT_REQUIRED = re.compile(r"agent ?id is required", re.IGNORECASE)


@attrs.define
class AgentIdentity:
    """
    Who speaks. Safe to share between threads: what changes is learned once and stays true.

    Attributes:
        agent_id: Its id.
        token: Its token.
        must_send_agent_id: The token turned out to be an organization's: it stands for no single
            agent, so that ``agentId`` has to go along.
    """

    agent_id: str | None = None
    token: str | None = attrs.field(default=None, repr=False)
    must_send_agent_id: bool = False


class SessionCall(Call):
    """
    A question to the session that changes nothing.

    Args:
        connection: The client's.
        operation: Its name, for events and messages.
        deadline: Over everything.
        token: Whose session.
        question: Asks it.
    """

    def __init__(
        self,
        connection: Connection,
        operation: str,
        deadline: Deadline,
        *,
        token: str,
        question: Callable[[McpSession, Deadline], Any],
    ) -> None:
        super().__init__(connection, operation, deadline, reads_only=True, secrets=(token,))
        self._token = token
        self._question = question

    def _attempt(self) -> Any:
        with self.connection.pool.session(self._token, self.deadline) as session:
            return self._question(session, self.deadline)


class ToolCall(Call):
    """
    A call of a tool.

    Args:
        connection: The client's.
        tool: Which.
        arguments: By their names on the hosted server.
        deadline: Over everything.
        agent: Who speaks.
        token: The token to speak with, which may be another than the agent's.
        check_schema: Whether the server's schemas may be asked before something is sent.
    """

    def __init__(
        self,
        connection: Connection,
        tool: ToolOperation[Any],
        arguments: Mapping[str, Any],
        deadline: Deadline,
        *,
        agent: AgentIdentity,
        token: str,
        check_schema: bool,
    ) -> None:
        super().__init__(
            connection, tool.name, deadline, reads_only=tool.reads_only, secrets=(token,)
        )
        self._tool = tool
        self._arguments = arguments
        self._agent = agent
        self._token = token
        self._check_schema = check_schema

    @property
    def idempotency_key(self) -> str | None:
        """The key that all attempts have in common."""
        return self._arguments.get("idempotencyKey")

    def _attempt(self) -> Any:
        try:
            return self._call_tool()
        except InvalidRequestError as refusal:
            if not self._learns_to_send_agent_id(refusal):
                raise
        return self._call_tool()  # nothing was carried out, so this is the same attempt

    def _call_tool(self) -> Any:
        """
        Call the tool under the names that this server knows.

        The server's schema is asked for where it may lack the tool, or drop or misread an argument.
        So a call that every server understands costs one POST, and any other one more, once per
        session.
        """
        name, arguments = self._tool.name, self._arguments
        if self._check_schema and (
            self._agent.must_send_agent_id or needs_schema(self._tool, arguments)
        ):
            tools = list_tools(self.connection, self._token, self.deadline)
            name, arguments = fit(tools, self._tool, arguments, agent_id=self._own_agent_id)
        with self.connection.pool.session(self._token, self.deadline) as session:
            params = {"name": name, "arguments": dict(arguments)}
            result = session.request("tools/call", params, self.deadline)
        answer = answer_of(result, name, self._token)
        if self._tool.check is not None:
            self._tool.check(answer)
        return answer

    def _server_honours_key(self) -> bool:
        if not self.idempotency_key:
            return False
        try:
            tools = list_tools(self.connection, self._token, self.deadline)
        except ButtDialError as error:
            logger.info(
                "cannot find out whether %s honours idempotency keys: %s", self._tool.name, error
            )
            return False
        return takes_key(tools, self._tool.name)

    @property
    def _own_agent_id(self) -> str | None:
        """The agent's id, if it is this agent's token that is spoken with."""
        return self._agent.agent_id if self._token == self._agent.token else None

    def _learns_to_send_agent_id(self, refusal: InvalidRequestError) -> bool:
        """
        Send ``agentId`` from now on, if that is what the server asks for.

        Which kind a token is shows only by what the server says: "agentId is required" is a
        refusal, so nothing was carried out.
        """
        learns = (
            self._check_schema
            and not self._agent.must_send_agent_id
            and self._own_agent_id is not None
            and refusal.outcome == "rejected"
            and _AGENT_REQUIRED.search(str(refusal)) is not None
        )
        self._agent.must_send_agent_id |= learns
        return learns


def list_tools(connection: Connection, token: str, deadline: Deadline) -> list[Tool]:
    """Return the server's tools; one attempt, asked once per session."""
    try:
        with connection.pool.session(token, deadline) as session:
            return session.list_tools(deadline)
    except ButtDialError as error:
        # Whatever became of the question, what it was asked for has not left.
        error.outcome = "rejected" if error.outcome == "rejected" else "not_sent"
        raise


def takes_key(tools: list[Tool], name: str) -> bool:
    """Whether the server carries out calls of a tool with the same key only once."""
    return any("idempotencyKey" in tool.properties for tool in tools if tool.name == name)
