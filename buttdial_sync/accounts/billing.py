"""How a workspace's agents are billed."""

from __future__ import annotations

from typing import Literal

from buttdial_sync.accounts.subject import Subject
from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import Endpoint
from buttdial_sync.models.agents import BillingSettings

_CONFIG = Endpoint("POST", "/api/v1/billing/config", BillingSettings)


class Billing(Subject):
    """Sets tiers and markups."""

    @checked
    def set_billing_config(
        self,
        *,
        agent_id: str | None = None,
        tier: Literal["free", "starter", "pro", "enterprise"] | None = None,
        markup_percent: float | None = None,
        billing_email: str | None = None,
    ) -> BillingSettings:
        """
        Set how an agent is billed. Values that are None stay unchanged.

        Calling it twice is safe.

        Args:
            agent_id: The agent; without it the workspace, where the server allows that.
            tier: ``"free"``, ``"starter"``, ``"pro"`` or ``"enterprise"``.
            markup_percent: Added to the provider's price, in percent.
            billing_email: Where the bills go.

        Returns:
            The settings that are in force now, and the tier's limits.
        """
        return self._call(
            _CONFIG,
            agent_id=agent_id,
            tier=tier,
            markup_percent=markup_percent,
            billing_email=billing_email,
        )
