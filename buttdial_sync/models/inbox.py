"""The messages that wait for an agent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar

import attrs

from buttdial_sync.models.converter import MUST_FIT, Identifier
from buttdial_sync.models.result import ServerResult


@attrs.frozen(kw_only=True)
class WaitingMessage(ServerResult):
    """
    A message from the waiting queue. It has left the queue by being read.

    Attributes:
        id: The queue's id.
        agent_id: The agent that it is for.
        channel: ``"sms"``, ``"email"``, ``"whatsapp"``, ``"voice"`` or ``"line"``.
        direction: ``"inbound"``; ``"outbound"`` is one of our own that failed.
        reason: Why it waits.
        from_: Who sent it.
        to: Whom it was sent to.
        body: Its text.
        media_url: Its attachment.
        error_details: Why an outbound one failed.
        external_id: The provider's id.
        created_at: When it came (UTC).
    """

    # The message is not on the server any more: whatever stands in its place must not be lost.
    __kept_as_it_came__: ClassVar[bool] = True

    id: Identifier | None = None
    agent_id: Identifier | None = None
    channel: str | None = None
    direction: str | None = None
    reason: str | None = None
    from_: str | None = attrs.field(default=None, metadata={"wire": "from"})
    to: str | None = None
    body: str | None = None
    media_url: str | None = None
    error_details: Any = attrs.field(default=None, hash=False)
    external_id: Identifier | None = None
    created_at: datetime | None = None


@attrs.frozen(kw_only=True)
class WaitingMessages(ServerResult):
    """
    One reading of the waiting queue. It has a length and can be iterated over; false when empty.

    Attributes:
        messages: The messages, oldest first.
        count: How many there are here, where the server says it.
    """

    # They have left the server: an answer in which they cannot be found is not "none".
    messages: list[WaitingMessage] = attrs.field(factory=list, metadata={MUST_FIT: True})
    count: int | None = None

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[WaitingMessage]:
        return iter(self.messages)
