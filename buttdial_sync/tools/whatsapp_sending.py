"""WhatsApp messages that are more than a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.models.whatsapp import WhatsAppMessage
from buttdial_sync.tools.family import Family

_WHATSAPP_ACTION = ToolOperation("comms_whatsapp_action", WhatsAppMessage)
_POST_STATUS = ToolOperation("comms_whatsapp_action", ToolResult)


class WhatsAppSending(Family):
    """The part of ``client.whatsapp`` that sends."""

    @checked
    def send_poll(
        self, to: str, title: str, options: Sequence[str], *, sender_sid: str | None = None
    ) -> WhatsAppMessage:
        """
        Send a poll.

        Scope: agent. Calling it twice sends two.

        Args:
            to: The recipient's E.164 number.
            title: The question.
            options: The answers to choose from.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The message, with its id.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _WHATSAPP_ACTION,
            action="send_poll",
            to=to,
            title=title,
            options=options,
            sender_sid=sender_sid,
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

        Scope: agent. Calling it twice sends two messages.

        Args:
            to: The recipient's E.164 number.
            body: The text.
            buttons: The buttons, as in ``{"id": "yes", "title": "Yes"}``.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The message, with its id.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _WHATSAPP_ACTION,
            action="send_buttons",
            to=to,
            body=body,
            buttons=buttons,
            sender_sid=sender_sid,
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

        Scope: agent. Calling it twice sends two messages.

        Args:
            to: The recipient's E.164 number.
            lat: Latitude in degrees.
            lng: Longitude in degrees.
            name: What to call the place.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The message, with its id.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _WHATSAPP_ACTION,
            action="send_location",
            to=to,
            lat=lat,
            lng=lng,
            name=name,
            sender_sid=sender_sid,
        )

    @checked
    def send_contact(
        self, to: str, vcard: str, *, sender_sid: str | None = None
    ) -> WhatsAppMessage:
        """
        Send a contact.

        Scope: agent. Calling it twice sends two messages.

        Args:
            to: The recipient's E.164 number.
            vcard: The contact as a vCard.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The message, with its id.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _WHATSAPP_ACTION,
            action="send_contact",
            to=to,
            vcard=vcard,
            sender_sid=sender_sid,
        )

    @checked
    def send_view_once(
        self, to: str, media_url: str, *, body: str | None = None, sender_sid: str | None = None
    ) -> WhatsAppMessage:
        """
        Send a picture or video that can be seen once.

        Scope: agent. Calling it twice sends two messages.

        Args:
            to: The recipient's E.164 number.
            media_url: Address of the picture or video.
            body: Its caption.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The message, with its id.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _WHATSAPP_ACTION,
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

        Scope: agent. Calling it twice posts two.

        Args:
            body: The text.
            media_url: Address of a picture or video.
            sender_sid: Which of the agent's senders to use.

        Returns:
            The server's answer.

        Raises:
            ProviderCapabilityError: The provider cannot do it.
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call(
            _POST_STATUS,
            action="post_status",
            body=body,
            media_url=media_url,
            sender_sid=sender_sid,
        )
