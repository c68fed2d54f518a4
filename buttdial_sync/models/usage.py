"""An agent's usage and costs."""

from __future__ import annotations

from decimal import Decimal

import attrs

from buttdial_sync.models.converter import Identifier
from buttdial_sync.models.result import ServerResult
from buttdial_sync.models.tool_result import ToolResult


@attrs.frozen(kw_only=True)
class ChannelBilling(ServerResult):
    """
    What one channel cost.

    Attributes:
        provider_cost: What the provider takes.
        billing_cost: What is billed.
        count: For how many actions.
    """

    provider_cost: Decimal | None = None
    billing_cost: Decimal | None = None
    count: int | None = None


@attrs.frozen(kw_only=True)
class BillingReport(ServerResult):
    """
    What an agent cost in a period.

    Attributes:
        agent_id: The agent.
        period: ``"today"``, ``"week"``, ``"month"`` or ``"all"``.
        provider_cost: What the providers take.
        billing_cost: What is billed.
        markup_percent: The difference, in percent.
        by_channel: The same for each channel.
    """

    agent_id: Identifier | None = None
    period: str | None = None
    provider_cost: Decimal | None = None
    billing_cost: Decimal | None = None
    markup_percent: Decimal | None = None
    by_channel: dict[str, ChannelBilling] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UsageReport(ServerResult):
    """
    What an agent did in a period.

    Attributes:
        agent_id: The agent.
        period: ``"today"``, ``"week"``, ``"month"`` or ``"all"``.
        actions: How many actions on each channel.
        total_actions: How many in all.
        costs_by_channel: What each channel cost.
        total_cost: What all cost.
        current_usage: How much of the limits is used, by their names on the wire.
    """

    agent_id: Identifier | None = None
    period: str | None = None
    actions: dict[str, int] = attrs.field(factory=dict)
    total_actions: int | None = None
    costs_by_channel: dict[str, Decimal] = attrs.field(factory=dict)
    total_cost: Decimal | None = None
    current_usage: ToolResult | None = None
