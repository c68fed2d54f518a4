"""Live push: messages come in over the client's own session."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from buttdial_sync.agent import AgentView
from buttdial_sync.errors import (
    ButtDialError,
    ClientClosedError,
    ConfigError,
)
from buttdial_sync.inbound.attendance import Attendance
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.inbound.intake import Intake
from buttdial_sync.inbound.patience import PatientDelivery, Pauses
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.settings import check_count
from buttdial_sync.tools.subscriptions import Subscription
from buttdial_sync.tools.waiting import PAGES_AT_MOST
from buttdial_sync.transport.deadline import check_seconds
from buttdial_sync.transport.fork import on_fork_start_anew, start_anew_if_forked

logger = logging.getLogger("buttdial_sync.inbound")


class Listener:
    """
    Hands over what is pushed to an agent and what waits for it. Safe to share between threads.

    It uses the client's own session, so that the server knows one session for the agent, and keeps
    that alive: it connects again when the stream ends, after pauses that grow, and pings it when it
    is silent. Messages are handed over one after the other, in the order in which they were sent,
    in the thread that runs the listener; handlers may call the client. What a handler fails on is
    tried again, for it is no longer on the server.

    Run one listener for an agent, in one process. It is not started again in a forked child.

    Args:
        client: The agent's client.
        inbound: Has the handlers.
        on_undelivered: Gets each event that could not be handed over, to keep it. What it raises is
            logged.
        max_attempts: How often an event is handed over before that.
        longest_pause: The longest pause between attempts to connect, in seconds.
        idle_ping: Seconds of silence after which the stream is pinged.
        clock: A monotonic clock in seconds, for tests.
        sleep: Sleeps for some seconds between attempts, for tests.
        random_fraction: Gives numbers from 0 to 1 for the jitter, for tests.

    Attributes:
        error: What ended the listener, or None.

    Raises:
        ConfigError: An argument is wrong.
    """

    def __init__(
        self,
        client: AgentView,
        inbound: InboundHandler,
        *,
        on_undelivered: Callable[[InboundEvent], object] | None = None,
        max_attempts: int = 5,
        longest_pause: float = 60.0,
        idle_ping: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self.error: ButtDialError | None = None
        self._reconnects = 0
        self._client = client
        longest = check_seconds(longest_pause, "longest_pause")
        self._pauses = Pauses(longest, random_fraction)
        self._delivery = PatientDelivery(
            inbound,
            on_undelivered,
            max_attempts=check_count(max_attempts, "max_attempts"),
            longest=longest,
            sleep=self._sleep,
            is_stopping=self._is_stopping,
        )
        self._idle_ping = check_seconds(idle_ping, "idle_ping")
        self._clock = clock
        self._given_sleep = sleep
        self._subscription: Subscription | None = None
        self.start_anew()
        on_fork_start_anew(self)

    def start_anew(self) -> None:
        """In a forked child: a listener that does not run, and says so if it did."""
        inherited, self._subscription = self._subscription, None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._stop_at: float | None = None
        self._thread: threading.Thread | None = None
        self._runner: int | None = None
        self._intake = Intake()
        self._attendance: Attendance | None = None
        self._over = threading.Event()
        self._over.set()
        if inherited is not None:
            inherited.cancel()
            logger.warning(
                "the listener does not run in this forked process: start it in one process only, "
                "after the fork"
            )

    @property
    def running(self) -> bool:
        """Whether it listens, or tries to."""
        return self._subscription is not None

    @property
    def connected(self) -> bool:
        """Whether the stream is open and what waited was read."""
        return self._attendance is not None and self._attendance.connected

    @property
    def reconnects(self) -> int:
        """How often the stream had to be opened again, or could not be opened."""
        return self._reconnects + (self._attendance.reconnects if self._attendance else 0)

    def run(self) -> None:
        """
        Listen in this thread until :meth:`stop` is called or the client is closed.

        Raises:
            AuthError: The token was refused. It is kept in ``error`` too.
            ConfigError: It runs already, or something must be mended that no waiting mends.
        """
        self._run(self._subscribe())

    def start(self) -> None:
        """
        Listen in a daemon thread. Does nothing while it runs.

        Raises:
            ConfigError: There is no token, or another listener listens for the agent.
        """
        start_anew_if_forked()
        with self._lock:
            if self.running:
                return
            subscription = self._subscribe_locked()
            self._thread = threading.Thread(
                target=self._run_in_thread,
                args=(subscription,),
                name="buttdial-sync-listener",
                daemon=True,
            )
            self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """
        Stop listening. Idempotent, from any thread, from a handler too.

        The event that is being handled is finished. Those that were taken in already are handed
        over while there is time; the rest goes to ``on_undelivered``.

        Args:
            timeout: How long to wait, in seconds.

        Returns:
            Whether it has stopped; False from a handler, after which it does.
        """
        with self._lock:
            thread = self._thread
            self._stop_at = self._clock() + timeout
            self._stopping.set()
            self._intake.wake()
        if self._runner == threading.get_ident():
            return False
        stopped = self._over.wait(timeout)
        if stopped and thread is not None:
            thread.join(timeout)
        return stopped

    def poll(self) -> int:
        """
        Hand over what waits, once, without opening a stream: for cron.

        Reading a page of the queue takes it off the server. So each page is handed over before the
        next one is read, and :meth:`stop` leaves the pages that were not read on the server.

        Returns:
            How many events were handed over.

        Raises:
            ConfigError: It runs already.
            ButtDialError: The queue could not be read. What was read before that is handed over.
        """
        subscription = self._subscribe()
        self._runner = threading.get_ident()
        before = self._delivery.handed_over
        try:
            self._hand_over_pages(subscription)
        except ButtDialError:
            raise
        except BaseException:
            self._stop_at = self._clock()  # the process ends: no more handlers
            raise
        finally:
            # A handler that sends opens a stream, and more may have come before that.
            subscription.cancel()
            try:
                self._hand_over_the_rest()
            finally:
                self._unsubscribe()
        return self._delivery.handed_over - before

    def __enter__(self) -> Listener:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _subscribe(self) -> Subscription:
        start_anew_if_forked()
        with self._lock:
            return self._subscribe_locked()

    def _subscribe_locked(self) -> Subscription:
        if self.running:
            raise ConfigError("the listener runs already")
        self._stopping.clear()
        self._stop_at = None
        self.error = None
        self._intake = Intake()
        self._subscription = self._client._subscribe(self._intake)
        self._over.clear()
        return self._subscription

    def _unsubscribe(self) -> None:
        subscription = self._subscription
        if subscription is not None:
            subscription.cancel()
        self._runner = None
        self._subscription = None
        self._over.set()

    def _run_in_thread(self, subscription: Subscription) -> None:
        try:
            self._run(subscription)
        except ButtDialError as error:
            logger.error("the listener ended: %s", error)  # noqa: TRY400 - the error says it all
        except Exception:
            logger.exception("the listener ended")

    def _run(self, subscription: Subscription) -> None:
        self._runner = threading.get_ident()
        attendance = self._attendance = Attendance(
            subscription,
            self._intake,
            self._delivery,
            self._pauses,
            idle_ping=self._idle_ping,
            clock=self._clock,
            sleep=self._sleep,
            is_stopping=self._is_stopping,
        )
        try:
            attendance.run()
        except ClientClosedError:
            logger.info("the client was closed; the listener ends")
        except ButtDialError as error:
            self.error = error
            raise
        except BaseException:
            self._stop_at = self._clock()  # the process ends: no more handlers
            raise
        finally:
            self._stopping.set()  # one attempt for each event that is left
            subscription.leave()
            try:
                self._hand_over_the_rest()
            finally:
                self._reconnects, self._attendance = self.reconnects, None
                self._unsubscribe()

    def _hand_over_pages(self, subscription: Subscription) -> None:
        for _ in range(PAGES_AT_MOST):
            is_last = self._is_stopping() or not subscription.take_page()
            self._hand_over_the_rest()
            if is_last:
                return

    def _is_stopping(self) -> bool:
        return self._stopping.is_set()

    def _sleep(self, seconds: float) -> None:
        if self._given_sleep is not None:
            self._given_sleep(seconds)
        else:
            self._stopping.wait(seconds)

    def _hand_over_the_rest(self) -> None:
        self._delivery.deliver_all(self._intake, self._has_time)

    def _has_time(self) -> bool:
        return self._stop_at is None or self._clock() < self._stop_at
