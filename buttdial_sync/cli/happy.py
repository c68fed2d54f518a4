"""Coding agents on the machines of a user: ``happy machines|sessions|run|send|follow|…``."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buttdial_sync.cli.command import ReportingCommand, needing_extra, wants_json, with_options
from buttdial_sync.cli.connection import log_event
from buttdial_sync.cli.report import Failure, Report, on_one_line, plain_fields, say
from buttdial_sync.cli.status_line import STATUS_LINE
from buttdial_sync.errors.exits import EXIT_CODES, REFUSED, TRY_LATER, UNREACHABLE

if TYPE_CHECKING:
    from buttdial_sync.happy.client import HappyClient
    from buttdial_sync.happy.models import PermissionRequest
    from buttdial_sync.happy.results import TaskResult
    from buttdial_sync.happy.updates import Update

_AGENTS = ("claude", "codex", "gemini", "openclaw", "agy")
_MODES = ("default", "acceptEdits", "bypassPermissions", "plan", "read-only", "safe-yolo", "yolo")
_EXIT_CODES = {
    "timed_out": TRY_LATER,
    "waiting_for_permission": TRY_LATER,
    "undetermined": UNREACHABLE,
}
_WIDTH = 100
_server_options = with_options(
    click.option("--server-url", metavar="URL", help="The server [env: HAPPY_SERVER_URL]."),
    click.option(
        "--key-file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="agent.key or access.key. If absent: HAPPY_TOKEN and HAPPY_SECRET, or the files in "
        "~/.happy.",
    ),
    click.option("--timeout", type=float, metavar="SECONDS", help="For each call; 60 if absent."),
    click.option(
        "--insecure-host",
        "insecure_hosts",
        multiple=True,
        metavar="HOST",
        help="Send the token to this host over http:// too.",
    ),
)
_mode_option = click.option(
    "--mode", type=click.Choice(_MODES), default="yolo", show_default=True, help="What it may do."
)


@click.group(epilog=EXIT_CODES)
def happy() -> None:
    """Run coding agents through Happy."""


def _with_client(callback: Callable[..., Report]) -> Callable[..., Report]:
    """Give a command the options of a server, and a client for as long as it runs."""

    @_server_options
    @wraps(callback)
    def run(
        *args: Any,
        server_url: str | None,
        key_file: Path | None,
        timeout: float | None,
        insecure_hosts: tuple[str, ...],
        **kwargs: Any,
    ) -> Report:
        with needing_extra("happy"):
            from buttdial_sync.happy.client import HappyClient
        options: dict[str, Any] = {"on_event": log_event, "insecure_hosts": insecure_hosts}
        if timeout is not None:
            options["timeout"] = timeout
        if key_file is not None:
            client = HappyClient(server_url, key_file, **options)
        else:
            client = HappyClient.from_env(server_url, **options)
        with client:
            return callback(client, *args, **kwargs)

    return run


@happy.command(cls=ReportingCommand)
@click.option("--active", is_flag=True, help="Only those that are connected.")
@_with_client
def machines(client: HappyClient, active: bool) -> Report:
    """List the machines."""
    found = client.list_machines(active_only=active)
    lines = [
        f"{each.id}  {'on ' if each.active else 'off'}  {each.host or each.unreadable or ''}"
        for each in found
    ]
    return Report(
        data={"machines": [_plain(each) for each in found]},
        lines=lines or ["No machines."],
    )


@happy.command(cls=ReportingCommand)
@click.option("--active", is_flag=True, help="Only those that are connected.")
@_with_client
def sessions(client: HappyClient, active: bool) -> Report:
    """List the sessions, the newest first."""
    found = client.list_sessions(active_only=active)
    lines = [
        f"{each.id}  {'on ' if each.active else 'off'}  "
        f"{each.directory or each.unreadable or ''}  {each.name or ''}".rstrip()
        for each in found
    ]
    return Report(
        data={"sessions": [_plain(each) for each in found]},
        lines=lines or ["No sessions."],
    )


@happy.command(cls=ReportingCommand)
@click.argument("machine_id", metavar="MACHINE")
@click.argument("directory")
@click.argument("prompt")
@click.option(
    "--agent",
    type=click.Choice(_AGENTS),
    default="claude",
    show_default=True,
    help="Which agent.",
)
@click.option("--name", help="The title that the apps show.")
@click.option("--model", help="The model to use.")
@click.option("--create-dir", is_flag=True, help="Create the directory if it does not exist.")
@click.option("--within", type=float, default=600.0, show_default=True, help="Seconds for it all.")
@click.option("--keep", is_flag=True, help="Do not stop the session when it is done.")
@click.option("--stop-on-interrupt", is_flag=True, help="Stop the session at Ctrl-C.")
@click.option("--quiet", is_flag=True, help="Do not show what the agent does.")
@_mode_option
@_with_client
def run(
    client: HappyClient,
    machine_id: str,
    directory: str,
    prompt: str,
    within: float,
    mode: str,
    keep: bool,
    stop_on_interrupt: bool,
    quiet: bool,
    **options: Any,
) -> Report:
    """
    Let an agent work on a prompt, and print what it says.

    What it does meanwhile is shown on stderr. If it asks for a permission, answer in an app or with
    "happy approve" in another terminal.
    """
    started: list[str] = []
    STATUS_LINE.doing = "The agent works"
    try:
        result = client.run_task(
            machine_id,
            directory,
            prompt,
            timeout_seconds=within,
            permission_mode=mode,  # type: ignore[arg-type]
            on_session=started.append,
            on_update=None if quiet else _show,
            stop=not keep,
            **{name: value for name, value in options.items() if value is not None},
        )
    except KeyboardInterrupt:
        _interrupted(client, started, machine_id, stop=stop_on_interrupt)
        raise
    return _report_of(result)


@happy.command(cls=ReportingCommand)
@click.argument("session_id", metavar="SESSION")
@click.argument("text")
@click.option("--wait", is_flag=True, help="Wait until the agent is done, and print what it says.")
@click.option("--within", type=float, default=600.0, show_default=True, help="Seconds to wait.")
@click.option("--quiet", is_flag=True, help="Do not show what the agent does.")
@_mode_option
@_with_client
def send(
    client: HappyClient,
    session_id: str,
    text: str,
    wait: bool,
    within: float,
    quiet: bool,
    mode: str,
) -> Report:
    """Send a message to an agent."""
    if wait:
        STATUS_LINE.doing = "The agent works"
        result = client.run_prompt(
            session_id,
            text,
            within,
            permission_mode=mode,  # type: ignore[arg-type]
            on_update=None if quiet else _show,
        )
        return _report_of(result)
    sent = client.send_message(session_id, text, mode)  # type: ignore[arg-type]
    return Report(data=_plain(sent), lines=[f"stored as message {sent.seq}"])


@happy.command(cls=ReportingCommand)
@click.argument("session_id", metavar="SESSION")
@click.option("--after-seq", type=int, help="Begin above this message; 0 for all of them.")
@click.option("--within", type=float, help="End after so many seconds.")
@_with_client
def follow(
    client: HappyClient, session_id: str, after_seq: int | None, within: float | None
) -> Report:
    """
    Show what happens in a session, until it ends or Ctrl-C.

    With --json there is one object on each line.
    """
    as_json = wants_json(click.get_current_context())
    count = 0
    for count, update in enumerate(  # noqa: B007 - counted for the report
        client.follow(session_id, after_seq=after_seq, timeout=within), 1
    ):
        if as_json:
            click.echo(json.dumps({"update": type(update).__name__, **_plain(update)}))
        else:
            say(_line_of(update))
    return Report(data={"updates": count})


@happy.command(cls=ReportingCommand)
@click.argument("session_id", metavar="SESSION")
@click.argument("request_id", metavar="REQUEST", required=False)
@click.option("--deny", is_flag=True, help="Say no.")
@click.option("--reason", help="Why not, for the agent.")
@click.option("--show", is_flag=True, help="Only list what the agent waits for.")
@_with_client
def approve(
    client: HappyClient,
    session_id: str,
    request_id: str | None,
    deny: bool,
    reason: str | None,
    show: bool,
) -> Report:
    """
    Answer a permission that an agent waits for.

    REQUEST may be left out if there is only one.
    """
    if show or request_id is None:
        pending = client.pending_requests(session_id)
        if show or len(pending) != 1:
            return _pending_report(pending, wanted_one=not show)
        request_id = pending[0].id
    if deny:
        answered = client.deny(session_id, request_id, reason=reason)
    else:
        answered = client.approve(session_id, request_id)
    return Report(
        data={"request": _plain(answered)},
        lines=[f"{answered.tool}: {answered.status}"],
    )


@happy.command(cls=ReportingCommand)
@click.argument("session_id", metavar="SESSION")
@_with_client
def stop(client: HappyClient, session_id: str) -> Report:
    """End a session's process on its machine."""
    client.stop_session(session_id)
    return Report(data={"session_id": session_id}, lines=[f"stopped {session_id}"])


