"""WhatsApp beyond sending text."""

from __future__ import annotations

from typing import Any

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.whatsapp_sending import WhatsAppSending

_WHATSAPP_ACTION = ToolOperation("comms_whatsapp_action", ToolResult)


class WhatsApp(WhatsAppSending):
    """
    WhatsApp actions of one agent, as ``client.whatsapp``. Only the hosted server has them.

    What can be done depends on the provider behind the number. Safe to share between threads.
    """

    @checked
    def action(self, action: str, *, sender_sid: str | None = None, **params: Any) -> ToolResult:
        """
        Perform any action, also one that has no method here.

        Scope: agent. Calling it twice performs it twice.

        Args:
            action: Its name, as in ``"react"``.
            sender_sid: Which of the agent's senders to use.
            **params: Its parameters; ``message_id`` becomes ``messageId``.

        Returns:
            The server's answer.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(_WHATSAPP_ACTION, action=action, sender_sid=sender_sid, **params)

    @checked
    def react(self, message_id: str, emoji: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        React to a message with an emoji.

        Scope: agent. Calling it twice is safe: one reaction stays.

        Args:
            message_id: The message's id.
            emoji: The emoji.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The server's answer.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _WHATSAPP_ACTION,
            action="react",
            message_id=message_id,
            emoji=emoji,
            sender_sid=sender_sid,
        )

    @checked
    def edit(self, message_id: str, body: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        Change the text of a message of our own.

        Scope: agent. Calling it twice is safe: the text stays the same.

        Args:
            message_id: The message's id.
            body: The new text.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The server's answer.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _WHATSAPP_ACTION,
            action="edit",
            message_id=message_id,
            body=body,
            sender_sid=sender_sid,
        )

    @checked
    def forward(self, message_id: str, to: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        Forward a message.

        Scope: agent. Calling it twice forwards it twice.

        Args:
            message_id: The message's id.
            to: Whom to forward it to, as an E.164 number.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The server's answer.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _WHATSAPP_ACTION,
            action="forward",
            message_id=message_id,
            to=to,
            sender_sid=sender_sid,
        )

    @checked
    def delete(self, message_id: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        Delete a message of our own for everyone.

        Scope: agent. Calling it twice deletes nothing more, but the server may object.

        Args:
            message_id: The message's id.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The server's answer.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _WHATSAPP_ACTION,
            action="delete",
            message_id=message_id,
            sender_sid=sender_sid,
        )

    @checked
    def typing(self, to: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        Show that the agent is typing.

        Scope: agent. Calling it twice is safe.

        Args:
            to: Who sees it, as an E.164 number.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The server's answer.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(_WHATSAPP_ACTION, action="typing", to=to, sender_sid=sender_sid)

    @checked
    def mark_read(self, message_id: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        Mark a message as read.

        Scope: agent. Calling it twice is safe.

        Args:
            message_id: The message's id.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The server's answer.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _WHATSAPP_ACTION,
            action="mark_read",
            message_id=message_id,
            sender_sid=sender_sid,
        )

    @checked
    def set_chat_ttl(
        self, chat_id: str, ttl_seconds: int, *, sender_sid: str | None = None
    ) -> ToolResult:
        """
        Let a chat's messages disappear after some time.

        Scope: agent. Calling it twice is safe.

        Args:
            chat_id: The chat's id.
            ttl_seconds: After how many seconds; 0 keeps them.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The server's answer.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _WHATSAPP_ACTION,
            action="set_chat_ttl",
            chat_id=chat_id,
            ttl_seconds=ttl_seconds,
            sender_sid=sender_sid,
        )
