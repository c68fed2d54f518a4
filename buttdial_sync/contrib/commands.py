"""The common code of the frameworks' commands: send, listen, poll, diagnose, signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from buttdial_sync.agent import AgentView
from buttdial_sync.contrib.shared import HandlerWithin
from buttdial_sync.doctor import run_diagnostic
from buttdial_sync.doctor.stages import exit_code_of
from buttdial_sync.errors import ButtDialError
from buttdial_sync.errors.exits import exit_code, exit_code_of_failure
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.listening.listener import Listener
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.transport.signals import stopped_by_signals

# Docker and supervisord kill a process ten seconds after SIGTERM.
_SECONDS_TO_END = 8.0

Context = Callable[[], AbstractContextManager[object]]
OnUndelivered = Callable[[InboundEvent], object]


class CommandFailure(Exception):  # noqa: N818 - the frameworks' own errors are made of it
    """
    A command failed; the message has the remedy.

    Attributes:
        exit_code: As the command line ends.
    """

    def __init__(self, message: str, remediation: str | None, exit_code: int) -> None:
        super().__init__(f"{message}\n  -> {remediation}" if remediation else message)
        self.exit_code = exit_code


def send(client: AgentView, to: str, channel: Any, **content: Any) -> str:
    """
    Send a message.

    Args:
        client: Sends it.
        to: The recipient.
        channel: The channel.
        **content: Further arguments of :meth:`Client.send_message`.

    Returns:
        The text to print.

    Raises:
        CommandFailure: It was not sent, or may have been.
    """
    with failures():
        result = client.send_message(to, channel=channel, **content)
    if not result.ok:
        what = "the message may have been sent" if result.unknown else "the message was not sent"
        raise CommandFailure(
            f"{what}: {result.error}",
            result.remediation,
            exit_code(result.outcome, result.stage_failed),
        )
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
        client: The client, whose session is used.
        inbound: Has the handlers.
        context: Makes the context, for each event a new one.
        on_undelivered: As in :class:`~buttdial_sync.Listener`; runs inside the context too.
        options: Further arguments of the listener.
    """
    given = dict(options)
    if on_undelivered is not None:

        def keep(event: InboundEvent) -> None:
            with context():
                on_undelivered(event)

        given.setdefault("on_undelivered", keep)
    return Listener(client, HandlerWithin(inbound, context), **given)


def listen(listener: Listener) -> None:
    """
    Listen until SIGTERM or Ctrl-C. The event that is being handled is finished.

    Raises:
        CommandFailure: The token was refused, or a setting is wrong.
        SystemExit: A second signal came.
    """
    with failures(), _stopped_when_told(listener):
        listener.run()


def poll(listener: Listener) -> str:
    """
    Hand over what waits, once; end earlier after SIGTERM or Ctrl-C: see :func:`listen`.

    Returns:
        The text to print.

    Raises:
        CommandFailure: The queue could not be read.
        SystemExit: A second signal came.
    """
    with failures(), _stopped_when_told(listener):
        return f"{listener.poll()} handed over"


def doctor(client: AgentView, to: str | None, say: Callable[[str], object]) -> None:
    """
    Report the result of each stage of the diagnosis, in ASCII.

    Args:
        client: The client to examine.
        to: The recipient of a test message; without it nothing is sent.
        say: Prints the report.

    Raises:
        CommandFailure: A stage failed.
    """
    with failures():
        report = run_diagnostic(client, to=to)
    say(report.summary(ascii_only=True))
    failed = report.failure
    if failed is not None:
        raise CommandFailure(f'the stage "{failed.name}" failed', None, exit_code_of(report))


@contextmanager
def failures() -> Iterator[None]:
    """Turn this library's errors into :class:`CommandFailure`."""
    try:
        yield
    except ButtDialError as error:
        code = exit_code_of_failure(error.outcome, error.stage)
        raise CommandFailure(error.message, error.remediation, code) from error


def _stopped_when_told(listener: Listener) -> AbstractContextManager[object]:
    """
    Stop a listener after a signal.

    The messages that the listener has read are no longer on the server: they are handed over while
    there is time, and then given up. After a second signal they are given up at once, in the middle
    of a handler.
    """
    return stopped_by_signals(
        lambda: listener.stop(_SECONDS_TO_END), is_running=lambda: listener.running
    )