@happy.command(cls=ReportingCommand)
@_with_client
def doctor(client: HappyClient) -> Report:
    """Check the server, the token, the secret, and which machines are connected."""
    found = client.list_machines()
    unreadable = [each.unreadable for each in found if each.unreadable]
    unreadable += [each.unreadable for each in client.iter_sessions() if each.unreadable]
    client.check_live_connection()
    connected = [each.host or each.id for each in found if each.active]
    lines = [
        f"server       {client.server_url}: reached, the token is accepted",
        "live         connected",
        f"machines     {len(found)}, connected: {', '.join(connected) or 'none'}",
        f"unreadable   {len(unreadable)} records",
    ]
    data = {
        "server_url": client.server_url,
        "machines": len(found),
        "connected": connected,
        "unreadable": len(unreadable),
    }
    if not unreadable:
        return Report(data=data, lines=lines)
    failure = Failure(message=f"some records cannot be decrypted: {unreadable[0]}")
    return Report(data=data, lines=lines, failure=failure, exit_code=REFUSED)


def _interrupted(client: HappyClient, started: list[str], machine_id: str, *, stop: bool) -> None:
    for session_id in started:
        if stop:
            client.stop_session(session_id, machine_id=machine_id)
            say(f"Stopped {session_id}.", err=True)
        else:
            say(f"{session_id} goes on; end it with: happy stop {session_id}", err=True)


