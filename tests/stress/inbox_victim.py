"""
A process that takes in messages over all ways, and is killed: see ``inbox_campaign``.

``inbox_victim.py URL DATABASE LOG TOKEN LEASE HOURS FAILURES``: the inbox is a file, an address of
SQLAlchemy's, or a Django project's (``django:PLACE``); its clock is so many hours ahead, so that
leases of processes that were killed before are over. Each line of the log is ``begins`` or
``ends``, the message, and this process's id. ``inbox_victim.py state DATABASE`` prints what is in
the inbox.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from buttdial_sync import Client, InboundHandler, InboundMessage, Inbox, Listener, SQLiteInbox
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.transport.signals import stopped_by_signals
from tests.stress import inbox_project
from tests.stress.inbox_project import PREFIX

WORKERS = 4
TICK = 0.2


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def opened(database: str, hours: float = 0.0, lease: float = 300.0) -> Iterator[Inbox]:
    """Open an inbox; its clock is the database's own, if it has one and no hours are given."""

    def ahead() -> datetime:
        return utc_now() + timedelta(hours=hours)

    clock = ahead if hours else None
    if "://" not in database:
        with SQLiteInbox(database, clock=clock, lease=lease) as inbox:
            yield inbox
        return
    from sqlalchemy import create_engine

    from buttdial_sync.inbound.sqlalchemy_inbox import SQLAlchemyInbox

    engine = create_engine(database)
    made = SQLAlchemyInbox(engine, clock=clock, lease=lease)
    made.create_table()
    try:
        yield made
    finally:
        engine.dispose()


def state(database: str) -> dict[str, Any]:
    """Return how many events have each status, and the texts that are known."""
    if not database.startswith(PREFIX):
        with opened(database) as inbox:
            return _state_of(inbox)
    inbox_project.set_up(database)
    return _state_of(inbox_project.stored())


def _state_of(inbox: Inbox) -> dict[str, Any]:
    known = [getattr(each.event, "text", None) for each in inbox.list(limit=10**6)]
    return {"stats": dict(inbox.stats()), "known": known}


@contextmanager
def host(
    url: str, database: str, token: str, lease: float, hours: float
) -> Iterator[tuple[InboundHandler, Any, Listener]]:
    """Make a handler, the application of its webhooks, and a listener that does not run yet."""
    listening: dict[str, Any] = {
        "workers": WORKERS,
        "idle_ping": TICK,
        "poll_every": TICK,
        "polls_per_minute": 6000,
    }
    agent: dict[str, Any] = {"agent_id": "agent-1", "agent_token": token, "base_url": url}
    if database.startswith(PREFIX):
        with inbox_project.host(database, hours, lease, listener=listening, **agent) as made:
            yield made
        return
    with opened(database, hours, lease) as inbox, Client(**agent) as client:
        inbound = InboundHandler(
            allow_unsigned=["butt-dial"], inbox=inbox, deferred=True, lease=lease
        )
        yield inbound, inbound.wsgi(), Listener(client, inbound, inbox=inbox, **listening)


def wait_for_the_end_of_input(told: threading.Event) -> None:
    sys.stdin.read()
    told.set()


def main(
    url: str, database: str, log: str, token: str, lease: str, hours: str, failures: str
) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    dice = random.Random()
    share = float(failures)

    def note(word: str, message: InboundMessage) -> None:
        os.write(descriptor, f"{word} {message.text} {os.getpid()}\n".encode())

    with host(url, database, token, float(lease), float(hours)) as (inbound, app, listener):

        @inbound.on_message
        def handle(message: InboundMessage) -> None:
            note("begins", message)
            if dice.random() < share:
                raise OSError("one time in some")
            note("ends", message)

        web = make_server("127.0.0.1", 0, app, Server, Quiet)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with listener:
            told = threading.Event()
            threading.Thread(target=wait_for_the_end_of_input, args=(told,), daemon=True).start()
            with stopped_by_signals(told.set):
                sys.stdout.write(f"{web.server_port}\n")
                sys.stdout.flush()
                told.wait()
            listener.stop(30.0)
        web.shutdown()


if __name__ == "__main__":
    if sys.argv[1] == "state":
        sys.stdout.write(json.dumps(state(sys.argv[2])))
    else:
        main(*sys.argv[1:])
