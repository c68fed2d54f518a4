"""One pass over the due messages, in one thread or several."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import attrs

from buttdial_sync.agent import AgentView
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.admission import Admission, Blocked, NoTokenError
from buttdial_sync.retry.recorder import (
    DEFAULT_PAUSE,
    OutcomeRecorder,
    concerns_everybody,
    deliver,
    verdict_of,
)
from buttdial_sync.retry.report import Recorded, Tally
from buttdial_sync.retry.repository import FailedMessageRepository

logger = logging.getLogger("buttdial_sync.retry")

AroundPass = Callable[[], AbstractContextManager[object]]

_NO_TOKEN_PAUSE = 120.0
_UNSETTLED_BATCHES = 2
_LOOK_AGAIN = 0.25


class DueMessages:
    """
    Hands out due messages, fetched in batches. Safe to share between threads.

    It ends when nothing is due, when fetching fails, after a stop, and when two batches in a row
    could not be recorded: a repository that leases nothing would hand out the same rows again and
    again.

    Args:
        fetch: Leases and returns some.
        tally: Counts them.
        stopping: Set when no more are wanted.
        once: Fetch a single batch.
        batch_size: How many to fetch at once.
    """

    def __init__(
        self,
        fetch: Callable[[int], Sequence[FailedMessage]],
        tally: Tally,
        stopping: threading.Event,
        *,
        once: bool,
        batch_size: int,
    ) -> None:
        self._fetch = fetch
        self._tally = tally
        self._stopping = stopping
        self._once = once
        self._batch_size = batch_size
        self._changed = threading.Condition()
        self._waiting: deque[FailedMessage] = deque()
        self._is_fetching = False
        self._ordered_in_hand = 0
        self._ended = False

    def next(self) -> FailedMessage | None:
        """Return the next message, or None when there is none."""
        while True:
            with self._changed:
                # One thread fetches, without the lock: a database may take its time.
                while self._is_fetching and not (self._waiting or self._stopping.is_set()):
                    self._changed.wait(_LOOK_AGAIN)
                if self._waiting:
                    message = self._waiting.popleft()
                    self._ordered_in_hand += message.ordering_key is not None
                    return message
                if self._is_over():
                    return None
                self._is_fetching = True
                hidden = self._ordered_in_hand
            self._refill(hidden)

    def done(self, message: FailedMessage) -> None:
        """Note that a message has its end: those behind it may be fetched."""
        if message.ordering_key is not None:
            with self._changed:
                self._ordered_in_hand -= 1
                self._changed.notify_all()

    def end(self) -> None:
        """Fetch no more; what was fetched is still handed out."""
        self._ended = True

    def _is_over(self) -> bool:
        unsettled = self._tally.unsettled_in_a_row >= _UNSETTLED_BATCHES * self._batch_size
        return self._ended or self._stopping.is_set() or unsettled

    def _refill(self, hidden: int) -> None:
        fetched: Sequence[FailedMessage] = ()
        try:
            fetched = tuple(self._fetch(self._batch_size))
            self._tally.fetched(len(fetched))
        except Exception as error:
            logger.exception("the repository failed to fetch messages")
            failure = f"fetch_due failed: {type(error).__name__}"
            self._tally.count(Recorded(step="errors", error=failure))
            hidden = 0
        finally:
            with self._changed:
                self._waiting.extend(fetched)
                self._ended = self._ended or self._once or not (fetched or hidden)
                # What is due may wait for a message that another thread is sending.
                if not fetched and not self._ended and self._ordered_in_hand == hidden:
                    self._changed.wait(_LOOK_AGAIN)
                self._is_fetching = False
                self._changed.notify_all()


@attrs.frozen(kw_only=True)
class Worker:
    """
    Works through due messages: one attempt at each. Safe to share between threads.

    Attributes:
        repository: Where the messages are.
        client: Sends them.
        recorder: Records how attempts ended.
        admission: Knows which tokens may be used.
        around_pass: Entered in each thread that takes part.
        pace: Called before each attempt.
    """

    repository: FailedMessageRepository
    client: AgentView
    recorder: OutcomeRecorder
    admission: Admission
    around_pass: AroundPass
    pace: Callable[[], object] | None

    def work(self, due: DueMessages, tally: Tally, stopping: threading.Event) -> None:
        """Take messages until there are none; never raises an ``Exception``."""
        try:
            with self.around_pass():
                while (message := due.next()) is not None:
                    try:
                        tally.count(self._process(message, stopping))
                    finally:
                        due.done(message)
        except Exception as error:
            due.end()
            logger.exception("around_pass failed")
            failure = f"around_pass failed: {type(error).__name__}"
            tally.count(Recorded(step="errors", error=failure))

    def _process(self, message: FailedMessage, stopping: threading.Event) -> Recorded:
        try:
            if message.unreadable is not None:
                # The repository gave it up when it was fetched: nobody has been told yet.
                return self.recorder.tell_dead(message, message.last_error or message.unreadable)
            if stopping.is_set():
                return self.recorder.put_back(message)
            return self._try(message, stopping)
        except Exception as error:
            # Exceptions of hooks are caught where they are called, so this one is the repository's.
            logger.exception("message %s: the repository failed", message.id)
            return Recorded(step="errors", error=f"message {message.id}: {type(error).__name__}")

    def _try(self, message: FailedMessage, stopping: threading.Event) -> Recorded:
        try:
            token = self.admission.token_of(message)
        except NoTokenError as error:
            logger.warning("message %s waits: %s", message.id, error, exc_info=error.__cause__)
            count = message.retry_count
            return self.recorder.postpone(message, count, str(error), _NO_TOKEN_PAUSE)
        with self.admission.admit(token, stopping) as blocked:
            recorded = self._without_attempt(message, token, blocked, stopping)
            if recorded is not None:
                return recorded
            attempt = message.retry_count + 1
            # On disk before the message leaves: a crash from here on means "may have been sent".
            if not self.recorder.begin(message, attempt):
                return Recorded(step="taken")
            result = deliver(self.client, message, token)
            self._learn(token, result)
            return self.recorder.record(message, attempt, result, token)

    def _without_attempt(
        self,
        message: FailedMessage,
        token: str | None,
        blocked: Blocked | None,
        stopping: threading.Event,
    ) -> Recorded | None:
        """Record why there is no attempt now; None if there is to be one."""
        recorder, count = self.recorder, message.retry_count
        if stopping.is_set():
            return recorder.put_back(message)
        if blocked is not None:
            recorded = recorder.postpone(message, count, blocked.reason, blocked.seconds)
            return attrs.evolve(recorded, remediation=blocked.remediation)
        if message.attempt_started_at is not None:
            may_repeat = recorder.may_repeat(token)
            if may_repeat is None:
                reason = "cannot find out whether the server honours keys"
                return recorder.postpone(message, count, reason, DEFAULT_PAUSE)
            if not may_repeat:
                return recorder.give_up_interrupted(message)
        if count >= message.max_retries:
            return recorder.give_up_exhausted(message)
        return None if self.pace is None else self._keep_pace(self.pace, message, stopping)

    def _keep_pace(
        self, pace: Callable[[], object], message: FailedMessage, stopping: threading.Event
    ) -> Recorded | None:
        try:
            pace()
        except Exception as error:
            logger.exception("message %s: pace failed", message.id)
            failure = f"pace failed: {type(error).__name__}"
            count = message.retry_count
            recorded = self.recorder.postpone(message, count, None, DEFAULT_PAUSE)
            return attrs.evolve(recorded, hook_error=failure)
        return self.recorder.put_back(message) if stopping.is_set() else None

    def _learn(self, token: str | None, result: SendResult) -> None:
        """Note what a result says about the token and the server."""
        verdict, reason = verdict_of(result), result.error or ""
        seconds = DEFAULT_PAUSE if result.retry_after is None else result.retry_after
        if verdict == "locked_out" or (verdict == "limited" and concerns_everybody(result)):
            self.admission.all_limited(reason, seconds)
        elif verdict == "limited":
            self.admission.limited(token, reason, seconds)
        elif verdict != "refused" and result.outcome in {"sent", "rejected"}:
            self.admission.worked(token)
