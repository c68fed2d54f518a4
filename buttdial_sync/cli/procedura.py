"""An agent in a world: ``procedura login``, ``run``, ``stream`` and ``diag``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import attrs
import click

from buttdial_sync.cli.command import ReportingCommand, needing_extra, with_options
from buttdial_sync.cli.connection import log_event
from buttdial_sync.cli.report import Report, say
from buttdial_sync.cli.status_line import ask, can_ask
from buttdial_sync.errors import ConfigError
from buttdial_sync.errors.exits import EXIT_CODES, REFUSED
from buttdial_sync.errors.scrubbing import Secret

if TYPE_CHECKING:
    from buttdial_sync.procedura import RemoteAgent, StreamEvent

_META = "buttdial_sync.cli.procedura"
_PASSWORD = "PROCEDURA_PASSWORD"


class _ModuleCommand(ReportingCommand):
    """A command with arguments for a module, whose options come after ``--``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say where the module's own options belong."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            told = f"{error.format_message()} The module's own arguments come after --."
            raise click.NoSuchOption(error.option_name, told, ctx=ctx) from None


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    # The published program wants these before the command; here they may stand behind it too.
    if value:
        ctx.meta.setdefault(_META, {})[parameter.name] = value


_server_option = partial(click.option, expose_value=False, callback=_remember)
# The commands have them, and the group.
_server_options = with_options(
    _server_option(
        "--url",
        metavar="URL",
        help="The server [env: PROCEDURA_URL; default: ws://127.0.0.1:8765].",
    ),
    _server_option(
        "--token",
        metavar="TOKEN",
        help="A session token, instead of the stored one. Other users can see it in ps.",
    ),
    _server_option(
        "--ca-file", metavar="FILE", help="Certificates to trust, instead of the usual ones."
    ),
    _server_option(
        "--pin",
        "pin_sha256",
        metavar="SHA256",
        multiple=True,
        help="The SHA-256 that the server's certificate must have; may be repeated.",
    ),
    _server_option(
        "--insecure-host",
        "insecure_hosts",
        metavar="HOST",
        multiple=True,
        help="A host to which token and password may go over ws://; may be repeated.",
    ),
)
_ack_timeout = click.option(
    "--ack-timeout",
    type=float,
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="Until the server has acknowledged the request.",
)
_final_timeout = click.option(
    "--final-timeout",
    type=float,
    metavar="SECONDS",
    default=600.0,
    show_default=True,
    help="For the whole call.",
)
_arguments = click.argument("args", nargs=-1, type=click.UNPROCESSED)


def _with_agent(callback: Callable[..., Report]) -> Any:
    """Give a command the options of a server, and an agent for as long as it runs."""

    @_server_options
    @click.pass_context
    @wraps(callback)
    def run(ctx: click.Context, /, **kwargs: Any) -> Report:
        with needing_extra("procedura", "the package websockets is missing"):
            from buttdial_sync.procedura import FileTokenStore, RemoteAgent
        store, given = FileTokenStore(), ctx.meta.get(_META, {})
        with RemoteAgent.from_env(token_store=store, on_event=log_event, **given) as agent:
            try:
                return callback(agent, **kwargs)
            except KeyboardInterrupt:
                say("\nThe module may go on at the server.", err=True)
                raise

    return run


@click.group(epilog=EXIT_CODES)
@_server_options
def procedura() -> None:
    """
    Run modules of an agent in a world (Procedura).

    Results are printed as JSON. It needs buttdial-sync[procedura].
    """


@procedura.command(cls=ReportingCommand)
@click.argument("account")
@click.option("--attach", is_flag=True, help="Attach to the device's session; do not replace it.")
@click.option("--device", default="cli", show_default=True, help="The device.")
@click.option("--ttl", type=int, default=3600, show_default=True, help="Seconds of the session.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@_ack_timeout
@_final_timeout
@_with_agent
def login(
    agent: RemoteAgent,
    account: str,
    attach: bool,
    device: str,
    ttl: int,
    password_stdin: bool,
    **timeouts: float,
) -> Report:
    """
    Log in, and store the session token.

    ACCOUNT is an email address. The password comes from standard input, from PROCEDURA_PASSWORD,
    or from a prompt. "email:password" and that in base64 are understood too, but other users can
    see them in ps.
    """
    found = agent.login_password(
        _credential(account, password_stdin),
        replace=not attach,
        device=device,
        ttl=ttl,
        **timeouts,
    )
    told = {"account": found.account, "device": found.device, "url": agent.url}
    return _report({"status": "ok", **told}, told)


@procedura.command(cls=_ModuleCommand)
@click.argument("module")
@_arguments
@_ack_timeout
@_final_timeout
@_with_agent
def run(agent: RemoteAgent, module: str, args: Sequence[str], **timeouts: float) -> Report:
    """
    Run a module and print its result.

    Options for the module come after "--": procedura run worldstate_snapshot -- --terse
    """
    result = agent.run(module, list(args), **timeouts)
    return _report(result, {"result": result})


@procedura.command(cls=_ModuleCommand)
@click.argument("module")
@_arguments
@_ack_timeout
@click.option(
    "--event-timeout",
    type=float,
    metavar="SECONDS",
    default=3600.0,
    show_default=True,
    help="From each event to the next.",
)
@click.option(
    "--final-timeout",
    type=float,
    metavar="SECONDS",
    help="For the whole stream; no limit if absent.",
)
@_with_agent
def stream(
    agent: RemoteAgent,
    module: str,
    args: Sequence[str],
    ack_timeout: float,
    event_timeout: float,
    final_timeout: float | None,
) -> Report:
    """
    Run a module and print each event on a line, as it comes.

    Options for the module come after "--", as for "run".
    """
    from buttdial_sync.procedura import Failed

    events = agent.stream(
        module,
        list(args),
        ack_timeout=ack_timeout,
        event_timeout=event_timeout,
        timeout=final_timeout,
    )
    last: StreamEvent | None = None
    for last in events:
        click.echo(_json({**last.raw, "phase": last.phase}, indent=None))
    if isinstance(last, Failed):
        return attrs.evolve(Report.of_error(last.error), exit_code=REFUSED)
    return Report(data={"job_id": last.job_id if last else None})


@procedura.command(cls=ReportingCommand)
@_ack_timeout
@_final_timeout
@_with_agent
def diag(agent: RemoteAgent, **timeouts: float) -> Report:
    """Print the round trip, and what the server tells of the connection."""
    found = attrs.asdict(agent.diag(**timeouts))
    return _report(found, found)


def _report(result: Any, data: dict[str, Any]) -> Report:
    return Report(data=data, lines=_json(result).splitlines())


def _json(value: Any, indent: int | None = 2) -> str:
    """Return JSON as people read it, with nothing that a terminal cannot show."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    text = "".join(
        each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text
    )
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def _credential(account: str, password_stdin: bool) -> str:
    """
    Return the credential; ask for the password if it is not in it.

    Raises:
        ConfigError: There is no password, and nobody to ask.
    """
    if not password_stdin and (":" in account or "@" not in account):
        return account  # with its password, or in base64
    return Secret(f"{account}:{_password(password_stdin)}")


def _password(from_stdin: bool) -> str:
    found = sys.stdin.readline().rstrip("\r\n") if from_stdin else os.environ.get(_PASSWORD, "")
    if not found and not from_stdin and can_ask():
        found = ask("Password", hide_input=True)
    if not found:
        raise ConfigError(
            "no password",
            remediation=f"Give --password-stdin, or set {_PASSWORD}; in a terminal you are asked.",
        )
    return Secret(found)
