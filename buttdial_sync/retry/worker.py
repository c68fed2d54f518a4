"""One pass over the due messages, in one thread or several."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress

import attrs

from buttdial_sync.agent import AgentView
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.agents import Agents
from buttdial_sync.retry.circuit import Blocked, Circuit
from buttdial_sync.retry.recorder import (
    DEFAULT_PAUSE,
    OPERATORS_PAUSE,
    SHORTEST_PAUSE,
    OutcomeRecorder,
)
from buttdial_sync.retry.report import Recorded, Tally
from buttdial_sync.retry.repository import FailedMessageRepository
from buttdial_sync.retry.token_limits import NoTokenError, TokenLimits
from buttdial_sync.retry.verdicts import (
    concerns_agent,
    concerns_everybody,
    deliver,
    is_outage,
    verdict_of,
)

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

    Attributes:
        tally: Counts them.
        stopping: Set when no more are wanted.
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
        self.tally = tally
        self.stopping = stopping
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
                while self._is_fetching and not (self._waiting or self.stopping.is_set()):
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

    def take(self, like: FailedMessage | None) -> list[FailedMessage]:
        """Take what was not handed out yet: of the agent of this message; all when None."""
        with self._changed:
            taken: list[FailedMessage] = []
            kept: list[FailedMessage] = []
            for message in self._waiting:
                is_like = like is None or message.agent_id == like.agent_id
                (taken if is_like and message.unreadable is None else kept).append(message)
            self._waiting = deque(kept)
            return taken

    def end(self) -> None:
        """Fetch no more; what was fetched is still handed out."""
        self._ended = True

    def _is_over(self) -> bool:
        unsettled = self.tally.unsettled_in_a_row >= _UNSETTLED_BATCHES * self._batch_size
        return self._ended or self.stopping.is_set() or unsettled

    def _refill(self, hidden: int) -> None:
        fetched: Sequence[FailedMessage] = ()
        try:
            fetched = tuple(self._fetch(self._batch_size))
            self.tally.fetched(len(fetched))
        except Exception as error:
            logger.exception("the repository failed to fetch messages")
            failure = f"fetch_due failed: {type(error).__name__}"
            self.tally.count(Recorded(step="errors", error=failure))
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
        token_limits: Knows which tokens may be used.
        circuit: Knows whether the server answers.
        agents: Knows which agents rest.
        around_pass: Entered in each thread that takes part.
        pace: Called before each attempt.
        release: Puts fetched messages back in one statement; None where the repository cannot leave
            out agents that rest.
        needs: The agents whose messages wait for an operator, who was told.
    """

    repository: FailedMessageRepository
    client: AgentView
    recorder: OutcomeRecorder
    token_limits: TokenLimits
    circuit: Circuit
    agents: Agents
    around_pass: AroundPass
    pace: Callable[[], object] | None
    release: Callable[..., int] | None
    needs: set[str | None] = attrs.field(factory=set)

    def work(self, due: DueMessages) -> None:
        """Take messages until there are none; never raises an ``Exception``."""
        try:
            with self.around_pass():
                while (message := due.next()) is not None:
                    try:
                        due.tally.count(self._process(message, due))
                    finally:
                        due.done(message)
        except Exception as error:
            due.end()
            logger.exception("around_pass failed")
            failure = f"around_pass failed: {type(error).__name__}"
            due.tally.count(Recorded(step="errors", error=failure))

    def _process(self, message: FailedMessage, due: DueMessages) -> Recorded:
        try:
            if message.unreadable is not None:
                # The repository gave it up when it was fetched: nobody has been told yet.
                return self.recorder.tell_dead(message, message.last_error or message.unreadable)
            if due.stopping.is_set():
                return self.recorder.put_back(message)
            try:
                return self._try(message, due)
            finally:
                self.circuit.leave()
        except Exception as error:
            # Exceptions of hooks are caught where they are called, so this one is the repository's.
            logger.exception("message %s: the repository failed", message.id)
            return Recorded(step="errors", error=f"message {message.id}: {type(error).__name__}")

    def _try(self, message: FailedMessage, due: DueMessages) -> Recorded:
        if self.recorder.is_expired(message):
            return self.recorder.give_up_expired(message)
        try:
            token = self.token_limits.token_of(message)
        except NoTokenError as error:
            logger.warning("message %s waits: %s", message.id, error, exc_info=error.__cause__)
            return self._set_back(message, Blocked(str(error), _NO_TOKEN_PAUSE), due)
        blocked = self.circuit.enter(due.stopping) or self.circuit.block_of(token)
        if blocked is not None:
            return self._set_back(message, blocked, due)
        with self.token_limits.admit(token, due.stopping) as blocked:
            recorded = self._without_attempt(message, token, blocked, due)
            if recorded is None and self.recorder.is_expired(message):
                # Waiting for another thread's attempt, or for the pace, took its time.
                return self.recorder.give_up_expired(message)
            if recorded is not None:
                return recorded
            attempt = message.retry_count + 1
            # On disk before the message leaves: a crash from here on means "may have been sent".
            if not self.recorder.begin(message, attempt):
                return Recorded(step="taken")
            result = deliver(self.client, message, token)
            try:
                self._learn(message, token, result)
                return self.recorder.record(message, attempt, result, token)
            except (KeyboardInterrupt, SystemExit):
                self.recorder.record_at_once(message, attempt, result, token)
                raise

    def _without_attempt(
        self,
        message: FailedMessage,
        token: str | None,
        blocked: Blocked | None,
        due: DueMessages,
    ) -> Recorded | None:
        """Record why there is no attempt now; None if there is to be one."""
        recorder = self.recorder
        if due.stopping.is_set():
            return recorder.put_back(message)
        if blocked is not None:
            return self._set_back(message, blocked, due)
        if message.attempt_started_at is not None:
            may_repeat = recorder.may_repeat(message, token)
            if may_repeat is None:
                reason = "cannot find out whether the server honours keys"
                return recorder.postpone(message, message.retry_count, reason, DEFAULT_PAUSE)
            if not may_repeat:
                return recorder.give_up_interrupted(message)
        if message.retry_count >= message.max_retries:
            return recorder.give_up_exhausted(message)
        blocked = self.agents.begin(message.agent_id)
        if blocked is not None:
            return self._set_back(message, blocked, due)
        return None if self.pace is None else self._keep_pace(self.pace, message, due.stopping)

    def _set_back(self, message: FailedMessage, blocked: Blocked, due: DueMessages) -> Recorded:
        """
        Put a message back that must not be sent now, in one statement with all like it.

        Until then no other message of their agent is fetched.
        """
        told = Recorded(step="postponed", error=blocked.reason, remediation=blocked.remediation)
        if not blocked.concerns_all:
            self.agents.rest(message.agent_id, blocked.seconds, blocked.reason)
        if self.release is None:
            recorded = self.recorder.postpone(
                message, message.retry_count, blocked.reason, blocked.seconds
            )
            return attrs.evolve(recorded, remediation=blocked.remediation)
        others = due.take(None if blocked.concerns_all else message)
        if blocked.concerns_all:
            self._note_other_token([message, *others])
        self.release(
            [message, *others],
            error=blocked.reason,
            next_retry_at=self.recorder.after(max(blocked.seconds, SHORTEST_PAUSE)),
        )
        for _ in others:
            due.tally.count(told)
        return told

    def _note_other_token(self, messages: list[FailedMessage]) -> None:
        """Note another token than the one without an answer: perhaps only that gets none."""
        for message in messages:
            with suppress(NoTokenError):
                if self.circuit.met(self.token_limits.token_of(message)):
                    return

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

    def _learn(self, message: FailedMessage, token: str | None, result: SendResult) -> None:
        """Note what a result says about the token, the agent and the server."""
        verdict, reason = verdict_of(result), result.error or ""
        seconds = DEFAULT_PAUSE if result.retry_after is None else result.retry_after
        if verdict == "unreachable" or is_outage(result):
            self.circuit.unanswered(token, reason, in_doubt=result.unknown)
            return
        if result.outcome in {"sent", "rejected"}:
            self.circuit.answered(token)
        if verdict == "locked_out" or (verdict == "limited" and concerns_everybody(result)):
            self.token_limits.all_limited(reason, seconds)
        elif verdict == "limited":
            self.token_limits.limited(token, reason, seconds)
            self.agents.limited(message.agent_id, seconds, reason)
        elif verdict == "needs_operator":
            self._tell_operator(message, result)
        elif verdict != "refused" and result.outcome in {"sent", "rejected"}:
            self.token_limits.worked(token)
            self.needs.discard(message.agent_id)

    def _tell_operator(self, message: FailedMessage, result: SendResult) -> None:
        if concerns_agent(result):
            self.agents.rest(message.agent_id, OPERATORS_PAUSE, result.error or "")
        if message.agent_id not in self.needs:
            self.needs.add(message.agent_id)
            logger.error(
                "messages of agent %s wait for an operator: %s %s",
                message.agent_id,
                result.error,
                result.remediation or "",
            )
