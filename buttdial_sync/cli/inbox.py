"""Manage an inbox: ``inbox list|show|retry|dismiss|purge|stats|handle``."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from buttdial_sync.cli.command import ReportingCommand
from buttdial_sync.cli.database import errors_of_file, needing_sqlalchemy, with_db
from buttdial_sync.cli.purging import purge_options, purged
from buttdial_sync.cli.report import Failure, Report, on_one_line, plain_fields
from buttdial_sync.cli.signals import finished_first
from buttdial_sync.errors import ConfigError
from buttdial_sync.errors.exits import DONE, EXIT_CODES, REFUSED, TRY_LATER, USAGE

if TYPE_CHECKING:
    from buttdial_sync.inbound.handler import InboundHandler
    from buttdial_sync.inbound.inbox import Inbox, InboxStatus, StoredEvent
    from buttdial_sync.models.inbound import InboundEvent

_STATUSES = ("pending", "handled", "dead", "dismissed")


@click.group(epilog=EXIT_CODES)
def inbox() -> None:
    """Manage messages that came in and were written down."""


@contextmanager
def _opened(db: str) -> Iterator[Inbox]:
    opened: Inbox
    if "://" in db:
        with needing_sqlalchemy():
            from buttdial_sync.inbound.sqlalchemy_inbox import SQLAlchemyInbox
            from buttdial_sync.stores.sqlalchemy import engine_at
        with engine_at(db) as engine:
            opened = SQLAlchemyInbox(engine)
            opened.create_table()
            yield opened
    else:
        from buttdial_sync.inbound.inbox import SQLiteInbox

        with SQLiteInbox(db) as opened, errors_of_file(db):
            yield opened


with_inbox = with_db(_opened)


@inbox.command("list", cls=ReportingCommand)
@click.option("--status", type=click.Choice(_STATUSES), help="Only these.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most.")
@with_inbox
def list_events(found: Inbox, status: str | None, limit: int) -> Report:
    """List events, newest first."""
    events = found.list(cast("InboxStatus | None", status), limit)
    return Report(
        data={"events": [_as_data(stored) for stored in events]},
        lines=[_line(stored) for stored in events] or ["No events."],
    )


@inbox.command(cls=ReportingCommand)
@click.argument("event_id", metavar="ID")
@with_inbox
def show(found: Inbox, event_id: str) -> Report:
    """Show one event, with all that came."""
    stored = found.get(event_id)
    if stored is None:
        return _cannot(event_id, "there is no event")
    data = _as_data(stored)
    return Report(data={"event": data}, lines=[json.dumps(data, indent=2)])


@inbox.command(cls=ReportingCommand)
@click.argument("event_id", metavar="ID")
@with_inbox
def retry(found: Inbox, event_id: str) -> Report:
    """Make an event due now, even if it was given up."""
    return _changed(event_id, found.force_retry, "is due now")


@inbox.command(cls=ReportingCommand)
@click.argument("event_id", metavar="ID")
@with_inbox
def dismiss(found: Inbox, event_id: str) -> Report:
    """Give an event up: it is not handled any more."""
    return _changed(event_id, found.dismiss, "is dismissed")


@inbox.command(cls=ReportingCommand)
@purge_options(_STATUSES[1:])
@with_inbox
def purge(found: Inbox, older_than: timedelta, status: tuple[str, ...]) -> Report:
    """Delete events that were handled or dismissed long ago."""
    return purged(found, older_than, status)


@inbox.command(cls=ReportingCommand)
@with_inbox
def stats(found: Inbox) -> Report:
    """Count the events of each status."""
    counts = dict(found.stats())
    return Report(data=counts, lines=[f"{status:<10} {count}" for status, count in counts.items()])


@inbox.command(cls=ReportingCommand)
@click.argument("handler", metavar="MODULE:NAME")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Threads.")
@with_inbox
def handle(found: Inbox, handler: str, workers: int) -> Report:
    """
    Hand over what is due to the InboundHandler of a module, as in shop.inbound:handler.

    It ends when nothing is due. What fails is due again later. After SIGTERM or Ctrl-C it finishes
    what is being handled.
    """
    from buttdial_sync.listening.inbox_worker import HandingOver, drain_inbox

    given_up: list[InboundEvent] = []
    how = HandingOver(
        inbox=found,
        inbound=_imported(handler),
        workers=workers,
        on_undelivered=given_up.append,
    )
    count = drain_inbox(how, around=finished_first)
    left = found.stats()
    failure, code = None, TRY_LATER if left["pending"] else DONE
    if given_up:
        code = REFUSED
        failure = Failure(
            message=f"{len(given_up)} given up: the log says why",
            remediation="See inbox list --status dead. When the fault is gone: inbox retry ID.",
        )
    return Report(
        data={"handled": count, "given_up": len(given_up), **left},
        lines=[f"{count} handed over, {left['pending']} pending, {left['dead']} dead"],
        failure=failure,
        exit_code=code,
    )


def _imported(path: str) -> InboundHandler:
    from buttdial_sync.inbound.handler import InboundHandler

    module, _, name = path.partition(":")
    # As python -m does: a program's own modules stand where it is started.
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # noqa: BLE001 - the host's module may raise anything
        raise ConfigError(
            f"{module} cannot be imported: {type(error).__name__}: {error}",
            remediation="Give MODULE:NAME.",
        ) from None
    finally:
        sys.path.pop(0)
    if not isinstance(found, InboundHandler):
        raise ConfigError(f"{path} is not an InboundHandler", remediation="Give MODULE:NAME.")
    return found


def _changed(event_id: str, change: Callable[[str], bool], done: str) -> Report:
    if not change(event_id):
        return _cannot(event_id, "it is not there, done, or being handled:")
    return Report(data={"id": event_id}, lines=[f"{event_id} {done}"])


def _cannot(event_id: str, why: str) -> Report:
    return Report(
        data={"id": event_id},
        failure=Failure(message=f"{why} {event_id}", remediation="See inbox list."),
        exit_code=USAGE,
    )


def _as_data(stored: StoredEvent) -> dict[str, Any]:
    return {name: value for name, value in plain_fields(stored).items() if value is not None}


def _line(stored: StoredEvent) -> str:
    text = on_one_line(str(getattr(stored.event, "text", None) or ""))[:40]
    sender = stored.sender or stored.kind
    return f"{stored.id}  {stored.status:<9}  {stored.retry_count}  {sender}  {text}".rstrip()
