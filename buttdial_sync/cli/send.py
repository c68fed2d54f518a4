"""Sending a message: ``send``."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

import attrs
import click

from buttdial_sync.cli.command import ReportingCommand
from buttdial_sync.cli.connection import with_client
from buttdial_sync.cli.report import Failure, Report, described, say
from buttdial_sync.errors.exits import exit_code
from buttdial_sync.models.message import CHANNELS, Channel
from buttdial_sync.models.sending import SendResult

if TYPE_CHECKING:
    from buttdial_sync.client import Client


@click.command(cls=ReportingCommand)
@click.option("--to", required=True, help="E.164 number, as in +14155550123, or email address.")
@click.option("--body", metavar="TEXT", help="The text.")
@click.option(
    "--channel", type=click.Choice(CHANNELS), default="whatsapp", show_default=True, help="The way."
)
@click.option("--media-url", metavar="URL", help="A picture, sound or document.")
@click.option("--subject", metavar="TEXT", help="Of an email.")
@click.option("--html", metavar="HTML", help="The HTML body of an email.")
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Sending again with the same key sends once only, where the server honours keys.",
)
@with_client
def send(
    client: Client,
    to: str,
    channel: str,
    idempotency_key: str | None,
    **content: str | None,
) -> Report:
    """Send a message and say what became of it."""
    # Made here, so that it can be named after Ctrl-C too.
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
            "ok": result.ok,
            **attrs.asdict(result, filter=_is_plain),
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
        f"Where the server honours keys, this is safe: --idempotency-key {key}"
    )


def _is_plain(field: attrs.Attribute[Any], _: object) -> bool:
    return field.name not in {"raw", "exception"}