def _report_of(result: TaskResult) -> Report:
    data = {
        "session_id": result.session_id,
        "status": result.status,
        "text": result.text,
        "usage": dict(result.usage),
        "requests": [_plain(each) for each in result.requests],
    }
    if result.ok:
        return Report(data=data, lines=[result.text])
    failure = Failure(
        message=f"the agent's turn is {result.status.replace('_', ' ')}",
        remediation=f"Look at it with: happy follow {result.session_id} --after-seq 0",
    )
    lines = [result.text] if result.text else []
    code = _EXIT_CODES.get(result.status, REFUSED)
    return Report(data=data, lines=lines, failure=failure, exit_code=code)


def _pending_report(pending: list[PermissionRequest], *, wanted_one: bool) -> Report:
    lines = [f"{each.id}  {each.tool}  {_short(each.arguments)}" for each in pending]
    data = {"requests": [_plain(each) for each in pending]}
    if not wanted_one:
        return Report(data=data, lines=lines or ["The agent waits for nothing."])
    message = "name one of the requests" if pending else "the agent waits for nothing"
    failure = Failure(message=message)
    return Report(data=data, lines=lines, failure=failure, exit_code=REFUSED)


def _show(update: Update) -> None:
    say(_line_of(update), err=True)


def _line_of(update: Update) -> str:
    kind = type(update).__name__
    request = getattr(update, "request", None)
    asked = f"{request.tool} {_short(request.arguments)} [{request.id}]" if request else ""
    words = (getattr(update, name, None) for name in ("text", "name", "status", "how"))
    told = next(filter(None, words), asked)
    return f"{kind:<20} {_short(told)}".rstrip()


def _short(value: Any) -> str:
    text = on_one_line(str(value))
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _plain(value: Any) -> dict[str, Any]:
    """Return an object's fields as JSON can hold them, without the server's own."""
    fields = plain_fields(value)
    fields.pop("raw", None)
    return fields
