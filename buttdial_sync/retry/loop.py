"""The loop that sends messages again that could not be sent."""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import attrs

from buttdial_sync.agent import AgentView
from buttdial_sync.errors import ConfigError
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.retry.agents import Agents, HandedOut, Rate
from buttdial_sync.retry.circuit import Circuit
from buttdial_sync.retry.pauses import is_paused
from buttdial_sync.retry.recorder import (
    DAY,
    SHORTEST_PAUSE,
    Backoff,
    DeadLetterHook,
    OnUnknown,
    OutcomeRecorder,
    doubling_minutes,
    takes,
)
from buttdial_sync.retry.report import OutboxEvent, RetryReport, Tally
from buttdial_sync.retry.repository import FailedMessageRepository
from buttdial_sync.retry.threads import StopSignals
from buttdial_sync.retry.token_limits import TokenFor, TokenLimits
from buttdial_sync.retry.worker import AroundPass, DueMessages, Worker
from buttdial_sync.settings import check_count
from buttdial_sync.transport.deadline import Deadline, check_seconds, seconds_of
from buttdial_sync.transport.fork import reset_after_fork, reset_if_forked
from buttdial_sync.transport.threads import work_side_by_side

logger = logging.getLogger("buttdial_sync.retry")

Progress = Callable[[RetryReport], None]
OutboxHook = Callable[[OutboxEvent], None]

_CLOCK_TOLERANCE = 5.0
_TO_RECORD = 5.0
_FIRST_PAUSE_AFTER_FAILURE = 1.0
_LONGEST_PAUSE_AFTER_FAILURE = 300.0
_NAME = "buttdial-sync-retry"


