"""The channels of an agent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import attrs

from buttdial_sync.models.converter import Identifier
from buttdial_sync.models.result import ServerResult


@attrs.frozen(kw_only=True)
class CommChannel(ServerResult):
    """
    One channel of an agent.

    Attributes:
        id: The record's id, for ``update_comm_channel`` and ``delete_comm_channel``.
        channel_type: ``"phone"``, ``"whatsapp"``, ``"telegram"``, ``"line"`` or ``"email"``.
        identifier: The number or address.
        label: Its name.
        capabilities: What it can do.
        paused: Whether it rests.
        primary: Whether it is the one used first.
        created_at: Since when it exists.
    """

    id: Identifier
    channel_type: str | None = None
    identifier: str | None = None
    label: str | None = None
    capabilities: list[str] | None = attrs.field(default=None, hash=False)
    paused: bool | None = None
    primary: bool | None = None
    created_at: datetime | None = None


@attrs.frozen(kw_only=True)
class CommChannels(ServerResult):
    """
    The channels of an agent. It has a length and can be iterated over; false when empty.

    Attributes:
        records: The channels.
    """

    records: list[CommChannel] = attrs.field(factory=list)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[CommChannel]:
        return iter(self.records)
