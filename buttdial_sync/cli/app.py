"""The program and its commands. A new command is a row here and a module of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from buttdial_sync._version import __version__
from buttdial_sync.cli.ailoop import ailoop
from buttdial_sync.cli.command import verbose_option
from buttdial_sync.cli.demo import demo
from buttdial_sync.cli.doctor import doctor
from buttdial_sync.cli.errors import errors
from buttdial_sync.cli.examples import example
from buttdial_sync.cli.guide import guide
from buttdial_sync.cli.happy import happy
from buttdial_sync.cli.inbox import inbox
from buttdial_sync.cli.onboard import onboard
from buttdial_sync.cli.outbox import outbox
from buttdial_sync.cli.procedura import procedura
from buttdial_sync.cli.report import Report
from buttdial_sync.cli.send import send
from buttdial_sync.cli.send_many import send_many
from buttdial_sync.cli.server import ping, tools
from buttdial_sync.cli.signals import Signalled, interrupted_by_sigterm
from buttdial_sync.errors import ConfigError
from buttdial_sync.errors.exits import EXIT_CODES, INTERRUPTED

_COMMANDS = (
    ailoop,
    demo,
    doctor,
    errors,
    example,
    guide,
    happy,
    inbox,
    onboard,
    outbox,
    ping,
    procedura,
    send,
    send_many,
    tools,
)

_JSON = "--json"


@contextmanager
def _usage_as_json(as_json: bool) -> Iterator[None]:
    """Print wrong usage as an object, too: click complains before a command knows ``--json``."""
    try:
        yield
    except click.UsageError as error:
        if as_json:
            help_of = error.ctx.command_path if error.ctx else "buttdial-sync"
            wrong = ConfigError(error.format_message(), remediation=f"See {help_of} --help.")
            click.echo(Report.of_error(wrong).json())
        raise


class _Program(click.Group):
    """The commands, and the handling of signals and of wrong usage for all of them."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        as_json = _JSON in args
        with _usage_as_json(as_json):
            ctx = super().make_context(info_name, args, parent, **extra)
        ctx.meta[_JSON] = as_json
        return ctx

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _usage_as_json(ctx.meta[_JSON]), interrupted_by_sigterm():
                return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort) as error:
            click.echo("\nInterrupted.", err=True)
            return ctx.exit(error.exit_code if isinstance(error, Signalled) else INTERRUPTED)


@click.group(cls=_Program, commands=_COMMANDS, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="buttdial-sync")
@verbose_option
def main() -> None:
    """
    Send and manage messages through Butt-Dial.

    Without an account, begin with "buttdial-sync demo". The other commands read
    BUTT_DIAL_BASE_URL, BUTT_DIAL_AGENT_ID and BUTT_DIAL_AGENT_TOKEN from the environment, and
    from a .env file here if buttdial-sync[dotenv] is installed.
    """
