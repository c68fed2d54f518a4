"""Manage an outbox: ``outbox list|show|retry|dismiss|pause|resume|purge|drain|stats``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import click

from buttdial_sync.cli.bulk import bulk_options, changed, check_alone
from buttdial_sync.cli.command import ReportingCommand, wants_json
from buttdial_sync.cli.connection import with_sender
from buttdial_sync.cli.database import check_is_there, db_option, open_database, with_database
from buttdial_sync.cli.draining import drain as drain_outbox
from buttdial_sync.cli.draining import rate_option, report_of, workers_option
from buttdial_sync.cli.figures import figures_report, paused_name
from buttdial_sync.cli.purging import purge_options, purged
from buttdial_sync.cli.report import Failure, Report, on_one_line, plain_fields
from buttdial_sync.errors.exits import EXIT_CODES, USAGE
from buttdial_sync.models.failed import FAILED_STATUSES, FailedMessage, FailedStatus

if TYPE_CHECKING:
    from buttdial_sync.client import Client
    from buttdial_sync.retry.table import TableRepository

RESOLVED = tuple(status for status in FAILED_STATUSES if status != "pending")
_WIDTH_OF_ERROR = 60


@click.group(epilog=EXIT_CODES)
def outbox() -> None:
    """Manage messages that wait to be sent."""


@outbox.command("list", cls=ReportingCommand)
@click.option("--status", type=click.Choice(FAILED_STATUSES), help="Only these.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most.")
@with_database
def list_messages(repository: TableRepository, status: str | None, limit: int) -> Report:
    """List messages, newest first."""
    found = repository.list(cast("FailedStatus | None", status), limit)
    return Report(
        data={"messages": [_as_data(message) for message in found]},
        lines=[_line(message) for message in found] or ["No messages."],
    )


@outbox.command(cls=ReportingCommand)
@click.argument("msg_id", metavar="ID")
@with_database
def show(repository: TableRepository, msg_id: str) -> Report:
    """Show one message."""
    message = repository.get(msg_id)
    if message is None:
        return _not_there(msg_id)
    data = _as_data(message)
    return Report(
        data={"message": data},
        lines=[f"{name:<19} {value}" for name, value in data.items() if value not in (None, "")],
    )


@outbox.command(cls=ReportingCommand)
@click.argument("msg_id", metavar="[ID]", required=False)
@bulk_options
@with_database
def retry(
    repository: TableRepository, msg_id: str | None, even_if_sent: bool, **chosen: Any
) -> Report:
    """
    Make a message due now, even if it was given up; or all messages of a status.

    With --status the messages of all agents are meant, unless --agent names one. A message that may
    have been sent already is refused, or left out, unless --even-if-sent is given.
    """
    if msg_id is None:
        return changed(repository, repository.retry_all, "due now", even_if_sent, chosen)
    check_alone(chosen)
    message = repository.get(msg_id)
    if message is not None and message.status != "dismissed" and not even_if_sent:
        began = message.attempt_started_at
        if began is not None:
            return _may_have_been_sent(message, began)
    change = partial(repository.force_retry, even_if_sent=even_if_sent)
    return _change(repository, msg_id, change, "is due now")


@outbox.command(cls=ReportingCommand)
@click.argument("msg_id", metavar="[ID]", required=False)
@bulk_options
@with_database
def dismiss(
    repository: TableRepository, msg_id: str | None, even_if_sent: bool, **chosen: Any
) -> Report:
    """
    Give up a message, so that it is not sent any more; or all messages of a status.

    With --status the messages of all agents are meant, unless --agent names one. Those that may
    have been sent already are left out, unless --even-if-sent is given.
    """
    if msg_id is None:
        return changed(repository, repository.dismiss_all, "dismissed", even_if_sent, chosen)
    check_alone(chosen)
    return _change(repository, msg_id, repository.dismiss, "is dismissed")


@outbox.command(cls=ReportingCommand)
@purge_options(RESOLVED)
@with_database
def purge(repository: TableRepository, older_than: timedelta, status: tuple[str, ...]) -> Report:
    """
    Delete messages that were delivered or dismissed long ago, and forget their keys.

    Run no file again with send-many whose rows were deleted: they would be sent again.
    """
    return purged(repository, older_than, status)


@outbox.command(cls=ReportingCommand)
@with_database
def stats(repository: TableRepository) -> Report:
    """Tell whether messages flow: how many wait, for how long, how many are sent."""
    return figures_report(repository.figures(), repository.paused())


@outbox.command(cls=ReportingCommand)
@click.argument("agent_id", metavar="[AGENT]", required=False)
@click.option("--reason", default="", help="For people who wonder why.")
@with_database
def pause(repository: TableRepository, agent_id: str | None, reason: str) -> Report:
    """Send no more messages of an agent, or of all, in any process, until resume."""
    is_new = repository.pause(agent_id, reason=reason)
    return _paused_report(agent_id, True, "is paused" if is_new else "was paused already")


@outbox.command(cls=ReportingCommand)
@click.argument("agent_id", metavar="[AGENT]", required=False)
@with_database
def resume(repository: TableRepository, agent_id: str | None) -> Report:
    """Send the messages of an agent again; without one, end the pause of all."""
    was_paused = repository.resume(agent_id)
    return _paused_report(agent_id, False, "is resumed" if was_paused else "was not paused")


@outbox.command(cls=ReportingCommand)
@db_option
@workers_option
@rate_option
@with_sender
@click.pass_context
def drain(ctx: click.Context, client: Client, db: str, workers: int, rate: float | None) -> Report:
    """Send what is due; wait where the server's limits ask for it."""
    check_is_there(db)
    with open_database(db, client) as repository:
        done = drain_outbox(client, repository, workers=workers, rate=rate, quiet=wants_json(ctx))
        return report_of(done, repository)


