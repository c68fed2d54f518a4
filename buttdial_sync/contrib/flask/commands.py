"""``flask buttdial …``: send, doctor, listen, poll."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from flask import Flask
from flask.cli import AppGroup

from buttdial_sync.client import Client
from buttdial_sync.contrib import commands
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.inbound.inbox import Inbox
from buttdial_sync.listening.listener import Listener
from buttdial_sync.models.message import CHANNELS, HELP


def buttdial_commands(
    app: Flask,
    client: Callable[[], Client],
    inbound: InboundHandler | None,
    on_undelivered: commands.OnUndelivered | None,
    inbox: Inbox | None,
) -> click.Group:
    """
    Return the group of commands.

    Args:
        app: The handlers run in its context, a new one for each event.
        client: Returns the application's client.
        inbound: Has the handlers; without it there is nothing to listen for.
        on_undelivered: As in :class:`~buttdial_sync.Listener`.
        inbox: As there.
    """
    group = AppGroup("buttdial", help="Send and receive through Butt-Dial.")

    @group.command()
    @click.argument("to")
    @click.argument("body")
    @click.option("--channel", type=click.Choice(CHANNELS), default="whatsapp", show_default=True)
    @_message_options
    def send(to: str, channel: str, **content: Any) -> None:
        """Send BODY to TO, and say what became of it."""
        with _click_errors():
            click.echo(commands.send(client(), to, channel, **content))

    @group.command()
    @click.option("--to", help="Send a test message there; otherwise nothing is sent.")
    def doctor(to: str | None) -> None:
        """Find the fault, and say what to do about it."""
        with _click_errors():
            commands.doctor(client(), to, click.echo)

    if inbound is None:
        return group

    def make_listener() -> Listener:
        options = {"inbox": inbox, **app.config.get("BUTT_DIAL_LISTENER", {})}
        return commands.make_listener(client(), inbound, app.app_context, on_undelivered, options)

    @group.command()
    def listen() -> None:
        """Hand over what is pushed, until SIGTERM or Ctrl-C. Run one for an agent."""
        with _click_errors():
            commands.listen(make_listener())

    @group.command()
    def poll() -> None:
        """Hand over the messages that wait, once: for cron."""
        with _click_errors():
            click.echo(commands.poll(make_listener()))

    return group


def _message_options(command: Callable[..., None]) -> Callable[..., None]:
    for name in reversed(HELP):
        if name not in {"to", "body", "channel"}:
            command = click.option(f"--{name.replace('_', '-')}", help=HELP[name])(command)
    return command


@contextmanager
def _click_errors() -> Iterator[None]:
    try:
        with commands.failures():
            yield
    except commands.CommandFailure as failure:
        click.echo(f"Error: {failure}", err=True)
        raise click.exceptions.Exit(failure.exit_code) from failure
