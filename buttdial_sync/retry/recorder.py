"""One attempt at a message: sending it, and recording what became of it."""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

import attrs

from buttdial_sync.agent import AgentView
from buttdial_sync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    AuthError,
    AuthLockedOutError,
    ButtDialError,
    ClientClosedError,
    ConfigError,
    LoginPostponedError,
    RateLimitError,
)
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.errors.scrubbing import storable
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.report import Recorded, Step
from buttdial_sync.retry.repository import FailedMessageRepository
from buttdial_sync.retry.rows import arguments_of

logger = logging.getLogger("buttdial_sync.retry")

OnUnknown = Literal["dead", "retry"]
Backoff = Callable[[int], "timedelta | float"]
DeadLetterHook = Callable[[FailedMessage, str], None]
Verdict = Literal[
    "delivered", "unknown", "failed", "hopeless", "limited", "locked_out", "refused", "not_tried"
]
"""
The meaning of an attempt.

``"hopeless"``: this message can never be sent. ``"limited"``, ``"locked_out"``, ``"refused"``: a
limit, a lockout, or a token that the server does not accept; the message is not the cause.
``"not_tried"``: the client was closed, or lacks a setting.
"""

DEFAULT_PAUSE = 60.0
SHORTEST_PAUSE = 1.0
_REFUSED_PAUSE = 120.0
_LONGEST_BACKOFF = timedelta(days=1)
_DOUBLINGS_AT_MOST = 10
_ATTEMPTS_TO_WRITE = 3
_FIRST_PAUSE_TO_WRITE = 0.1
_FENCED = ("begin_attempt", "mark_delivered", "increment_retry", "mark_dead", "postpone")
_UNKNOWN = "outcome unknown, it may have been sent"
_WITHOUT_KEYS = "; this server honours no keys"

# The first match counts: a class comes before its base class.
_VERDICTS: tuple[tuple[type[ButtDialError], Verdict], ...] = (
    (AuthLockedOutError, "locked_out"),
    (AuthError, "refused"),
    (RateLimitError, "limited"),
    (LoginPostponedError, "limited"),
    (ArgumentTypeError, "hopeless"),
    (ArgumentValueError, "hopeless"),
    (ConfigError, "not_tried"),
    (ClientClosedError, "not_tried"),
)


def doubling_minutes(retry_count: int) -> timedelta:
    """Return 2**retry_count minutes, a day at most: the default backoff."""
    return min(_LONGEST_BACKOFF, timedelta(minutes=2 ** min(retry_count, _DOUBLINGS_AT_MOST + 1)))


def deliver(client: AgentView, message: FailedMessage, token: str | None) -> SendResult:
    """
    Make one attempt. The result says what happened, also if the client failed.

    A row must be able to hold what the server said, or the attempt would have no recorded end.
    """
    arguments = arguments_of(message)
    try:
        result = client.send_message(**arguments, agent_token=token)
    except ButtDialError as error:
        result = SendResult.of(error, idempotency_key=arguments["idempotency_key"])
    except Exception as error:
        logger.exception("message %s: the client failed", message.id)
        result = SendResult(
            outcome="unknown",
            error=f"the client failed: {type(error).__name__}",
            error_type=type(error).__name__,
            idempotency_key=arguments["idempotency_key"],
        )
    return attrs.evolve(
        result,
        error=result.error and storable(result.error),
        message_sid=result.message_sid and storable(result.message_sid),
    )


def verdict_of(result: SendResult) -> Verdict:
    """Return the meaning of a result; without an exception, only the stage shows it."""
    if result.ok:
        return "delivered"
    if result.unknown:
        return "unknown"
    for kind, verdict in _VERDICTS:
        if isinstance(result.exception, kind):
            return verdict
    if result.stage_failed == "config":
        return "hopeless"
    # If a tool names a time, it may concern this message alone: the others need not stop.
    names_time = result.retry_after is not None and concerns_everybody(result)
    return "limited" if names_time else "failed"


def concerns_everybody(result: SendResult) -> bool:
    """Whether a limit is for all requests from this address; otherwise it is one agent's."""
    return result.stage_failed != "server" and not isinstance(result.exception, LoginPostponedError)


