"""Sending a message: ``send``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import attrs
import click

from buttdial_sync.cli.command import ReportingCommand
from buttdial_sync.cli.connection import with_sender
from buttdial_sync.cli.report import Failure, Report, described, say
from buttdial_sync.errors.exits import exit_code
from buttdial_sync.models.message import CHANNELS, HELP, Channel, Message
from buttdial_sync.models.sending import SendResult

if TYPE_CHECKING:
    from buttdial_sync.client import Client


def _message_options(command: Callable[..., Report]) -> Callable[..., Report]:
    """Give a command an option for each field of a message that is one text."""
    for field in reversed(attrs.fields(Message)):
        if field.name in HELP:
            required = field.default is attrs.NOTHING
            command = click.option(
                f"--{field.name.replace('_', '-')}",
                type=click.Choice(CHANNELS) if field.name == "channel" else str,
                help=HELP[field.name],
                **({"required": True} if required else {"default": field.default}),
                show_default=True,
            )(command)
    return command


@click.command(cls=ReportingCommand)
@_message_options
@with_sender
def send(
    client: Client,
    to: str,
    channel: str,
    idempotency_key: str | None,
    **content: str | None,
) -> Report:
    """Send a message, and say what became of it."""
    # Made here, so that it can be printed after Ctrl-C too.
    key = idempotency_key or str(uuid.uuid4())
    options: dict[str, Any] = {"idempotency_key": key, **content}
    try:
        result = client.send_message(to, channel=cast("Channel", channel), **options)
    except KeyboardInterrupt:
        say("\nThe message may have been sent.", err=True)
        say(f"  -> {_how_to_repeat(key)}", err=True)
        raise
    return _report(result, channel, key)


def _report(result: SendResult, channel: str, key: str) -> Report:
    failure = None if result.ok else _failure(result, key)
    return Report(
        data={
            "retryable": result.retryable,
            "permanent": result.permanent,
            "needs_operator": result.needs_operator,
            **attrs.asdict(result, filter=attrs.filters.exclude("raw", "exception")),
            "remediation": failure and failure.remediation,
        },
        lines=[_success(result, channel)] if result.ok else (),
        failure=failure,
        exit_code=exit_code(result.outcome, result.stage_failed),
    )


def _success(result: SendResult, channel: str) -> str:
    sid = f", id {result.message_sid}" if result.message_sid else ""
    attempts = f" ({result.attempts} attempts)" if result.attempts > 1 else ""
    return f"Sent over {channel}{sid}{attempts}"


def _failure(result: SendResult, key: str) -> Failure:
    told = described(
        result.error or "the message was not sent", result.error_code, result.retry_after
    )
    if result.unknown:
        return Failure(
            message=f"the message may have been sent: {told}", remediation=_how_to_repeat(key)
        )
    return Failure(message=told, remediation=result.remediation)


def _how_to_repeat(key: str) -> str:
    return (
        "Find out whether it arrived before you send it again. "
        f"If the server honours keys, this is safe: --idempotency-key {key}"
    )
