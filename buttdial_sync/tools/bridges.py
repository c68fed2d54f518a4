"""Call bridges: calls to a local number that are passed on."""

from __future__ import annotations

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.family import Family

_BRIDGE_CALL = ToolOperation("comms_bridge_call", ToolResult, reads_only=True, shared=("action",))
_SETUP_BRIDGE = ToolOperation("comms_bridge_call", ToolResult, shared=("action",))


class Bridges(Family):
    """The part of ``client.organization`` that is about call bridges."""

    @checked
    def bridges(self) -> ToolResult:
        """
        Return the call bridges.

        Scope: administrator of an organization. Calling it twice is safe.

        Returns:
            The server's answer.

        Raises:
            PermissionDeniedError: The token is not of this scope.
            ButtDialError: The server said no, or could not be reached.
        """
        return self._call(_BRIDGE_CALL, action="list")

    @checked
    def setup_bridge(
        self,
        *,
        from_number: str | None = None,
        local_number: str | None = None,
        destination_number: str | None = None,
        label: str | None = None,
    ) -> ToolResult:
        """
        Set up a call bridge: calls to a local number are passed on.

        Scope: administrator of an organization. Calling it twice sets up two.

        Args:
            from_number: A number in E.164 form.
            local_number: The number that is called.
            destination_number: The number that the calls are passed on to.
            label: Its name.

        Returns:
            The server's answer.

        Raises:
            PermissionDeniedError: The token is not of this scope.
            ArgumentNotSupported: This server would silently drop an argument.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _SETUP_BRIDGE,
            action="setup",
            from_number=from_number,
            local_number=local_number,
            destination_number=destination_number,
            label=label,
        )

    @checked
    def call_bridge(
        self, *, bridge_id: str | None = None, caller_number: str | None = None
    ) -> ToolResult:
        """
        Call over a bridge.

        Scope: administrator of an organization. Calling it twice makes two calls.

        Args:
            bridge_id: The bridge's id.
            caller_number: Who calls, as an E.164 number.

        Returns:
            The server's answer.

        Raises:
            PermissionDeniedError: The token is not of this scope.
            ArgumentNotSupported: This server would silently drop an argument.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _SETUP_BRIDGE,
            action="call",
            bridge_id=bridge_id,
            caller_number=caller_number,
        )

    @checked
    def remove_bridge(self, bridge_id: str) -> ToolResult:
        """
        Remove a call bridge.

        Scope: administrator of an organization. Calling it twice removes nothing more, but the
        server may object.

        Args:
            bridge_id: The bridge's id.

        Returns:
            The server's answer.

        Raises:
            PermissionDeniedError: The token is not of this scope.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(_SETUP_BRIDGE, action="remove", bridge_id=bridge_id)
