"""The results of calls and speech."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from buttdial_sync.models.converter import Identifier
from buttdial_sync.models.result import ServerResult
from buttdial_sync.models.tool_result import ToolResult


@attrs.frozen(kw_only=True)
class PhoneCall(ServerResult):
    """
    A call that was started.

    Attributes:
        call_sid: The provider's id of the call.
        session_id: The id of its conversation.
        status: As the server says it, such as ``"initiated"``.
        from_: The number that calls.
        to: The number that is called.
        description: What the server says about a call on behalf of someone.
    """

    call_sid: Identifier | None = None
    session_id: Identifier | None = None
    status: str | None = None
    from_: str | None = attrs.field(default=None, metadata={"wire": "from"})
    to: str | None = None
    description: str | None = None


@attrs.frozen(kw_only=True)
class VoiceMessage(ServerResult):
    """
    A call that speaks a text.

    Attributes:
        call_sid: The provider's id of the call.
        status: As the server says it.
        from_: The number that calls.
        to: The number that is called.
        audio_url: Address of the spoken text.
        duration_seconds: How long it is.
    """

    call_sid: Identifier | None = None
    status: str | None = None
    from_: str | None = attrs.field(default=None, metadata={"wire": "from"})
    to: str | None = None
    audio_url: str | None = None
    duration_seconds: float | None = None


@attrs.frozen(kw_only=True)
class CallTransfer(ServerResult):
    """
    A call that was handed to someone else.

    Attributes:
        log_id: The server's id of the transfer.
        call_sid: The provider's id of the call.
        transferred_to: The number that has it now.
        status: As the server says it.
    """

    log_id: Identifier | None = None
    call_sid: Identifier | None = None
    transferred_to: str | None = None
    status: str | None = None


@attrs.frozen(kw_only=True)
class Speech(ServerResult):
    """
    A text that was spoken into a file.

    Attributes:
        url: Address of the file.
        format: ``"ogg"`` or ``"mp3"``.
    """

    url: str | None = None
    format: str | None = None


@attrs.frozen(kw_only=True)
class Voices(ServerResult):
    """
    The voices that an agent can have. It has a length and can be iterated over; false when empty.

    Attributes:
        voices: What the server says about each.
        count: How many there are.
    """

    voices: list[ToolResult] = attrs.field(factory=list)
    count: int | None = None

    def __len__(self) -> int:
        return len(self.voices)

    def __iter__(self) -> Iterator[ToolResult]:
        return iter(self.voices)
