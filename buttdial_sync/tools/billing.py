"""What an agent costs and earns."""

from __future__ import annotations

from typing import Literal

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import Endpoint, ToolOperation
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.models.usage import BillingReport, UsageReport
from buttdial_sync.tools.family import Family

Period = Literal["today", "week", "month", "all"]

_BILLING = Endpoint(
    "GET",
    "/api/v1/billing",
    BillingReport,
    reads_only=True,
    query=("period",),
    always_names_agent=True,
)
_USAGE = Endpoint(
    "GET",
    "/api/v1/usage",
    UsageReport,
    reads_only=True,
    query=("period",),
    always_names_agent=True,
)
_GET_INCOME = ToolOperation(
    "comms_get_income", ToolResult, reads_only=True, defaults={"period": "month"}
)
_GET_BILLING_SUMMARY = ToolOperation(
    "comms_get_billing_summary",
    ToolResult,
    reads_only=True,
    shared=(),
    defaults={"period": "month"},
    agent_id_is_subject=True,
)
_GET_USAGE_DASHBOARD = ToolOperation(
    "comms_get_usage_dashboard",
    ToolResult,
    reads_only=True,
    shared=(),
    defaults={"period": "today"},
)


class Billing(Family):
    """
    Usage, costs and income of one agent, as ``client.billing``. Safe to share between threads.

    Scope: agent.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        NotSupportedError: This server does not support the call or an argument. Nothing was done.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.
    """

    @checked
    def current(self, period: Period = "month") -> BillingReport:
        """
        Return what the agent cost in a period.

        Args:
            period: ``"today"``, ``"week"``, ``"month"`` or ``"all"``.

        Returns:
            The costs, in all and for each channel.
        """
        return self._call(_BILLING, period=period)

    @checked
    def usage(self, period: Period | None = None) -> UsageReport:
        """
        Return what the agent did in a period, and what is left of its limits.

        Args:
            period: ``"today"``, ``"week"``, ``"month"`` or ``"all"``. Defaults to the server's
                choice.

        Returns:
            The actions and their costs.
        """
        return self._call(_USAGE, period=period)

    @checked
    def income(self, period: Period = "month") -> ToolResult:
        """
        Return what the agent earned in a period.

        Args:
            period: ``"today"``, ``"week"``, ``"month"`` or ``"all"``.
        """
        return self._call(_GET_INCOME, period=period)

    @checked
    def summary(self, *, agent_id: str | None = None, period: Period = "month") -> ToolResult:
        """
        Return the costs of an agent, or of all that the token may see.

        Args:
            agent_id: Of which agent.
            period: ``"today"``, ``"week"``, ``"month"`` or ``"all"``.
        """
        return self._call(_GET_BILLING_SUMMARY, agent_id=agent_id, period=period)

    @checked
    def usage_dashboard(self, period: Period = "today") -> ToolResult:
        """
        Return the figures of the usage dashboard.

        Args:
            period: ``"today"``, ``"week"``, ``"month"`` or ``"all"``.
        """
        return self._call(_GET_USAGE_DASHBOARD, period=period)
