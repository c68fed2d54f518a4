"""
Polls by a framework's command: ``polling.py django|flask URL HANDLED KEPT ends|hangs``.

The ids of what was handled and of what went to ON_UNDELIVERED are lines of the two files. The
handler fails on the third message until the process is told to end, and hangs on the fourth if it
is to; it says when on stdout.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from buttdial_sync import InboundHandler, InboundMessage

inbound = InboundHandler()
HOW, URL, HANDLED, KEPT, END = sys.argv[1:]


@inbound.on_message
def handler(message: InboundMessage) -> None:
    if message.id == "waiting-3":
        say("failing")
        raise OSError("until told to end")
    if message.id == "waiting-4" and END == "hangs":
        say("hanging")
        sys.stdin.read()
    write(HANDLED, message)


def keep(event: Any) -> None:
    write(KEPT, event)


def write(path: str, event: Any) -> None:
    with Path(path).open("a", encoding="ascii") as file:
        file.write(f"{event.id}\n")


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def pause(_: float) -> None:
    """Let the handler's pauses be short."""
    threading.Event().wait(0.005)


LISTENER = {"max_attempts": 1_000_000, "sleep": pause}


def by_django() -> None:
    import django
    from django.conf import settings
    from django.core.management import execute_from_command_line

    sys.modules["polling"] = sys.modules[__name__]
    settings.configure(
        INSTALLED_APPS=["buttdial_sync.contrib.django"],
        USE_TZ=True,
        BUTT_DIAL={
            "BASE_URL": URL,
            "AGENT_TOKEN": "tok-1",
            "HANDLER": "polling.inbound",
            "ON_UNDELIVERED": "polling.keep",
            "LISTENER": LISTENER,
            "INBOX": False,
        },
    )
    django.setup()
    execute_from_command_line(["manage.py", "buttdial_poll"])


def by_flask() -> None:
    from flask import Flask
    from flask.cli import ScriptInfo

    from buttdial_sync.contrib.flask import ButtDial

    app = Flask("polling")
    app.config.update(
        BUTT_DIAL_BASE_URL=URL, BUTT_DIAL_AGENT_TOKEN="tok-1", BUTT_DIAL_LISTENER=LISTENER
    )
    ButtDial(app, inbound=inbound, on_undelivered=keep)
    app.cli.main(args=["buttdial", "poll"], obj=ScriptInfo(create_app=lambda: app))


if __name__ == "__main__":
    {"django": by_django, "flask": by_flask}[HOW]()
