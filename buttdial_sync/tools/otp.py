"""One-time passcodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.models.contacts import OtpVerification
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.family import Family

OtpChannel = Literal["sms", "email", "whatsapp", "voice"]

_SEND_OTP = ToolOperation("comms_send_otp", ToolResult, shared=("channel", "to"))
_VERIFY_OTP = ToolOperation(
    "comms_verify_otp",
    OtpVerification,
    shared=("code",),
    open_source_names={"to": "contactAddress"},
)


class Otp(Family):
    """
    One-time passcodes to an agent's contacts, as ``client.otp``. Safe to share between threads.

    Scope: agent.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        NotSupportedError: This server does not support the call or an argument. Nothing was done.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.
    """

    @checked
    def send(
        self,
        to: str,
        channel: OtpChannel,
        *,
        purpose: str | None = None,
        failover: bool | None = None,
        channels: Sequence[str] | None = None,
    ) -> ToolResult:
        """
        Send a one-time passcode.

        Calling it twice sends two codes; the last one counts.

        Args:
            to: The recipient: E.164 number or email address.
            channel: ``"sms"``, ``"email"``, ``"whatsapp"`` or ``"voice"``.
            purpose: Shown to the recipient. Defaults to the server's own text.
            failover: Whether to try the next channel when this one fails.
            channels: The channels to try, in order.

        Raises:
            RateLimitError: Too many codes for this recipient. ``retry_after`` is in seconds.
        """
        to = self._agent.recipients.normalized(to, channel)
        return self._call(
            _SEND_OTP, to=to, channel=channel, purpose=purpose, failover=failover, channels=channels
        )

    @checked
    def verify(
        self, code: str, *, to: str | None = None, channel: str | None = None
    ) -> OtpVerification:
        """
        Check a one-time passcode.

        Calling it twice: a code is good once, and failed attempts are counted.

        Args:
            code: What the recipient typed.
            to: The recipient.
            channel: The channel that it was sent on.

        Returns:
            Whether it was right. A wrong code is a normal answer, not an error.

        Raises:
            RateLimitError: Too many wrong codes.
        """
        if to is not None:  # as it was written when the code was sent
            to = self._agent.recipients.normalized(to, channel or ("email" if "@" in to else "sms"))
        return self._call(_VERIFY_OTP, code=code, to=to, channel=channel)
