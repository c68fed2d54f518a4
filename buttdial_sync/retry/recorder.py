"""Recording in the rows how attempts ended."""

from __future__ import annotations

import inspect
import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

import attrs

from buttdial_sync.agent import AgentView
from buttdial_sync.errors import (
    ArgumentValueError,
    AuthError,
    ButtDialError,
    ConfigError,
)
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.report import Recorded, Step
from buttdial_sync.retry.repository import FailedMessageRepository
from buttdial_sync.retry.verdicts import Verdict, verdict_of

logger = logging.getLogger("buttdial_sync.retry")

OnUnknown = Literal["dead", "retry"]
Backoff = Callable[[int], "timedelta | float"]
DeadLetterHook = Callable[[FailedMessage, str], None]

DEFAULT_PAUSE = 60.0
SHORTEST_PAUSE = 1.0
_REFUSED_PAUSE = 120.0
_LONGEST_BACKOFF = timedelta(days=1)
_DOUBLINGS_AT_MOST = 10
DAY = 86_400.0
OPERATORS_PAUSE = 900.0
_CALLING_HOURS_PAUSE = 3600.0
_FIRST_PAUSE_TO_WRITE = 0.4
_LONGEST_PAUSE_TO_WRITE = 30.0
_LEASES_TO_WRITE = 10.0
_TRIES_AFTER_STOP = 3
_FENCED = ("begin_attempt", "mark_delivered", "increment_retry", "mark_dead", "postpone")
UNKNOWN = "outcome unknown, it may have been sent"
_WITHOUT_KEYS = "; this server honours no keys"
_KEY_TOO_OLD = "; the server may have forgotten its key"


_PAUSES: Mapping[Verdict, float] = {
    "refused": _REFUSED_PAUSE,
    "too_early": _CALLING_HOURS_PAUSE,
    "needs_operator": OPERATORS_PAUSE,
}


