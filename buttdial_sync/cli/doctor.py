"""Finding the fault: ``doctor``."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, cast

import attrs
import click

from buttdial_sync.cli.command import ReportingCommand, wants_json
from buttdial_sync.cli.connection import ask_for_token, connection_options, open_client
from buttdial_sync.cli.report import Failure, Report, printable, say
from buttdial_sync.cli.status_line import STATUS_LINE
from buttdial_sync.errors import ConfigError
from buttdial_sync.models.message import CHANNELS, Channel

if TYPE_CHECKING:
    from buttdial_sync.client import Client
    from buttdial_sync.inbound.handler import InboundHandler, InboundResponse
    from buttdial_sync.models.doctor import DoctorStage

_ASK = "\0ask"
_SIGNS = "✓✗○—→"


@attrs.frozen(kw_only=True)
class _Plan:
    """The options of one run."""

    to: str | None
    channel: str | None
    expect_ack: bool
    receipt_timeout: float
    ack_timeout: float
    webhook_port: int | None
    webhook_host: str
    public_url: str | None
    set_callback_url: bool

    def check(self) -> None:
        """Refuse options that need others."""
        if self.expect_ack and (self.to is None or self.webhook_port is None):
            raise click.UsageError("--expect-ack needs --to and --webhook-port.")
        if self.webhook_port is not None and self.to is None:
            raise click.UsageError(
                "--webhook-port needs --to: without a message there is nothing to receive."
            )
        if self.public_url is not None and self.webhook_port is None:
            raise click.UsageError("--public-url needs --webhook-port.")
        if self.set_callback_url and self.public_url is None:
            raise click.UsageError("--set-callback-url needs --public-url and --webhook-port.")


@click.command(cls=ReportingCommand)
@connection_options
@click.option(
    "--agent-token",
    metavar="",
    is_flag=False,
    flag_value=_ASK,
    help="Ask for another token than the configured one; without a terminal, the first line of the "
    "standard input. It takes no value, which other users of the machine could see.",
)
@click.option(
    "--to",
    metavar="ADDRESS",
    help="Send a test message there; otherwise stages 5 to 7 are skipped.",
)
@click.option(
    "--channel",
    type=click.Choice(CHANNELS),
    help="How to send it; email for an email address, otherwise whatsapp.",
)
@click.option("--expect-ack", is_flag=True, help="Wait for a person's answer.")
@click.option("--receipt-timeout", type=float, default=30.0, show_default=True, help="In seconds.")
@click.option("--ack-timeout", type=float, default=60.0, show_default=True, help="In seconds.")
@click.option(
    "--webhook-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Receive the receipt and the answer here, for stages 6 and 7; 0 takes a free port.",
)
@click.option(
    "--webhook-host", metavar="HOST", default="127.0.0.1", show_default=True, help="Listen there."
)
@click.option(
    "--public-url",
    metavar="URL",
    help="URL at which the server reaches the port, such as a tunnel's.",
)
@click.option(
    "--set-callback-url",
    is_flag=True,
    help="Point the agent's callback URL to --public-url, and restore the old one at the end.",
)
@click.option("--ascii", "ascii_only", is_flag=True, help="Print only ASCII characters.")
@click.pass_context
def doctor(
    ctx: click.Context,
    /,
    base_url: str | None,
    agent_id: str | None,
    timeout: float | None,
    inbox: str | None,
    agent_token: str | None,
    ascii_only: bool,
    **options: Any,
) -> Report:
    """
    Find the fault: seven stages from the settings to a person's answer.

    A failure skips the stages after it, and says what to do. It opens a session as the agent: on
    the open-source server this empties the agent's waiting queue, and --inbox keeps what waits.
    """
    plan = _Plan(**options)
    plan.check()
    ascii_only = ascii_only or not _can_show_signs()
    stages: list[DoctorStage] = []
    if agent_token not in {None, _ASK}:  # not a flag: click would repeat the value in its complaint
        raise click.UsageError("--agent-token takes no value: you are asked for the token.")

    def make_client() -> Client:
        token = None if agent_token is None else ask_for_token(may_be_piped=True)
        return open_client(base_url, agent_id, timeout, agent_token=token, inbox=inbox)

    # Closed here, so that after Ctrl-C the callback URL is restored before the program ends.
    with closing(_stages(plan, make_client)) as found:
        STATUS_LINE.doing = _next_check(stages)
        for stage in found:
            stages.append(stage)
            if not wants_json(ctx):
                for line in stage.lines(ascii_only=ascii_only):
                    say(printable(line, "ascii") if ascii_only else line)
            STATUS_LINE.doing = _next_check(stages)
    return _report(stages)


def _next_check(done: list[DoctorStage]) -> str:
    from buttdial_sync.doctor.stages import STAGES

    return f"Checking: {STAGES[len(done)]}" if len(done) < len(STAGES) else "Closing"


def _stages(plan: _Plan, make_client: Callable[[], Client]) -> Generator[DoctorStage, None, None]:
    from buttdial_sync.doctor import diagnose, failed_configuration

    try:
        client = make_client()
    except ConfigError as error:
        yield from failed_configuration(error).stages
        return
    with ExitStack() as stack:
        stack.enter_context(client)
        inbound, redirect = _prepare_to_receive(plan, client, stack)
        for stage in diagnose(
            client,
            to=plan.to,
            inbound_handler=inbound,
            expect_ack=plan.expect_ack,
            receipt_timeout=plan.receipt_timeout,
            ack_timeout=plan.ack_timeout,
            channel=cast("Channel | None", plan.channel),
        ):
            yield stage
            if stage.ok and stage.name == "Tool list":
                redirect()


def _prepare_to_receive(
    plan: _Plan, client: Client, stack: ExitStack
) -> tuple[InboundHandler | None, Callable[[], None]]:
    """Listen for webhooks; return their handler, and a function that makes the server send them."""
    if plan.webhook_port is None:
        return None, lambda: None
    from buttdial_sync.cli.callback import CallbackUrl
    from buttdial_sync.cli.webhooks import receiving
    from buttdial_sync.inbound.handler import InboundHandler

    inbound = InboundHandler(allow_unsigned=("butt-dial",))
    path = f"/buttdial-sync-doctor-{secrets.token_urlsafe(16)}" if plan.set_callback_url else ""
    port = stack.enter_context(
        receiving(
            plan.webhook_host,
            plan.webhook_port,
            path,
            lambda body: _answer(inbound, body, plan.to if plan.expect_ack else None),
        )
    )
    public = (plan.public_url or f"http://{plan.webhook_host}:{port}").rstrip("/")
    say(f"Webhooks are received on {plan.webhook_host}:{port}.", err=True)
    if not plan.set_callback_url:
        say(f"  -> The agent's callback URL has to be {public}/ for this.", err=True)
        return inbound, lambda: None
    callback = stack.enter_context(CallbackUrl(client))
    return inbound, lambda: callback.point_to(f"{public}{path}")


def _answer(inbound: InboundHandler, body: bytes, expected: str | None) -> InboundResponse:
    """Handle a webhook; refuse other people's messages, so that the server keeps them."""
    from buttdial_sync.doctor.received import is_from
    from buttdial_sync.inbound.decoding import UnreadableError, decode_json
    from buttdial_sync.inbound.handler import InboundResponse
    from buttdial_sync.models.inbound import InboundMessage

    try:
        events = inbound.parse(decode_json(body))
    except UnreadableError:
        events = []
    for event in events:
        if isinstance(event, InboundMessage) and not (expected and is_from(event, expected)):
            return InboundResponse(
                503, json.dumps({"error": "a diagnosis is running: keep the message"})
            )
    return inbound.handle("butt-dial", body, {})


def _report(stages: list[DoctorStage]) -> Report:
    from buttdial_sync.doctor.stages import exit_code_of
    from buttdial_sync.models.doctor import DoctorReport

    report = DoctorReport(stages=tuple(stages))
    failed = report.failure
    skipped = sum(stage.skipped for stage in stages)
    passed = f"{len(stages) - skipped} of {len(stages)} stages passed, {skipped} skipped."
    return Report(
        data={
            "stages": [{**attrs.asdict(stage), "ok": stage.ok} for stage in stages],
        },
        lines=() if failed else ("", passed if skipped else "All stages passed."),
        failure=Failure(message=f'the stage "{failed.name}" failed') if failed else None,
        exit_code=exit_code_of(report),
    )


def _can_show_signs() -> bool:
    try:
        _SIGNS.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
