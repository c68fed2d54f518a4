"""Calling a tool in the words of the server that is there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from buttdial_sync.errors import InvalidRequestError
from buttdial_sync.tools.caller import AgentCaller
from buttdial_sync.tools.schema import fit, needs_schema
from buttdial_sync.transport.deadline import Deadline

T = TypeVar("T")

_AGENT_REQUIRED = re.compile(r"agent ?id is required", re.IGNORECASE)


def call_operation(
    caller: AgentCaller, name: str, arguments: Mapping[str, Any], *, reads_only: bool
) -> Any:
    """
    Call a tool under the names that this server knows, as often as it may be.

    Args:
        caller: Who calls.
        name: The tool's name on the hosted server.
        arguments: Its arguments, by their names there.
        reads_only: It changes nothing, so an unknown outcome is repeated.

    Returns:
        The decoded answer, or its text.

    Raises:
        NotSupportedError: This server cannot do it; nothing was sent.
        ToolError: The tool said no.
        OutcomeUnknownError: It may have been carried out.
        ButtDialError: Anything else.
    """
    token = caller.token(None)
    deadline = caller.runtime.deadline(None)
    return naming_agent(
        caller,
        token,
        lambda: caller.carry_out(
            name,
            lambda: attempt_operation(caller, name, arguments, token, deadline),
            deadline,
            reads_only=reads_only,
            has_key=lambda: caller.honours_key(name, arguments, token, deadline),
        ),
    )


def attempt_operation(
    caller: AgentCaller, name: str, arguments: Mapping[str, Any], token: str, deadline: Deadline
) -> Any:
    """
    Make one attempt at a tool, under the names that this server knows.

    The server's schema is asked for where it may lack the tool, or drop or misread an argument: see
    :func:`buttdial_sync.tools.schema.needs_schema`. So a call that every server understands costs
    one POST, and any other one more, once per session.
    """
    asks = caller.names_agent or needs_schema(name, arguments)
    if asks and caller.check_schema:
        agent_id = caller.identity.agent_id if _is_own(caller, token) else None
        tools = caller.tools(token, deadline)
        name, arguments = fit(tools, name, arguments, agent_id=agent_id)
    return caller.attempt_tool(name, arguments, token, deadline)


def naming_agent(caller: AgentCaller, token: str, all_attempts: Callable[[], T]) -> T:
    """
    Carry a call out; if the server has to be told for which agent, tell it from now on.

    A token of an organization stands for no single agent. Which kind a token is shows only by what
    the server says: "agentId is required" is a refusal, so nothing was carried out.
    """
    try:
        return all_attempts()
    except InvalidRequestError as refusal:
        if not _learns_to_name_agent(caller, token, refusal):
            raise
    return all_attempts()


def _learns_to_name_agent(caller: AgentCaller, token: str, refusal: InvalidRequestError) -> bool:
    learns = (
        caller.check_schema
        and not caller.names_agent
        and caller.identity.agent_id is not None
        and _is_own(caller, token)
        and refusal.outcome == "rejected"
        and _AGENT_REQUIRED.search(str(refusal)) is not None
    )
    caller.names_agent = caller.names_agent or learns
    return learns


def _is_own(caller: AgentCaller, token: str) -> bool:
    """Whether it is the token that belongs to the client's ``agent_id``."""
    return token == caller.identity.agent_token
