"""Sending the rows of a file: ``send-many``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from buttdial_sync.cli.command import ReportingCommand, wants_json
from buttdial_sync.cli.connection import with_sender
from buttdial_sync.cli.database import db_option, open_database
from buttdial_sync.cli.draining import (
    DEAD_REMEDY,
    drain,
    held_back_by,
    held_rows,
    minute_after,
    paused_agents,
    rate_option,
    report_of,
    workers_option,
)
from buttdial_sync.cli.file_rows import COLUMNS, FileFaultError, FileRow, FileRows
from buttdial_sync.cli.progress import Progress
from buttdial_sync.cli.report import Failure, Report, say
from buttdial_sync.errors.exits import REFUSED, TRY_LATER, USAGE
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.message import CHANNELS

if TYPE_CHECKING:
    from buttdial_sync.client import Client
    from buttdial_sync.retry.table import TableRepository

_AT_ONCE = 1000
_SHOWN = 10


@click.command("send-many", cls=ReportingCommand)
@click.argument("path", metavar="FILE.csv", type=click.Path(exists=True, dir_okay=False))
@db_option
@workers_option
@rate_option
@click.option(
    "--channel", type=click.Choice(CHANNELS), help="For rows without one; otherwise whatsapp."
)
@click.option(
    "--campaign", metavar="NAME", help="A part of the keys; the file's name if not given."
)
@click.option(
    "--again", is_flag=True, help="Also what was sent to the same people in another campaign."
)
@with_sender
@click.pass_context
def send_many(
    ctx: click.Context,
    client: Client,
    path: str,
    db: str,
    workers: int,
    rate: float | None,
    channel: str | None,
    campaign: str | None,
    again: bool,
) -> Report:
    """
    Send a message for each row of a CSV file, each once.

    Columns: to, body, channel, id, and others that a message has. Nothing is sent until the whole
    file is valid. The database remembers what was sent, until it is purged: run it again, and
    nobody gets a message twice. A message's key is its id, or is made from the row and the
    campaign's name. If people got the same text in another campaign, nothing is sent without
    --again.
    """
    campaign = campaign or Path(path).stem
    quiet = wants_json(ctx)
    if not quiet:
        say(f"Campaign {campaign}")
    with FileRows(campaign, client.agent_id, channel) as rows:
        with Progress(quiet=quiet) as progress:
            rows.read(path, progress)
        with open_database(db, client) as repository:
            with Progress(quiet=quiet) as progress:
                known = _check_known(repository, rows, again, progress)
                added = store(repository, rows, again, progress)
            if not quiet:  # before it sends: rows that were purged are new ones, and sent again
                say(f"{added} rows are new, {known} are in the outbox already")
            done = drain(client, repository, workers=workers, rate=rate, quiet=quiet)
            report = report_of(
                done, repository, campaign=campaign, rows=len(rows), added=added, known=known
            )
            with Progress(quiet=quiet) as progress:
                states = _states(repository, rows, again, progress)
            return _of_the_file(report, states, len(rows))


def _check_known(
    repository: TableRepository, rows: FileRows, again: bool, progress: Progress
) -> int:
    """Return how many are there already; a row that has changed since is a fault."""
    known = repeated = 0
    for portion, found in _portions(repository, rows, again, progress, "Looking up"):
        for row in portion:
            same = found.get(row.message.id)
            has_changed = same is not None and _content(same) != _content(row.message)
            if has_changed and row.made is None:  # an id that was made depends on the content
                raise FileFaultError(
                    f"the id {row.message.id!r} was used before for another message; nothing was "
                    "sent",
                    remediation="Give a new id to a message that is to be sent again.",
                )
        known += len(found)
        if not again:
            repeated += _sent_elsewhere(repository, portion, found)
    if repeated:
        raise FileFaultError(
            f"{repeated} of {len(rows)} rows have the same recipient and text as rows of another "
            "campaign; nothing was sent",
            remediation="--campaign NAME continues that campaign; --again sends them once more.",
        )
    return known


def store(repository: TableRepository, rows: FileRows, again: bool, progress: Progress) -> int:
    """Write the rows that are not in the outbox yet; return how many."""
    return sum(
        repository.add_new([row.message for row in portion if row.message.id not in found])
        for portion, found in _portions(repository, rows, again, progress, "Storing")
    )


def _portions(
    repository: TableRepository, rows: FileRows, again: bool, progress: Progress, doing: str
) -> Iterator[tuple[list[FileRow], dict[str, FailedMessage]]]:
    """Give the rows, so many at a time, each time with those of them that are in the outbox."""
    seen, total = 0, len(rows)
    for portion in rows.portions(_AT_ONCE):
        progress.tell(doing, seen, total)
        yield portion, _found(repository, portion, again)
        seen += len(portion)


def _found(
    repository: TableRepository, portion: Sequence[FileRow], again: bool
) -> dict[str, FailedMessage]:
    """
    Return the messages that are in the outbox already, by the ids that they have in the file.

    A release without campaigns stored rows under other ids. They are the same messages, unless
    somebody wants them sent again.
    """
    ids = [row.message.id for row in portion]
    stored = {message.id: message for message in repository.get_many(ids)}
    former = {} if again else {row.made.former: row.message.id for row in portion if row.made}
    for message in repository.get_many(list(former)):
        stored.setdefault(former[message.id], message)
    return stored


def _sent_elsewhere(
    repository: TableRepository, portion: Sequence[FileRow], found: Mapping[str, FailedMessage]
) -> int:
    """Count the new rows whose text went to the same recipient in another campaign."""
    made = [row.made for row in portion if row.made and row.message.id not in found]
    ids = repository.store.ids_between([each.all_of_content for each in made])
    campaigns = {each.of_content: each.of_campaign for each in made}
    others = {
        content
        for row_id in ids
        if (content := row_id[: len(made[0].of_content)]) in campaigns
        and not row_id.startswith(campaigns[content])
    }
    return sum(each.of_content in others for each in made)


@attrs.define
class _States:
    """What became of the rows of the file."""

    counts: Counter[str] = attrs.field(factory=Counter)
    in_doubt: Counter[str] = attrs.field(factory=Counter)
    leases: list[datetime] = attrs.field(factory=list)
    last_due: datetime | None = None
    reason: str | None = None
    paused: set[str] = attrs.field(factory=set)
    missing: list[str] = attrs.field(factory=list)

    def add(self, message: FailedMessage, lease: datetime | None) -> None:
        self.counts[message.status] += 1
        self.in_doubt[message.status] += message.attempt_started_at is not None
        if message.status == "pending":
            if lease is not None:
                self.leases.append(lease)
            self.last_due = max(filter(None, (self.last_due, message.next_retry_at)), default=None)
            self.reason = self.reason or message.last_error

    def failure(self) -> tuple[Failure, int]:
        """Say why rows are not delivered, although nothing failed in this run."""
        if self.counts["dead"]:
            message = f"{self.counts['dead']} rows were given up{self._doubt('dead')}"
            return Failure(message=message, remediation=DEAD_REMEDY), REFUSED
        if self.missing:
            return Failure(
                message=f"{len(self.missing)} rows were not sent, because their ids are keys of "
                f"other messages in this outbox: {', '.join(self.missing[:_SHOWN])}",
                remediation="Give these rows other ids.",
            ), USAGE
        if self.leases:
            return held_rows(self.leases), TRY_LATER
        if self.paused:
            return held_back_by(self.paused, f"{self.counts['pending']} rows"), TRY_LATER
        if self.last_due is None:
            return Failure(
                message=f"{self.counts['dismissed']} rows were dismissed{self._doubt('dismissed')}",
                remediation="Give a new id to a row that is to be sent after all.",
            ), USAGE
        return Failure(
            message=f"{self.counts['pending']} rows wait, the last until "
            f"{minute_after(self.last_due):%Y-%m-%d %H:%M}: {self.reason or 'not due yet'}",
            remediation="Run it again then.",
        ), TRY_LATER

    def _doubt(self, status: str) -> str:
        unknown = self.in_doubt[status]
        return f", {unknown} of them may have been sent" if unknown else ""


def _states(
    repository: TableRepository, rows: FileRows, again: bool, progress: Progress
) -> _States:
    leases = repository.leased()
    paused = paused_agents(repository)
    states = _States()
    doing = "Looking at the results"
    for portion, found in _portions(repository, rows, again, progress, doing):
        for message in found.values():
            states.add(message, leases.get(message.id))
            if message.status == "pending":
                states.paused |= paused & {message.agent_id or ""}
        states.missing += [row.message.id for row in portion if row.message.id not in found]
    return states


def _of_the_file(report: Report, states: _States, rows: int) -> Report:
    """The exit code depends on this file's rows, not on others in the same outbox."""
    delivered, dead = states.counts["delivered"], states.counts["dead"]
    data = {**report.data, "file": {"delivered": delivered, "dead": dead, "rows": rows}}
    lines = [f"{delivered} of {rows} rows are delivered", *report.lines]
    if delivered == rows:
        return Report(data=data, lines=lines)
    failure, code = report.failure, REFUSED if dead else report.exit_code
    if failure is None or report.exit_code == TRY_LATER:
        failure, code = states.failure()
    return attrs.evolve(report, data=data, lines=lines, failure=failure, exit_code=code)


def _content(message: FailedMessage) -> tuple[object, ...]:
    return tuple(
        getattr(message, name if name != "to" else "recipient") for name in sorted(COLUMNS - {"id"})
    )
