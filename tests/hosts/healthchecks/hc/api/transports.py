"""What a transport is."""

from __future__ import annotations

from typing import Any


class TransportError(Exception):
    """It was not delivered."""

    def __init__(self, message: str, permanent: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.permanent = permanent


class Transport:
    """The base of all transports."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel

    def notify(self, flip: Any, notification: Any) -> None:
        """Tell somebody, or raise TransportError."""
        raise NotImplementedError

    def is_noop(self, status: str) -> bool:
        """Whether there is nothing to do for this status."""
        return False
