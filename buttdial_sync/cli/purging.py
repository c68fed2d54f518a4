"""The deletion of old messages: ``purge --older-than 30d``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from buttdial_sync.cli.ages import age_of
from buttdial_sync.cli.command import with_options
from buttdial_sync.cli.report import Report
from buttdial_sync.cli.status_line import STATUS_LINE

if TYPE_CHECKING:
    from buttdial_sync.stores.table import WorkTable


def _age(ctx: click.Context, param: click.Parameter, value: str) -> timedelta:
    """Read ``30d``, ``12h`` or ``90m``."""
    age = age_of(value)
    if age is None:
        raise click.BadParameter(f"{value} is not a time such as 30d, 12h or 90m")
    return age


def purge_options(statuses: Sequence[str]) -> Callable[[Any], Any]:
    """Give a command ``--older-than`` and ``--status``."""
    return with_options(
        click.option(
            "--older-than",
            metavar="30d|12h|90m",
            callback=_age,
            required=True,
            help="Resolved that long ago.",
        ),
        click.option(
            "--status",
            multiple=True,
            type=click.Choice(statuses),
            help="Only these; may be repeated. Without it all but dead.",
        ),
    )


def purged(table: WorkTable, older_than: timedelta, statuses: Sequence[str]) -> Report:
    """Delete, and say how many."""
    STATUS_LINE.doing = "Deleting"
    count = table.purge(older_than, statuses or None)
    return Report(data={"deleted": count}, lines=[f"{count} deleted"])