def doubling_minutes(retry_count: int) -> timedelta:
    """Return 2**retry_count minutes, a day at most: the default backoff."""
    return min(_LONGEST_BACKOFF, timedelta(minutes=2 ** min(retry_count, _DOUBLINGS_AT_MOST + 1)))


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
        give_up_after: Give a message up before it waits for its attempts for so long, in seconds.
        key_lifetime: For how long the server surely remembers a key, in seconds.
        outage_pause: When a message that nobody took is due again, in seconds.
        write_for: For how long an end that cannot be recorded is tried to be, in seconds; ten
            leases when None.
        is_stopping: Whether nobody wants to wait any longer.

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
    give_up_after: float = DAY
    key_lifetime: float = DAY
    outage_pause: float = DEFAULT_PAUSE
    write_for: float | None = None
    is_stopping: Callable[[], bool] = bool

    _numbered: frozenset[str] = attrs.field(init=False)
    _counts_waiting: bool = attrs.field(init=False)

    @_numbered.default
    def _methods_with_numbers(self) -> frozenset[str]:
        """Name the repository's methods that take more than the published arguments."""
        return frozenset(name for name in _FENCED if takes(self.repository, name, "attempt_number"))

    @_counts_waiting.default
    def _takes_seconds_waited(self) -> bool:
        return takes(self.repository, "increment_retry", "seconds_waited")

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
        # The first attempt whose end is not known stays in the row: the key is as old as that.
        started = message.attempt_started_at or self.clock()
        try:
            return self.repository.begin_attempt(message.id, attempt, started, **fence)
        except Exception:
            if message.attempt_started_at is None:
                self._take_back(message, attempt, started)
            raise

    def _take_back(self, message: FailedMessage, attempt: int, started: datetime) -> None:
        """Undo the beginning of an attempt that was recorded all the same: nothing was sent."""
        get = getattr(self.repository, "get", None)
        due = self.after(DEFAULT_PAUSE)
        fence = self._fence("postpone", message, attempt)

        def change() -> bool | None:
            row = None if get is None else get(message.id)
            # If it was not recorded, another may have begun an attempt under the same number since.
            if row is None or row.attempt_started_at != started:
                return False
            return self.repository.postpone(message, attempt, None, due, **fence)

        self._write("postponed", None, message.id, change, due)

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
        pause = _PAUSES.get(verdict, DEFAULT_PAUSE)
        if verdict == "unreachable":
            pause = self.outage_pause
        elif verdict != "refused" and result.retry_after is not None:
            pause = result.retry_after
        recorded = self.postpone(message, attempt, error, pause)
        if verdict in {"refused", "needs_operator"}:
            return attrs.evolve(recorded, remediation=result.remediation or AuthError.remedy)
        return recorded

    def record_at_once(
        self, message: FailedMessage, attempt: int, result: SendResult, token: str | None
    ) -> None:
        """
        Record the end of an attempt after Ctrl-C, which may have come before its row was written.

        The arguments are those of :meth:`record`. There is one try: the process wants to end. Its
        failure is logged.
        """
        try:
            attrs.evolve(self, write_for=0.0).record(message, attempt, result, token)
        except Exception:  # the row has an attempt without an end, as after a crash
            logger.exception("message %s: its end could not be recorded", message.id)

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
        why = _KEY_TOO_OLD if self.is_key_too_old(message) else _WITHOUT_KEYS
        if before.startswith(UNKNOWN):
            reason = before.removesuffix(_WITHOUT_KEYS).removesuffix(_KEY_TOO_OLD)
        else:
            lost = f"{UNKNOWN}: the attempt of {message.attempt_started_at} has no recorded end"
            reason = "; ".join(filter(None, (lost, before)))
        return self.give_up(message, message.retry_count, reason + why)

    def give_up_expired(self, message: FailedMessage) -> Recorded:
        """Give a message up that comes too late now."""
        reason = f"too late: it expired at {message.expires_at}"
        last = f"; before: {message.last_error}" if message.last_error else ""
        return self.give_up(message, message.retry_count, _with_doubt(message, reason + last))

    def is_expired(self, message: FailedMessage) -> bool:
        """Whether a message comes too late now."""
        return message.expires_at is not None and message.expires_at <= self.clock()

    def is_key_too_old(self, message: FailedMessage) -> bool:
        """Whether the server may have forgotten the key of a message that may have been sent."""
        began = message.attempt_started_at
        return began is not None and (self.clock() - began).total_seconds() > self.key_lifetime

    def give_up_exhausted(self, message: FailedMessage) -> Recorded:
        """Give a message up that has no attempt left, before another one."""
        reason = f"no attempt is left; the last: {message.last_error or 'never recorded'}"
        return self.give_up(message, message.retry_count, _with_doubt(message, reason))

    def postpone(
        self, message: FailedMessage, attempt: int, error: str | None, seconds: float
    ) -> Recorded:
        """Put a message back for some seconds; the attempt does not count."""
        due = self.after(max(seconds, SHORTEST_PAUSE))
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

    def may_repeat(self, message: FailedMessage, token: str | None) -> bool | None:
        """Whether a message that may have been sent may be sent again; None if it is not known."""
        if self.on_unknown == "retry":
            return True
        if self.is_key_too_old(message):
            return False
        try:
            return self.client.honours_idempotency_key(agent_token=token)
        except ButtDialError as error:
            logger.info("cannot find out whether the server honours keys: %s", error.message)
            return None

    def _keep_or_give_up(
        self, message: FailedMessage, attempt: int, error: str, token: str | None, *, lost: bool
    ) -> Recorded:
        told = _with_doubt(message, error, lost=lost)
        if lost and self.may_repeat(message, token) is False:
            return self.give_up(message, attempt, told + _WITHOUT_KEYS, lost=True)
        if attempt >= message.max_retries:
            return self.give_up(message, attempt, told, lost=lost)
        due, hook_error = self._next_attempt_after(attempt)
        waited = message.seconds_waited + math.ceil((due - self.clock()).total_seconds())
        if waited > self.give_up_after:
            after = timedelta(seconds=message.seconds_waited)
            told = f"given up after attempts within {after}; the last: {told}"
            return self.give_up(message, attempt, told, lost=lost)
        if message.expires_at is not None and message.expires_at <= due:
            told = f"it expires at {message.expires_at}, before another attempt; the last: {told}"
            return self.give_up(message, attempt, told, lost=lost)
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
            **({"seconds_waited": waited} if self._counts_waiting else {}),
        )
        recorded = self._write("retried", told, message.id, change, due)
        return attrs.evolve(recorded, hook_error=hook_error)

    def _next_attempt_after(self, attempt: int) -> tuple[datetime, str | None]:
        """Return when the next attempt is due, and how the host's backoff failed."""
        try:
            pause = self.backoff(attempt)
            seconds = pause.total_seconds() if isinstance(pause, timedelta) else float(pause)
            return max(self.after(seconds), self.clock()), None
        except Exception as error:
            logger.exception("backoff failed")
            due = self.clock() + doubling_minutes(attempt)
            return due, f"backoff failed: {type(error).__name__}"

    def after(self, seconds: float) -> datetime:
        """Return the time in so many seconds."""
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
        pauses = iter(self._pauses_to_write(step))
        is_again = False
        while True:
            try:
                # A try that failed may have been carried out all the same: then what the row says
                # counts, and a second change could undo what another process has done since.
                is_written = is_again and self._is_written(msg_id, step, due)
                if is_written and step == "delivered":
                    change()  # it undoes nothing, and looks for a receipt that came before
                done = is_written or change()
                break
            except Exception as failure:
                pause = next(pauses, None)
                if pause is None:
                    raise
                logger.warning("the repository failed, once more: %s", type(failure).__name__)
                self.sleep(pause)
                is_again = True
        if done is not False:
            return Recorded(step=step, error=error)
        logger.warning("a message that is %s here has another end, or was taken over", step)
        return Recorded(step="taken", error=error)

    def _pauses_to_write(self, step: Step) -> Iterator[float]:
        """Give the pauses between tries to record an end, until there is no use in another."""
        # That the server took a message is worth knowing also after its lease: it corrects whoever
        # gave the message up. What else became of it, another process finds out by itself.
        leases = _LEASES_TO_WRITE if step == "delivered" else 1.0
        left = self.repository.lease * leases if self.write_for is None else self.write_for
        pause, tries_after_stop = _FIRST_PAUSE_TO_WRITE, 0
        while left > 0 and tries_after_stop < _TRIES_AFTER_STOP:
            tries_after_stop += self.is_stopping()
            seconds = pause * (0.5 + self.random_fraction() / 2)
            yield seconds
            left -= seconds
            pause = min(pause * 2, _LONGEST_PAUSE_TO_WRITE)

    def _fence(self, method: str, message: FailedMessage, attempt: int) -> dict[str, Any]:
        """Return the number of an attempt, if this method of the repository takes it."""
        begun = attempt - message.retry_count
        number = message.attempt_number + begun
        return {"attempt_number": number} if method in self._numbered else {}

    def _is_written(self, msg_id: str, step: Step, due: datetime | None) -> bool:
        """Whether a row is as this step leaves it; False where the repository cannot be asked."""
        get = getattr(self.repository, "get", None)
        try:
            row = None if get is None else get(msg_id)
        except ConfigError:  # somebody broke the row meanwhile: its fence decides
            return False
        if row is None:
            return False
        # Until when a message waits stays in its row, also if another has begun an attempt since.
        return bool(row.status == step if due is None else row.next_retry_at == due)


def _may_have_been_sent(message: FailedMessage, *, lost: bool) -> bool:
    """Once the outcome of one attempt is unknown, a later failure does not change that."""
    return lost or message.attempt_started_at is not None


def _with_doubt(message: FailedMessage, error: str, *, lost: bool = False) -> str:
    return f"{UNKNOWN}: {error}" if _may_have_been_sent(message, lost=lost) else error


def takes(repository: object, method: str, parameter: str) -> bool:
    """Whether a method of a repository takes more than the published arguments."""
    found = getattr(repository, method, None)
    return found is not None and parameter in inspect.signature(found).parameters


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
