"""The seven stages, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

from buttdial_sync.agent import AgentView
from buttdial_sync.calls.arguments import check_argument
from buttdial_sync.doctor.checks import Diagnosis
from buttdial_sync.doctor.clocks import Now
from buttdial_sync.doctor.received import ReceivedEvents
from buttdial_sync.doctor.stages import STAGES, Check, examine, skipped_after
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.models.doctor import DoctorReport, DoctorStage
from buttdial_sync.models.message import Channel
from buttdial_sync.transport.deadline import check_seconds


def run_diagnostic(
    client: AgentView,
    *,
    to: str | None = None,
    inbound_handler: InboundHandler | None = None,
    expect_ack: bool = False,
    receipt_timeout: float = 30.0,
    ack_timeout: float = 60.0,
    channel: str | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Now = utc_now,
) -> DoctorReport:
    """
    Check everything between this program and a person's phone, and find the fault.

    The stages: config, reaching the server, the handshake, the tools, sending, the receipt, the
    answer. A failure skips the rest. Each call with ``to`` sends a real message. On the open-source
    server opening a stream empties the agent's waiting queue: give the client ``before_open``. A
    client that sends over REST and has none opens no stream here either: the handshake and the
    tools are skipped, once the server has accepted the token.

    Args:
        client: The client to examine. It is not closed.
        to: The recipient of a test message; without it the last three stages are skipped.
        inbound_handler: The handler that the host's webhooks or its listener feed in this process;
            without it the last two stages are skipped. The host's own handlers go on as before.
        expect_ack: Wait for a person's answer from ``to``.
        receipt_timeout: How long to wait for the receipt, in seconds.
        ack_timeout: How long to wait for the answer, in seconds.
        channel: The channel of the message; by default email for an email address, else WhatsApp.
        clock: A monotonic clock in seconds, for tests.
        now: The time, for tests.

    Returns:
        The report. Problems of the server, the network or the settings are in it, not raised.

    Raises:
        ArgumentTypeError: ``to`` is not text, or a time-out is not a number.
        ArgumentValueError: A time-out is not positive, or there is no such channel.
    """
    stages = diagnose(
        client,
        to=to,
        inbound_handler=inbound_handler,
        expect_ack=expect_ack,
        receipt_timeout=receipt_timeout,
        ack_timeout=ack_timeout,
        channel=channel,
        clock=clock,
        now=now,
    )
    return DoctorReport(stages=tuple(stages))


def diagnose(
    client: AgentView,
    *,
    to: str | None = None,
    inbound_handler: InboundHandler | None = None,
    expect_ack: bool = False,
    receipt_timeout: float = 30.0,
    ack_timeout: float = 60.0,
    channel: str | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Now = utc_now,
) -> Iterator[DoctorStage]:
    """
    Do what :func:`~buttdial_sync.run_diagnostic` does, and give each stage as soon as it is over.

    A stage begins when it is asked for. The arguments and exceptions are the same.
    """
    check_argument("to", to, str | None, required=False)
    check_argument("channel", channel, Channel | None, required=False)
    check_seconds(receipt_timeout, "receipt_timeout")
    check_seconds(ack_timeout, "ack_timeout")
    received = ReceivedEvents() if inbound_handler is not None else None
    diagnosis = Diagnosis(
        client=client,
        to=to,
        channel=channel or ("email" if "@" in (to or "") else "whatsapp"),
        expect_ack=expect_ack,
        received=received,
        receipt_timeout=receipt_timeout,
        ack_timeout=ack_timeout,
        now=now,
    )
    # From the beginning: a receipt may be here before the answer to the send is.
    with received.watching(inbound_handler) if received and inbound_handler else nullcontext():
        yield from _examined(zip(STAGES, diagnosis.checks, strict=True), clock)


def _examined(
    checks: Iterator[tuple[str, Check]], clock: Callable[[], float]
) -> Iterator[DoctorStage]:
    for name, check in checks:
        stage = examine(name, check, clock)
        yield stage
        if stage.failed:
            yield from skipped_after(stage, (rest for rest, _ in checks))
