"""The figures of an outbox, for a terminal: ``outbox stats``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from buttdial_sync.cli.report import Report, on_one_line

if TYPE_CHECKING:
    from buttdial_sync.retry.pauses import Pause
    from buttdial_sync.stores.figures import AgentFigures, Figures

_AGENTS_SHOWN = 20
_WIDTH_OF_ERROR = 60
_FLOWS = {
    "idle": "nothing is due",
    "flowing": "messages flow",
    "behind": "messages are sent, but they wait for more than five minutes",
    "stopped": "messages wait, and none was sent in the last minute",
}


def figures_report(figures: Figures, pauses: Sequence[Pause]) -> Report:
    """Report the figures, and what is paused; a count that ends at its limit has a plus."""
    from buttdial_sync.operator.rows import figures_row

    sent = (
        f"{figures.sent_last_minute} in the last minute, "
        f"{figures.sent_last_hour} in the last hour, {figures.sent_per_minute:.1f} a minute"
    )
    lines = [
        _FLOWS[figures.flow],
        *(f"{status:<10} {count}" for status, count in figures.counts.items()),
        f"in doubt   {figures.in_doubt} dead ones may have been sent",
        f"oldest due {timedelta(seconds=round(figures.oldest_due_seconds))}",
        f"sent       {sent}",
        *(_pause_line(pause) for pause in pauses),
        *(_agent_line(agent) for agent in figures.agents[:_AGENTS_SHOWN]),
    ]
    if len(figures.agents) > _AGENTS_SHOWN:
        lines.append(f"... and {len(figures.agents) - _AGENTS_SHOWN} more agents")
    return Report(data=figures_row(figures, pauses), lines=lines)


def paused_name(agent_id: str | None) -> str:
    """Return what a pause is about, for a person."""
    return "everything" if agent_id is None else agent_id or "what names no agent"


def _pause_line(pause: Pause) -> str:
    since = f"{pause.since:%Y-%m-%d %H:%M} UTC"
    return f"paused     {paused_name(pause.agent_id)}, since {since}  {pause.reason}".rstrip()


def _agent_line(agent: AgentFigures) -> str:
    error = on_one_line(agent.last_error or "")[:_WIDTH_OF_ERROR]
    name = agent.agent_id or "no agent named"
    due = f"{agent.next_due_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"  {name}: {agent.pending} wait, the first is due {due}  {error}".rstrip()