@attrs.frozen(kw_only=True)
class OutcomeRecorder:
    """
    Records in the rows how attempts ended. Safe to share between threads.

    The ``attempt`` of its methods is the ``retry_count`` that the row has now: that of the message
    before the attempt began, one more after. It fences the change, and so does the attempt's number
    if the repository keeps one.

    Attributes:
        repository: Has the rows.
        client: Knows whether the server honours keys.
        backoff: Returns the pause after the n-th attempt.
        on_unknown: How to treat a message that may have been sent, if the server does not honour
            keys.
        on_dead_letter: Called when a message is given up.
        clock: Tells the time, aware.
        sleep: Sleeps for some seconds.
        random_fraction: Gives numbers from 0 to 1.

    Raises:
        ConfigError: The repository has no ``lease``.
        ArgumentValueError: It is not longer than the client's ``timeout``, or ``on_unknown`` is
            wrong.
    """

    repository: FailedMessageRepository
    client: AgentView
    backoff: Backoff = doubling_minutes
    on_unknown: OnUnknown = "dead"
    on_dead_letter: DeadLetterHook | None = None
    clock: Callable[[], datetime] = utc_now
    sleep: Callable[[float], object]
    random_fraction: Callable[[], float] = random.random

    _numbered: frozenset[str] = attrs.field(init=False)

    @_numbered.default
    def _methods_with_numbers(self) -> frozenset[str]:
        """Name the repository's methods that take more than the published arguments."""
        found = {name: getattr(self.repository, name, None) for name in _FENCED}
        return frozenset(
            name
            for name, method in found.items()
            if method is not None and "attempt_number" in inspect.signature(method).parameters
        )

    def __attrs_post_init__(self) -> None:
        _check_lease(self.repository, self.client)
        if self.on_unknown not in {"dead", "retry"}:
            raise ArgumentValueError('on_unknown must be "dead" or "retry"')

    def begin(self, message: FailedMessage, attempt: int) -> bool:
        """
        Record that an attempt begins, before anything can leave.

        Returns:
            Whether it may be made; False when another has begun one meanwhile.

        Raises:
            Exception: The repository's.
        """
        fence = self._fence("begin_attempt", message, attempt)
        return self.repository.begin_attempt(message.id, attempt, self.clock(), **fence)

    def record(
        self, message: FailedMessage, attempt: int, result: SendResult, token: str | None
    ) -> Recorded:
        """
        Record the end of an attempt.

        Args:
            message: As it was before the attempt.
            attempt: The attempt's number.
            result: Its result.
            token: The token that it was sent with.

        Raises:
            Exception: The repository's, after some tries.
        """
        verdict = verdict_of(result)
        error = result.error or "the message was not sent"
        if verdict == "delivered":
            mark = partial(
                self.repository.mark_delivered,
                message.id,
                result.message_sid,
                attempt,
                **self._fence("mark_delivered", message, attempt),
            )
            return self._write("delivered", None, message.id, mark)
        if verdict == "hopeless":
            return self.give_up(message, attempt, _with_doubt(message, error))
        if verdict in {"failed", "unknown"}:
            lost = verdict == "unknown"
            return self._keep_or_give_up(message, attempt, error, token, lost=lost)
        if verdict == "refused":
            recorded = self.postpone(message, attempt, error, _REFUSED_PAUSE)
            return attrs.evolve(recorded, remediation=result.remediation or AuthError.remedy)
        seconds = DEFAULT_PAUSE if result.retry_after is None else result.retry_after
        return self.postpone(message, attempt, error, seconds)

    def give_up(
        self, message: FailedMessage, attempt: int, error: str, *, lost: bool = False
    ) -> Recorded:
        """
        Give a message up, and call the host's hook.

        Args:
            message: As it was before the attempt.
            attempt: The ``retry_count`` that its row has now.
            error: The reason.
            lost: The answer to this attempt was lost.
        """
        # A repository with the published methods does not have this argument: pass it only if True.
        marked: dict[str, Any] = (
            {"unknown": True} if _may_have_been_sent(message, lost=lost) else {}
        )
        fence = self._fence("mark_dead", message, attempt)
        mark = partial(self.repository.mark_dead, message.id, attempt, error, **marked, **fence)
        recorded = self._write("dead", error, message.id, mark)
        return self.tell_dead(message, error) if recorded.step == "dead" else recorded

    def tell_dead(self, message: FailedMessage, error: str) -> Recorded:
        """Call the host's hook for a message that was given up."""
        logger.error("message %s is given up: %s", message.id, error)
        recorded = Recorded(step="dead", error=error)
        if self.on_dead_letter is not None:
            try:
                self.on_dead_letter(message, error)
            except Exception as failure:
                logger.exception("message %s: on_dead_letter failed", message.id)
                hook_error = f"on_dead_letter failed: {type(failure).__name__}"
                return attrs.evolve(recorded, hook_error=hook_error)
        return recorded

    def give_up_interrupted(self, message: FailedMessage) -> Recorded:
        """Give a message up whose last attempt has no recorded end; say the reason only once."""
        before = message.last_error or ""
        if before.startswith(_UNKNOWN):
            reason = before.removesuffix(_WITHOUT_KEYS)
        else:
            lost = f"{_UNKNOWN}: the attempt of {message.attempt_started_at} has no recorded end"
            reason = "; ".join(filter(None, (lost, before)))
        return self.give_up(message, message.retry_count, reason + _WITHOUT_KEYS)

    def give_up_exhausted(self, message: FailedMessage) -> Recorded:
        """Give a message up that has no attempt left, before another one."""
        reason = f"no attempt is left; the last: {message.last_error or 'never recorded'}"
        return self.give_up(message, message.retry_count, _with_doubt(message, reason))

    def postpone(
        self, message: FailedMessage, attempt: int, error: str | None, seconds: float
    ) -> Recorded:
        """Put a message back for some seconds; the attempt does not count."""
        due = self._after(max(seconds, SHORTEST_PAUSE))
        fence = self._fence("postpone", message, attempt)
        change = partial(self.repository.postpone, message, attempt, error, due, **fence)
        return self._write("postponed", error, message.id, change, due)

    def put_back(self, message: FailedMessage) -> Recorded:
        """Put a message back as it was fetched, without an attempt."""
        due = message.next_retry_at or self.clock()
        count = message.retry_count
        fence = self._fence("postpone", message, count)
        change = partial(self.repository.postpone, message, count, None, due, **fence)
        # Without the time: the row has it already, so it would say nothing about this change.
        return self._write("postponed", None, message.id, change)

    def may_repeat(self, token: str | None) -> bool | None:
        """Whether a message that may have been sent may be sent again; None if it is not known."""
        if self.on_unknown == "retry":
            return True
        try:
            return self.client.honours_idempotency_key(agent_token=token)
        except ButtDialError as error:
            logger.info("cannot find out whether the server honours keys: %s", str(error))
            return None

    def _keep_or_give_up(
        self, message: FailedMessage, attempt: int, error: str, token: str | None, *, lost: bool
    ) -> Recorded:
        told = _with_doubt(message, error, lost=lost)
        if lost and self.may_repeat(token) is False:
            return self.give_up(message, attempt, told + _WITHOUT_KEYS, lost=True)
        if attempt >= message.max_retries:
            return self.give_up(message, attempt, told, lost=lost)
        due, hook_error = self._next_attempt_after(attempt)
        logger.info("message %s: attempt %d failed: %s", message.id, attempt, told)
        unknown = _may_have_been_sent(message, lost=lost)
        change = partial(
            self.repository.increment_retry,
            message.id,
            attempt,
            told,
            due,
            unknown,
            **self._fence("increment_retry", message, attempt),
        )
        recorded = self._write("retried", told, message.id, change, due)
        return attrs.evolve(recorded, hook_error=hook_error)

    def _next_attempt_after(self, attempt: int) -> tuple[datetime, str | None]:
        """Return when the next attempt is due, and how the host's backoff failed."""
        try:
            pause = self.backoff(attempt)
            seconds = pause.total_seconds() if isinstance(pause, timedelta) else float(pause)
            return max(self._after(seconds), self.clock()), None
        except Exception as error:
            logger.exception("backoff failed")
            due = self.clock() + doubling_minutes(attempt)
            return due, f"backoff failed: {type(error).__name__}"

    def _after(self, seconds: float) -> datetime:
        return self.clock() + timedelta(seconds=seconds)

    def _write(
        self,
        step: Step,
        error: str | None,
        msg_id: str,
        change: Callable[[], bool | None],
        due: datetime | None = None,
    ) -> Recorded:
        """Change the row; try again on failure: a row without an end counts as maybe sent."""
        for number in range(1, _ATTEMPTS_TO_WRITE + 1):
            try:
                # A try that failed may have been carried out all the same: then what the row says
                # counts, and a second change could undo what another process has done since.
                is_written = number > 1 and self._is_written(msg_id, step, due)
                done = is_written or change()
            except Exception as failure:  # noqa: PERF203 - at most three rounds
                if number == _ATTEMPTS_TO_WRITE:
                    raise
                logger.warning("the repository failed, once more: %s", type(failure).__name__)
                self.sleep(_FIRST_PAUSE_TO_WRITE * 4**number * (0.5 + self.random_fraction() / 2))
            else:
                break
        if done is not False:
            return Recorded(step=step, error=error)
        logger.warning("a message that is %s here was taken over by another process", step)
        return Recorded(step="taken", error=error)

    def _fence(self, method: str, message: FailedMessage, attempt: int) -> dict[str, Any]:
        """Return the number of an attempt, if this method of the repository takes it."""
        begun = attempt - message.retry_count
        number = message.attempt_number + begun
        return {"attempt_number": number} if method in self._numbered else {}

    def _is_written(self, msg_id: str, step: Step, due: datetime | None) -> bool:
        """Whether a row is as this step leaves it; False where the repository cannot be asked."""
        get = getattr(self.repository, "get", None)
        row = None if get is None else get(msg_id)
        if row is None:
            return False
        # Until when a message waits stays in its row, also if another has begun an attempt since.
        return bool(row.status == step if due is None else row.next_retry_at == due)


def _may_have_been_sent(message: FailedMessage, *, lost: bool) -> bool:
    """Once the outcome of one attempt is unknown, a later failure does not change that."""
    return lost or message.attempt_started_at is not None


def _with_doubt(message: FailedMessage, error: str, *, lost: bool = False) -> str:
    return f"{_UNKNOWN}: {error}" if _may_have_been_sent(message, lost=lost) else error


def _check_lease(repository: object, client: AgentView) -> None:
    """Refuse a lease that ends while a message may still be on its way."""
    lease = getattr(repository, "lease", None)
    if not isinstance(lease, int | float):
        raise ConfigError(
            "the repository has no lease",
            remediation="Give it an attribute lease, in seconds; see FailedMessageRepository.",
        )
    if lease <= client.timeout:
        raise ArgumentValueError(
            f"the repository's lease ({lease:g} s) must be longer than the client's timeout "
            f"({client.timeout:g} s): otherwise another process could take over "
            "a message that is still being sent"
        )
