"""Sending the rows of a file: ``send-many``."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs
import click

from buttdial_sync.cli.command import ReportingCommand, wants_json
from buttdial_sync.cli.connection import with_client
from buttdial_sync.cli.database import db_option, open_database
from buttdial_sync.cli.draining import (
    DEAD_REMEDY,
    drain,
    held_rows,
    minute_after,
    rate_option,
    report_of,
    workers_option,
)
from buttdial_sync.cli.report import Failure, Report
from buttdial_sync.errors import ConfigError
from buttdial_sync.errors.exits import DONE, REFUSED, TRY_LATER, USAGE
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.message import HELP

if TYPE_CHECKING:
    from buttdial_sync.client import Client
    from buttdial_sync.retry.table import TableRepository

_COLUMNS = frozenset(HELP) - {"idempotency_key"} | {"id"}
_FAULTS_SHOWN = 20


class FileFaultError(ConfigError):
    """Rows of the file cannot be sent; the message names them."""


@click.command("send-many", cls=ReportingCommand)
@click.argument("path", metavar="FILE.csv", type=click.Path(exists=True, dir_okay=False))
@db_option
@workers_option
@rate_option
@with_client
@click.pass_context
def send_many(
    ctx: click.Context, client: Client, path: str, db: str, workers: int, rate: float | None
) -> Report:
    """
    Send a message for each row of a CSV file, each once.

    Columns: to, body, channel, id, and others that a message has. Nothing is sent until the whole
    file is valid. The database remembers what was sent: run it again, and nobody gets a message
    twice. A message's key is its id, or is made from the row.
    """
    messages = read_messages(path, client.agent_id)
    with open_database(db, client) as repository:
        known = _check_known(repository, messages)
        added = repository.add_new(messages)
        done = drain(client, repository, workers=workers, rate=rate, quiet=wants_json(ctx))
        report = report_of(done, repository, rows=len(messages), added=added, known=known)
        leases = repository.leased()
        states = [repository.get(message.id) for message in messages]
    return _of_the_file(report, [state for state in states if state is not None], leases)


def read_messages(path: str, agent_id: str | None) -> list[FailedMessage]:
    """
    Read and check a whole file.

    Args:
        path: A CSV file, UTF-8, with a header.
        agent_id: Who sends.

    Returns:
        The messages; equal rows without an id are one.

    Raises:
        FileFaultError: A row cannot be sent, or the file is not a CSV file.
    """
    faults: list[str] = []
    messages: dict[str, FailedMessage] = {}
    for number, row in _rows(path):
        try:
            message = _message(row, agent_id)
        except ConfigError as error:
            faults.append(f"row {number}: {error}")
            continue
        same = messages.setdefault(message.id, message)
        if same != message:
            faults.append(f"row {number}: the id {message.id!r} is used by another row")
    if faults:
        more = f"\n... and {len(faults) - _FAULTS_SHOWN} more" * (len(faults) > _FAULTS_SHOWN)
        raise FileFaultError(
            f"{len(faults)} rows cannot be sent; nothing was sent. "
            + "; ".join(faults[:_FAULTS_SHOWN])
            + more,
            remediation="Correct these rows and run it again.",
        )
    return list(messages.values())


def _rows(path: str) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, restval="")
            _check_header(reader.fieldnames or ())
            for number, row in enumerate(reader, 2):
                if None in row:
                    raise FileFaultError(f"row {number} has more cells than the header")
                yield number, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileFaultError(
            f"{path} is not a CSV file: {error}",
            remediation="Save it as CSV, UTF-8, with a header.",
        ) from None


def _check_header(names: Sequence[str]) -> None:
    if "to" not in names:
        raise FileFaultError("row 1: the header has no column to")
    unknown = [name for name in names if name not in _COLUMNS]
    if unknown or len(set(names)) < len(names):
        raise FileFaultError(
            f"row 1: unknown or repeated columns: {', '.join(map(repr, unknown or names))}",
            remediation=f"Columns are {', '.join(sorted(_COLUMNS))}.",
        )


def _message(row: dict[str, str], agent_id: str | None) -> FailedMessage:
    from buttdial_sync.retry.rows import check_message

    given: dict[str, Any] = {name: value for name, value in row.items() if value != ""}
    key = given.pop("id", None) or _key_of(given)
    message = FailedMessage(
        id=key,
        recipient=given.pop("to", ""),
        body=given.pop("body", ""),
        idempotency_key=key,
        agent_id=agent_id,
        **given,
    )
    check_message(message)
    return message


def _key_of(row: dict[str, str]) -> str:
    text = json.dumps(row, sort_keys=True, ensure_ascii=False)
    return f"row-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _check_known(repository: TableRepository, messages: Sequence[FailedMessage]) -> int:
    """Return how many are there already; a row that has changed since is a fault."""
    known = 0
    for message in messages:
        found = repository.get(message.id)
        if found is None:
            continue
        known += 1
        if _content(found) != _content(message):
            raise FileFaultError(
                f"the id {message.id!r} was used before for another message; nothing was sent",
                remediation="Give a new id to a message that is to be sent again.",
            )
    return known


def _content(message: FailedMessage) -> tuple[object, ...]:
    return tuple(
        getattr(message, name if name != "to" else "recipient")
        for name in sorted(_COLUMNS - {"id"})
    )


def _of_the_file(
    report: Report, messages: Sequence[FailedMessage], leases: Mapping[str, datetime]
) -> Report:
    """The exit code depends on this file's rows, not on others in the same outbox."""
    dead = sum(message.status == "dead" for message in messages)
    delivered = sum(message.status == "delivered" for message in messages)
    data = {**report.data, "file": {"delivered": delivered, "dead": dead, "rows": len(messages)}}
    lines = [f"{delivered} of {len(messages)} rows are delivered", *report.lines]
    if delivered == len(messages):
        return Report(data={**data, "ok": True}, lines=lines, exit_code=DONE)
    failure, code = report.failure, REFUSED if dead else report.exit_code
    if failure is None or report.exit_code == TRY_LATER:
        failure, code = _undelivered(messages, leases)
    return attrs.evolve(
        report, data={**data, "ok": False}, lines=lines, failure=failure, exit_code=code
    )


def _undelivered(
    messages: Sequence[FailedMessage], leases: Mapping[str, datetime]
) -> tuple[Failure, int]:
    """Say why rows are not delivered, although nothing failed in this run."""
    dead = [message for message in messages if message.status == "dead"]
    if dead:
        message = f"{len(dead)} rows were given up{_in_doubt(dead)}"
        return Failure(message=message, remediation=DEAD_REMEDY), REFUSED
    waiting = [message for message in messages if message.status == "pending"]
    held = [leases[message.id] for message in waiting if message.id in leases]
    if held:
        return held_rows(held), TRY_LATER
    if not waiting:
        dismissed = [message for message in messages if message.status == "dismissed"]
        return Failure(
            message=f"{len(dismissed)} rows were dismissed{_in_doubt(dismissed)}",
            remediation="Give a new id to a row that is to be sent after all.",
        ), USAGE
    due = max(message.next_retry_at for message in waiting if message.next_retry_at is not None)
    reason = next((message.last_error for message in waiting if message.last_error), "not due yet")
    return Failure(
        message=f"{len(waiting)} rows wait, the last until {minute_after(due):%Y-%m-%d %H:%M}: "
        f"{reason}",
        remediation="Run it again then.",
    ), TRY_LATER


def _in_doubt(messages: Sequence[FailedMessage]) -> str:
    unknown = sum(message.attempt_started_at is not None for message in messages)
    return f", {unknown} of them may have been sent" if unknown else ""