class RetryLoop:
    """
    Sends due messages from a host's repository, and records what became of each.

    ``run_once`` and ``drain`` work in the calling thread (with ``workers``, in threads that end
    with them); ``start`` repeats that in a daemon thread. A ``with`` block starts the loop with its
    defaults, unless it runs already, and stops it at the end. Safe to share between threads.
    Several processes may run loops on one repository; a forked child does not inherit a running
    one.
    A bad row, or an exception of the repository or a hook, does not stop the loop: it is logged and
    counted in the report's ``errors``.

    Args:
        repository: Where the messages are. Its lease must be longer than the client's timeout.
        client: Sends them. It is not closed here.
        backoff: Called with n after the n-th attempt failed. Returns the pause before the next one:
            a ``timedelta`` or seconds.
        batch_size: How many messages are fetched at once.
        workers: How many threads send at once; they share one session for each token.
        on_dead_letter: Called with the message and the reason after one was given up, in the thread
            that sent it; not repeated when the process dies before it.
        on_unknown: How to treat a message that may have been sent, if the server does not honour
            keys: ``"dead"`` gives it up, ``"retry"`` sends it again, perhaps twice. If the server
            honours keys, it is always sent again with its key.
        token_for: Returns the current token of an agent, from its id. Called before each attempt.
        around_pass: Makes a context manager that is entered around each pass, in each thread that
            takes part; for example to close stale database connections.
        pace: Called before each attempt, in the thread that makes it; it may sleep.
        rate: How many messages of an agent are sent in a minute at most, by this loop: a number
            for each agent, or a mapping from agent ids. None for no rate.
        give_up_after: Give a message up before it would wait for its attempts for so long in all:
            a ``timedelta`` or seconds. Time in which its agent rests or the server does not answer
            is not included.
        on_event: Called with an :class:`~buttdial_sync.retry.report.OutboxEvent`, the outbox's
            figures, in a thread that sends, before it fetches; while the loop passes, at most once
            in ``figures_every``. Its exceptions are logged and ignored.
        figures_every: Seconds between two events.
        key_lifetime: How long the server surely remembers an idempotency key: a ``timedelta`` or
            seconds. A message that may have been sent longer ago is given up, not repeated.
        clock: Tells the time, aware.
        monotonic: A monotonic clock, in seconds.
        sleep: Sleeps for some seconds; by default until :meth:`stop` at most.
        random_fraction: Gives numbers from 0 to 1, so that processes do not all come at once.

    Raises:
        ArgumentValueError: An argument is wrong, or the lease is not longer than the timeout.
        ConfigError: The repository has no lease, or no figures for ``on_event``.
    """

    def __init__(
        self,
        repository: FailedMessageRepository,
        client: AgentView,
        *,
        backoff: Backoff = doubling_minutes,
        batch_size: int = 20,
        workers: int = 1,
        on_dead_letter: DeadLetterHook | None = None,
        on_unknown: OnUnknown = "dead",
        token_for: TokenFor | None = None,
        around_pass: AroundPass = nullcontext,
        pace: Callable[[], object] | None = None,
        rate: Rate | None = None,
        give_up_after: timedelta | float = DAY,
        key_lifetime: timedelta | float = DAY,
        on_event: OutboxHook | None = None,
        figures_every: float = 60.0,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self._repository = repository
        self._batch_size = check_count(batch_size, "batch_size")
        self._workers = check_count(workers, "workers")
        self._clock = clock
        self._monotonic = monotonic
        self._signals = StopSignals(sleep)
        self._random_fraction = random_fraction
        self._timeout = client.timeout
        self._token_limits = TokenLimits(token_for, client=client, monotonic=monotonic)
        self._circuit = Circuit(client, monotonic)
        self._agents = Agents(rate, monotonic)
        self._leaves_out_agents = takes(repository, "fetch_due", "except_agents") and hasattr(
            repository, "due_agents"
        )
        recorder = OutcomeRecorder(
            repository=repository,
            client=client,
            backoff=backoff,
            on_unknown=on_unknown,
            on_dead_letter=on_dead_letter,
            clock=clock,
            sleep=self._signals.sleep,
            random_fraction=random_fraction,
            give_up_after=seconds_of(give_up_after, "give_up_after"),
            key_lifetime=seconds_of(key_lifetime, "key_lifetime"),
            outage_pause=SHORTEST_PAUSE,
            is_stopping=lambda: self._signals.is_given,
        )
        self._worker = Worker(
            repository=repository,
            client=client,
            recorder=recorder,
            token_limits=self._token_limits,
            circuit=self._circuit,
            agents=self._agents,
            around_pass=around_pass,
            pace=pace,
            release=getattr(repository, "release", None) if self._leaves_out_agents else None,
        )
        self._on_event = on_event
        self._figures_every = check_seconds(figures_every, "figures_every")
        self._figures_due = -math.inf
        if on_event is not None and not hasattr(repository, "figures"):
            raise ConfigError("the repository has no figures() for on_event")
        self._seen: tuple[datetime, float] | None = None
        self._make_idle()
        reset_after_fork(self)

    def _make_idle(self) -> None:
        # Reentrant: a signal handler that calls stop() may interrupt start() in the same thread.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stops_thread = threading.Event()
        self._repeats = False
        self._signals.reset_after_fork()
        self._token_limits.reset_after_fork()
        self._circuit.reset_after_fork()
        self._agents.reset_after_fork()

    def _reset_after_fork(self) -> None:
        """In a forked child: not running, with new locks; says so when it ran in the parent."""
        was_running = self._repeats
        self._make_idle()
        if was_running:
            logger.warning(
                "the retry loop runs in the parent and not in this forked child (%d). One "
                "process is usually enough. Call start() after the fork if it is not",
                os.getpid(),
            )

    @property
    def running(self) -> bool:
        """Whether the thread of :meth:`start` lives in this process."""
        reset_if_forked()
        thread = self._thread
        return thread is not None and thread.is_alive()

    @property
    def is_running(self) -> bool:
        """The former name of :attr:`running`."""
        return self.running

    def run_once(self) -> RetryReport:
        """
        Fetch one batch of due messages and try each of them once.

        Never raises because of a message, the repository or a hook. Safe to call at any time.

        Returns:
            What was done.
        """
        with self._signals.listening() as stopping:
            return self._pass(stopping, Tally(), once=True)

    def fetch_batches(self, batch_size: int, at_most: int) -> Iterator[Sequence[FailedMessage]]:
        """
        Lease due messages, to be distributed and given to :meth:`run_message`.

        Unlike the repository's ``fetch_due`` it goes by what this loop has learned from the
        messages that it has sent: nothing is fetched of agents that have reached a limit, or while
        the server does not answer. Exceptions of the repository are raised.

        Args:
            batch_size: How many are fetched at once.
            at_most: How many in all.

        Yields:
            Batches, until nothing is due.
        """
        handed_out = HandedOut()
        while (left := at_most - handed_out.total) > 0:
            with self._signals.listening() as stopping:
                batch = self._fetch(stopping, min(batch_size, left), handed_out)
            if not batch:
                return
            handed_out.add(batch)
            yield batch

    def run_message(self, message: FailedMessage) -> RetryReport:
        """
        Try one message once, in this thread, and record what became of it.

        For hosts with a queue of their own: fetch with :meth:`fetch_batches` or the repository's
        ``fetch_due``, distribute the messages, and call this for each of them in any thread or
        process. If two of them try
        the same message, only the first sends it (the other report counts it as ``taken``). Raises
        as little as :meth:`run_once`.

        A message whose agent has been paused meanwhile, or that is not the first with its
        ``ordering_key``, is put back (``postponed``).

        Args:
            message: As it was fetched.

        Returns:
            What was done.
        """
        with self._signals.listening() as stopping:
            return self._pass(stopping, Tally(), once=True, only=message)

    def drain(
        self, progress: Progress | None = None, *, timeout: float | None = None
    ) -> RetryReport:
        """
        Try messages until nothing is due; wait where limits and rates ask for it.

        It does not wait for a server that does not answer: its messages stay pending.

        Args:
            progress: Gets the report after each message, in order and one call at a time, in one of
                the threads that send.
            timeout: Do not begin a pass after so many seconds, and do not wait for a limit that
                ends later. None waits for every limit and lockout.

        Returns:
            What was done in all. ``paused_until`` is set if a limit was not waited for; ``errors``
            is above 0 if the repository or a hook failed.
        """
        end = None if timeout is None else self._monotonic() + check_seconds(timeout, "timeout")
        tally = Tally(progress)
        with self._signals.listening() as stopping:
            while True:
                report = self._pass(stopping, tally, once=False)
                # Until the first limit or rate ends, or a lockout of all.
                pause = self._token_limits.rest_of_all or self._agents.pause
                too_long = end is not None and self._monotonic() + pause >= end
                is_through = pause <= 0 or self._circuit.state == "open"
                if stopping.is_set() or is_through or too_long:
                    return report
                logger.info("waiting %.0f s because of a limit of the server", pause)
                self._signals.sleep(pause + SHORTEST_PAUSE)

    def start(self, interval: float = 60.0, warmup: float = 30.0) -> None:
        """
        Begin to send due messages in a daemon thread. Does nothing while it runs.

        Args:
            interval: Seconds between passes; a pass ends when nothing is due.
            warmup: Seconds before the first.
        """
        seconds = check_seconds(interval, "interval")
        delay = check_seconds(warmup, "warmup") if warmup else 0.0
        reset_if_forked()
        with self._lock:
            # A thread that was told to stop may still be busy with its last message. It does not
            # count as running: this start gets a thread and a stop signal of its own.
            lives = self._thread is not None and self._thread.is_alive()
            if lives and not self._stops_thread.is_set():
                return
            self._stops_thread = threading.Event()
            self._thread = threading.Thread(
                target=self._repeat,
                args=(self._stops_thread, seconds, delay),
                name=_NAME,
                daemon=True,
            )
            self._repeats = True
            self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """
        Begin no further attempt; wait for those that are running. Idempotent, from any thread.

        This applies to the thread of :meth:`start`, and to :meth:`run_once`, :meth:`run_message`
        and :meth:`drain` in any threads. A message that is being sent is recorded first; the
        others are put back. Called from a hook of the loop itself it does not wait.

        Args:
            timeout: How long to wait, in seconds; the client's ``timeout`` and 5 seconds when None,
                so that what is being sent gets its recorded end.

        Returns:
            Whether all of them have ended; False from a hook, after which they do.
        """
        reset_if_forked()
        deadline = Deadline(self._timeout + _TO_RECORD if timeout is None else timeout)
        with self._lock:
            self._stops_thread.set()
            thread = self._thread
        working = self._signals.give()
        if self._signals.is_own_thread:
            return False
        ended = self._signals.wait_until_unheard(working, deadline.remaining())
        # One that is not alive cannot be joined where start() was interrupted before it began.
        if thread is not None and thread.is_alive():
            thread.join(deadline.remaining())
        return ended and (thread is None or not thread.is_alive())

    def __enter__(self) -> RetryLoop:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"RetryLoop({self._repository!r}, running={self.running})"

    def _repeat(self, stopping: threading.Event, interval: float, warmup: float) -> None:
        try:
            with self._signals.listening(stopping):
                self._go_on(stopping, interval, warmup)
        except BaseException:  # such as sys.exit() in a hook: threading would say nothing
            logger.exception("the retry loop has ended: nothing is sent until start() is called")
        finally:
            # Not if start() has made a newer thread meanwhile.
            if self._stops_thread is stopping:
                self._repeats = False

    def _go_on(self, stopping: threading.Event, interval: float, warmup: float) -> None:
        failures = 0
        if warmup:
            self._signals.sleep(warmup)
        while not stopping.is_set():
            try:
                report = self._pass(stopping, Tally(), once=False)
            except Exception:  # the thread goes on: the next pass may succeed
                logger.exception("a pass of the retry loop failed")
                report = RetryReport(errors=1)
            failures = failures + 1 if report.errors else 0
            if not stopping.is_set():
                self._signals.sleep(self._pause_between(interval, failures))

    def _pause_between(self, interval: float, failures: int) -> float:
        backoff = _FIRST_PAUSE_AFTER_FAILURE * 2 ** min(failures, 10) if failures else 0.0
        pause = max(interval, min(backoff, _LONGEST_PAUSE_AFTER_FAILURE))
        return pause * (0.9 + self._random_fraction() / 5)

    def _pass(
        self,
        stopping: threading.Event,
        tally: Tally,
        *,
        once: bool,
        only: FailedMessage | None = None,
    ) -> RetryReport:
        self._watch_clock()
        if only is None:
            fetch = partial(self._fetch, stopping)
        else:
            fetch = partial(self._hand_out, only, tally)
        due = DueMessages(fetch, tally, stopping, once=once, batch_size=self._batch_size)
        try:
            if self._workers == 1 or only is not None:
                self._worker.work(due)
            else:
                work_side_by_side(partial(self._help, due), self._workers, stopping, _NAME)
        except BaseException:
            stopping.set()
            # Ctrl-C, or a hook that ends the process: what was not begun need not wait for the end
            # of its lease. After a stop each message that is left is put back.
            self._worker.work(due)
            raise
        pause = max(self._token_limits.pause, self._agents.pause)
        tally.paused(self._clock() + timedelta(seconds=pause) if pause > 0 else None)
        return tally.report

    def _help(self, due: DueMessages, stopping: threading.Event) -> None:
        with self._signals.listening(stopping):
            self._worker.work(due)

    def _hand_out(self, message: FailedMessage, tally: Tally, _: int) -> Sequence[FailedMessage]:
        """Return a message that a host's own queue brought; put it back if it has to wait now."""
        if message.unreadable is not None:
            return (message,)
        find_first = getattr(self._repository, "first_in_order", None)
        first = None if find_first is None else find_first(message)
        if is_paused(self._repository, message.agent_id):
            reason = f"agent {message.agent_id} is paused"
        elif first is not None and first.id != message.id:
            reason = f"message {first.id} with the same ordering_key is sent before it"
        else:
            return (message,)
        tally.count(attrs.evolve(self._worker.recorder.put_back(message), error=reason))
        return ()

    def _fetch(
        self, stopping: threading.Event, limit: int, handed_out: HandedOut | None = None
    ) -> Sequence[FailedMessage]:
        """Fetch what may be sent: nothing while everything rests, nothing of agents that rest."""
        if self._on_event is not None and self._monotonic() >= self._figures_due:
            self._tell_figures(self._on_event)
        if not self._leaves_out_agents:
            return self._repository.fetch_due(limit)
        if self._token_limits.rest_of_all > 0 or self._circuit.check(stopping) is not None:
            return ()
        repository: Any = self._repository
        shares = self._agents.shares()
        if handed_out is not None:
            shares = handed_out.left_of(shares)
        used_up = [agent_id for agent_id, share in shares.items() if share <= 0]
        found: Sequence[FailedMessage] = repository.fetch_due(
            limit, except_agents=[*self._agents.resting(), *used_up], at_most=shares
        )
        full = () if found else self._agents.full()
        if full:
            for agent_id in repository.due_agents().intersection(full):
                self._agents.wait(agent_id)
        return found

    def _tell_figures(self, on_event: OutboxHook) -> None:
        self._figures_due = self._monotonic() + self._figures_every
        repository: Any = self._repository
        try:
            on_event(OutboxEvent(kind="figures", figures=repository.figures()))
        except Exception:  # the messages are more important than their number
            logger.exception("the figures of the outbox could not be told")

    def _watch_clock(self) -> None:
        """Warn if the clock went back: rows written before that are due later than intended."""
        now, ticks = self._clock(), self._monotonic()
        before, self._seen = self._seen, (now, ticks)
        if before is None:
            return
        drift = (now - before[0]).total_seconds() - (ticks - before[1])
        if drift < -_CLOCK_TOLERANCE:
            logger.warning(
                "the clock went back by %.0f s: messages are due that much later than they should",
                -drift,
            )
