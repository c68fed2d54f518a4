"""Questions for which nobody waits: written down when they are asked, handed over when answered."""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeGuard

import attrs

from buttdial_sync.ailoop.answers import (
    LOST,
    TIMED_OUT,
    Answer,
    Authorization,
    Prompt,
    Reply,
    answer_of,
    authorization_of,
    reply_of,
)
from buttdial_sync.ailoop.errors import AiloopConfigError, AiloopError, MessageNotFoundError
from buttdial_sync.ailoop.messages import MESSAGE_ENDPOINT, Option
from buttdial_sync.errors.scrubbing import storable
from buttdial_sync.stores.memory import MemoryStore
from buttdial_sync.stores.schema import (
    LEASE,
    WORK_COLUMNS,
    Claim,
    Column,
    Condition,
    Row,
    Schema,
)
from buttdial_sync.stores.sqlite import SQLiteStore
from buttdial_sync.stores.store import Store
from buttdial_sync.stores.table import DEFAULT_LEASE, WorkTable, cut
from buttdial_sync.stores.times import Clock

if TYPE_CHECKING:  # these need the extra; who only reads the rows does not
    from buttdial_sync.ailoop.connection import AiloopConnection
    from buttdial_sync.ailoop.prompting import Prompter
    from buttdial_sync.transport.deadline import Deadline

logger = logging.getLogger("buttdial_sync.ailoop")

QUESTION_STATUSES = ("pending", "handed_over", "dead", "dismissed")
TABLE_NAME = "buttdial_questions"
_MOST_ATTEMPTS = 8
_LOOK_AGAIN = timedelta(seconds=5)
_HANDLER_FAILED = timedelta(seconds=30)
_HISTORY = 5000
# For as long as a database takes to restart.
_PAUSES_TO_RECORD = (0.1, 0.4, 1.6, 6.4, 25.6)
# Between two prompts the server shows none for a moment.
_BETWEEN_PROMPTS = 0.5
_BETWEEN_PASSES = 1.0
# What reading a row raises that another version wrote, or somebody broke.
_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)
_LONGEST_BETWEEN_PASSES = 30.0


def questions_schema(table: str = TABLE_NAME) -> Schema:
    """Describe the table of pending questions."""
    return Schema(
        table=table,
        columns=(
            *WORK_COLUMNS,
            Column("prompt", required=True),
            Column("about", required=True),
            Column("expires_at", "time", required=True),
            Column("reply"),
        ),
    )


@attrs.frozen(kw_only=True)
class AnsweredQuestion:
    """
    What became of a question that was posted.

    Attributes:
        message_id: The prompt's id, as :meth:`AiloopClient.post_question` returned it.
        about: What the host gave with the question.
        result: An :class:`Answer` to a question, an :class:`Authorization` for an action.
    """

    message_id: str
    about: Any
    result: Answer | Authorization


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


@attrs.frozen(kw_only=True)
class _Question:
    id: str
    prompt: Prompt
    about: Any
    expires_at: datetime
    reply: Reply | None
    retry_count: int
    attempt_number: int


