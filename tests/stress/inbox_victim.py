"""
A process that takes in messages over all ways, and is killed: see ``inbox_campaign``.

``inbox_victim.py URL DATABASE LOG TOKEN LEASE HOURS FAILURES``: the inbox is a file, or an address
of SQLAlchemy's; its clock is so many hours ahead, so that leases of processes that were killed
before are over. Each line of the log is ``begins`` or ``ends``, the message, and this process's id.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from buttdial_sync import Client, InboundHandler, InboundMessage, Inbox, Listener, SQLiteInbox
from buttdial_sync.contrib.commands import stopped_by_signals
from buttdial_sync.errors.moments import utc_now

WORKERS = 4
TICK = 0.2


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def opened(database: str, hours: float = 0.0, lease: float = 300.0) -> Iterator[Inbox]:
    def clock() -> datetime:
        return utc_now() + timedelta(hours=hours)

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

    with opened(database, float(hours), float(lease)) as inbox:
        inbound = InboundHandler(
            allow_unsigned=["butt-dial"], inbox=inbox, deferred=True, lease=float(lease)
        )

        @inbound.on_message
        def handle(message: InboundMessage) -> None:
            note("begins", message)
            if dice.random() < share:
                raise OSError("one time in some")
            note("ends", message)

        web = make_server("127.0.0.1", 0, inbound.wsgi(), Server, Quiet)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with (
            Client(url, agent_id="agent-1", agent_token=token, timeout=30.0) as client,
            Listener(
                client,
                inbound,
                inbox=inbox,
                workers=WORKERS,
                idle_ping=TICK,
                poll_every=TICK,
                polls_per_minute=6000,
            ) as listener,
        ):
            told = threading.Event()
            threading.Thread(target=wait_for_the_end_of_input, args=(told,), daemon=True).start()
            with stopped_by_signals(told.set):
                sys.stdout.write(f"{web.server_port}\n")
                sys.stdout.flush()
                told.wait()
            listener.stop(30.0)
        web.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
