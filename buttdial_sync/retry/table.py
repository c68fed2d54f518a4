"""Outgoing messages in a table, in memory, SQLite or another database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import attrs

from buttdial_sync.errors import ArgumentValueError, ConfigError
from buttdial_sync.models.failed import FAILED_STATUSES, FailedMessage, FailedStatus
from buttdial_sync.models.inbound import DeliveryReceipt
from buttdial_sync.retry.pauses import Pause, Pauses
from buttdial_sync.retry.receipts import (
    EarlyReceipts,
    early_columns,
    fits,
    receipt_columns,
    write_receipt,
)
from buttdial_sync.retry.rows import (
    KEY_OF_ROW,
    UNIQUE_KEY,
    as_message,
    as_row,
    read_message,
    unique_key,
)
from buttdial_sync.stores.figures import Figures
from buttdial_sync.stores.schema import (
    LEASE,
    PENDING,
    Claim,
    Condition,
    Row,
    Selection,
    Turn,
)
from buttdial_sync.stores.sql import portions
from buttdial_sync.stores.store import Store
from buttdial_sync.stores.table import DEFAULT_LEASE, WorkTable, as_key, begin_attempt, cut

logger = logging.getLogger("buttdial_sync.retry")

_OPEN = ("pending", "dead")
_AT_ONCE = 1000
_WITH_ONE_KEY = 100


@attrs.frozen
class Enqueuer:
    """
    Writes messages inside a transaction of the host's; ``within`` of a repository returns it.

    Attributes:
        add: Writes a message; it is stored when the host commits. Raises ``ArgumentValueError``
            if there is a message with this id, or with its agent and key.
        add_once: As ``TableRepository.add_once``.
    """

    add: Callable[[FailedMessage], None]
    add_once: Callable[[FailedMessage], FailedMessage]


class TableRepository(WorkTable):
    """
    The interfaces of a repository over the rows of a store.

    It is a :class:`~buttdial_sync.retry.repository.AdminFailedMessageRepository` and an
    :class:`~buttdial_sync.retry.repository.OutboxRepository`. Safe to share between threads.

    Args:
        store: Has the rows, of the schema :func:`~buttdial_sync.retry.rows.outbox_schema`.
        lease: How long a fetched message is kept from the others, in seconds.
        keep_tokens: Whether the tokens of agents are written into the rows.
        early_receipts: Keeps receipts that come before their messages' ids, of the schema
            :func:`~buttdial_sync.retry.receipts.receipts_schema`; such receipts get lost when None.
        pauses: Keeps the pauses, of the schema :func:`~buttdial_sync.retry.pauses.pauses_schema`;
            there can be none when None.

    Attributes:
        store: Has the rows.

    Raises:
        ArgumentValueError: ``lease`` is not a number of seconds from above 0 to a year.
    """

    def __init__(
        self,
        store: Store,
        *,
        lease: float = DEFAULT_LEASE,
        keep_tokens: bool = False,
        early_receipts: Store | None = None,
        pauses: Store | None = None,
    ) -> None:
        super().__init__(store, FAILED_STATUSES, lease)
        self._keep_tokens = keep_tokens
        self._early = None if early_receipts is None else EarlyReceipts(early_receipts)
        self._pauses = None if pauses is None else Pauses(pauses)
        self._last_agent: str | None = None

    def add(self, message: FailedMessage) -> None:
        """
        Write a message; leased from the start if its ``attempt_started_at`` is set.

        Raises:
            ArgumentValueError: There is a message with this id, or with its agent and idempotency
                key.
        """
        self.store.insert(self._new_row(message))

    def add_once(self, message: FailedMessage) -> FailedMessage:
        """
        Write a message, unless there is one with its agent and idempotency key.

        So a message that is enqueued twice is sent once, also by a server without keys. A message
        that was purged is forgotten, and so is its key.

        Returns:
            This message; or the one that was there before, whatever its status.

        Raises:
            ArgumentValueError: There is another message with this id.
        """
        return self._added_once(message, self.add, self.store.find_by)

    def add_new(self, messages: Sequence[FailedMessage]) -> int:
        """
        Write those messages whose ids and keys are not there yet, in one transaction.

        Returns:
            How many were written.
        """
        return self.store.insert_new([self._new_row(message) for message in messages])

    def fetch_due(
        self,
        limit: int,
        *,
        except_agents: Collection[str] = (),
        at_most: Mapping[str, int] | None = None,
    ) -> Sequence[FailedMessage]:
        """
        Lease and return at most ``limit`` pending messages that are due.

        The agents take turns, each with an equal share, so that none delays another. Of an agent's
        messages those with the highest priority come first, then the oldest due. Those of a paused
        agent are not fetched. A message with an ``ordering_key`` waits for earlier pending ones of
        its agent with the same key.

        One whose row cannot be read is given up here, and returned with ``unreadable`` set and the
        status ``"dead"``, so that somebody can be told.

        Args:
            limit: How many.
            except_agents: The ids of agents whose messages are not fetched; ``""`` for messages
                that name no agent.
            at_most: How many messages of an agent, by its id.
        """
        now = self.store.now()
        turns = self._turns(now, except_agents)
        if not turns:
            return []
        # From the agent after the one that was the last: with a small limit each has its turn.
        last = self._last_agent
        turns = sorted(
            turns, key=lambda turn: (last is not None and turn.agent <= last, turn.agent)
        )
        claimed = self.store.claim(
            Claim(
                now=now,
                leased_until=self._lease_end(),
                limit=limit,
                turns=tuple(turns),
                share=-(-limit // len(turns)),
                at_most=at_most or {},
            )
        )
        if claimed:
            self._last_agent = claimed[-1]["agent_id"] or ""
        found = [self._readable(row) for row in claimed]
        return [message for message in found if message is not None]

    def due_agents(self) -> frozenset[str]:
        """
        Return the ids of the agents with messages that are due, and not leased or paused.

        ``""`` stands for messages that name no agent.
        """
        return frozenset(turn.agent for turn in self._turns(self.store.now()))

    def _turns(self, now: datetime, except_agents: Collection[str] = ()) -> Sequence[Turn]:
        resting = {*except_agents, *(pause.agent_id for pause in self.paused())}
        turns = [] if None in resting else self.store.turns(now)
        return [turn for turn in turns if turn.agent not in resting]

    def first_in_order(self, message: FailedMessage) -> FailedMessage | None:
        """
        Return the first pending message of those with this one's agent and ``ordering_key``.

        Those behind it wait. None when nothing is pending, or the message has no such key.
        """
        if message.ordering_key is None:
            return None
        row = self.store.first_in_order(message.agent_id or "", message.ordering_key)
        return None if row is None else read_message(row)

    def release(
        self,
        messages: Sequence[FailedMessage],
        *,
        error: str | None = None,
        next_retry_at: datetime | None = None,
    ) -> int:
        """
        Put messages back that were fetched and not begun, in one statement.

        They are known by their ``leased_until``.

        Args:
            messages: What one :meth:`fetch_due` returned, or a part of it.
            error: The reason; None leaves ``last_error`` as it is.
            next_retry_at: When they are due again (aware); None leaves that as it is.

        Returns:
            How many were put back. The others are not the caller's any more.
        """
        by_lease: dict[datetime, list[str]] = {}
        for message in messages:
            if message.leased_until is not None:
                by_lease.setdefault(message.leased_until, []).append(message.id)
        given = {"last_error": error and cut(error), "next_retry_at": next_retry_at}
        changes = {name: value for name, value in given.items() if value is not None}
        return sum(self.store.release(ids, until, changes) for until, ids in by_lease.items())

    def pause(self, agent_id: str | None = None, *, reason: str = "") -> bool:
        """
        Fetch no more messages of an agent, in no process, until :meth:`resume`. Safe to repeat.

        Messages that are fetched already are still sent: a batch at most. The others keep their
        attempts and their time; only their ``expires_at`` goes on.

        Args:
            agent_id: The agent; ``""`` for messages that name none, None for all messages.
            reason: For people.

        Returns:
            Whether it was not paused before.

        Raises:
            ConfigError: The repository has no table for pauses.
        """
        return self._with_pauses().begin(agent_id, reason)

    def resume(self, agent_id: str | None = None) -> bool:
        """
        End a pause. Safe to repeat.

        Args:
            agent_id: As it was given to :meth:`pause`: to resume all does not end the pause of one.

        Returns:
            Whether it was paused.

        Raises:
            ConfigError: The repository has no table for pauses.
        """
        return self._with_pauses().end(agent_id)

    def paused(self) -> Sequence[Pause]:
        """Return the pauses, newest first."""
        return () if self._pauses is None else self._pauses.all()

    def begin_attempt(
        self,
        msg_id: str,
        retry_count: int,
        started_at: datetime,
        *,
        attempt_number: int | None = None,
    ) -> bool:
        """Record that an attempt begins; False when another has begun one meanwhile."""
        return begin_attempt(
            self.store,
            msg_id,
            retry_count,
            started_at,
            attempt_number=attempt_number,
            # The message may have waited since it was fetched, so the lease starts again.
            leased_until=self._lease_end(),
        )

    def mark_delivered(
        self,
        msg_id: str,
        message_sid: str | None,
        retry_count: int,
        *,
        attempt_number: int | None = None,
    ) -> bool:
        """Record that the server took the message; False when it is delivered or dismissed."""
        changes = {
            **self._resolved("delivered"),
            "attempt_started_at": None,
            "message_sid": message_sid and as_key(message_sid),
            "last_error": None,
        }
        # Also after others tried it again or gave it up, because this attempt outlived its lease:
        # that the server took it is a fact, and without it somebody would send it once more. A
        # count alone does not show that this was an attempt at this row: it may begin again.
        fence = retry_count if attempt_number is None else None
        condition = Condition(statuses=_OPEN, retry_count=fence)
        is_done = self.store.update(msg_id, changes, condition)
        # Also when it is recorded once more, because the answer to the first time got lost.
        if message_sid:
            self._join_early_receipt(msg_id, as_key(message_sid))
        return is_done

    def record_receipt(self, receipt: DeliveryReceipt) -> bool:
        """
        Write what became of a message into its row; a handler for ``on_delivery_receipt``.

        The row is found by the message's id, or by its idempotency key where the server sends that:
        then it must be the only row with this key, recipient and no other message's id. A receipt
        that comes before the answer of the send is kept for a day, and written when the answer has
        come. An earlier receipt never replaces a later one. A row that was given up because it may
        have been sent is delivered: the receipt proves it. Safe to repeat.

        Returns:
            Whether there is a row for it. False also for a message that was sent in another way.
        """
        columns = receipt_columns(receipt, self.store.now())
        row = self._row_of(receipt)
        if row is None and self._early is not None:
            self._early.keep(receipt.message_sid, columns)
            row = self._row_of(receipt)  # the answer may have come meanwhile
        if row is None:
            return False
        message_sid = as_key(receipt.message_sid)
        write_receipt(self.store, row, {**columns, "message_sid": message_sid}, FAILED_STATUSES)
        # A delivered row stays so. A receipt before this one may have come without a key: look for
        # it each time, because the last time may have ended between giving the row its id and this.
        if row["status"] == "delivered" or not self._deliver_if_proven(row["id"], message_sid):
            self._join_early_receipt(row["id"], message_sid)
        return True

    def _deliver_if_proven(self, msg_id: str, message_sid: str | None = None) -> bool:
        """Make a row delivered that was given up as perhaps sent, and has a receipt."""
        row = self.store.find(msg_id)
        if row is None or row["status"] != "dead":
            return False
        proven = {
            **self._resolved("delivered"),
            "attempt_started_at": None,
            "message_sid": row["message_sid"] or message_sid,
            "last_error": None,
        }
        condition = Condition(statuses=("dead",), present=("attempt_started_at", "receipt_status"))
        if not self.store.update(msg_id, proven, condition):
            return False
        # Who gave the row its id may have failed before it looked for this.
        self._join_early_receipt(msg_id, proven["message_sid"])
        return True

    def _join_early_receipt(self, msg_id: str, message_sid: str) -> None:
        """Write a receipt that came before its row had this id; one from now on finds the row."""
        early = None if self._early is None else self._early.store.find(message_sid)
        row = None if early is None else self.store.find(msg_id)
        if early is not None and row is not None and row["message_sid"] == message_sid:
            write_receipt(self.store, row, early_columns(early), FAILED_STATUSES)

    def _row_of(self, receipt: DeliveryReceipt) -> Row | None:
        row = self.store.find_by("message_sid", as_key(receipt.message_sid))
        key = receipt.idempotency_key
        if row is not None or not key:
            return row
        # A key is one agent's only: others may have used it for messages of theirs.
        found = self.store.newest_by("idempotency_key", key, _WITH_ONE_KEY)
        if not found and key.startswith(KEY_OF_ROW):
            found = self.store.find_many([key.removeprefix(KEY_OF_ROW)])
        fitting = [row for row in found if fits(receipt, row)]
        return fitting[0] if len(fitting) == 1 and len(found) < _WITH_ONE_KEY else None

    def increment_retry(
        self,
        msg_id: str,
        retry_count: int,
        error: str,
        next_retry_at: datetime,
        unknown: bool = False,
        *,
        attempt_number: int | None = None,
        seconds_waited: int | None = None,
    ) -> bool:
        """Keep the message for another attempt; False when another took it over."""
        changes: Row = {"last_error": cut(error), "next_retry_at": next_retry_at, LEASE: None}
        if seconds_waited is not None:
            changes["seconds_waited"] = seconds_waited
        if not unknown:
            changes["attempt_started_at"] = None
        return self._settle(msg_id, changes, retry_count, attempt_number)

    def mark_dead(
        self,
        msg_id: str,
        retry_count: int,
        error: str,
        unknown: bool = False,
        *,
        attempt_number: int | None = None,
    ) -> bool:
        """Give the message up; False when another took it over, or a receipt proves it was sent."""
        changes: Row = {**self._resolved("dead"), "last_error": cut(error)}
        if not unknown:
            changes["attempt_started_at"] = None
        is_done = self._settle(msg_id, changes, retry_count, attempt_number, is_in_doubt=unknown)
        # Afterwards, as record_receipt looks after writing: so one of the two sees what the other
        # wrote.
        return is_done and not (unknown and self._deliver_if_proven(msg_id))

    def postpone(
        self,
        message: FailedMessage,
        retry_count: int,
        error: str | None,
        next_retry_at: datetime,
        *,
        attempt_number: int | None = None,
    ) -> bool:
        """Put a message back as it was fetched, due later; False when another took it over."""
        # As it was fetched: an attempt that does not count must not remove the mark of an earlier
        # attempt whose outcome is unknown. But its number stays: two attempts never have the same.
        changes: Row = {
            "retry_count": message.retry_count,
            "attempt_started_at": message.attempt_started_at,
            "next_retry_at": next_retry_at,
            LEASE: None,
        }
        if error is not None:
            changes["last_error"] = cut(error)
        is_in_doubt = message.attempt_started_at is not None
        return self._settle(
            message.id, changes, retry_count, attempt_number, is_in_doubt=is_in_doubt
        )

    def get(self, msg_id: str) -> FailedMessage | None:
        """
        Return a message, or None when there is none with this id.

        Raises:
            ConfigError: Somebody wrote into its row what cannot be read.
        """
        row = self.store.find(msg_id)
        try:
            return None if row is None else as_message(row)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"the row of message {msg_id} cannot be read: {error}",
                remediation="Correct the row in the database, or dismiss the message.",
            ) from None

    def get_many(self, ids: Sequence[str]) -> Sequence[FailedMessage]:
        """Return those of a thousand messages that are there; see ``unreadable`` of each."""
        return [read_message(row) for row in self.store.find_many(ids)]

    def list(self, status: FailedStatus | None = None, limit: int = 50) -> Sequence[FailedMessage]:
        """Return at most ``limit`` messages, newest first; see ``unreadable`` of each."""
        return [read_message(row) for row in self.store.newest(status, limit)]

    def force_retry(self, msg_id: str, *, even_if_sent: bool = False) -> bool:
        """Make a pending or dead message due now; one that may have been sent stays marked so."""
        row = self.store.find(msg_id)
        if row is None:
            return False
        message = read_message(row)
        is_in_doubt = message.attempt_started_at is not None and not even_if_sent
        # What is sent again with its key may be the message that a receipt was for.
        changes = {"seconds_waited": 0} if is_in_doubt else _anew(even_if_sent=even_if_sent)
        # One attempt at least.
        changes["max_retries"] = max(message.max_retries, message.retry_count + 1)
        return self._force_retry(msg_id, message.attempt_number, changes)

    def figures(self) -> Figures:
        """
        Measure the outbox: how much waits, for how long, how much is sent, what is in doubt.

        Fast also with a million rows, because counts end at 10,000 and say so. :meth:`stats` counts
        all, and reads all.
        """
        return self.store.figures(FAILED_STATUSES, self.store.now())

    def retry_all(
        self,
        status: Literal["dead", "pending"] = "dead",
        *,
        since: datetime | None = None,
        error_like: str | None = None,
        agent_id: str | None = None,
        even_if_sent: bool = False,
        dry_run: bool = False,
        at_most: int | None = None,
    ) -> int:
        """
        Make many messages due now, with at least one attempt left each; see :meth:`force_retry`.

        Those that may have been sent, and those whose lease runs, are left out. Works through a
        thousand rows at a time, each time in a transaction of its own, oldest first. Safe to
        repeat, and while others work.

        Args:
            status: ``"dead"``, or ``"pending"``.
            since: Given up, or written while it is pending, since then (aware).
            error_like: A text that is in ``last_error``, in any letters' case.
            agent_id: Those of this agent; ``""`` for those that name none, None for all.
            even_if_sent: Also those that may have been sent: their recipients may get them twice.
            dry_run: Change nothing.
            at_most: End after so many; a thousand rows are not divided. None: all.

        Returns:
            How many were changed, or would be.

        Raises:
            ArgumentValueError: ``status`` is another one, or ``since`` has no zone.
        """
        in_doubt = None if even_if_sent else False
        selection = self._selection((status,), since, error_like, agent_id, in_doubt=in_doubt)
        changes = None if dry_run else self._due_now(even_if_sent=even_if_sent)
        return self._change_all(selection, changes, at_most)

    def dismiss_all(
        self,
        status: Literal["dead", "pending"] = "dead",
        *,
        since: datetime | None = None,
        error_like: str | None = None,
        agent_id: str | None = None,
        even_if_sent: bool = False,
        dry_run: bool = False,
        at_most: int | None = None,
    ) -> int:
        """Give many messages up; the arguments are those of :meth:`retry_all`."""
        in_doubt = None if even_if_sent else False
        selection = self._selection((status,), since, error_like, agent_id, in_doubt=in_doubt)
        changes = None if dry_run else self._resolved("dismissed")
        return self._change_all(selection, changes, at_most)

    def count_in_doubt(
        self,
        status: Literal["dead", "pending"] = "dead",
        *,
        since: datetime | None = None,
        error_like: str | None = None,
        agent_id: str | None = None,
    ) -> int:
        """Return how many :meth:`retry_all` leaves out because they may have been sent."""
        selection = self._selection((status,), since, error_like, agent_id, in_doubt=True)
        return self._change_all(selection, None, None)

    def retry_many(self, ids: Sequence[str], *, even_if_sent: bool = False) -> int:
        """
        Make these pending or dead messages due now, as :meth:`retry_all` does; return how many.

        Args:
            ids: Of the messages.
            even_if_sent: Also those that may have been sent.
        """
        selection = self._selection(_OPEN, in_doubt=None if even_if_sent else False)
        return self._change_many(ids, selection, self._due_now(even_if_sent=even_if_sent))

    def dismiss_many(self, ids: Sequence[str]) -> int:
        """Give these pending or dead messages up; return how many. A leased one is left out."""
        return self._change_many(ids, self._selection(_OPEN), self._resolved("dismissed"))

    def _selection(
        self,
        statuses: tuple[str, ...],
        since: datetime | None = None,
        error_like: str | None = None,
        agent_id: str | None = None,
        *,
        in_doubt: bool | None = None,
    ) -> Selection:
        if not set(statuses) <= set(_OPEN):
            raise ArgumentValueError(f"status must be one of {', '.join(_OPEN)}")
        if since is not None and since.tzinfo is None:
            raise ArgumentValueError("since must be an aware datetime")
        return Selection(
            statuses=statuses,
            now=self.store.now(),
            since=since,
            error_like=error_like,
            in_doubt=in_doubt,
            agent_id=agent_id,
        )

    def _change_all(self, selection: Selection, changes: Row | None, at_most: int | None) -> int:
        """Change the rows of a selection, or count them when there are no changes."""
        total, after = 0, None
        while at_most is None or total < at_most:
            # By their keys, so that no row is looked at twice, however few are selected.
            keys = self.store.keys(selection.statuses[0], after, _AT_ONCE)
            if not keys:
                break
            ids, after = [row_id for _, row_id in keys], keys[-1]
            if changes is None:
                total += self.store.count_selected(ids, selection)
            else:
                total += self._change_many(ids, selection, changes)
        return total

    def _change_many(self, ids: Sequence[str], selection: Selection, changes: Row) -> int:
        revives = changes["status"] == PENDING
        return sum(
            self.store.update_selected(some, selection, changes, one_more_attempt=revives)
            for some in portions(ids, _AT_ONCE)
        )

    def _due_now(self, *, even_if_sent: bool) -> Row:
        return {**self._revived(self.store.now()), **_anew(even_if_sent=even_if_sent)}

    def _with_pauses(self) -> Pauses:
        if self._pauses is None:
            raise ConfigError(
                "the repository has no table for pauses", remediation="Give it a store for pauses."
            )
        return self._pauses

    def _added_once(
        self,
        message: FailedMessage,
        add: Callable[[FailedMessage], None],
        find_by: Callable[[str, str], Row | None],
    ) -> FailedMessage:
        try:
            add(message)
        except ArgumentValueError:
            key = unique_key(message)
            row = None if key is None else find_by(UNIQUE_KEY, key)
            if row is None:
                raise
            return read_message(row)
        return message

    def _new_row(self, message: FailedMessage) -> Row:
        now = self.store.now()
        row = as_row(message)
        row["created_at"] = message.created_at or now
        row["next_retry_at"] = message.next_retry_at or now
        if message.attempt_started_at is not None:
            row[LEASE] = self._lease_end()  # the caller sends it now, and no loop may
        if not self._keep_tokens:
            row["agent_token"] = ""
        return row

    def _readable(self, row: Row) -> FailedMessage | None:
        """Return a row as a message; give up a row that cannot be read, so that others are sent."""
        message = read_message(row)
        if message.unreadable is None:
            return message
        logger.error("message %s cannot be read: %s", message.id, message.unreadable)
        reason = f"the row cannot be read: {message.unreadable}"
        if not self._give_up_unreadable(message.id, reason):
            return None
        return attrs.evolve(message, status="dead", last_error=reason)

    def _settle(
        self,
        msg_id: str,
        changes: Mapping[str, Any],
        retry_count: int,
        attempt_number: int | None,
        *,
        is_in_doubt: bool = False,
    ) -> bool:
        # An attempt may outlive its lease, and say only then that it was not sent. Who found its
        # row without an end must not go by what it read before.
        condition = Condition(
            retry_count=retry_count,
            attempt_number=attempt_number,
            present=("attempt_started_at",) if is_in_doubt else (),
        )
        return self.store.update(msg_id, changes, condition)


def _anew(*, even_if_sent: bool) -> Row:
    """Return what a message forgets that is tried as if it were new."""
    forgotten: Row = dict.fromkeys(("message_sid", "receipt_status", "receipt_at", "receipt_error"))
    if even_if_sent:
        forgotten["attempt_started_at"] = None
    return {**forgotten, "seconds_waited": 0}
