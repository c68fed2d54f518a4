"""Making the calls of one agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from buttdial_sync.calls.endpoint_call import EndpointCall
from buttdial_sync.calls.operation import Endpoint, ToolOperation
from buttdial_sync.calls.tool_call import AgentIdentity, SessionCall, ToolCall
from buttdial_sync.connection import Connection
from buttdial_sync.errors import ArgumentTypeError, ConfigError
from buttdial_sync.models.tools import Tool
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.session import McpSession

T = TypeVar("T")


class AgentCaller:
    """
    Makes the calls of one agent. Safe to share between threads.

    Args:
        connection: The client's.
        identity: Who speaks unless a call says otherwise.
        check_schema: Whether the server's schemas are asked before something is sent.
    """

    def __init__(
        self, connection: Connection, identity: AgentIdentity, *, check_schema: bool = True
    ) -> None:
        self.connection = connection
        self.identity = identity
        self._check_schema = check_schema

    def as_agent(self, identity: AgentIdentity) -> AgentCaller:
        """Return a caller for another agent, on the same connection."""
        return AgentCaller(self.connection, identity, check_schema=self._check_schema)

    def token(self, agent_token: str | None = None) -> str:
        """
        Return the token to speak with.

        Raises:
            ConfigError: There is none.
        """
        token = self.identity.token if agent_token is None else agent_token
        if token is not None and not isinstance(token, str):
            raise ArgumentTypeError("agent_token must be text")
        if not token:
            raise ConfigError(
                "no agent_token",
                remediation="Give agent_token to the client or to the call, "
                "or set BUTT_DIAL_AGENT_TOKEN.",
            )
        return token

    def tool_call(
        self,
        tool: ToolOperation[Any],
        arguments: Mapping[str, Any],
        *,
        agent_token: str | None = None,
        timeout: float | None = None,
        check_schema: bool = True,
    ) -> ToolCall:
        """
        Prepare a call of a tool.

        Args:
            tool: Which.
            arguments: By their names on the hosted server.
            agent_token: Speak as another agent.
            timeout: In seconds, over everything.
            check_schema: False sends it as it is.

        Raises:
            ConfigError: There is no token.
        """
        return ToolCall(
            self.connection,
            tool,
            arguments,
            self.connection.deadline(timeout),
            agent=self.identity,
            token=self.token(agent_token),
            check_schema=check_schema and self._check_schema,
        )

    def endpoint_call(self, endpoint: Endpoint[Any], arguments: Mapping[str, Any]) -> EndpointCall:
        """
        Prepare a call of one of the agent's own endpoints.

        Args:
            endpoint: Which.
            arguments: By their names in Python.

        Raises:
            ConfigError: There is no token.
        """
        deadline = self.connection.deadline()
        return EndpointCall(self.connection, endpoint, arguments, deadline, credential=self.token())

    def ask_session(
        self,
        operation: str,
        question: Callable[[McpSession, Deadline], T],
        *,
        agent_token: str | None = None,
        timeout: float | None = None,
    ) -> T:
        """Ask the session something that changes nothing, such as a sign of life."""
        call = SessionCall(
            self.connection,
            operation,
            self.connection.deadline(timeout),
            token=self.token(agent_token),
            question=question,
        )
        answer: T = call.run()
        return answer

    def list_tools(
        self, *, agent_token: str | None = None, timeout: float | None = None
    ) -> list[Tool]:
        """Return the server's tools, asked once per session."""
        return self.ask_session(
            "tools/list", McpSession.list_tools, agent_token=agent_token, timeout=timeout
        )
