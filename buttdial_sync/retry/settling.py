"""What the end of an attempt does to a row; the loop and the outbox have this in common."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

import attrs

from buttdial_sync.agent import AgentView
from buttdial_sync.errors import ArgumentValueError, AuthError, ButtDialError, ConfigError
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.delivery import DEFAULT_PAUSE, verdict_of
from buttdial_sync.retry.report import Step
from buttdial_sync.retry.repository import FailedMessageRepository
from buttdial_sync.retry.rows import utc_now

logger = logging.getLogger("buttdial_sync.retry")

OnUnknown = Literal["dead", "retry"]
Backoff = Callable[[int], "timedelta | float"]
DeadLetterHook = Callable[[FailedMessage, str], None]

_LONGEST_BACKOFF = timedelta(days=1)
_DOUBLINGS_AT_MOST = 10
SHORTEST_PAUSE = 1.0
_REFUSED_PAUSE = 120.0
_ATTEMPTS_TO_SETTLE = 3
_FIRST_PAUSE_TO_SETTLE = 0.1
UNKNOWN = "outcome unknown, it may have been sent"
WITHOUT_KEYS = "; this server honours no keys"


def doubling_minutes(retry_count: int) -> timedelta:
    """Return 2**retry_count minutes, a day at most: the default backoff."""
    return min(_LONGEST_BACKOFF, timedelta(minutes=2 ** min(retry_count, _DOUBLINGS_AT_MOST + 1)))


@attrs.frozen(kw_only=True)
class Settled:
    """
    What a row is after an attempt.

    Attributes:
        step: What became of it.
        error: Why.
        remediation: What a person has to do, where a token was refused.
    """

    step: Step
    error: str | None = None
    remediation: str | None = None


@attrs.frozen(kw_only=True)
class Settler:
    """
    Records how attempts ended. Safe to share between threads.

    Attributes:
        repository: Where.
        client: Asked whether the server honours keys.
        backoff: After how long the n-th retry follows.
        on_unknown: What becomes of a message that may have been sent, where the server does not
            honour keys.
        on_dead_letter: Told when a message is given up.
        clock: Tells the time, aware.
        sleep: Sleeps for some seconds.
        random_fraction: Gives numbers from 0 to 1.
    """

    repository: FailedMessageRepository
    client: AgentView
    backoff: Backoff = doubling_minutes
    on_unknown: OnUnknown = "dead"
    on_dead_letter: DeadLetterHook | None = None
    clock: Callable[[], datetime] = utc_now
    sleep: Callable[[float], object]
    random_fraction: Callable[[], float] = random.random

    def settle(
        self, message: FailedMessage, number: int, result: SendResult, token: str | None
    ) -> Settled:
        """
        Record the end of an attempt.

        Args:
            message: As it was before the attempt.
            number: The attempt's number, which its row has now.
            result: What became of it.
            token: What it was sent with.

        Raises:
            Exception: The repository's, after some attempts.
        """
        verdict = verdict_of(result)
        error = result.error or "the message was not sent"
        if verdict == "delivered":
            sid = result.message_sid
            return self._record(
                "delivered", None, lambda: self.repository.mark_delivered(message.id, sid, number)
            )
        if verdict == "hopeless":
            return self.give_up(message, number, _told(message, error))
        if verdict == "refused":
            settled = self.postpone(message, number, error, _REFUSED_PAUSE)
            return attrs.evolve(settled, remediation=result.remediation or AuthError.remedy)
        if verdict in {"failed", "unknown"}:
            lost = verdict == "unknown"
            return self._keep_or_give_up(message, number, error, token, lost=lost)
        seconds = DEFAULT_PAUSE if result.retry_after is None else result.retry_after
        return self.postpone(message, number, error, seconds)

    def give_up(
        self, message: FailedMessage, number: int, error: str, *, lost: bool = False
    ) -> Settled:
        """
        Give a message up, and tell the host.

        Args:
            message: As it was before the attempt.
            number: What its row has now.
            error: Why.
            lost: The answer to this attempt was lost.
        """
        unknown = _may_have_been_sent(message, lost=lost)
        marked = {"unknown": True} if unknown else {}
        settled = self._record(
            "dead", error, lambda: self.repository.mark_dead(message.id, number, error, **marked)
        )
        if settled.step != "dead":
            return settled
        logger.error("message %s is given up: %s", message.id, error)
        if self.on_dead_letter is not None:
            try:
                self.on_dead_letter(message, error)
            except Exception:
                logger.exception("on_dead_letter failed for message %s", message.id)
        return settled

    def postpone(
        self, message: FailedMessage, number: int, error: str | None, seconds: float
    ) -> Settled:
        """Put a message back for some seconds; the attempt does not count."""
        due = self._later(max(seconds, SHORTEST_PAUSE))
        return self.put_back(message, number, error, due)

    def put_back(
        self, message: FailedMessage, number: int, error: str | None, due: datetime
    ) -> Settled:
        """Put a message back until a time; the attempt does not count."""
        return self._record(
            "postponed", error, lambda: self.repository.postpone(message, number, error, due)
        )

    def may_repeat(self, token: str | None) -> bool | None:
        """Whether a message that may have been sent may be sent again; None: cannot be asked."""
        if self.on_unknown == "retry":
            return True
        try:
            return self.client.honours_idempotency_key(agent_token=token)
        except ButtDialError as error:
            logger.info("cannot find out whether the server honours keys: %s", error)
            return None

    def _keep_or_give_up(
        self, message: FailedMessage, number: int, error: str, token: str | None, *, lost: bool
    ) -> Settled:
        unknown = _may_have_been_sent(message, lost=lost)
        told = _told(message, error, lost=lost)
        if lost and self.may_repeat(token) is False:
            return self.give_up(message, number, told + WITHOUT_KEYS, lost=True)
        if number >= message.max_retries:
            return self.give_up(message, number, told, lost=lost)
        due = self._later(self._pause_after(number))
        logger.info("message %s: attempt %d failed: %s", message.id, number, told)
        return self._record(
            "retried",
            told,
            lambda: self.repository.increment_retry(message.id, number, told, due, unknown),
        )

    def _pause_after(self, number: int) -> float:
        try:
            pause = self.backoff(number)
            seconds = pause.total_seconds() if isinstance(pause, timedelta) else float(pause)
            self._later(seconds)
        except Exception:
            logger.exception("backoff failed")
            return doubling_minutes(number).total_seconds()
        return max(0.0, seconds)

    def _later(self, seconds: float) -> datetime:
        return self.clock() + timedelta(seconds=seconds)

    def _record(self, step: Step, error: str | None, call: Callable[[], bool | None]) -> Settled:
        """Change the row; a failure is worth another attempt, for an open row counts as unknown."""
        for attempt in range(1, _ATTEMPTS_TO_SETTLE + 1):
            try:
                done = call()
            except Exception as failure:  # noqa: PERF203 - at most three rounds
                if attempt == _ATTEMPTS_TO_SETTLE:
                    raise
                logger.warning("the repository failed, once more: %s", type(failure).__name__)
                self.sleep(_FIRST_PAUSE_TO_SETTLE * 4**attempt * (0.5 + self.random_fraction() / 2))
            else:
                break
        if done is not False:
            return Settled(step=step, error=error)
        logger.warning("a message that is %s here was taken over by another process", step)
        return Settled(step="taken", error=error)


def _may_have_been_sent(message: FailedMessage, *, lost: bool) -> bool:
    """A failure does not take back that an earlier attempt may have sent the message."""
    return lost or message.attempt_started_at is not None


def _told(message: FailedMessage, error: str, *, lost: bool = False) -> str:
    return f"{UNKNOWN}: {error}" if _may_have_been_sent(message, lost=lost) else error


def check_lease(repository: object, client: AgentView) -> None:
    """
    Refuse a lease that ends while a message may still be on its way.

    Raises:
        ConfigError: The repository has no ``lease``.
        ArgumentValueError: It is not longer than the client's ``timeout``.
    """
    lease = getattr(repository, "lease", None)
    if not isinstance(lease, int | float):
        raise ConfigError(
            "the repository has no lease",
            remediation="Give it an attribute lease, in seconds; see FailedMessageRepository.",
        )
    if lease <= client.timeout:
        raise ArgumentValueError(
            f"the repository's lease ({lease:g} s) must be longer than the client's timeout "
            f"({client.timeout:g} s): else another process takes over what is still being sent"
        )
