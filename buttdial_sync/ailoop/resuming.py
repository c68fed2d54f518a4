"""Handing the answers to pending questions over, each once."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import attrs

from buttdial_sync.ailoop.answers import (
    LOST,
    TIMED_OUT,
    Reply,
    answer_of,
    authorization_of,
    reply_of,
)
from buttdial_sync.ailoop.connection import AiloopConnection
from buttdial_sync.ailoop.errors import AiloopError, MessageNotFoundError
from buttdial_sync.ailoop.prompting import Prompter
from buttdial_sync.ailoop.questions import (
    LOOK_AGAIN,
    AnsweredQuestion,
    PendingQuestion,
    PendingQuestions,
)
from buttdial_sync.errors.scrubbing import storable
from buttdial_sync.stores.table import cut
from buttdial_sync.transport.deadline import Deadline

logger = logging.getLogger("buttdial_sync.ailoop")

_MOST_ATTEMPTS = 8
_HANDLER_FAILED = timedelta(seconds=30)
_HISTORY = 5000
# For as long as a database takes to restart.
_PAUSES_TO_RECORD = (0.1, 0.4, 1.6, 6.4, 25.6)
# Between two prompts the server shows none for a moment.
_BETWEEN_PROMPTS = 0.5
_BETWEEN_PASSES = 1.0
_LONGEST_BETWEEN_PASSES = 30.0


@attrs.frozen(kw_only=True)
class ResumeReport:
    """
    What one pass over the pending questions did.

    Attributes:
        handed_over: Questions that the handler has had.
        waiting: Questions that have no answer yet, or whose server was not reached.
        failed: Calls of the handler that raised; they are repeated later.
    """

    handed_over: int = 0
    waiting: int = 0
    failed: int = 0


@attrs.define(eq=False)
class Resumer:
    """
    Looks for the answers to pending questions and hands them over.

    Args:
        connection: The client's connection.
        prompter: Asks the server where a prompt stands.
        questions: The questions.
        handler: Gets each :class:`AnsweredQuestion`.
    """

    _connection: AiloopConnection
    _prompter: Prompter
    _questions: PendingQuestions
    _handler: Callable[[AnsweredQuestion], object]
    _heard: deque[Mapping[str, Any]] = attrs.field(factory=deque, init=False)
    _recording: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def hear(self, message: Mapping[str, Any]) -> None:
        """
        Record a response. If the store fails, it is kept, and recorded between two passes.

        Args:
            message: Any response, as it came.
        """
        self._heard.append(message)
        self._record_heard()

    def run_until_closed(self) -> ResumeReport:
        """Look again and again, until the client is closed."""
        total = ResumeReport()
        pause = _BETWEEN_PASSES
        while not self._connection.closed:
            try:
                done = self.run_once()
            except Exception:  # the store's, of any kind: the next pass may succeed
                logger.exception("a pass over the questions failed")
                pause = min(pause * 2, _LONGEST_BETWEEN_PASSES)
            else:
                pause = _BETWEEN_PASSES
                total = ResumeReport(
                    handed_over=total.handed_over + done.handed_over,
                    waiting=done.waiting,
                    failed=total.failed + done.failed,
                )
            self._connection.sleep(pause)
            self._record_heard()
        return total

    def _record_heard(self) -> bool:
        """Record what was heard, in its order: the first answer counts. Return whether all is."""
        with self._recording:
            try:
                while self._heard:
                    self._questions.record(self._heard[0])
                    self._heard.popleft()
            except Exception:  # the store's, of any kind
                logger.exception("an answer could not be written down; it is tried again")
            return not self._heard

    def run_once(self) -> ResumeReport:
        """Look once at every question that is due."""
        with self._questions.around():
            return self._run_once()

    def _run_once(self) -> ResumeReport:
        handed_over = waiting = failed = 0
        now = self._questions.store.now
        began = now()
        # What is postponed is not due in this pass any more, however long the pass takes.
        while question := self._questions._claim(began):
            reply = question.reply or self._find(question)
            if reply is None:
                self._questions._wait_on(question, now() + LOOK_AGAIN)
                waiting += 1
            elif not self._questions._keep(question, reply):
                # Another answer was heard meanwhile: this one is read at once, with that.
                self._questions._wait_on(question, began)
            elif self._hand_over(question, reply):
                handed_over += 1
            else:
                failed += 1
        return ResumeReport(handed_over=handed_over, waiting=waiting, failed=failed)

    def _hand_over(self, question: PendingQuestion, reply: Reply) -> bool:
        prompt = question.prompt
        make = authorization_of if prompt.kind == "authorization" else answer_of
        try:
            answered = AnsweredQuestion(
                message_id=question.id, about=question.about, result=make(prompt, reply)
            )
            with self._kept_lease(question):
                self._handler(answered)
        except Exception as error:  # a handler must not keep the others waiting
            logger.exception("the handler of an answer failed")
            self._give_back(question, error)
            return False
        return self._mark_handed_over(question)

    @contextmanager
    def _kept_lease(self, question: PendingQuestion) -> Iterator[None]:
        """Keep the others away for as long as the handler takes."""
        is_over = threading.Event()
        thread = threading.Thread(
            target=self._extend_lease,
            args=(question, is_over),
            name="buttdial-sync-ailoop-lease",
            daemon=True,
        )
        thread.start()
        try:
            yield
        finally:
            is_over.set()  # and what is given back is not leased again by an extension under way

    def _extend_lease(self, question: PendingQuestion, is_over: threading.Event) -> None:
        questions = self._questions
        pause = questions.lease / 3
        while not is_over.wait(pause):
            pause = questions.lease / 3
            try:
                with questions.around():
                    questions.extend_lease(question.id, question.attempt_number)
            except BaseException:  # the host's, sys.exit() too; soon again, while time is left
                logger.exception("the lease of question %s could not be extended", question.id)
                pause = questions.lease / 12

    def _mark_handed_over(self, question: PendingQuestion) -> bool:
        """Try it again if the store fails: otherwise the answer would be handed over again."""
        questions = self._questions
        for pause in _PAUSES_TO_RECORD:
            try:
                return questions._change(question, questions._resolved("handed_over"))
            except Exception as error:  # noqa: BLE001, PERF203 - the store's, of any kind
                logger.warning("the store failed, once more: %s", type(error).__name__)
                self._connection.sleep(pause)
        return questions._change(question, questions._resolved("handed_over"))

    def _give_back(self, question: PendingQuestion, error: Exception) -> None:
        told = {"last_error": cut(storable(f"{type(error).__name__}: {error}"))}
        if question.retry_count >= _MOST_ATTEMPTS:
            self._questions._change(question, {**self._questions._resolved("dead"), **told})
        else:
            due = self._questions.store.now() + _HANDLER_FAILED
            self._questions._postpone(question, due, **told)

    def _find(self, question: PendingQuestion) -> Reply | None:
        try:
            found = self._look(question)
            if found is LOST:
                self._connection.sleep(_BETWEEN_PROMPTS)
                found = self._look(question)
            if found is LOST and not self._tells_what_is_shown():
                self._prompter.withdraw_soon(question.id, 0)
        except AiloopError as error:
            logger.warning("ailoop is not reachable: %s", error.message)
            return None
        # What was heard counts before what is found, and says more than that it is lost.
        return found if self._record_heard() else None

    def _look(self, question: PendingQuestion) -> Reply | None:
        limit = self._connection.deadline()
        prompt = question.prompt
        try:
            self._connection.message(prompt.id, limit)
        except MessageNotFoundError:
            return LOST  # a restarted server has forgotten it
        for message in self._connection.history(prompt.channel, _HISTORY, limit):
            reply = reply_of(prompt, message)
            if reply is not None and reply.ends:
                return reply
        return self._reply_of_silence(question, limit)

    def _reply_of_silence(self, question: PendingQuestion, limit: Deadline) -> Reply | None:
        standing = self._prompter.standing(question.id, limit)
        if standing == "gone":
            return LOST
        if self._questions.store.now() < question.expires_at:
            return None
        if standing != "shown":
            return LOST  # it waits behind others, or was answered at the terminal
        self._prompter.withdraw_soon(question.id, 0)
        return TIMED_OUT

    def _tells_what_is_shown(self) -> bool:
        return self._connection.known_info(self._connection.deadline()).supports_pending
