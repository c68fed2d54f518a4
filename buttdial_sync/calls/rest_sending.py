"""Sending a message with one REST request, without a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buttdial_sync.calls.endpoint_call import EndpointCall
from buttdial_sync.calls.operation import HINTS, Endpoint
from buttdial_sync.calls.sending import check_accepted
from buttdial_sync.calls.tool_call import AgentContext
from buttdial_sync.errors import ArgumentNotSupported
from buttdial_sync.models.sending import SendResult

_SEND = Endpoint("POST", "/api/v1/send-message", SendResult, check=check_accepted)
_KNOWN = frozenset({"to", "body", "channel", "subject", "html", "templateId", "templateVars"})


def send_over_rest(
    agent: AgentContext, arguments: Mapping[str, Any], token: str, timeout: float | None
) -> EndpointCall:
    """
    Make the call that sends a message.

    Args:
        agent: Who sends.
        arguments: The message, by its names on the wire.
        token: To send with.
        timeout: In seconds, over everything.

    Raises:
        ArgumentNotSupported: The endpoint would silently drop an argument.
    """
    dropped = sorted(arguments.keys() - _KNOWN - HINTS)
    if dropped and agent.check_schema:
        raise ArgumentNotSupported(
            f"{_SEND.name} does not know {', '.join(dropped)}",
            remediation='Leave it out, or send over the stream (send_via="stream").',
        )
    return EndpointCall(
        agent.connection, _SEND, {}, credential=token, extra=arguments, agent=agent, timeout=timeout
    )
