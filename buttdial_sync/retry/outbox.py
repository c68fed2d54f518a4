"""Messages that are stored before they are sent."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs

from buttdial_sync.agent import AgentView
from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError, ConfigError
from buttdial_sync.errors.moments import utc_now
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.inbound import DeliveryReceipt
from buttdial_sync.models.message import CONTENT, TargetGender
from buttdial_sync.models.sending import SendResult
from buttdial_sync.retry.pauses import is_paused
from buttdial_sync.retry.recorder import (
    DAY,
    Backoff,
    DeadLetterHook,
    OnUnknown,
    OutcomeRecorder,
    doubling_minutes,
)
from buttdial_sync.retry.repository import OutboxRepository
from buttdial_sync.retry.rows import check_message
from buttdial_sync.retry.verdicts import deliver
from buttdial_sync.settings import check_count
from buttdial_sync.transport.deadline import seconds_of

logger = logging.getLogger("buttdial_sync.retry")

_KEPT = {"retried", "postponed"}
_MICROSECOND = timedelta(microseconds=1)


class Outbox:
    """
    Stores each message before it is sent.

    So a crash at any point leaves a row that a :class:`RetryLoop` can handle correctly. Safe to
    share between threads.

    Args:
        client: Sends the messages. It is not closed here.
        repository: Keeps them. Its lease must be longer than the client's timeout.
        backoff: As in :class:`RetryLoop`; here after the first attempt, so called with 1.
        max_retries: How many attempts a message has in all, whether :meth:`send_message` makes the
            first one or a loop does.
        on_unknown: As in :class:`RetryLoop`.
        on_dead_letter: As there, for messages that :meth:`send_message` gives up.
        give_up_after: As there.
        clock: Tells the time, aware.
        sleep: Sleeps for some seconds between attempts to record the end.
        random_fraction: Gives numbers from 0 to 1.

    Raises:
        ArgumentTypeError: ``max_retries`` is not a whole number.
        ArgumentValueError: It is below 1, or the lease is not longer than the client's timeout.
        ConfigError: The repository has no lease.
    """

    def __init__(
        self,
        client: AgentView,
        repository: OutboxRepository,
        *,
        backoff: Backoff = doubling_minutes,
        max_retries: int = 5,
        on_unknown: OnUnknown = "dead",
        on_dead_letter: DeadLetterHook | None = None,
        give_up_after: timedelta | float = DAY,
        clock: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], object] = time.sleep,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._repository = repository
        self._max_retries = check_count(max_retries, "max_retries")
        self._clock = clock
        self._last_moment: datetime | None = None
        self._recorder = OutcomeRecorder(
            repository=repository,
            client=client,
            backoff=backoff,
            on_unknown=on_unknown,
            on_dead_letter=on_dead_letter,
            give_up_after=seconds_of(give_up_after, "give_up_after"),
            write_for=client.timeout,
            clock=clock,
            sleep=sleep,
            random_fraction=random_fraction,
        )

    def send_message(
        self,
        to: str,
        body: str | None = None,
        channel: str = "whatsapp",
        *,
        media_url: str | None = None,
        sender_sid: str | None = None,
        sender_name: str | None = None,
        language: str | None = None,
        fallback_channels: Sequence[str] | None = None,
        scheduled_at: datetime | str | None = None,
        thread_id: str | None = None,
        entity_id: str | None = None,
        reply_msg_id: str | None = None,
        idempotency_key: str | None = None,
        subject: str | None = None,
        html: str | None = None,
        template_id: str | None = None,
        template_vars: Mapping[str, str] | None = None,
        target_gender: TargetGender | None = None,
        agent_id: str | None = None,
        agent_name: str = "",
        agent_token: str | None = None,
        expires_at: datetime | None = None,
    ) -> SendResult:
        """
        Write a message, send it, and record what became of it.

        Not inside a transaction of the host's: the row has to be on disk before the message leaves.
        Use :meth:`enqueue` there. Calling it twice sends two messages, unless both calls have the
        same ``idempotency_key``: then the second sends nothing and says what became of the first.

        Args:
            to: E.164 number or email address.
            body: The text.
            channel: ``"whatsapp"``, ``"sms"``, ``"email"`` or ``"line"``.
            media_url: Address of a picture, sound or document.
            sender_sid: Which of the agent's senders to use.
            sender_name: Name shown to the recipient, where the channel has one.
            language: Of the text, as in ``"en"``.
            fallback_channels: Tried by the server in this order when the channel fails.
            scheduled_at: When the server is to send it: a datetime with a time zone, or ISO 8601.
            thread_id: Your own id of the conversation; comes back in answers.
            entity_id: Your own id of the subject.
            reply_msg_id: The message that this one answers.
            idempotency_key: One key for one message, made when absent.
            subject: Of an email.
            html: The HTML body of an email.
            template_id: A WhatsApp template, needed outside the 24-hour window.
            template_vars: Its variables.
            target_gender: How to address the recipient: ``"male"``, ``"female"``, ``"unknown"``.
            agent_id: The agent, for the row; the client's own when None.
            agent_name: For people who look at the queue.
            agent_token: Send as another agent, whose ``agent_id`` goes with it.
            expires_at: When it is too late to send it (aware): then it is given up.

        Returns:
            The result. With ``queued`` the message stays in the repository and is tried again, also
            after a refused token: do not send it again yourself. While its agent is paused it is
            only written, as :meth:`enqueue` does. Without ``queued``, the server took the
            message, or it was given up.

        Raises:
            ArgumentTypeError: An argument has the wrong type; nothing was written.
            ArgumentValueError: An argument has an invalid value; nothing was written.
            Exception: The repository's, when it could not write the message; nothing was sent.
        """
        given = {key: value for key, value in locals().items() if key != "self"}
        message = self._message(given)
        is_expired = self._recorder.is_expired(message)
        must_wait = is_paused(self._repository, message.agent_id)
        attempt = 1
        begun = attrs.evolve(
            message, retry_count=attempt, attempt_number=attempt, attempt_started_at=self._clock()
        )
        stored = self._add_once(self._repository, message if is_expired or must_wait else begun)
        if stored.id != message.id:
            return _known(stored)
        if is_expired:
            return self._expired(message)
        if must_wait:
            return _paused(message)
        result = deliver(self._client, message, agent_token)
        try:
            recorded = self._recorder.record(message, attempt, result, agent_token)
        except Exception:
            # The row still has an attempt without an end. The loop handles it after the lease.
            logger.exception("message %s: its end could not be recorded", message.id)
            return attrs.evolve(result, queued=True)
        except (KeyboardInterrupt, SystemExit):
            self._recorder.record_at_once(message, attempt, result, agent_token)
            raise
        return attrs.evolve(result, queued=recorded.step in _KEPT)

    def enqueue(
        self,
        to: str,
        body: str | None = None,
        channel: str = "whatsapp",
        *,
        within: Any = None,
        agent_id: str | None = None,
        agent_name: str = "",
        agent_token: str | None = None,
        idempotency_key: str | None = None,
        send_after: datetime | None = None,
        priority: int = 0,
        ordering_key: str | None = None,
        expires_at: datetime | None = None,
        **content: Any,
    ) -> FailedMessage:
        """
        Only write a message; a :class:`RetryLoop` sends it.

        Calling it twice with the same ``idempotency_key`` writes one message, on the repositories
        of this library: the second call changes nothing and returns the message that is there, in
        whatever status it is. So the message is sent once also by a server without keys.

        Args:
            to: As in :meth:`send_message`, like all that is not named here.
            body: As there.
            channel: As there.
            within: The host's transaction, for a repository that has ``within``: the message is
                sent if the transaction commits.
            agent_id: The agent; the client's own when None.
            agent_name: For people who look at the queue.
            agent_token: Kept in the row only if the repository keeps tokens.
            idempotency_key: One key for one message of an agent, made when absent.
            send_after: When it is due (aware); at once when None.
            priority: Of an agent's messages that are due, those with the highest are sent first.
            ordering_key: An agent's messages with the same one, for example the recipient, are sent
                one after the other in their order. One waits while an earlier one is pending.
            expires_at: When it is too late to send it (aware): then it is given up.
            **content: The other arguments of :meth:`send_message`.

        Returns:
            The message as it was written, or that with its key that was there before.

        Raises:
            ArgumentTypeError: An argument has the wrong type, or there is none of this name.
            ArgumentValueError: An argument has an invalid value.
            ConfigError: The repository has no ``within``.
            Exception: The repository's. Nothing was written.
        """
        given = {
            "to": to,
            "body": body,
            "channel": channel,
            "agent_id": agent_id,
            "agent_name": agent_name,
            "agent_token": agent_token,
            "idempotency_key": idempotency_key,
            "next_retry_at": send_after,
            "priority": priority,
            "ordering_key": ordering_key,
            "expires_at": expires_at,
            **content,
        }
        if send_after is not None and send_after.tzinfo is None:
            raise ArgumentValueError("send_after must be aware: give it a time zone")
        unknown = content.keys() - set(CONTENT)
        if unknown:
            raise ArgumentTypeError(f"a message has no {', '.join(sorted(unknown))}")
        message = self._message(given)
        return self._add_once(self._writer(within), message)

    def record_receipt(self, receipt: DeliveryReceipt) -> bool:
        """
        Write a receipt into the row of its message: ``inbound.on_delivery_receipt`` takes this.

        Returns:
            Whether there is a row for it; see
            ``TableRepository.record_receipt``.

        Raises:
            ConfigError: The repository has no ``record_receipt``.
        """
        record = getattr(self._repository, "record_receipt", None)
        if record is None:
            raise ConfigError("the repository cannot record receipts: it has no record_receipt")
        return bool(record(receipt))

    def _add_once(self, writer: Any, message: FailedMessage) -> FailedMessage:
        add_once = getattr(writer, "add_once", None)
        if add_once is None:  # a host's own repository
            writer.add(message)
            return message
        stored: FailedMessage = add_once(message)
        return stored

    def _expired(self, message: FailedMessage) -> SendResult:
        """Give up a message that comes too late."""
        return SendResult(
            outcome="not_sent",
            error=self._recorder.give_up_expired(message).error,
            error_code="EXPIRED",
            idempotency_key=message.idempotency_key,
        )

    def _message(self, given: dict[str, Any]) -> FailedMessage:
        if given["agent_token"] and not given["agent_id"]:
            raise ArgumentValueError(
                "agent_token needs agent_id: without it a later attempt would be the client's own"
            )
        channels = given.get("fallback_channels")
        message = FailedMessage(
            **{
                **{key: value for key, value in given.items() if key != "to"},
                "id": str(uuid.uuid4()),
                "recipient": given["to"],
                "body": "" if given["body"] is None else given["body"],
                "agent_id": given["agent_id"] or self._client.agent_id,
                "agent_token": given["agent_token"] or "",
                "idempotency_key": given["idempotency_key"] or str(uuid.uuid4()),
                "fallback_channels": tuple(channels) if isinstance(channels, list) else channels,
                "max_retries": self._max_retries,
                "created_at": self._next_moment(),
            }
        )
        message = check_message(message)
        self._client.check_recipient(message.recipient, message.channel)
        return message

    def _next_moment(self) -> datetime:
        """Return the time, or a little more: messages with an ordering_key go by it."""
        now = self._clock()
        # Without a lock, which a fork could leave locked: of two threads neither comes before.
        if self._last_moment is not None and self._last_moment >= now:
            now = self._last_moment + _MICROSECOND
        self._last_moment = now
        return now

    def _writer(self, within: Any) -> Any:
        if within is None:
            return self._repository
        bind = getattr(self._repository, "within", None)
        if bind is None:
            raise ConfigError(
                "the repository cannot write inside of a given transaction",
                remediation="Leave out within; some repositories take part in the transaction that "
                "is open in this thread by themselves.",
            )
        return bind(within)


def _paused(message: FailedMessage) -> SendResult:
    """Return what is said of a message that waits in the outbox, for a loop to send it later."""
    return SendResult(
        outcome="not_sent",
        error=f"agent {message.agent_id} is paused",
        error_code="PAUSED",
        idempotency_key=message.idempotency_key,
        queued=True,
    )


def _known(stored: FailedMessage) -> SendResult:
    """Return what is known of a message that is stored already, under the same key."""
    is_delivered, is_pending = stored.status == "delivered", stored.status == "pending"
    in_doubt = stored.attempt_started_at is not None
    return SendResult(
        outcome="sent" if is_delivered else "unknown" if in_doubt else "not_sent",
        message_sid=stored.message_sid,
        error=None if is_delivered else f"it is stored already, as {stored.id} ({stored.status})",
        idempotency_key=stored.idempotency_key,
        queued=is_pending,
    )
