"""Being there for a stream: open it, hand over what comes, open it again."""

from __future__ import annotations

import logging
from collections.abc import Callable

from buttdial_sync.errors import (
    AuthError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    ToolError,
)
from buttdial_sync.inbound.intake import Intake
from buttdial_sync.inbound.patience import PatientDelivery, Pauses
from buttdial_sync.tools.subscriptions import Subscription
from buttdial_sync.transport.session import McpSession

logger = logging.getLogger("buttdial_sync.inbound")


class Attendance:
    """
    One run of a listener. For one thread; others may read its attributes.

    Args:
        subscription: The way to the client's session.
        intake: Where what comes is taken in.
        delivery: Hands it over.
        pauses: Between attempts to connect.
        idle_ping: Seconds of silence after which the stream is pinged.
        clock: A monotonic clock in seconds.
        sleep: Sleeps for some seconds.
        is_stopping: Whether to end.

    Attributes:
        connected: Whether the stream is open and what waited was read.
        reconnects: How often the stream had to be opened again, or could not be opened.
    """

    def __init__(
        self,
        subscription: Subscription,
        intake: Intake,
        delivery: PatientDelivery,
        pauses: Pauses,
        *,
        idle_ping: float,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        is_stopping: Callable[[], bool],
    ) -> None:
        self.connected = False
        self.reconnects = 0
        self._subscription = subscription
        self._intake = intake
        self._delivery = delivery
        self._pauses = pauses
        self._idle_ping = idle_ping
        self._clock = clock
        self._sleep = sleep
        self._is_stopping = is_stopping

    def run(self) -> None:
        """
        Attend until it is time to end.

        Raises:
            AuthError: The token was refused.
            ClientClosedError: The client was closed.
            ConfigError: Something must be mended that no waiting mends.
        """
        while not self._is_stopping():
            failure: ButtDialError | None = None
            try:
                with self._subscription.session() as session:
                    self._attend(session)
            except (AuthError, ClientClosedError, ConfigError):
                raise
            except ButtDialError as error:
                failure = error
            finally:
                self.connected = False
            self._hand_over_what_is_here()
            if self._subscription.closed:
                raise ClientClosedError("the client is closed")
            if not self._is_stopping():
                self._pause(failure)

    def _attend(self, session: McpSession) -> None:
        """Hand over what comes for as long as the session lives."""
        opened_at, epoch = self._clock(), self._intake.epoch
        self._read_what_waits()
        self._intake.confirm(epoch)
        self.connected = True
        try:
            while session.usable and not self._is_stopping():
                event = self._intake.take()
                if event is not None:
                    self._delivery.deliver(event)
                else:
                    self._wait(session)
        finally:
            self._pauses.lived(self._clock() - opened_at)

    def _read_what_waits(self) -> None:
        try:
            self._subscription.drain()
        except (AuthError, ClientClosedError):
            raise
        except ButtDialError as error:
            logger.warning("the waiting queue could not be read: %s", error)

    def _wait(self, session: McpSession) -> None:
        if session.silent_for >= self._idle_ping:
            try:
                self._subscription.ping(session)
            except (AuthError, ClientClosedError):
                raise
            except ToolError:
                logger.debug("a server without ping is alive all the same")
            except ButtDialError:
                session.close(0)
                raise
        self._intake.wait(max(self._idle_ping - session.silent_for, self._idle_ping / 10))

    def _hand_over_what_is_here(self) -> None:
        while not self._is_stopping() and (event := self._intake.take()) is not None:
            self._delivery.deliver(event)

    def _pause(self, failure: ButtDialError | None) -> None:
        seconds = self._pauses.next(failure)
        self.reconnects += 1
        logger.warning(
            "no stream (%s); connecting again in %.2f s, no. %d",
            failure or "it ended",
            seconds,
            self.reconnects,
        )
        self._sleep(seconds)
