"""Live push: messages come in over the client's own session."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from buttdial_sync.agent import AgentView, context_of
from buttdial_sync.errors import ButtDialError, ConfigError
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.inbound.inbox import Inbox
from buttdial_sync.listening.inbox_worker import HandingOver
from buttdial_sync.listening.runner import ListenerOptions, StreamRunner
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.settings import check_count
from buttdial_sync.transport.deadline import check_seconds
from buttdial_sync.transport.fork import reset_after_fork, reset_if_forked

logger = logging.getLogger("buttdial_sync.inbound")


class Listener:
    """
    Hands over what is pushed to an agent and what waits for it. Safe to share between threads.

    It uses the client's own session, so that the server knows one session for the agent, and keeps
    that alive: it connects again when the stream ends, after pauses that grow, and pings it when it
    is silent. Messages are handed over one after the other, in the order in which they were sent,
    in the thread that runs the listener; handlers may call the client. An event on which a handler
    fails is handed over again later, because it is no longer on the server; only its sender's next
    ones wait for it.

    Run one listener for an agent, in one process. It is not started again in a forked child.

    Args:
        client: The agent's client.
        inbound: Has the handlers.
        inbox: Where what comes in is written before it is handled, so that a crash loses none of
            it. Without one it is in memory only.
        workers: With an inbox: how many threads hand over. Events of one sender are handled one
            after the other, in their order.
        page_size: How many waiting messages are read at once. If the process dies at the wrong
            moment, so many are lost.
        longest_hold: With an inbox: for how many seconds after its first failure an event is tried
            again. Only its sender's later events wait for it. Then it rests in the dead letters.
        on_undelivered: Gets each event that could not be handed over, to keep it. Its exceptions
            are logged. With an inbox: each event that became a dead letter.
        max_attempts: Without an inbox: how often an event is handed over before that.
        longest_pause: The longest pause between attempts to connect, in seconds.
        idle_ping: Seconds of silence after which the stream is pinged.
        poll_every: Seconds between readings of the waiting queue while the stream is open: a server
            that pushes nothing, or has forgotten this session, lets messages wait there.
        polls_per_minute: How many such readings all listeners of this process make at this server,
            at most. They take turns.
        clock: A monotonic clock in seconds, for tests.
        sleep: Sleeps for some seconds between attempts, for tests.
        random_fraction: Gives numbers from 0 to 1 for the jitter, for tests.

    Raises:
        ConfigError: An argument is wrong.
    """

    def __init__(
        self,
        client: AgentView,
        inbound: InboundHandler,
        *,
        inbox: Inbox | None = None,
        workers: int = 1,
        page_size: int = 10,
        longest_hold: float = 60.0,
        on_undelivered: Callable[[InboundEvent], object] | None = None,
        max_attempts: int = 5,
        longest_pause: float = 60.0,
        idle_ping: float = 60.0,
        poll_every: float = 60.0,
        polls_per_minute: int = 20,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        how = _handing_over(inbox, inbound, workers, longest_hold, on_undelivered)
        self._options = ListenerOptions(
            handing_over=how,
            page_size=check_count(page_size, "page_size"),
            inbound=inbound,
            on_undelivered=on_undelivered,
            max_attempts=check_count(max_attempts, "max_attempts"),
            longest_pause=check_seconds(longest_pause, "longest_pause"),
            idle_ping=check_seconds(idle_ping, "idle_ping"),
            poll_every=check_seconds(poll_every, "poll_every"),
            polls_per_minute=check_count(polls_per_minute, "polls_per_minute"),
            clock=clock,
            sleep=sleep,
            random_fraction=random_fraction,
        )
        self._earlier_reconnects = 0
        # A run has its own state, locks and events; it is replaced by the next run, never reset.
        self._runner: StreamRunner | None = None
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: the listener does not run; warn if it ran in the parent."""
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        inherited = self._runner
        if inherited is not None and not inherited.ended:
            self._runner = None
            inherited.cancel()
            logger.warning(
                "the listener does not run in this forked process: start it in one process only, "
                "after the fork"
            )

    @property
    def running(self) -> bool:
        """Whether it listens or tries to connect."""
        return self._runner is not None and not self._runner.ended

    @property
    def connected(self) -> bool:
        """Whether the stream is open and what waited was read."""
        return self._runner is not None and self._runner.connected

    @property
    def reconnects(self) -> int:
        """How often the stream had to be opened again, or could not be opened."""
        return self._earlier_reconnects + (self._runner.reconnects if self._runner else 0)

    @property
    def error(self) -> ButtDialError | None:
        """The error that ended the listener, or None."""
        return self._runner.error if self._runner else None

    def run(self) -> None:
        """
        Listen in this thread until :meth:`stop` is called or the client is closed.

        Raises:
            AuthError: The token was refused. It is kept in :attr:`error` too.
            ConfigError: It runs already, or a setting is wrong.
        """
        self._new_runner().run()

    def start(self) -> None:
        """
        Listen in a daemon thread. Does nothing while it runs.

        Raises:
            ConfigError: There is no token, or another listener listens for the agent.
            RuntimeError: No thread can be started. It may be started again later.
        """
        reset_if_forked()
        with self._lock:
            if self.running:
                return
            runner = self._new_runner()
            thread = threading.Thread(
                target=_run_in_thread, args=(runner,), name="buttdial-sync-listener", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                runner.abandon()
                raise
            self._thread = thread

    def stop(self, timeout: float = 10.0) -> bool:
        """
        Stop listening. Idempotent, from any thread, from a handler too.

        The event that is being handled is finished. Those that were taken in already are handed
        over while there is time; the rest goes to ``on_undelivered``.

        Args:
            timeout: How long to wait, in seconds.

        Returns:
            Whether it has stopped. False if a handler calls this; it stops after the handler.
        """
        reset_if_forked()
        with self._lock:
            runner, thread = self._runner, self._thread
        stopped = runner is None or runner.ended or runner.stop(timeout)
        if stopped and thread is not None:
            thread.join(timeout)
        return stopped

    def poll(self) -> int:
        """
        Hand over what waits, once, without opening a stream: for cron.

        Reading a page of the queue removes it from the server. So each page is handed over before
        the next one is read, and :meth:`stop` leaves the pages that were not read on the server.

        Returns:
            How many events were handed over.

        Raises:
            ConfigError: It runs already.
            ButtDialError: The queue could not be read. What was read before that is handed over.
            Exception: The store's, if the inbox cannot be read.
        """
        runner = self._new_runner()
        runner.poll()
        return runner.handed_over

    def __enter__(self) -> Listener:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _new_runner(self) -> StreamRunner:
        reset_if_forked()
        with self._lock:
            if self.running:
                raise ConfigError("the listener runs already")
            runner = StreamRunner(context_of(self._client), self._options)
            self._earlier_reconnects = self.reconnects
            self._runner = runner
        return runner


def _handing_over(
    inbox: Inbox | None,
    inbound: InboundHandler,
    workers: int,
    longest_hold: float,
    on_undelivered: Callable[[InboundEvent], object] | None,
) -> HandingOver | None:
    count = check_count(workers, "workers")
    seconds = check_seconds(longest_hold, "longest_hold")
    if inbox is None:
        if count > 1:
            raise ConfigError(
                "workers needs an inbox", remediation="Give inbox=MemoryInbox(), or one on a disk."
            )
        return None
    if inbox.lease < inbound.lease:
        raise ConfigError(
            f"the inbox's lease ({inbox.lease:g} s) is shorter than that of the handlers "
            f"({inbound.lease:g} s)",
            remediation="Give both the same: longer than the slowest handler.",
        )
    return HandingOver(
        inbox=inbox,
        inbound=inbound,
        workers=count,
        longest_hold=seconds,
        on_undelivered=on_undelivered,
    )


def _run_in_thread(runner: StreamRunner) -> None:
    try:
        runner.run()
    except ButtDialError as error:
        logger.error("the listener ended: %s", error.message)  # noqa: TRY400 - the error says it all
    except BaseException:  # a thread has no caller that could see it
        logger.exception("the listener ended")
