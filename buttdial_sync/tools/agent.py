"""What one agent does: messages, tools by name, and the families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from buttdial_sync.models.converter import structure
from buttdial_sync.models.sending import Channel, SendResult
from buttdial_sync.models.tools import Tool
from buttdial_sync.tools.families import Families
from buttdial_sync.tools.sending import SEND_TOOL, Gender, OutgoingMessage
from buttdial_sync.transport.session import McpSession


class Agent(Families):
    """Speaks as one agent. Safe to share between threads."""

    def send_message(
        self,
        to: str,
        body: str | None = None,
        channel: Channel = "whatsapp",
        *,
        media_url: str | None = None,
        sender_sid: str | None = None,
        sender_name: str | None = None,
        language: str | None = None,
        fallback_channels: Sequence[str] | None = None,
        scheduled_at: str | None = None,
        thread_id: str | None = None,
        entity_id: str | None = None,
        reply_msg_id: str | None = None,
        idempotency_key: str | None = None,
        subject: str | None = None,
        html: str | None = None,
        template_id: str | None = None,
        template_vars: Mapping[str, str] | None = None,
        target_gender: Gender | None = None,
        agent_token: str | None = None,
        timeout: float | None = None,
    ) -> SendResult:
        """
        Send a message, and report what became of it.

        Calling it twice sends two messages, unless both calls have the same ``idempotency_key`` and
        the server honours it (the hosted one does, the open-source one does not).

        Args:
            to: E.164 number or email address.
            body: The text. CRLF becomes LF.
            channel: ``"whatsapp"``, ``"sms"``, ``"email"`` or ``"line"``.
            media_url: Address of a picture, sound or document.
            sender_sid: Which of the agent's senders to use.
            sender_name: Name shown to the recipient, where the channel has one.
            language: Of the text, as in ``"en"``.
            fallback_channels: Tried by the server in this order when the channel fails.
            scheduled_at: When the server is to send it, ISO 8601.
            thread_id: Your own id of the conversation; comes back in answers.
            entity_id: Your own id of what it is about.
            reply_msg_id: The message that this one answers.
            idempotency_key: One key for one message, made when absent.
            subject: Of an email.
            html: The HTML body of an email.
            template_id: A WhatsApp template, needed outside the 24-hour window.
            template_vars: Its variables.
            target_gender: How to address the recipient: ``"male"``, ``"female"``, ``"unknown"``.
            agent_token: Send as another agent.
            timeout: In seconds, over everything.

        Returns:
            The result; ``ok``, ``failed`` or ``unknown``. It has the key, for sending again.

        Raises:
            AuthError: The token is wrong, revoked or locked out.
            ConfigError: There is no token.
            ArgumentNotSupported: This server would silently drop an argument.
            ArgumentTypeError: An argument has the wrong type.
            ClientClosedError: The client is closed.
        """
        message = OutgoingMessage(
            to=to,
            body=body,
            channel=channel,
            media_url=media_url,
            sender_sid=sender_sid,
            sender_name=sender_name,
            language=language,
            fallback_channels=fallback_channels,
            scheduled_at=scheduled_at,
            thread_id=thread_id,
            entity_id=entity_id,
            reply_msg_id=reply_msg_id,
            idempotency_key=idempotency_key,
            subject=subject,
            html=html,
            template_id=template_id,
            template_vars=template_vars,
            target_gender=target_gender,
        )
        return self._sender.send(message, agent_token=agent_token, timeout=timeout)

    def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        agent_token: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """
        Call any tool of the server.

        Tried again only where it was certainly not carried out, or where ``arguments`` have an
        ``idempotencyKey`` that the server honours.

        Args:
            name: The tool's name.
            arguments: Its arguments, by their names on the wire.
            agent_token: Call as another agent.
            timeout: In seconds, over everything.

        Returns:
            The decoded JSON of the answer, or its text where it is none.

        Raises:
            ToolError: The tool said no.
            OutcomeUnknownError: It may have been carried out; its answer was lost.
            AuthError: The token is wrong, revoked or locked out.
            TransportError: It was not carried out: the server could not be reached in time.
            ClientClosedError: The client is closed.
        """
        return self._caller.call_tool(name, arguments, agent_token=agent_token, timeout=timeout)

    def list_tools(
        self, *, agent_token: str | None = None, timeout: float | None = None
    ) -> list[Tool]:
        """
        Return the tools that the server offers, with their schemas. Safe to repeat.

        Asked once per session, and again when the server says that they changed.

        Raises:
            ButtDialError: The server could not be asked.
        """
        answer = self._caller.ask_session(
            "tools/list",
            McpSession.list_tools,
            agent_token=agent_token,
            timeout=timeout,
        )
        return structure(answer, list[Tool], source="tools/list")

    @property
    def agent_id(self) -> str | None:
        """The agent that the client speaks as."""
        return self._caller.identity.agent_id

    def honours_idempotency_key(
        self, *, agent_token: str | None = None, timeout: float | None = None
    ) -> bool:
        """
        Find out whether the server sends messages with the same key only once. Safe to repeat.

        Asked of the schema of ``comms_send_message``, which is fetched once per session.

        Args:
            agent_token: Ask as another agent.
            timeout: In seconds, over everything.

        Raises:
            ButtDialError: The server could not be asked.
        """
        return self._caller.tool_honours_keys(SEND_TOOL, agent_token=agent_token, timeout=timeout)

    def ping(self, *, agent_token: str | None = None, timeout: float | None = None) -> float:
        """
        Ask the server for a sign of life over the live session. Safe to repeat.

        Returns:
            The round trip in seconds, without the opening of the session.

        Raises:
            ButtDialError: There was none.
        """
        return self._caller.ask_session(
            "ping",
            McpSession.ping,
            agent_token=agent_token,
            timeout=timeout,
        )
