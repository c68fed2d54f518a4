"""Calls and speech."""

from __future__ import annotations

from typing import Literal

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import Endpoint, ToolOperation
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.models.voice import CallTransfer, PhoneCall, Speech, VoiceMessage, Voices
from buttdial_sync.tools.family import Family

AudioFormat = Literal["ogg", "mp3"]

_MAKE_CALL = ToolOperation("comms_make_call", PhoneCall, shared=("to",), recipients={"to": "voice"})
_CALL_ON_BEHALF = ToolOperation(
    "comms_call_on_behalf",
    PhoneCall,
    shared=("requesterPhone", "target"),
    recipients={"target": "voice", "requester_phone": "voice"},
)
_SEND_VOICE_MESSAGE = ToolOperation(
    "comms_send_voice_message", VoiceMessage, shared=("text", "to"), recipients={"to": "voice"}
)
_TRANSFER_CALL = ToolOperation("comms_transfer_call", CallTransfer, shared=("callSid", "to"))
_SET_VOICE_CALLBACK = ToolOperation("comms_set_voice_callback", ToolResult)
_GENERATE_TTS = ToolOperation("comms_generate_tts", Speech, defaults={"format": "ogg"})
_VOICES = Endpoint("GET", "/api/v1/voices", Voices, reads_only=True)


class Voice(Family):
    """
    Calls and speech of one agent, as ``client.voice``. Safe to share between threads.

    Scope: agent.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        NotSupportedError: This server does not support the call or an argument. Nothing was done.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.
    """

    @checked
    def make_call(
        self,
        to: str,
        *,
        system_prompt: str | None = None,
        greeting: str | None = None,
        voice: str | None = None,
        language: str | None = None,
        recipient_timezone: str | None = None,
        target_gender: str | None = None,
        orchestrator: str | None = None,
    ) -> PhoneCall:
        """
        Call someone, and let the agent talk.

        Calling it twice makes two calls.

        Args:
            to: The recipient's E.164 number.
            system_prompt: The agent's task in this call.
            greeting: The agent's first words.
            voice: The voice's name or id.
            language: As in ``"en-US"``.
            recipient_timezone: As in ``"Europe/Paris"``; calls respect the recipient's hours.
            target_gender: How to address the recipient; a server may ignore it.
            orchestrator: Which orchestrator leads the conversation.

        Returns:
            The call that was started. Its progress is reported to the callback.

        Raises:
            ComplianceError: A rule forbids the call, such as quiet hours.
            NoChannelAssigned: The agent has no phone number.
        """
        return self._call(
            _MAKE_CALL,
            to=to,
            system_prompt=system_prompt,
            greeting=greeting,
            voice=voice,
            language=language,
            recipient_timezone=recipient_timezone,
            target_gender=target_gender,
            orchestrator=orchestrator,
        )

    @checked
    def call_on_behalf(
        self,
        target: str,
        requester_phone: str,
        *,
        target_name: str | None = None,
        requester_name: str | None = None,
        message: str | None = None,
        recipient_timezone: str | None = None,
        target_gender: str | None = None,
    ) -> PhoneCall:
        """
        Call someone for another person, and connect the two.

        Calling it twice makes two calls.

        Args:
            target: The E.164 number to call.
            requester_phone: The other person's E.164 number.
            target_name: Name of the person to call.
            requester_name: Name of the person who asked for the call.
            message: The message for the person to call.
            recipient_timezone: As in ``"Europe/Paris"``; calls respect the recipient's hours.
            target_gender: How to address the recipient; a server may ignore it.

        Returns:
            The call that was started.

        Raises:
            ComplianceError: A rule forbids the call, such as quiet hours.
            NoChannelAssigned: The agent has no phone number.
        """
        return self._call(
            _CALL_ON_BEHALF,
            target=target,
            requester_phone=requester_phone,
            target_name=target_name,
            requester_name=requester_name,
            message=message,
            recipient_timezone=recipient_timezone,
            target_gender=target_gender,
        )

    @checked
    def send_message(
        self, to: str, text: str, *, voice: str | None = None, target_gender: str | None = None
    ) -> VoiceMessage:
        """
        Call someone and speak a text.

        Calling it twice makes two calls.

        Args:
            to: The recipient's E.164 number.
            text: What to say.
            voice: The voice's name or id.
            target_gender: How to address the recipient; a server may ignore it.

        Returns:
            The call, with the address of the spoken text.

        Raises:
            ComplianceError: A rule forbids the call, such as quiet hours.
            NoChannelAssigned: The agent has no phone number.
        """
        return self._call(
            _SEND_VOICE_MESSAGE, to=to, text=text, voice=voice, target_gender=target_gender
        )

    @checked
    def transfer_call(
        self, call_sid: str, to: str, *, announcement_text: str | None = None
    ) -> CallTransfer:
        """
        Hand a call that is under way to someone else.

        Calling it twice: the second fails, or transfers again.

        Args:
            call_sid: The provider's id of the call.
            to: Who gets it, as an E.164 number.
            announcement_text: Said before the call is handed over.

        Raises:
            NotFoundError: The call does not exist.
        """
        return self._call(
            _TRANSFER_CALL, call_sid=call_sid, to=to, announcement_text=announcement_text
        )

    @checked
    def set_callback(self, voice_callback_url: str) -> ToolResult:
        """
        Set the address to which the progress of calls is reported.

        Calling it twice is safe.

        Args:
            voice_callback_url: The address.
        """
        return self._call(_SET_VOICE_CALLBACK, voice_callback_url=voice_callback_url)

    @checked
    def generate_tts(
        self,
        text: str,
        *,
        voice: str | None = None,
        format: AudioFormat = "ogg",  # noqa: A002 - as on the wire
    ) -> Speech:
        """
        Turn a text into an audio file.

        Calling it twice makes two files.

        Args:
            text: What to say.
            voice: The voice's name or id.
            format: ``"ogg"`` or ``"mp3"``.

        Returns:
            The file's address.
        """
        return self._call(_GENERATE_TTS, text=text, voice=voice, format=format)

    @checked
    def list_voices(self) -> Voices:
        """Return the voices that an agent can have."""
        return self._call(_VOICES)
