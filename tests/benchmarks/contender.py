"""What every contender is, and the one message that all of them send."""

from __future__ import annotations

from typing import Final, Protocol

TOOL = "comms_send_message"
TOKEN = "benchmark"
TO = "+14155550123"
BODY = "Your order has shipped."
CHANNEL: Final = "sms"


class Contender(Protocol):
    """
    One way to send messages.

    It is made with the server's base URL, and connects at the first send.
    """

    def send(self, count: int) -> None:
        """Send so many messages, one after the other, and fail unless each was taken."""

    def crowd(self, size: int, each: int) -> None:
        """Send from so many threads (or tasks) at once, each so many messages."""

    def close(self) -> None:
        """End the connections."""