class PendingQuestions(WorkTable):
    """
    Questions that wait for an answer, in the rows of a store.

    Safe to share between threads, and between processes if the store is: each answer is handed over
    by one of them.

    Args:
        store: Has the rows, of the schema ``questions_schema()``.
        lease: How long a process may take to look for an answer, in seconds. While the handler has
            it, the lease is extended. If the process dies, others wait for as long.
        around: Makes a context manager that is entered for each pass of :meth:`AiloopClient.resume`
            and for each answer that is heard, for example to close database connections.

    Attributes:
        around: As given.
    """

    def __init__(
        self,
        store: Store,
        lease: float = DEFAULT_LEASE,
        *,
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        super().__init__(store, QUESTION_STATUSES, lease)
        self.around = around

    @classmethod
    def in_sqlite(
        cls, path: str | os.PathLike[str], *, clock: Clock | None = None
    ) -> PendingQuestions:
        """Keep the questions in a SQLite file, made when it is missing."""
        return cls(SQLiteStore(path, questions_schema(), clock=clock))

    @classmethod
    def in_memory(cls, *, clock: Clock | None = None) -> PendingQuestions:
        """Keep the questions in this process only, for tests."""
        return cls(MemoryStore(questions_schema(), clock))

    def close(self) -> None:
        """Close the SQLite file; does nothing with other stores. Idempotent, from any thread."""
        self.store.close()

    def __enter__(self) -> PendingQuestions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, prompt: Prompt, about: Any, *, seconds: float, sending: float) -> None:
        """
        Write a question down, before it is sent.

        Args:
            prompt: The prompt.
            about: What the host wants back with the answer.
            seconds: How long to wait for an answer.
            sending: How long sending it may take. Nobody looks for its answer before.

        Raises:
            AiloopConfigError: ``about`` cannot be written as JSON.
        """
        try:
            as_json = json.dumps(about)
        except (TypeError, ValueError):
            raise AiloopConfigError("about cannot be written as JSON") from None
        now = self.store.now()
        self.store.insert(
            {
                "id": prompt.id,
                "status": "pending",
                "retry_count": 0,
                "attempt_number": 0,
                "last_error": None,
                "created_at": now,
                "next_retry_at": now + timedelta(seconds=sending) + _LOOK_AGAIN,
                "resolved_at": None,
                LEASE: None,
                "prompt": json.dumps(attrs.asdict(prompt)),
                "about": as_json,
                "expires_at": now + timedelta(seconds=seconds),
                "reply": None,
            }
        )

    def sent(self, message_id: str) -> None:
        """Have others look for the answer from now on."""
        self.store.update(message_id, {"next_retry_at": self.store.now()}, Condition())

    def force_retry(self, message_id: str) -> bool:
        """
        Have a pending or dead question's answer handed over again now, as if nothing had failed.

        Returns:
            False when there is no such question, or while its answer is being handed over.
        """
        row = self.store.find(message_id)
        return row is not None and self._force_retry(
            message_id, row["attempt_number"], {"retry_count": 0}
        )

    def record(self, message: Mapping[str, Any]) -> bool:
        """
        Keep a response if it ends a question that is pending here.

        Args:
            message: Any message, as it came.

        Returns:
            Whether it was kept.
        """
        with self.around():
            return self._record(message)

    def _record(self, message: Mapping[str, Any]) -> bool:
        message_id = message.get("correlation_id")
        row = self.store.find(message_id) if _is_id(message_id) else None
        if row is None or row["status"] != "pending":
            return False
        try:
            reply = reply_of(_prompt_of(row), message)
        except _UNREADABLE:
            return False  # resume() gives the row up, and tells
        if reply is None or not reply.ends:
            return False
        now = self.store.now()
        changes = {"reply": _as_json(reply), "next_retry_at": now}
        return self.store.update(row["id"], changes, Condition(values={"reply": None}))

    def _claim(self, due: datetime) -> _Question | None:
        """Lease the next question that was due then; give up those that cannot be read."""
        # One at a time: the lease is for this one, not for the handlers of those before it.
        while rows := self.store.claim(
            Claim(now=due, leased_until=self._lease_end(), limit=1, begins_attempt=True)
        ):
            try:
                return _question_of(rows[0])
            except _UNREADABLE as error:
                reason = f"the row cannot be read: {type(error).__name__}: {error}"
            logger.error("question %s: %s", rows[0]["id"], reason)
            self._give_up_unreadable(rows[0]["id"], reason)
        return None

    def _postpone(self, question: _Question, due: datetime, **changes: Any) -> bool:
        return self._change(question, {"next_retry_at": due, LEASE: None, **changes})

    def _wait_on(self, question: _Question, due: datetime) -> bool:
        # Looking is not an attempt of the handler.
        return self._postpone(question, due, retry_count=question.retry_count - 1)

    def _keep(self, question: _Question, reply: Reply) -> bool:
        """
        Write the answer down before it is handed over: the terminal's is heard only once.

        The lease begins again, because looking for the answer took some of it.
        """
        if question.reply is not None:
            return True
        changes = {"reply": _as_json(reply), LEASE: self._lease_end()}
        condition = Condition(attempt_number=question.attempt_number, values={"reply": None})
        return self.store.update(question.id, changes, condition)

    def _change(self, question: _Question, changes: Row) -> bool:
        return self.store.update(
            question.id, changes, Condition(attempt_number=question.attempt_number)
        )


