"""The interface that a host implements so that operators see its agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from buttdial_sync.models.operator import AgentInfo, OverviewSnapshot


class AgentDirectory(Protocol):
    """
    The host's agents, wherever it keeps them. Must be safe to call from several threads.

    Each call is a transaction of its own, which the directory begins and commits.
    """

    def list_agents(self) -> Sequence[AgentInfo]:
        """Return every agent, provisioned or not."""
        ...

    def overview_snapshot(self) -> OverviewSnapshot:
        """Return the counts over all agents."""
        ...

    def activate(self, agent_id: str) -> AgentInfo:
        """
        Make an agent active, and return it. Calling it twice is safe.

        Raises:
            AgentNotFound: There is no such agent.
            AgentNotProvisioned: It has no token yet.
        """
        ...

    def deactivate(self, agent_id: str) -> AgentInfo:
        """
        Pause an agent, and return it. Calling it twice is safe.

        Raises:
            AgentNotFound: There is no such agent.
        """
        ...
