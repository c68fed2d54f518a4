"""The queue of inbound messages that wait until a client fetches them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from typing import Any

from buttdial_sync.testing.dialects import Dialect

_COLUMNS = ("agentId", "channel", "from", "to", "body", "mediaUrl", "externalId")


class WaitingQueue:
    """
    The messages that wait.

    Attributes:
        messages: The messages, the oldest first.
        lost: How many were removed without being delivered.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.messages: list[dict[str, Any]] = []
        self.lost = 0
        self._created_at = "2026-01-02T03:04:05Z" if dialect.hosted else "2026-01-02 03:04:05"
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Add a message with these fields, over plausible defaults; return it."""
        number = next(self._numbers)
        message = {
            "id": f"waiting-{number}",
            "agentId": "agent-1",
            "channel": "sms",
            "direction": "inbound",
            "from": "+15551112222",
            "to": "+15550000000",
            "body": f"Message {number}",
            "createdAt": self._created_at,
            **fields,
        }
        with self._lock:
            self.messages.append(message)
        return message

    def keep(self, message: Mapping[str, Any]) -> None:
        """Keep an inbound message as the open-source server does: with these columns only."""
        kept = {key: message[key] for key in _COLUMNS if key in message}
        if message.get("subject"):
            kept["body"] = f"[{message['subject']}] {kept.get('body') or ''}"
        self.add({"externalId": message.get("messageId"), "mediaUrl": None, **kept})

    def take(
        self, limit: int | None, channel: str | None, agent_id: str | None
    ) -> list[dict[str, Any]]:
        """
        Remove messages, and return them.

        Args:
            limit: At most so many; all when None.
            channel: Only those of a channel.
            agent_id: Only those of an agent.
        """
        with self._lock:
            taken = [
                each
                for each in self.messages
                if channel in {None, each.get("channel")}
                and agent_id in {None, each.get("agentId")}
            ][:limit]
            ids = set(map(id, taken))
            self.messages[:] = [each for each in self.messages if id(each) not in ids]
        return taken

    def lose(self, agent_id: str | None) -> None:
        """Remove an agent's messages, as the open-source server does when a stream is opened."""
        self.lost += len(self.take(None, None, agent_id))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.messages.clear()
            self.lost = 0
