"""Sending a message: over the stream, with one REST request, or in the way that does no harm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buttdial_sync.calls.endpoint_call import EndpointCall
from buttdial_sync.calls.operation import HINTS, Endpoint
from buttdial_sync.calls.sending import check_accepted
from buttdial_sync.calls.tool_call import AgentContext, ToolCall
from buttdial_sync.errors import ArgumentNotSupported, ButtDialError
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


class StreamOrRestCall(ToolCall):
    """
    Sends a message over the stream; over REST where a stream would empty the waiting queue.

    Where the token goes shows only when a stream is opened. If it goes into the URL, the client
    refuses to open it, so nothing was sent, and REST is the same attempt.
    """

    def _attempt(self) -> Any:
        if not self._agent.sends_over_rest:
            try:
                return super()._attempt()
            except ButtDialError as error:
                if error.outcome != "not_sent" or not self._agent.sends_over_rest:
                    raise
        left = self.deadline.check("sending over REST")
        return send_over_rest(self._agent, self._arguments, self._token, left)._attempt()

    def _server_honours_key(self) -> bool:
        return not self._agent.sends_over_rest and super()._server_honours_key()
