"""What the server says about itself, its channels and its queue."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import attrs

from buttdial_sync.models.result import ReceivedObject

Api = Literal["decision", "question"]


@attrs.frozen(kw_only=True)
class ServerInfo:
    """
    The server, and what it supports.

    Attributes:
        version: The server's version.
        api: ``"decision"`` (from 1.0.4) or ``"question"`` (up to 1.0.0).
        supports_pending: Whether it tells which prompts wait (from 1.0.8).
        supports_free_text: Whether a question may have no choices (up to 1.0.0).
        compatible: Always True: both kinds are supported, and the number proves nothing.
        queue_size: Prompts that are shown now: 0 or 1.
        active_connections: WebSocket connections.
        active_channels: Channels that have messages.
    """

    version: str
    api: Api
    supports_pending: bool
    supports_free_text: bool
    compatible: bool = True
    queue_size: int | None = None
    active_connections: int | None = None
    active_channels: int | None = None


@attrs.frozen(kw_only=True)
class Health:
    """The answer of the server's health check."""

    version: str = ""
    active_connections: int | None = None
    queue_size: int | None = None
    active_channels: int | None = None


@attrs.frozen(kw_only=True)
class ChannelInfo(ReceivedObject):
    """
    A channel.

    Attributes:
        name: Its name.
        message_count: Messages that its history has.
        oldest_message: The time of the first, or None.
        newest_message: The time of the last, or None.
    """

    name: str = attrs.field(metadata={"names": ("channel", "name")})
    message_count: int = 0
    oldest_message: datetime | None = None
    newest_message: datetime | None = None


@attrs.frozen(kw_only=True)
class ServerStats(ReceivedObject):
    """Who is connected to the server."""

    total_viewers: int = 0
    agent_connections: int = 0
    viewer_connections: int = 0
    active_channels: int = 0


@attrs.frozen(kw_only=True)
class PendingPrompt(ReceivedObject):
    """
    A prompt that is shown to the person now.

    Attributes:
        message_id: Its id.
        kind: ``"decision"``, ``"authorize"`` or ``"navigate"``.
        channel: Its channel.
        position: Its place in the queue, from 1.
        label: What is asked.
    """

    message_id: str
    kind: str
    channel: str
    position: int = 1
    label: str = ""


@attrs.frozen(kw_only=True)
class ChannelList:
    """The channels, as the server lists them."""

    channels: list[ChannelInfo]


@attrs.frozen(kw_only=True)
class PendingList:
    """The prompts that are shown, as the server lists them."""

    items: list[PendingPrompt]
