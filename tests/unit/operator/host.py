"""A host's agents and failed messages, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs

from buttdial_sync import AgentInfo, AgentNotFound, AgentNotProvisioned, OverviewSnapshot
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry.memory import MemoryRepository

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


class Directory:
    """Two agents: one with a token, one without."""

    def __init__(self) -> None:
        self.agents = {
            "7": AgentInfo(id="7", name="Maya", has_token=True, last_activity=MOMENT),
            "8": AgentInfo(id="8", name="Yossi", has_token=False, status="paused"),
        }

    def list_agents(self) -> Sequence[AgentInfo]:
        return list(self.agents.values())

    def overview_snapshot(self) -> OverviewSnapshot:
        return OverviewSnapshot(agents_provisioned=1, total_messages_sent=12)

    def activate(self, agent_id: str) -> AgentInfo:
        if not self._found(agent_id).has_token:
            raise AgentNotProvisioned(f"{agent_id} has no token")
        return self._set(agent_id, "active")

    def deactivate(self, agent_id: str) -> AgentInfo:
        return self._set(agent_id, "paused")

    def _set(self, agent_id: str, status: Any) -> AgentInfo:
        self.agents[agent_id] = attrs.evolve(self._found(agent_id), status=status)
        return self.agents[agent_id]

    def _found(self, agent_id: str) -> AgentInfo:
        if agent_id not in self.agents:
            raise AgentNotFound(f"no agent {agent_id}")
        return self.agents[agent_id]


class FailedMessages(MemoryRepository):
    """Three pending messages."""

    def __init__(self) -> None:
        super().__init__(keep_tokens=True)
        for number in range(3):
            self.add(
                FailedMessage(
                    id=str(number),
                    recipient="+14155550123",
                    body="hi",
                    agent_token="secret-token",
                    created_at=MOMENT + timedelta(minutes=number),
                )
            )
