"""Changes of many messages at once: ``outbox retry --status dead``, ``outbox dismiss`` likewise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from buttdial_sync.cli.ages import age_of
from buttdial_sync.cli.command import with_options
from buttdial_sync.cli.report import Report
from buttdial_sync.errors.moments import utc_now

if TYPE_CHECKING:
    from buttdial_sync.retry.table import TableRepository


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Read an age or a time; a time without a zone is this machine's."""
    if value is None:
        return None
    age = age_of(value)
    try:
        if age is not None:
            return utc_now() - age
        return datetime.fromisoformat(value).astimezone(timezone.utc)
    except (ValueError, OverflowError):  # before the year 1, too
        told = f"{value} is not a time such as 2h, 30d or 2026-07-01T14:00"
        raise click.BadParameter(told) from None


bulk_options = with_options(
    click.option("--status", type=click.Choice(("dead", "pending")), help="All of these."),
    click.option(
        "--since",
        metavar="2h|TIME",
        callback=_moment,
        help="Given up since then; pending ones: written since then.",
    ),
    click.option("--error-like", metavar="TEXT", help="With this text in their last error."),
    click.option("--agent", "agent_id", metavar="AGENT", help="Only this agent's."),
    click.option(
        "--even-if-sent/--not-unknown",
        default=False,
        help="Whether messages that may have been sent are included; they are not by default. "
        "If such a message is sent again, its recipient may get it twice.",
    ),
    click.option("--dry-run", is_flag=True, help="Only count."),
)


def check_alone(chosen: Mapping[str, Any]) -> None:
    """
    Refuse the options of many messages beside the id of one.

    Raises:
        UsageError: One is given.
    """
    if any(value not in (None, False) for value in chosen.values()):
        raise click.UsageError(
            "--status, --since, --error-like, --agent and --dry-run are without an ID."
        )


def changed(
    repository: TableRepository,
    change_all: Callable[..., int],
    word: str,
    even_if_sent: bool,
    chosen: Mapping[str, Any],
) -> Report:
    """
    Change all that is chosen, and say how many, and how many were left out.

    Raises:
        UsageError: No status is chosen.
    """
    if chosen["status"] is None:
        raise click.UsageError("Give an ID, or --status for all messages of a status.")
    dry_run = chosen["dry_run"]
    left_out = 0
    if not even_if_sent:
        filters = {name: chosen[name] for name in ("status", "since", "error_like", "agent_id")}
        left_out = repository.count_in_doubt(**filters)
    count = change_all(**chosen, even_if_sent=even_if_sent)
    lines = [f"{count} {'would be' if dry_run else 'are'} {word}"]
    if left_out:
        lines.append(f"{left_out} may have been sent and are left out; see --even-if-sent")
    data = {"changed": count, "left_out": left_out, "dry_run": dry_run}
    return Report(data=data, lines=lines)
