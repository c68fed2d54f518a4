"""What the shop's staff sees under /butt-dial/operator/."""

from collections.abc import Sequence

from buttdial_sync import AgentInfo, AgentNotFound, OverviewSnapshot
from buttdial_sync.retry import SQLiteRepository
from shop.settings import DATA

failed_messages = SQLiteRepository(DATA / "failed.sqlite3")


class Agents:
    """The shop's only agent, which is always on."""

    def list_agents(self) -> Sequence[AgentInfo]:
        """Return it."""
        return [AgentInfo(id="shop", name="The shop", has_token=True)]

    def overview_snapshot(self) -> OverviewSnapshot:
        """Return the counts."""
        return OverviewSnapshot(agents_provisioned=1)

    def activate(self, agent_id: str) -> AgentInfo:
        """Return the agent, which is active."""
        if agent_id != "shop":
            raise AgentNotFound(agent_id)
        return self.list_agents()[0]

    def deactivate(self, agent_id: str) -> AgentInfo:
        """Refuse: there is no other."""
        raise AgentNotFound(agent_id)
