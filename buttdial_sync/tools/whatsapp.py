"""WhatsApp beyond sending text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.errors import ArgumentValueError
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.models.whatsapp import WhatsAppMessage
from buttdial_sync.tools.family import Family

_RECIPIENTS = {"to": "whatsapp"}
_ACTION = ToolOperation("comms_whatsapp_action", ToolResult, recipients=_RECIPIENTS)
_SEND = ToolOperation("comms_whatsapp_action", WhatsAppMessage, recipients=_RECIPIENTS)


class WhatsApp(Family):
    """
    WhatsApp actions of one agent, as ``client.whatsapp``. Only the hosted server has them.

    What is possible depends on the provider behind the number. Safe to share between threads.

    Scope: agent.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        ProviderCapabilityError: The provider cannot do it.
        NotSupportedError: This server does not support the call or an argument. Nothing was done.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.
    """

    @checked
    def action(self, action: str, *, sender_sid: str | None = None, **params: Any) -> ToolResult:
        """
        Perform any action, also one that has no method here.

        Calling it twice performs it twice.

        Args:
            action: Its name, as in ``"react"``.
            sender_sid: Which of the agent's senders to use.
            **params: Its parameters; ``message_id`` becomes ``messageId``.
        """
        return self._call(_ACTION, action=action, sender_sid=sender_sid, **params)

    @checked
    def react(self, message_id: str, emoji: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        React to a message with an emoji.

        Calling it twice is safe: one reaction stays.

        Args:
            message_id: The message's id.
            emoji: The emoji.
            sender_sid: Which of the agent's senders to use.
        """
        return self._call(
            _ACTION, action="react", message_id=message_id, emoji=emoji, sender_sid=sender_sid
        )

    @checked
    def edit(self, message_id: str, body: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        Change the text of a message that this agent sent.

        Calling it twice is safe: the text stays the same.

        Args:
            message_id: The message's id.
            body: The new text.
            sender_sid: Which of the agent's senders to use.
        """
        return self._call(
            _ACTION, action="edit", message_id=message_id, body=body, sender_sid=sender_sid
        )

    @checked
    def forward(self, message_id: str, to: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        Forward a message.

        Calling it twice forwards it twice.

        Args:
            message_id: The message's id.
            to: The recipient's E.164 number.
            sender_sid: Which of the agent's senders to use.
        """
        return self._call(
            _ACTION, action="forward", message_id=message_id, to=to, sender_sid=sender_sid
        )

    @checked
    def delete(self, message_id: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        Delete a message that this agent sent, for everyone.

        Calling it twice deletes nothing more, but the server may object.

        Args:
            message_id: The message's id.
            sender_sid: Which of the agent's senders to use.
        """
        return self._call(_ACTION, action="delete", message_id=message_id, sender_sid=sender_sid)

    @checked
    def typing(self, to: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        Show that the agent is typing.

        Calling it twice is safe.

        Args:
            to: Who sees it, as an E.164 number.
            sender_sid: Which of the agent's senders to use.
        """
        return self._call(_ACTION, action="typing", to=to, sender_sid=sender_sid)

    @checked
    def mark_read(self, message_id: str, *, sender_sid: str | None = None) -> ToolResult:
        """
        Mark a message as read.

        Calling it twice is safe.

        Args:
            message_id: The message's id.
            sender_sid: Which of the agent's senders to use.
        """
        return self._call(_ACTION, action="mark_read", message_id=message_id, sender_sid=sender_sid)

    @checked
    def set_chat_ttl(
        self, chat_id: str, ttl_seconds: int, *, sender_sid: str | None = None
    ) -> ToolResult:
        """
        Let a chat's messages disappear after some time.

        Calling it twice is safe.

        Args:
            chat_id: The chat's id.
            ttl_seconds: After how many seconds; 0 keeps them.
            sender_sid: Which of the agent's senders to use.
        """
        return self._call(
            _ACTION,
            action="set_chat_ttl",
            chat_id=chat_id,
            ttl_seconds=ttl_seconds,
            sender_sid=sender_sid,
        )

    @checked
    def send_poll(
        self, to: str, title: str, options: Sequence[str], *, sender_sid: str | None = None
    ) -> WhatsAppMessage:
        """
        Send a poll.

        Calling it twice sends two.

        Args:
            to: The recipient's E.164 number.
            title: The question.
            options: The answers to choose from, two or more.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The message, with its id.
        """
        if len(options) < 2:
            raise ArgumentValueError("a poll needs two options or more")
        return self._call(
            _SEND, action="send_poll", to=to, title=title, options=options, sender_sid=sender_sid
        )

    @checked
    def send_buttons(
        self,
        to: str,
        body: str,
        buttons: Sequence[Mapping[str, Any]],
        *,
        sender_sid: str | None = None,
    ) -> WhatsAppMessage:
        """
        Send a text with buttons.

        Calling it twice sends two messages.

        Args:
            to: The recipient's E.164 number.
            body: The text.
            buttons: The buttons, as in ``{"id": "yes", "title": "Yes"}``.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The message, with its id.
        """
        return self._call(
            _SEND, action="send_buttons", to=to, body=body, buttons=buttons, sender_sid=sender_sid
        )

    @checked
    def send_location(
        self,
        to: str,
        lat: float,
        lng: float,
        *,
        name: str | None = None,
        sender_sid: str | None = None,
    ) -> WhatsAppMessage:
        """
        Send a place.

        Calling it twice sends two messages.

        Args:
            to: The recipient's E.164 number.
            lat: Latitude in degrees.
            lng: Longitude in degrees.
            name: What to call the place.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The message, with its id.
        """
        return self._call(
            _SEND, action="send_location", to=to, lat=lat, lng=lng, name=name, sender_sid=sender_sid
        )

    @checked
    def send_contact(
        self, to: str, vcard: str, *, sender_sid: str | None = None
    ) -> WhatsAppMessage:
        """
        Send a contact.

        Calling it twice sends two messages.

        Args:
            to: The recipient's E.164 number.
            vcard: The contact as a vCard.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The message, with its id.
        """
        return self._call(_SEND, action="send_contact", to=to, vcard=vcard, sender_sid=sender_sid)

    @checked
    def send_view_once(
        self, to: str, media_url: str, *, body: str | None = None, sender_sid: str | None = None
    ) -> WhatsAppMessage:
        """
        Send a picture or video that can be seen once.

        Calling it twice sends two messages.

        Args:
            to: The recipient's E.164 number.
            media_url: Address of the picture or video.
            body: Its caption.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The message, with its id.
        """
        return self._call(
            _SEND,
            action="send_view_once",
            to=to,
            media_url=media_url,
            body=body,
            sender_sid=sender_sid,
        )

    @checked
    def post_status(
        self, body: str, *, media_url: str | None = None, sender_sid: str | None = None
    ) -> ToolResult:
        """
        Post a status (story) that contacts see for a day.

        Calling it twice posts two.

        Args:
            body: The text.
            media_url: Address of a picture or video.
            sender_sid: Which of the agent's senders to use.
        """
        return self._call(
            _ACTION, action="post_status", body=body, media_url=media_url, sender_sid=sender_sid
        )
