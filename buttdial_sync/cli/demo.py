"""A tour without an account and without a network: ``demo``."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import click

from buttdial_sync.cli.command import ReportingCommand, wants_json
from buttdial_sync.cli.connection import log_event
from buttdial_sync.cli.report import Failure, Report, say
from buttdial_sync.errors.exits import REFUSED

if TYPE_CHECKING:
    from buttdial_sync.cli.scenario import Step

_LOOPBACK = "127.0.0.1"
_WIDTH = 50
_TEXT_WIDTH = 68
_INDENT = " " * 14

_OPENING = (
    "A fake Butt-Dial server runs inside this program.",
    "Nothing leaves your machine, and no account is needed.",
)
_SERVERS = {"hosted": "The hosted service", "open-source": "The open-source server"}
_NEXT = (
    "What next: with an account, tell the program which server to use, and ping it:",
    "",
    "    export BUTT_DIAL_BASE_URL=https://your-server BUTT_DIAL_AGENT_ID=your-agent",
    "    buttdial-sync ping",
    "",
    "It asks for the agent's token. Then: buttdial-sync send --to +14155550123 --body Hello",
)


@click.command(cls=ReportingCommand)
@click.pass_context
def demo(ctx: click.Context) -> Report:
    """See what the library does, without an account or a network."""
    from buttdial_sync.cli.scenario import play

    narrator = None if wants_json(ctx) else _Narrator()
    steps = []
    with _without_proxy():
        for step in play(time.perf_counter, log_event):
            steps.append(step)
            if narrator is not None:
                narrator.tell(step)
    broken = [step.title for step in steps if not step.ok]
    report = Report(
        data={"steps": [attrs.asdict(step) for step in steps]},
        lines=("", *_NEXT),
    )
    if not broken:
        return report
    failure = Failure(
        message=f"not as promised: {', '.join(broken)}",
        remediation="Run it again with -v, and report what it prints as a bug.",
    )
    return attrs.evolve(report, failure=failure, exit_code=REFUSED)


class _Narrator:
    """Tells each step as soon as it is over."""

    def __init__(self) -> None:
        self._number = 0
        self._server = ""
        for line in _OPENING:
            say(line)

    def tell(self, step: Step) -> None:
        if step.server != self._server:
            self._server = step.server
            heading = _SERVERS[step.server]
            say(f"\n{heading}\n{'-' * len(heading)}")
        self._number += 1
        mark = "as promised" if step.ok else "NOT AS PROMISED"
        say(f"{self._number:2}. {step.title:<{_WIDTH}}{step.milliseconds:7.1f} ms  {mark}")
        for label, text in (("call", step.call), ("result", step.result), ("why", step.why)):
            say(f"    {label:<8}  " + f"\n{_INDENT}".join(_wrapped(text)))


def _wrapped(text: str) -> list[str]:
    return [part for line in text.splitlines() for part in textwrap.wrap(line, _TEXT_WIDTH)]


@contextmanager
def _without_proxy() -> Iterator[None]:
    """Reach this machine directly: a proxy from the environment cannot."""
    before = os.environ.get("no_proxy")
    listed = before or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = f"{listed},{_LOOPBACK}" if listed else _LOOPBACK
    try:
        yield
    finally:
        if before is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before
