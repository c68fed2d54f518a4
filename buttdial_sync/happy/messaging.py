"""Messages: sending, reading, following."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from buttdial_sync.happy.errors import (
    AuthenticationError,
    HappyClosedError,
    HappyConfigError,
    HappyError,
    HappyProtocolError,
    MessageDeliveryError,
    MessageOutcomeUnknownError,
    SessionNotFound,
)
from buttdial_sync.happy.family import Family
from buttdial_sync.happy.models import Message, PermissionMode, SentMessage
from buttdial_sync.happy.records import MESSAGES_PER_PAGE, NEWEST
from buttdial_sync.happy.updates import Update
from buttdial_sync.transport.deadline import Deadline

_SENT_FROM = "buttdial-sync"
# These say more than that the message did not arrive, so they stay what they are.
_TELLING = (AuthenticationError, HappyClosedError, HappyConfigError, SessionNotFound)


class Messaging(Family):
    """The calls of :class:`HappyClient` about messages."""

    def send_message(
        self,
        session_id: str,
        text: str,
        permission_mode: PermissionMode | None = "yolo",
        *,
        model: str | None = None,
        fallback_model: str | None = None,
        system_prompt: str | None = None,
        append_system_prompt: str | None = None,
        allowed_tools: Sequence[str] | None = None,
        disallowed_tools: Sequence[str] | None = None,
        local_id: str | None = None,
        timeout: float | None = None,
    ) -> SentMessage:
        """
        Send a message to an agent. When this returns, the server has stored it.

        It is repeated after a lost answer, because the server knows a repetition by ``local_id``.

        Args:
            session_id: The session.
            text: What to say.
            permission_mode: What the agent may do without being asked; None for the session's.
            model: The model to use from now on.
            fallback_model: The model to use when that one is overloaded.
            system_prompt: Replaces the agent's system prompt.
            append_system_prompt: Is added to the agent's system prompt.
            allowed_tools: Tools that need no permission.
            disallowed_tools: Tools that must not be used.
            local_id: An id of your own for the message; made when None. The server stores a
                message with the same id only once.
            timeout: In seconds; the client's when None.

        Returns:
            The message's number and ids.

        Raises:
            SessionNotFound: The account has no such session.
            WrongKeyError: The session cannot be read with this client's secret.
            MessageOutcomeUnknownError: It may have been stored. Send it again with its
                ``local_id``, which the error has.
            MessageDeliveryError: It was not stored.
            HappyError: The token was refused, or an argument is wrong.
        """
        if not text:
            raise HappyConfigError("text must not be empty")
        options = {
            "permissionMode": permission_mode,
            "model": model,
            "fallbackModel": fallback_model,
            "customSystemPrompt": system_prompt,
            "appendSystemPrompt": append_system_prompt,
            "allowedTools": allowed_tools and list(allowed_tools),
            "disallowedTools": disallowed_tools and list(disallowed_tools),
        }
        meta = {key: value for key, value in options.items() if value is not None}
        content = {
            "role": "user",
            "content": {"type": "text", "text": text},
            "meta": {"sentFrom": _SENT_FROM, **meta},
        }
        deadline = self._connection.deadline(timeout)
        local_id = local_id or str(uuid.uuid4())
        sealed = self._records.session_cipher(session_id, deadline).seal(content)
        try:
            sent = self._store(session_id, sealed, local_id, deadline)
        except _TELLING:
            raise
        except HappyError as error:
            unknown = error.outcome == "unknown"
            kind = MessageOutcomeUnknownError if unknown else MessageDeliveryError
            failure = error.as_kind(kind, session_id=session_id, local_id=local_id)
            if unknown:
                failure.remediation = kind.remedy
            raise failure from None
        self._last_sent.note(session_id, sent.seq)
        return sent

    def get_messages(
        self, session_id: str, *, after_seq: int | None = None, limit: int | None = None
    ) -> list[Message]:
        """
        Return the messages of a session, in the order of their numbers.

        Args:
            session_id: The session.
            after_seq: Only those above this number.
            limit: Only so many, the newest.

        Returns:
            The messages. One that cannot be decrypted says why in ``unreadable``.

        Raises:
            SessionNotFound: The account has no such session.
            HappyError: The server refused it, or could not be reached.
        """
        if limit is None:
            return list(self.iter_messages(session_id, after_seq=after_seq or 0))
        newest_first = itertools.takewhile(
            lambda message: message.seq > (after_seq or 0),
            self._newest_first(session_id, NEWEST, limit),
        )
        return list(itertools.islice(newest_first, max(limit, 0)))[::-1]

    def iter_messages(self, session_id: str, *, after_seq: int = 0) -> Iterator[Message]:
        """
        Give the messages of a session page by page, in the order of their numbers.

        Each page may take ``timeout``; only one is held.

        Args:
            session_id: The session.
            after_seq: Only those above this number.

        Raises:
            SessionNotFound: The account has no such session.
            HappyError: The server refused it, or could not be reached.
        """
        seq, has_more = after_seq, True
        while has_more:
            deadline = self._connection.deadline()
            page, has_more = self._records.messages_after(session_id, seq, deadline)
            yield from page
            seq = page[-1].seq if page else seq

    def follow(
        self, session_id: str, *, after_seq: int | None = None, timeout: float | None = None
    ) -> Iterator[Update]:
        """
        Give what happens in a session, as it happens: each update once, without a gap.

        It lives through lost connections. It ends when the session was archived or deleted, when
        the time has passed, or when you stop asking. It does not raise for an outage of the
        server; it raises when the token is refused.

        Args:
            session_id: The session.
            after_seq: Begin with the first message above this number; with what is new when None.
            timeout: In seconds; None for no limit.

        Returns:
            The updates. Close the generator, or use it up.

        Raises:
            SessionNotFound: The account has no such session.
            HappyClosedError: The client was closed.
            HappyError: The token was refused, or the session cannot be read with this secret.
        """
        connection = self._connection
        end = None if timeout is None else connection.deadline(timeout)
        seq = self._newest_seq(session_id, end) if after_seq is None else after_seq
        with self._watch(session_id, seq) as watch:
            while not watch.has_ended and (end is None or end.remaining()):
                yield from watch.poll_patiently(end or connection.deadline())
                if not watch.has_ended:
                    watch.wait(end or connection.deadline())

    def _newest_seq(self, session_id: str, deadline: Deadline | None) -> int:
        return next((each.seq for each in self._newest_first(session_id, NEWEST, 1, deadline)), 0)

    def _newest_first(
        self, session_id: str, below: int, count: int, deadline: Deadline | None = None
    ) -> Iterator[Message]:
        has_more = True
        while has_more:
            limit = self._connection.deadline_within(deadline)
            size = max(1, min(count, MESSAGES_PER_PAGE))
            page, has_more = self._records.messages_before(session_id, below, size, limit)
            yield from page
            below = page[-1].seq if page else below

    def _store(
        self, session_id: str, sealed: str, local_id: str, deadline: Deadline
    ) -> SentMessage:
        answer = self._records.session_request(
            "POST",
            session_id,
            deadline,
            api="v3",
            rest="/messages",
            body={"messages": [{"content": sealed, "localId": local_id}]},
        )
        stored = answer.get("messages") if isinstance(answer, Mapping) else None
        found: Any = stored[0] if isinstance(stored, list) and stored else None
        if not isinstance(found, Mapping) or not isinstance(found.get("seq"), int):
            raise HappyProtocolError(
                "the server answered a message in an unexpected shape", outcome="unknown"
            )
        return SentMessage(
            id=str(found.get("id")), session_id=session_id, seq=found["seq"], local_id=local_id
        )
