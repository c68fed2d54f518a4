"""The one way from a tool family to the server and back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from buttdial_sync.errors import (
    ArgumentTypeError,
    AuthError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    OutcomeUnknownError,
)
from buttdial_sync.models.converter import structure
from buttdial_sync.models.tools import Tool
from buttdial_sync.tools.answers import answer_of
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.pool import SessionPool
from buttdial_sync.transport.rest import Rest
from buttdial_sync.transport.runtime import Runtime
from buttdial_sync.transport.session import McpSession

logger = logging.getLogger("buttdial_sync")

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Identity:
    """Who a client speaks as."""

    agent_id: str | None = None
    agent_token: str | None = attrs.field(default=None, repr=False)


class AgentCaller:
    """
    Calls tools and agent endpoints. Safe to share between threads.

    Args:
        runtime: Attempts, events, deadlines.
        pool: The live sessions.
        rest: The REST side of the same server.
        identity: Who speaks unless a call says otherwise.
        check_schema: Whether the server's schemas are asked before something is sent.

    Attributes:
        names_agent: Whether the token turned out to need an ``agentId`` beside it.
    """

    def __init__(
        self,
        runtime: Runtime,
        pool: SessionPool,
        rest: Rest,
        identity: Identity,
        *,
        check_schema: bool = True,
    ) -> None:
        self.runtime = runtime
        self.pool = pool
        self.rest = rest
        self.identity = identity
        self.check_schema = check_schema
        self._tools: tuple[object, list[Tool]] | None = None
        self.names_agent = False

    def speaking_as(self, identity: Identity) -> AgentCaller:
        """Return a caller for another agent, on the same connections."""
        return AgentCaller(
            self.runtime, self.pool, self.rest, identity, check_schema=self.check_schema
        )

    def token(self, agent_token: str | None) -> str:
        """
        Return the token to speak with.

        Raises:
            ConfigError: There is none.
        """
        token = self.identity.agent_token if agent_token is None else agent_token
        if token is not None and not isinstance(token, str):
            raise ArgumentTypeError("agent_token must be text")
        if not token:
            raise ConfigError(
                "no agent_token",
                remediation="Give agent_token to the client or to the call, "
                "or set BUTT_DIAL_AGENT_TOKEN.",
            )
        return token

    def attempt_tool(
        self, name: str, arguments: Mapping[str, Any], token: str, deadline: Deadline
    ) -> Any:
        """Make one attempt at a tool and return its decoded answer."""
        with self.pool.session(token, deadline) as session:
            params = {"name": name, "arguments": dict(arguments)}
            return answer_of(session.request("tools/call", params, deadline), name, token)

    def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        agent_token: str | None = None,
        timeout: float | None = None,
        reads_only: bool = False,
    ) -> Any:
        """
        Call a tool, as often as it may be.

        Args:
            name: The tool.
            arguments: Its arguments, by their names on the wire.
            agent_token: Speak as another agent.
            timeout: In seconds, over everything.
            reads_only: It changes nothing, so an unknown outcome is repeated.

        Returns:
            The decoded answer, or its text.

        Raises:
            ToolError: The tool said no.
            OutcomeUnknownError: It may have been carried out.
            ButtDialError: Anything else.
        """
        token = self.token(agent_token)
        deadline = self.runtime.deadline(timeout)
        sent = dict(arguments or {})
        return self.carry_out(
            name,
            lambda: self.attempt_tool(name, sent, token, deadline),
            deadline,
            reads_only=reads_only,
            has_key=lambda: self.honours_key(name, sent, token, deadline),
        )

    def call_rest(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        reads_only: bool = False,
    ) -> Any:
        """
        Call one of the agent's own REST endpoints, as often as it may be.

        Args:
            method: The HTTP method.
            path: The path.
            query: Goes into the URL.
            body: Goes into the body as JSON.
            reads_only: It changes nothing, so an unknown outcome is repeated.

        Returns:
            The decoded answer; None for an empty one.

        Raises:
            EndpointNotAvailable: The server has no such endpoint.
            OutcomeUnknownError: It may have been carried out.
            ButtDialError: Anything else.
        """
        token = self.token(None)
        deadline = self.runtime.deadline(None)
        return self.carry_out(
            f"{method} {path}",
            lambda: self.rest.call(
                method, path, deadline, credential=token, query=query, body=body
            ),
            deadline,
            reads_only=reads_only,
        )

    def carry_out(
        self,
        operation: str,
        attempt: Callable[[], T],
        deadline: Deadline,
        *,
        reads_only: bool,
        has_key: Callable[[], bool] = lambda: False,
    ) -> T:
        """
        Make attempts until one succeeds or must not be repeated.

        Args:
            operation: For events and messages.
            attempt: One attempt.
            deadline: Over all of them.
            reads_only: It changes nothing, so an unknown outcome is repeated.
            has_key: Whether the server carries out a repetition only once. Asked only after an
                unknown outcome.

        Raises:
            OutcomeUnknownError: It may have been carried out.
            ButtDialError: Anything else.
        """
        try:
            return self.runtime.run(
                operation, attempt, deadline, may_repeat_unknown=lambda: reads_only or has_key()
            )
        except ButtDialError as error:
            failure = final_error(error, operation, reads_only=reads_only)
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame, and so the whole client

    def ask_session(
        self,
        operation: str,
        question: Callable[[McpSession, Deadline], T],
        *,
        agent_token: str | None = None,
        timeout: float | None = None,
    ) -> T:
        """Ask the session something that changes nothing, such as its tools."""
        token = self.token(agent_token)
        deadline = self.runtime.deadline(timeout)

        def attempt() -> T:
            with self.pool.session(token, deadline) as session:
                return question(session, deadline)

        return self.runtime.run(operation, attempt, deadline, may_repeat_unknown=lambda: True)

    def tools(self, token: str, deadline: Deadline) -> list[Tool]:
        """Return the server's tools; one attempt, asked once per session."""
        try:
            with self.pool.session(token, deadline) as session:
                listed = session.list_tools(deadline)
            known = self._tools
            if known is None or known[0] is not listed:
                known = listed, structure(listed, list[Tool], source="tools/list")
                self._tools = known
        except ButtDialError as error:
            # Whatever became of the question, what it was asked for has not left.
            error.outcome = "rejected" if error.outcome == "rejected" else "not_sent"
            raise
        return known[1]

    def honours_key(
        self, name: str, arguments: Mapping[str, Any], token: str, deadline: Deadline
    ) -> bool:
        """Whether the server carries out calls with the same idempotency key only once."""
        if not arguments.get("idempotencyKey"):
            return False
        try:
            tools = self.tools(token, deadline)
        except ButtDialError as error:
            logger.info("cannot find out whether %s honours keys: %s", name, error)
            return False
        return _takes_key(tools, name)

    def tool_honours_keys(
        self, name: str, *, agent_token: str | None = None, timeout: float | None = None
    ) -> bool:
        """
        Ask whether the server carries out calls of a tool with the same key only once.

        Raises:
            ButtDialError: It could not be asked.
        """
        token = self.token(agent_token)
        deadline = self.runtime.deadline(timeout)
        tools = self.runtime.run(
            "tools/list",
            lambda: self.tools(token, deadline),
            deadline,
            may_repeat_unknown=lambda: True,
        )
        return _takes_key(tools, name)


def _takes_key(tools: list[Tool], name: str) -> bool:
    return any("idempotencyKey" in tool.properties for tool in tools if tool.name == name)


def final_error(error: ButtDialError, operation: str, *, reads_only: bool) -> ButtDialError:
    """Return what the caller is told: an unknown outcome has a class of its own."""
    told_as_it_is = (OutcomeUnknownError, AuthError, ClientClosedError)
    if error.outcome != "unknown" or reads_only or isinstance(error, told_as_it_is):
        return error
    unknown = OutcomeUnknownError(
        f"{operation} may have been carried out: {error}",
        code=error.code,
        stage=error.stage,
        status_code=error.status_code,
        body=error.body,
        retry_after=error.retry_after,
    )
    unknown.__cause__ = error
    return unknown