class Resumer:
    """
    Looks for the answers to pending questions and hands them over.

    Args:
        connection: The client's connection.
        prompter: Asks the server where a prompt stands.
        questions: The questions.
        handler: Gets each :class:`AnsweredQuestion`.
    """

    def __init__(
        self,
        connection: AiloopConnection,
        prompter: Prompter,
        questions: PendingQuestions,
        handler: Callable[[AnsweredQuestion], object],
    ) -> None:
        self._connection = connection
        self._prompter = prompter
        self._questions = questions
        self._handler = handler
        self._heard: deque[Mapping[str, Any]] = deque()
        self._recording = threading.Lock()

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
                self._questions._wait_on(question, now() + _LOOK_AGAIN)
                waiting += 1
            elif not self._questions._keep(question, reply):
                # Another answer was heard meanwhile: this one is read at once, with that.
                self._questions._wait_on(question, began)
            elif self._hand_over(question, reply):
                handed_over += 1
            else:
                failed += 1
        return ResumeReport(handed_over=handed_over, waiting=waiting, failed=failed)

    def _hand_over(self, question: _Question, reply: Reply) -> bool:
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
    def _kept_lease(self, question: _Question) -> Iterator[None]:
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
            is_over.set()
            thread.join()  # a row that is given back must not be leased again

    def _extend_lease(self, question: _Question, is_over: threading.Event) -> None:
        questions = self._questions
        pause = questions.lease / 3
        while not is_over.wait(pause):
            pause = questions.lease / 3
            try:
                with questions.around():
                    questions.extend_lease(question.id, question.attempt_number)
            except Exception:  # the store's, of any kind; soon again, while time is left
                logger.exception("the lease of question %s could not be extended", question.id)
                pause = questions.lease / 12

    def _mark_handed_over(self, question: _Question) -> bool:
        """Try it again if the store fails: otherwise the answer would be handed over again."""
        questions = self._questions
        for pause in _PAUSES_TO_RECORD:
            try:
                return questions._change(question, questions._resolved("handed_over"))
            except Exception as error:  # noqa: BLE001, PERF203 - the store's, of any kind
                logger.warning("the store failed, once more: %s", type(error).__name__)
                self._connection.sleep(pause)
        return questions._change(question, questions._resolved("handed_over"))

    def _give_back(self, question: _Question, error: Exception) -> None:
        told = {"last_error": cut(storable(f"{type(error).__name__}: {error}"))}
        if question.retry_count >= _MOST_ATTEMPTS:
            self._questions._change(question, {**self._questions._resolved("dead"), **told})
        else:
            due = self._questions.store.now() + _HANDLER_FAILED
            self._questions._postpone(question, due, **told)

    def _find(self, question: _Question) -> Reply | None:
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

    def _look(self, question: _Question) -> Reply | None:
        limit = self._connection.deadline()
        prompt = question.prompt
        try:
            self._connection.call(
                "GET",
                f"/api/v1/messages/{prompt.id}",
                dict,
                deadline=limit,
                endpoint=MESSAGE_ENDPOINT,
            )
        except MessageNotFoundError:
            return LOST  # a restarted server has forgotten it
        for message in self._connection.history(prompt.channel, _HISTORY, limit):
            reply = reply_of(prompt, message)
            if reply is not None and reply.ends:
                return reply
        return self._reply_of_silence(question, limit)

    def _reply_of_silence(self, question: _Question, limit: Deadline) -> Reply | None:
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


def _is_id(value: object) -> TypeGuard[str]:
    # A database may refuse other texts, and an answer is recorded until the database takes it.
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


def _question_of(row: Row) -> _Question:
    if not isinstance(row["expires_at"], datetime):
        raise TypeError("expires_at is not a time")
    return _Question(
        id=row["id"],
        prompt=_prompt_of(row),
        about=json.loads(row["about"]),
        expires_at=row["expires_at"],
        reply=None if row["reply"] is None else Reply(**json.loads(row["reply"])),
        retry_count=row["retry_count"],
        attempt_number=row["attempt_number"],
    )


def _prompt_of(row: Row) -> Prompt:
    fields = json.loads(row["prompt"])
    options = tuple(Option(**option) for option in fields.pop("options"))
    return Prompt(**fields, options=options)


def _as_json(reply: Reply) -> str:
    return json.dumps(attrs.asdict(reply))
