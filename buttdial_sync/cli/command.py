"""The base of all commands: ``--json``, ``-v``, exit codes, and what several commands need."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

import click

from buttdial_sync.cli.report import Report, say
from buttdial_sync.cli.status_line import ElapsedTime
from buttdial_sync.errors import ButtDialError, ConfigError
from buttdial_sync.errors.exits import EXIT_CODES

_AS_JSON = "buttdial_sync.cli.as_json"
_VERBOSE = "buttdial_sync.cli.verbose"

F = TypeVar("F", bound=Callable[..., Any])


class ReportingCommand(click.Command):
    """A command that returns a :class:`Report`; errors of this library become one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("epilog", EXIT_CODES)
        super().__init__(*args, **kwargs)
        for add_option in (verbose_option, json_option):
            add_option(self)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, print its report, and end with its exit code."""
        try:
            with ElapsedTime(str(ctx.command.name), quiet=wants_json(ctx)):
                report = super().invoke(ctx)
        except ButtDialError as error:
            report = Report.of_error(error)
        _print(report, as_json=wants_json(ctx))
        ctx.exit(report.exit_code)


def _print(report: Report, *, as_json: bool) -> None:
    """Print a report. If that fails, what became of the command stays: it may have sent."""
    try:
        report.show(as_json=as_json)
    except BrokenPipeError:
        pass  # its reader has what it wants, as in "buttdial-sync tools | head"
    except OSError as error:
        say(f"Error: the result could not be printed: {error}", err=True)
    for stream in (sys.stdout, sys.stderr):
        _discard_unprinted(stream)


def _discard_unprinted(stream: TextIO | None) -> None:
    """Empty a stream that cannot be written: Python would end with another exit code for it."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def with_options(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Give a command several options, which its help shows in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@contextmanager
def needing_extra(name: str, message: str | None = None) -> Iterator[None]:
    """
    Say which extra to install where an import of the block fails.

    Args:
        name: The extra.
        message: What is missing; the failed import's own message when None.

    Raises:
        ConfigError: The import failed.
    """
    try:
        yield
    except ImportError as missing:
        raise ConfigError(
            message or str(missing), remediation=f"pip install 'buttdial-sync[{name}]'"
        ) from None


def wants_json(ctx: click.Context) -> bool:
    """Whether ``--json`` was given."""
    return bool(ctx.meta.get(_AS_JSON))


class _StderrHandler(logging.Handler):
    """Prints log records as all other output: escaped for the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), err=True)


def _remember_json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    # --json may be given to the group or to the command.
    ctx.meta[_AS_JSON] = value or wants_json(ctx)


def _log_to_stderr(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    # -v may be given to the group, to the command, or to both.
    if not value or ctx.meta.get(_VERBOSE):
        return
    ctx.meta[_VERBOSE] = True
    logger, handler = logging.getLogger("buttdial_sync"), _StderrHandler()
    handler.setFormatter(logging.Formatter("%(relativeCreated)6d ms  %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)

    def undo() -> None:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    ctx.call_on_close(undo)


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_log_to_stderr,
    help="Log what happens to stderr.",
)
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    expose_value=False,
    callback=_remember_json,
    help="Print one JSON object.",
)
