"""Questions for which nobody waits: the rows in which they wait for their answers."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Any, TypeGuard

import attrs

from buttdial_sync.ailoop.answers import Answer, Authorization, Prompt, Reply, reply_of
from buttdial_sync.ailoop.errors import AiloopConfigError
from buttdial_sync.ailoop.messages import Option
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
from buttdial_sync.stores.table import DEFAULT_LEASE, WorkTable
from buttdial_sync.stores.times import Clock

logger = logging.getLogger("buttdial_sync.ailoop")

QUESTION_STATUSES = ("pending", "handed_over", "dead", "dismissed")
TABLE_NAME = "buttdial_questions"
LOOK_AGAIN = timedelta(seconds=5)
# What reading a row raises that another version wrote, or somebody broke.
_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)


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
class PendingQuestion:
    """A row, as :class:`.Resumer` works on it. Its attributes are the columns."""

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
            and for each answer that is heard, for example to close database connections. Several
            threads enter it at once, and a pass enters it again inside: it must not be a lock.

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
                "next_retry_at": now + timedelta(seconds=sending) + LOOK_AGAIN,
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
        message_id = message.get("correlation_id")
        if not _is_id(message_id):
            return False
        with self.around():
            row = self.store.find(message_id)
            if row is None or row["status"] != "pending":
                return False
            try:
                reply = reply_of(_prompt_of(row), message)
            except _UNREADABLE:
                return False  # resume() gives the row up, and tells
            if reply is None or not reply.ends:
                return False
            changes = {"reply": _as_json(reply), "next_retry_at": self.store.now()}
            return self.store.update(row["id"], changes, Condition(values={"reply": None}))

    # All below for the Resumer.

    def _claim(self, due: datetime) -> PendingQuestion | None:
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

    def _postpone(self, question: PendingQuestion, due: datetime, **changes: Any) -> bool:
        return self._change(question, {"next_retry_at": due, LEASE: None, **changes})

    def _wait_on(self, question: PendingQuestion, due: datetime) -> bool:
        # Looking is not an attempt of the handler.
        return self._postpone(question, due, retry_count=question.retry_count - 1)

    def _keep(self, question: PendingQuestion, reply: Reply) -> bool:
        """
        Write the answer down before it is handed over: the terminal's is heard only once.

        The lease begins again, because looking for the answer took some of it.
        """
        if question.reply is not None:
            return True
        changes = {"reply": _as_json(reply), LEASE: self._lease_end()}
        condition = Condition(attempt_number=question.attempt_number, values={"reply": None})
        return self.store.update(question.id, changes, condition)

    def _change(self, question: PendingQuestion, changes: Row) -> bool:
        return self.store.update(
            question.id, changes, Condition(attempt_number=question.attempt_number)
        )


def _is_id(value: object) -> TypeGuard[str]:
    # A database may refuse other texts, and an answer is recorded until the database takes it.
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


def _question_of(row: Row) -> PendingQuestion:
    if not isinstance(row["expires_at"], datetime):
        raise TypeError("expires_at is not a time")
    return PendingQuestion(
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
