"""Drain an outbox, and tell how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from buttdial_sync.cli.progress import Progress
from buttdial_sync.cli.report import Failure, Report, plain_fields
from buttdial_sync.cli.signals import finished_first
from buttdial_sync.errors import ArgumentValueError
from buttdial_sync.errors.exits import TRY_LATER, exit_code
from buttdial_sync.transport.signals import wait_for

if TYPE_CHECKING:
    from buttdial_sync.client import Client
    from buttdial_sync.retry.report import RetryReport
    from buttdial_sync.retry.table import TableRepository

workers_option = click.option(
    "--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="Threads that send."
)
rate_option = click.option("--rate", type=float, metavar="N", help="At most N messages a second.")

DEAD_REMEDY = (
    "See outbox list --status dead; outbox retry ID tries one again, unless it may have been sent."
)


class Pace:
    """
    Lets at most so many through in a second. Safe to share between threads.

    Args:
        rate: Per second.
        clock: A monotonic clock, in seconds.
        sleep: Sleeps for some seconds at most.

    Raises:
        ArgumentValueError: The rate is not positive.
    """

    def __init__(
        self,
        rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if not rate > 0:
            raise ArgumentValueError("rate must be above 0")
        self._step = 1 / rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = clock()

    def __call__(self) -> None:
        """Wait for one's turn."""
        with self._lock:
            turn = max(self._next, self._clock())
            self._next = turn + self._step
        wait = turn - self._clock()
        if wait > 0:
            self._sleep(wait)


def drain(
    client: Client,
    repository: TableRepository,
    *,
    workers: int,
    rate: float | None,
    quiet: bool,
) -> RetryReport:
    """
    Send what is due, and tell how far it is.

    After SIGTERM or Ctrl-C, what is being sent is finished, and the rest put back.

    Raises:
        Signalled: A signal came.
    """
    from buttdial_sync.retry.loop import RetryLoop

    stopping = threading.Event()
    pace = None if rate is None else Pace(rate, sleep=partial(wait_for, stopping.wait))
    loop = RetryLoop(repository, client, workers=workers, batch_size=50, pace=pace)

    def stop() -> None:
        loop.stop(0.0)
        stopping.set()

    with finished_first(stop, repeats=True), Progress(quiet=quiet) as progress:
        total = 0 if quiet else repository.count_pending()
        progress.tell("Sending", 0, total)
        return loop.drain(lambda report: progress.tell("Sending", _through(report), total))


def _through(report: RetryReport) -> int:
    return report.delivered + report.dead + report.retried


def report_of(done: RetryReport, repository: TableRepository, **more: Any) -> Report:
    """Report a drain: done, or with the reason why not."""
    pending = repository.count_pending()
    leases = repository.leased().values()
    numbers = {
        **plain_fields(done),
        "pending": pending,
        "held": len(leases),
        "held_until": max(leases).isoformat() if leases else None,
        **more,
    }
    failure, code = _failure(done, pending), exit_code(done.outcome, None)
    if failure is None and leases:
        failure, code = held_rows(leases), TRY_LATER
    if failure is None and (held_back := paused_agents(repository)):
        failure, code = held_back_by(held_back), TRY_LATER
    return Report(
        data=numbers,
        lines=[f"{done.delivered} delivered, {done.dead} given up, {pending} still pending"],
        failure=failure,
        exit_code=code,
    )


def held_rows(leases: Collection[datetime]) -> Failure:
    """Say that rows are leased by others, and when the last of these leases ends."""
    return Failure(
        message=f"{len(leases)} rows are held by a run that died or is still at work, "
        f"until {minute_after(max(leases)):%H:%M}",
        remediation="Run it again then.",
    )


def paused_agents(repository: TableRepository) -> set[str]:
    """Return the agents with messages that are due, and that wait because somebody paused them."""
    paused = {pause.agent_id for pause in repository.paused()}
    if not paused:
        return set()
    figures = repository.figures()
    return {
        agent.agent_id
        for agent in figures.agents
        if agent.next_due_at <= figures.measured_at and paused & {None, agent.agent_id}
    }


def held_back_by(agents: Collection[str], rows: str = "messages") -> Failure:
    """Say that messages wait until somebody ends a pause."""
    names = ", ".join(sorted(agent or "no agent" for agent in agents))
    return Failure(
        message=f"{rows} of {names} wait, because they are paused",
        remediation="See outbox stats; outbox resume sends them.",
    )


def minute_after(moment: datetime) -> datetime:
    """Return a time that has passed when a clock of this machine shows its minute."""
    return (moment + timedelta(minutes=1)).astimezone()


def _failure(done: RetryReport, pending: int) -> Failure | None:
    if done.outcome == "sent":
        return None
    remediation = done.remediation or (DEAD_REMEDY if done.dead else None)
    if remediation is None and pending:
        remediation = "Run it again later: pending messages are sent then."
    message = f"not everything was sent: {done.last_error or 'see outbox list'}"
    return Failure(message=message, remediation=remediation)
