"""What a listener does when something fails: pauses between connections, attempts at handlers."""

from __future__ import annotations

import logging
from collections.abc import Callable

from buttdial_sync.errors import ButtDialError
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.inbound.intake import Intake
from buttdial_sync.models.inbound import InboundEvent

logger = logging.getLogger("buttdial_sync.inbound")

_FIRST_PAUSE = 0.5
_GOOD_AFTER = 10.0
_MOST_DOUBLINGS = 30


def growing(longest: float, number: int) -> float:
    """Return the ``number``-th pause in seconds, from 0: each is twice the one before."""
    return min(longest, _FIRST_PAUSE * 2.0 ** min(number, _MOST_DOUBLINGS))


class Pauses:
    """
    How long to wait before connecting again. For one thread.

    Args:
        longest: Pauses grow up to this, in seconds.
        random_fraction: Gives numbers from 0 to 1, for the jitter.
    """

    def __init__(self, longest: float, random_fraction: Callable[[], float]) -> None:
        self._longest = longest
        self._random_fraction = random_fraction
        self._short_lives = 0

    def lived(self, seconds: float) -> None:
        """Note how long a stream was good: one that was for long begins the pauses anew."""
        if seconds >= _GOOD_AFTER:
            self._short_lives = 0

    def next(self, failure: ButtDialError | None) -> float:
        """Return the next pause in seconds; never less than the server asks for."""
        pause = growing(self._longest, self._short_lives) * (0.5 + self._random_fraction() / 2)
        self._short_lives += 1
        return max(pause, (failure.retry_after if failure is not None else None) or 0.0)


class PatientDelivery:
    """
    Hands events over, trying again: they are no longer on the server. For one thread.

    Args:
        inbound: Has the handlers.
        on_undelivered: Gets what could not be handed over.
        max_attempts: How often an event is tried.
        longest: Pauses grow up to this, in seconds.
        sleep: Sleeps for some seconds.
        is_stopping: Whether there is no time for another attempt.

    Attributes:
        handed_over: How many events the handlers got; repetitions do not count.
    """

    def __init__(
        self,
        inbound: InboundHandler,
        on_undelivered: Callable[[InboundEvent], object] | None,
        *,
        max_attempts: int,
        longest: float,
        sleep: Callable[[float], object],
        is_stopping: Callable[[], bool],
    ) -> None:
        self.handed_over = 0
        self._inbound = inbound
        self._on_undelivered = on_undelivered
        self._max_attempts = max_attempts
        self._longest = longest
        self._sleep = sleep
        self._is_stopping = is_stopping

    def deliver(self, event: InboundEvent) -> None:
        """Hand an event over, or give it up."""
        try:
            for attempt in range(self._max_attempts):
                if attempt:
                    self._sleep(growing(self._longest, attempt - 1))
                report = self._inbound.dispatch_event(event)
                if not report.failed:
                    self.handed_over += report.handled
                    return
                if self._is_stopping():
                    break
        except BaseException:  # the process ends; the host may still want to keep the event
            self.give_up(event)
            raise
        self.give_up(event)

    def deliver_all(self, intake: Intake, has_time: Callable[[], bool]) -> None:
        """Hand over all that was taken in while there is time, and give up what is left."""
        intake.confirm(intake.epoch)
        try:
            while has_time() and (event := intake.take()) is not None:
                self.deliver(event)
        finally:
            self._give_up_all(intake)

    def _give_up_all(self, intake: Intake) -> None:
        try:
            while (event := intake.take()) is not None:
                self.give_up(event)
        except BaseException:  # told once more to end: the host may still want to keep the others
            self._give_up_all(intake)
            raise

    def give_up(self, event: InboundEvent) -> None:
        """Let the host keep an event that could not be handed over."""
        what = f"{type(event).__name__} {getattr(event, 'id', None)}"
        if self._on_undelivered is None:
            logger.error("%s could not be handed over and is lost: give on_undelivered", what)
            return
        logger.error("%s could not be handed over", what)
        try:
            self._on_undelivered(event)
        except BaseException as error:
            logger.exception("on_undelivered failed; %s is lost", what)
            if not isinstance(error, Exception):
                raise