def _paused_report(agent_id: str | None, is_paused: bool, told: str) -> Report:
    data = {"agent_id": agent_id, "paused": is_paused}
    return Report(data=data, lines=[f"{paused_name(agent_id)} {told}"])


def _change(
    repository: TableRepository, msg_id: str, change: Callable[[str], bool], done: str
) -> Report:
    if change(msg_id):
        return Report(data={"id": msg_id}, lines=[f"{msg_id} {done}"])
    message = repository.get(msg_id)
    if message is None:
        return _not_there(msg_id)
    return Report(
        data={"id": msg_id, "status": message.status},
        failure=Failure(
            message=f"{msg_id} is {message.status} and cannot be changed",
            remediation="If it is being sent now, change it after its lease has ended."
            if message.status in {"pending", "dead"}
            else None,
        ),
        exit_code=USAGE,
    )


def _may_have_been_sent(message: FailedMessage, began: datetime) -> Report:
    return Report(
        data={"id": message.id, "status": message.status},
        failure=Failure(
            message=f"{message.id} may have been sent already, or is being sent: the outcome of "
            f"the attempt at {began:%Y-%m-%d %H:%M:%S} UTC is unknown",
            remediation="Find out whether it arrived. --even-if-sent sends it again with its key: "
            "a server that honours keys sends it once, any other sends it again. A pending one "
            "is settled by outbox drain when its lease ends.",
        ),
        exit_code=USAGE,
    )


def _not_there(msg_id: str) -> Report:
    return Report(
        data={"id": msg_id, "status": None},
        failure=Failure(message=f"there is no message {msg_id}", remediation="See outbox list."),
        exit_code=USAGE,
    )


def _as_data(message: FailedMessage) -> dict[str, Any]:
    return {name: value for name, value in plain_fields(message).items() if name != "agent_token"}


def _line(message: FailedMessage) -> str:
    error = on_one_line(message.last_error or "")[:_WIDTH_OF_ERROR]
    return (
        f"{message.id}  {message.status:<9}  {message.retry_count}/{message.max_retries}  "
        f"{message.channel:<8}  {message.recipient}  {error}"
    ).rstrip()
