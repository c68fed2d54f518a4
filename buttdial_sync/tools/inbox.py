"""What comes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import Endpoint, ToolOperation
from buttdial_sync.models.inbox import WaitingMessages
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.family import Family
from buttdial_sync.transport.push_router import WAITING_PATH

InboundChannel = Literal["sms", "email", "whatsapp", "voice", "line"]

_WAITING_MESSAGES = Endpoint("GET", WAITING_PATH, WaitingMessages, query=("limit", "channel"))
_GET_MESSAGE_STATUS = ToolOperation("comms_get_message_status", ToolResult, reads_only=True)
_CALLBACK_URL = Endpoint("PUT", "/api/v1/callback-url", ToolResult)
_CHANGE_SUBSCRIPTION = ToolOperation("comms_subscribe_inbound", ToolResult)
_READ_SUBSCRIPTION = ToolOperation("comms_subscribe_inbound", ToolResult, reads_only=True)
_LIST_FILTERS = ToolOperation("comms_manage_inbound_filter", ToolResult, reads_only=True)
_CHANGE_FILTERS = ToolOperation("comms_manage_inbound_filter", ToolResult)


class Inbox(Family):
    """
    Messages to one agent, as ``client.inbox``. Safe to share between threads.

    Scope: agent.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        NotSupportedError: This server does not support the call or an argument. Nothing was done.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.

    Args:
        agent: Who speaks.
    """

    @checked
    def waiting(self, *, limit: int = 50, channel: InboundChannel | None = None) -> WaitingMessages:
        """
        Take the messages that wait for the agent off the server, and return them.

        They are those that could not be delivered to it. What is returned is deleted there.

        On the open-source server, opening a stream empties the queue without delivering: see
        ``before_open`` of :class:`~buttdial_sync.Client`.

        Calling it twice is not safe. So it is not repeated when its answer was lost.

        Args:
            limit: At most this many.
            channel: ``"sms"``, ``"email"``, ``"whatsapp"``, ``"voice"`` or ``"line"``; all when
                None.

        Raises:
            OutcomeUnknownError: The answer was lost, and the messages perhaps with it.
        """
        return self._call(_WAITING_MESSAGES, limit=limit, channel=channel)

    @checked
    def message_status(self, external_id: str) -> ToolResult:
        """
        Return what became of a message.

        Args:
            external_id: The id that sending it returned.
        """
        return self._call(_GET_MESSAGE_STATUS, external_id=external_id)

    @checked
    def set_callback_url(self, callback_url: str) -> ToolResult:
        """
        Set the address that messages to the agent are posted to.

        Calling it twice is safe.

        Args:
            callback_url: The address.
        """
        return self._call(_CALLBACK_URL, callback_url=callback_url)

    @checked
    def subscribe(
        self, *, channels: Sequence[str] | None = None, contacts: Sequence[str] | None = None
    ) -> ToolResult:
        """
        Have incoming messages pushed over the session.

        Calling it twice is safe.

        Args:
            channels: Only of these channels.
            contacts: Only from these contacts.
        """
        return self._call(
            _CHANGE_SUBSCRIPTION, operation="subscribe", channels=channels, contacts=contacts
        )

    @checked
    def subscription(self) -> ToolResult:
        """Return what is pushed over the session."""
        return self._call(_READ_SUBSCRIPTION, operation="status")

    @checked
    def unsubscribe(
        self, *, channels: Sequence[str] | None = None, contacts: Sequence[str] | None = None
    ) -> ToolResult:
        """
        Stop incoming messages from being pushed.

        Calling it twice is safe.

        Args:
            channels: Only of these channels.
            contacts: Only from these contacts.
        """
        return self._call(
            _CHANGE_SUBSCRIPTION, operation="unsubscribe", channels=channels, contacts=contacts
        )

    @checked
    def filters(self) -> ToolResult:
        """Return the filters of incoming messages."""
        return self._call(_LIST_FILTERS, operation="list")

    @checked
    def add_filter(
        self, filter_type: str, pattern: str, action: str, *, tag: str | None = None
    ) -> ToolResult:
        """
        Filter incoming messages.

        Calling it twice adds two filters.

        Args:
            filter_type: What it looks at, as in ``"sender"``.
            pattern: What it looks for.
            action: What happens to the message, as in ``"block"``.
            tag: What to mark it with.
        """
        return self._call(
            _CHANGE_FILTERS,
            operation="add",
            filter_type=filter_type,
            pattern=pattern,
            action=action,
            tag=tag,
        )

    @checked
    def delete_filter(self, filter_id: str) -> ToolResult:
        """
        Remove a filter.

        Calling it twice removes nothing more, but the server may object.

        Args:
            filter_id: The filter's id.
        """
        return self._call(_CHANGE_FILTERS, operation="delete", filter_id=filter_id)
