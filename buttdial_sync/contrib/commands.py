"""What the frameworks' commands have in common: sending, listening, polling, diagnosing."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

from buttdial_sync.agent import AgentView
from buttdial_sync.contrib.shared import HandlerWithin
from buttdial_sync.doctor import run_diagnostic
from buttdial_sync.errors import ButtDialError
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.listening.listener import Listener
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.models.sending import SendResult

_EXIT_CODES = {"sent": 0, "rejected": 1, "not_sent": 3, "unknown": 3}
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_EXIT_CODE_OF_SIGNALS = 128
# Docker and supervisord kill a process ten seconds after they told it to end.
_SECONDS_TO_END = 8.0

Context = Callable[[], AbstractContextManager[object]]
OnUndelivered = Callable[[InboundEvent], object]


class CommandFailure(Exception):  # noqa: N818 - the frameworks' own errors are made of it
    """
    What a command could not do, with its remedy.

    Attributes:
        exit_code: 1 refused, 2 nothing was sent for a setting is wrong, 3 not reached or unknown.
    """

    def __init__(self, message: str, remediation: str | None, exit_code: int) -> None:
        super().__init__(f"{message}\n  -> {remediation}" if remediation else message)
        self.exit_code = exit_code


def send(client: AgentView, to: str, channel: Any, **content: Any) -> str:
    """
    Send a message.

    Args:
        client: Sends it.
        to: Whom to.
        channel: The way.
        **content: Further arguments of :meth:`Client.send_message`.

    Returns:
        What to say.

    Raises:
        CommandFailure: It was not sent, or may have been.
    """
    with failures():
        result = client.send_message(to, channel=channel, **content)
    if not result.ok:
        raise _failure(result)
    return f"sent over {channel} as {result.message_sid}"


def make_listener(
    client: AgentView,
    inbound: InboundHandler,
    context: Context,
    on_undelivered: OnUndelivered | None,
    options: Mapping[str, Any],
) -> Listener:
    """
    Make a listener whose handlers run inside a context.

    Args:
        client: Whose session is used.
        inbound: Has the handlers.
        context: Makes the context, for each event a new one.
        on_undelivered: As in :class:`~buttdial_sync.Listener`; runs inside the context too.
        options: Further arguments of the listener.
    """

    def give_up(event: InboundEvent) -> None:
        assert on_undelivered is not None  # noqa: S101 - it is passed on only then
        with context():
            on_undelivered(event)

    within = HandlerWithin(inbound, context)
    keep = give_up if on_undelivered else None
    return Listener(client, within, **{"on_undelivered": keep, **options})


def listen(listener: Listener) -> None:
    """
    Listen until the process is told to end (SIGTERM, Ctrl-C). What is being handled is finished.

    Raises:
        CommandFailure: The token was refused, or a setting is wrong.
        SystemExit: The process was told to end twice.
    """
    with failures(), _stopped_by_signals(listener):
        listener.run()


def poll(listener: Listener) -> str:
    """
    Hand over what waits, once, or until the process is told to end: see :func:`listen`.

    Returns:
        What to say.

    Raises:
        CommandFailure: The queue could not be read.
        SystemExit: The process was told to end twice.
    """
    with failures(), _stopped_by_signals(listener):
        return f"{listener.poll()} handed over"


def doctor(client: AgentView, to: str | None, say: Callable[[str], object]) -> None:
    """
    Say what each stage of the diagnosis found, in ASCII.

    Args:
        client: Is looked at.
        to: Gets a test message; without it nothing is sent.
        say: Takes the report.

    Raises:
        CommandFailure: A stage failed.
    """
    with failures():
        report = run_diagnostic(client, to=to)
    say(report.summary(ascii_only=True))
    failed = report.failure
    if failed is not None:
        exit_code = 2 if failed is report.stages[0] else _EXIT_CODES[failed.outcome or "unknown"]
        raise CommandFailure(f'the stage "{failed.name}" failed', None, exit_code)


@contextmanager
def failures() -> Iterator[None]:
    """Turn this library's errors into :class:`CommandFailure`."""
    try:
        yield
    except ButtDialError as error:
        is_usage = error.outcome == "not_sent" and error.stage == "config"
        exit_code = 2 if is_usage else _EXIT_CODES[error.outcome]
        raise CommandFailure(str(error), error.remediation, exit_code) from error


def _failure(result: SendResult) -> CommandFailure:
    what = "the message may have been sent" if result.unknown else "the message was not sent"
    is_usage = result.outcome == "not_sent" and result.stage_failed == "config"
    return CommandFailure(
        f"{what}: {result.error}",
        result.remediation,
        2 if is_usage else _EXIT_CODES[result.outcome],
    )


@contextmanager
def _stopped_by_signals(listener: Listener) -> Iterator[None]:
    """
    Stop a listener when the process is told to end.

    What the listener has read is no longer on the server: it is handed over while there is time,
    and then given up. Told again, the process ends at once, in the middle of a handler too, and
    the listener gives up what it has.
    """
    is_told = False

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal is_told
        if is_told or not listener.running:
            sys.exit(_EXIT_CODE_OF_SIGNALS + number)
        is_told = True
        # A signal may come while this thread holds the lock that stop() needs.
        threading.Thread(
            target=listener.stop, args=(_SECONDS_TO_END,), name="buttdial-sync-stop"
        ).start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
