"""
A host whose failures go to Sentry, to Django's debug page and error mail, and to rich.

Usage: ``python -m tests.integration.client.reporters``, with the token on the standard input. It
writes all that would leave the process or stand on the screen. ``scrub`` as an argument adds the
recipe for Sentry's breadcrumbs of ``docs/security.rst``.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any, ClassVar

import django
import sentry_sdk
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.core import mail
from django.utils.log import AdminEmailHandler
from django.views.debug import ExceptionReporter
from rich.console import Console
from rich.traceback import Traceback
from sentry_sdk.transport import Transport

from buttdial_sync import AccountsClient, Client
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.testing import FakeButtDialServer
from tests.fakes import add_fault
from tests.integration.client.test_frames import struck

PATIENCE = 1.0

FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("refuse", {}),
    ("reset", {}),
    ("hang", {}),
    ("html", {}),
    ("redirect", {}),
    ("foreign_endpoint", {}),
    ("status", {"status": 503, "body": "x"}),
    ("status", {"status": 401, "body": {"error": "Invalid token"}}),  # the token rests after it
]


class Outbox(Transport):
    """Keeps what Sentry would send."""

    sent: ClassVar[list[str]] = []

    def capture_envelope(self, envelope: Any) -> None:
        for item in envelope.items:
            self.sent.append(item.get_bytes().decode("utf-8", "replace"))


def failures(token: Secret) -> Iterator[BaseException]:
    """Yield an exception of each kind, with all its frames."""
    marker = "a local of the host"  # so that the test sees that locals are shown
    fake = FakeButtDialServer(dialect="open-source")  # one that wants the token in the URL, too
    with fake.listen() as server:
        tool, rest = calls(server.base_url, token)
        for outside in (KeyboardInterrupt, SoftTimeLimitExceeded):
            yield from struck(tool, outside, 2401)
            yield from struck(rest, outside, 1001)
        for kind, options in FAULTS:
            add_fault(fake, kind, on="stream", **options)
            yield from caught(tool, marker)
        add_fault(fake, "reset", on="rest")
        yield from caught(rest, marker)
    yield from caught(tool, marker)  # nobody listens any more


def calls(url: str, token: Secret) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return a tool's call and a REST call, each with a client of its own."""

    def tool() -> None:
        with Client(url, agent_token=token, timeout=PATIENCE, max_attempts=1) as client:
            client.call_tool("comms_ping")

    def rest() -> None:
        with AccountsClient(url, team_token=token, max_attempts=1) as accounts:
            accounts.get_account()

    return tool, rest


def caught(act: Callable[[], object], marker: str) -> Iterator[BaseException]:
    try:
        act()
    except Exception as error:  # noqa: BLE001 - whatever it is
        yield error
    else:
        raise AssertionError(f"{act} did not fail: {marker}")


def report(error: BaseException) -> Iterator[str]:
    """Show an exception as Django and rich do; mails go to Django's own outbox."""
    shown = (type(error), error, error.__traceback__)
    reporter = ExceptionReporter(None, *shown)
    yield reporter.get_traceback_html()
    yield reporter.get_traceback_text()
    record = logging.LogRecord("host", logging.ERROR, "host.py", 1, "it failed", (), shown)
    AdminEmailHandler(include_html=True).emit(record)
    screen = StringIO()
    console = Console(file=screen, width=200)
    console.print(Traceback.from_exception(*shown, show_locals=True, locals_max_string=10_000))
    yield screen.getvalue()


def main() -> None:
    settings.configure(
        ADMINS=[("Admin", "admin@example.com")],
        ALLOWED_HOSTS=["*"],
        DEBUG=True,
        SECRET_KEY="a key",
        EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
    )
    django.setup()
    mail.outbox = []
    token = Secret(sys.stdin.read())
    options: dict[str, Any] = {}
    if "scrub" in sys.argv:
        options["before_breadcrumb"] = without_query
    sentry_sdk.init("https://key@sentry.invalid/1", transport=Outbox, **options)
    texts: list[str] = []
    count = 0
    for error in failures(token):
        count += 1
        sentry_sdk.capture_exception(error)
        if not options:
            texts += report(error)
    mails = [
        part for each in mail.outbox for part in (each.body, *(a[0] for a in each.alternatives))
    ]
    json.dump({"count": count, "pages": texts, "mails": mails, "sentry": Outbox.sent}, sys.stdout)


def without_query(crumb: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    """As in ``docs/security.rst``."""
    crumb.get("data", {}).pop("http.query", None)
    return crumb


if __name__ == "__main__":
    main()
