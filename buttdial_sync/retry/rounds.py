"""One pass over the due messages, in one thread or several."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import attrs

from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.credentials import Credentials, NoTokenError, Obstacle
from buttdial_sync.retry.delivery import DEFAULT_PAUSE, concerns_everybody, deliver, verdict_of
from buttdial_sync.retry.report import Tally
from buttdial_sync.retry.settling import UNKNOWN, WITHOUT_KEYS, Settled, Settler

logger = logging.getLogger("buttdial_sync.retry")

AroundPass = Callable[[], AbstractContextManager[object]]

_NO_TOKEN_PAUSE = 120.0
_LONGEST_PAUSE_FOR_TOKEN = 120.0
_BARREN_BATCHES = 2


class Feed:
    """
    Hands out due messages, fetched in batches. Safe to share between threads.

    It ends when nothing is due, when fetching fails, and when nobody could settle what it handed
    out: a repository that leases nothing would hand out the same rows for ever.

    Args:
        fetch: Leases and returns some.
        tally: Counts them.
        once: Fetch a single batch.
        batch_size: How many to fetch at once.
    """

    def __init__(
        self,
        fetch: Callable[[int], Sequence[FailedMessage]],
        tally: Tally,
        *,
        once: bool,
        batch_size: int,
    ) -> None:
        self._fetch = fetch
        self._tally = tally
        self._once = once
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._waiting: deque[FailedMessage] = deque()
        self._ended = False

    def next(self) -> FailedMessage | None:
        """Return the next message, or None when there is none."""
        with self._lock:
            if not self._waiting and not self._ended:
                self._refill()
            return self._waiting.popleft() if self._waiting else None

    def end(self) -> None:
        """Fetch no more."""
        with self._lock:
            self._ended = True

    def _refill(self) -> None:
        if self._tally.barren >= _BARREN_BATCHES * self._batch_size:
            self._ended = True
            return
        try:
            self._waiting.extend(self._fetch(self._batch_size))
        except Exception as error:
            self._ended = True
            logger.exception("the repository failed to fetch messages")
            self._tally.count("errors", f"fetch_due failed: {type(error).__name__}")
            return
        self._tally.fetched(len(self._waiting))
        self._ended = self._once or not self._waiting


@attrs.frozen(kw_only=True)
class Round:
    """
    Works through a feed.

    Attributes:
        settler: Records how attempts ended.
        credentials: Which token a message goes out with.
        around_pass: Entered in each thread that takes part.
        pace: Called before each attempt.
    """

    settler: Settler
    credentials: Credentials
    around_pass: AroundPass = nullcontext
    pace: Callable[[], object] | None = None

    def work(self, feed: Feed, tally: Tally, stopping: threading.Event) -> None:
        """Take messages until there are none; never raises an ``Exception``."""
        try:
            with self.around_pass():
                while (message := feed.next()) is not None:
                    self._handle_safely(message, tally, stopping)
                    if stopping.is_set():
                        feed.end()
        except Exception as error:
            feed.end()
            logger.exception("around_pass failed")
            tally.count("errors", f"around_pass failed: {type(error).__name__}")

    def _handle_safely(
        self, message: FailedMessage, tally: Tally, stopping: threading.Event
    ) -> None:
        try:
            settled = self._handle(message, stopping)
        except Exception as error:
            logger.exception("message %s: the repository failed", message.id)
            settled = Settled(step="errors", error=f"message {message.id}: {type(error).__name__}")
        tally.count(settled.step, settled.error, settled.remediation)

    def _handle(self, message: FailedMessage, stopping: threading.Event) -> Settled:
        if stopping.is_set():
            return self._put_back(message)
        try:
            token = self.credentials.token_of(message)
        except NoTokenError as error:
            logger.warning("message %s waits: %s", message.id, error, exc_info=error.__cause__)
            count = message.retry_count
            return self.settler.postpone(message, count, str(error), _NO_TOKEN_PAUSE)
        with self.credentials.turn(token) as obstacle:
            if stopping.is_set():
                return self._put_back(message)
            if obstacle is not None:
                return self._wait_for(message, obstacle)
            return self._check_and_try(message, token, stopping)

    def _check_and_try(
        self, message: FailedMessage, token: str | None, stopping: threading.Event
    ) -> Settled:
        count = message.retry_count
        if message.attempt_started_at is not None:
            may_repeat = self.settler.may_repeat(token)
            if may_repeat is None:
                reason = "cannot find out whether the server honours keys"
                return self.settler.postpone(message, count, reason, DEFAULT_PAUSE)
            if not may_repeat:
                return self.settler.give_up(message, count, _interrupted(message))
        if count >= message.max_retries:
            reason = message.last_error or "never recorded"
            return self.settler.give_up(message, count, f"no attempt is left; the last: {reason}")
        if self.pace is not None:
            self.pace()
            if stopping.is_set():
                return self._put_back(message)
        return self._try(message, token)

    def _try(self, message: FailedMessage, token: str | None) -> Settled:
        settler = self.settler
        number = message.retry_count + 1
        if not settler.repository.begin_attempt(message.id, number, settler.clock()):
            return Settled(step="taken")
        result = deliver(settler.client, message, token)
        self._learn(token, result)
        return settler.settle(message, number, result, token)

    def _learn(self, token: str | None, result: SendResult) -> None:
        """Note what a result says about the token and the server."""
        verdict, reason = verdict_of(result), result.error or ""
        seconds = DEFAULT_PAUSE if result.retry_after is None else result.retry_after
        if verdict == "locked_out" or (verdict == "limited" and concerns_everybody(result)):
            self.credentials.locked_out(reason, seconds)
        elif verdict == "limited":
            self.credentials.limited(token, reason, seconds)
        elif verdict == "refused":
            self.credentials.refused(token, reason)
        elif result.outcome in {"sent", "rejected"}:
            self.credentials.worked(token)

    def _put_back(self, message: FailedMessage) -> Settled:
        due = message.next_retry_at or self.settler.clock()
        return self.settler.put_back(message, message.retry_count, None, due)

    def _wait_for(self, message: FailedMessage, obstacle: Obstacle) -> Settled:
        # A refused token may be replaced at any time; a limit ends when it says.
        seconds = obstacle.seconds
        if obstacle.token_to_blame:
            seconds = min(seconds, _LONGEST_PAUSE_FOR_TOKEN)
        return self.settler.postpone(message, message.retry_count, obstacle.reason, seconds)


def _interrupted(message: FailedMessage) -> str:
    """Say why a message is not repeated; once, however often it comes back."""
    before = message.last_error or ""
    if before.startswith(UNKNOWN):
        return before.removesuffix(WITHOUT_KEYS) + WITHOUT_KEYS
    lost = f"{UNKNOWN}: the attempt of {message.attempt_started_at} has no recorded end"
    return "; ".join(filter(None, (lost, before))) + WITHOUT_KEYS
