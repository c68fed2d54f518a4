"""Watching one session: its messages by number and its state, without a gap and each once."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from buttdial_sync.happy.connection import HappyConnection
from buttdial_sync.happy.errors import (
    OUTAGES,
    AuthenticationError,
    EncryptionError,
    HappyClosedError,
    HappyError,
    SessionNotFound,
)
from buttdial_sync.happy.models import Session
from buttdial_sync.happy.realtime import Realtime
from buttdial_sync.happy.records import Records
from buttdial_sync.happy.updates import (
    PermissionRequested,
    SessionEnded,
    StateChanged,
    Update,
    update_of,
)
from buttdial_sync.transport.deadline import Deadline

logger = logging.getLogger("buttdial_sync.happy")

# With a live connection the server tells what is new. It is looked at all the same now and then,
# in case something between us and the server keeps the connection but drops what comes over it.
_LOOK_EVERY = 15.0
_LONGEST_PAUSE = 60.0
_FRAMES_KEPT = 1_000
# For how long a number that was passed over is looked for, and how far below the newest. Fewer than
# a page has, or the page that begins there would not reach the new ones.
_LATE_SECONDS = 60.0
_PASSED_OVER_AT_MOST = 100


class SessionWatch:
    """
    Gives what is new in a session. For one thread.

    REST is what is believed: messages are read above the last number that was seen. The live
    connection only tells when to look, so losing it costs time and no message. The state comes
    with the pushed frames; after a connection was lost it is read again.

    Args:
        connection: The client's.
        records: Reads and decrypts.
        realtime: The live connection.
        session_id: The session.
        after_seq: Messages above this number are new; None for the state alone.
        poll_interval: Seconds between two looks while there is no live connection.

    Attributes:
        session: The session as it is known now; None before the first :meth:`poll`.
        is_thinking: Whether the agent said that it works; None where it never did.
        has_ended: Whether the session was archived or deleted.
        looks: How often the server was looked at with success.
    """

    def __init__(
        self,
        connection: HappyConnection,
        records: Records,
        realtime: Realtime,
        session_id: str,
        after_seq: int | None,
        poll_interval: float,
    ) -> None:
        self.session: Session | None = None
        self.is_thinking: bool | None = None
        self.has_ended = False
        self.looks = 0
        self._connection = connection
        self._records = records
        self._realtime = realtime
        self._id = session_id
        self._seq = after_seq
        self._poll_interval = poll_interval
        self._wake = threading.Event()
        self._frames: deque[Mapping[str, Any]] = deque(maxlen=_FRAMES_KEPT)
        self._passed_over: dict[int, float] = {}
        self._has_news = True
        self._state_is_due = True
        self._look_at = 0.0
        self._open_at = 0.0
        self._open_pause = poll_interval
        self._told_requests: set[str] = set()
        self._read: list[Update] = []

    def __enter__(self) -> SessionWatch:
        self._realtime.listen(self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        self._realtime.stop_listening(self._heard)

    def poll(self, deadline: Deadline) -> list[Update]:
        """
        Return what is new.

        What was read before an error is not lost: the next call returns it.

        Raises:
            HappyError: The server cannot be reached, refuses the token, or has no such session.
        """
        self.poll_and_keep(deadline)
        updates, self._read = self._read, []
        return updates

    def poll_and_keep(self, deadline: Deadline) -> None:
        """Look at the server, but leave what is new for the next :meth:`poll`."""
        self._connect(deadline)
        self._wake.clear()
        clock = self._connection.clock
        if clock() >= self._look_at:
            self._has_news = self._state_is_due = True
        if self._has_news and self._seq is not None:
            self._has_news = False
            self._read.extend(self._new_messages(self._seq, deadline))
        self._read.extend(self._new_state(deadline))
        self.looks += 1
        self._look_at = clock() + (_LOOK_EVERY if self._realtime.is_live else self._poll_interval)

    def poll_patiently(self, deadline: Deadline) -> list[Update]:
        """
        Return what is new; nothing while the server cannot be reached.

        Raises:
            HappyError: The server refuses the token, or has no such session.
        """
        try:
            return self.poll(deadline.within(self._connection.timeout))
        except OUTAGES as error:
            logger.warning("session %s: %s; looking again later", self._id, error.message)
        self.look_again()
        self._look_at = self._connection.clock() + self._poll_interval
        self._wake.clear()
        return []

    def look_again(self) -> None:
        """Have the next :meth:`poll` ask the server, whatever was pushed."""
        self._has_news = self._state_is_due = True
        self._wake.set()

    @property
    def known_session(self) -> Session:
        """The session as it is known now; :meth:`poll` must have been called."""
        assert self.session is not None, "poll() first"  # noqa: S101
        return self.session

    @property
    def has_unread(self) -> bool:
        """Whether something was kept for the next :meth:`poll`."""
        return bool(self._read)

    def wait(self, deadline: Deadline, at_most: float = _LOOK_EVERY) -> None:
        """Wait until there may be something new, at most until the deadline."""
        left = self._look_at - self._connection.clock()
        self._wake.wait(max(0.0, min(left, at_most, deadline.remaining())))

    def _connect(self, deadline: Deadline) -> None:
        """Open the live connection if it is lost. Without one, looking now and then goes on."""
        clock = self._connection.clock
        if self._realtime.is_live or clock() < self._open_at:
            return
        try:
            # Half of what is left at most: the look that follows needs time, too.
            seconds = min(self._connection.connect_timeout, deadline.remaining() / 2)
            self._realtime.ensure(deadline.within(seconds))
        except (HappyClosedError, AuthenticationError):
            raise
        except HappyError as error:
            logger.info(
                "no live connection (%s): looking every %g s", error.message, self._poll_interval
            )
            self._open_pause = min(2 * self._open_pause, _LONGEST_PAUSE)
        else:
            self._open_pause = self._poll_interval
        self._open_at = clock() + self._open_pause
        # What was pushed while there was no connection has to be looked for.
        self._has_news = self._state_is_due = True

    def _new_messages(self, seq: int, deadline: Deadline) -> Iterator[Update]:
        """
        Give the next page of messages, and see to it that the page after it is read too.

        The server numbers a message before it stores it, so two senders at once can cross. A number
        that was passed over is looked for again for a while.
        """
        now = self._connection.clock()
        after = min(self._passed_over, default=seq + 1) - 1
        messages, has_more = self._records.messages_after(self._id, after, deadline)
        for message in messages:
            if message.seq > seq:
                first = max(seq + 1, message.seq - _PASSED_OVER_AT_MOST)
                for number in range(first, message.seq):
                    self._passed_over[number] = now + _LATE_SECONDS
                self._seq = seq = message.seq
            elif self._passed_over.pop(message.seq, None) is None:
                continue  # it was given before
            yield update_of(message)
        # Not before the read: after a pause of the host, a number is looked for once more.
        self._passed_over = {
            number: until
            for number, until in self._passed_over.items()
            if until > now and number > seq - _PASSED_OVER_AT_MOST
        }
        if has_more:
            self._has_news = True
            self._wake.set()

    def _new_state(self, deadline: Deadline) -> Iterator[Update]:
        before = self.session
        if self._state_is_due:
            try:
                self._read_state(deadline)
            except SessionNotFound:
                if before is None:
                    raise
                yield from self._ended("deleted")
                return
        while self._frames:
            self._apply(self._frames.popleft(), deadline)
        session = self.known_session
        if session == before:
            return
        if before is not None and (_is_newer(session, before) or session.active != before.active):
            yield StateChanged(session_id=self._id, session=session)
        for request in session.pending_requests:
            if request.id not in self._told_requests:
                self._told_requests.add(request.id)
                yield PermissionRequested(session_id=self._id, request=request)
        if session.is_archived:
            yield from self._ended("archived")

    def _read_state(self, deadline: Deadline) -> None:
        self._state_is_due = False  # what is pushed during the read makes it due again
        try:
            read = self._records.read_session(self._records.session(self._id, deadline))
        except BaseException:  # whatever it was, the state was not read
            self._state_is_due = True
            raise
        known = self.session
        # A frame may have brought a state that is newer than what was being read.
        if known is None or not _is_newer(known, read):
            self.session = read

    def _ended(self, how: Any) -> Iterator[Update]:
        if not self.has_ended:
            self.has_ended = True
            yield SessionEnded(session_id=self._id, how=how)

    def _heard(self, event: str, data: Any) -> None:
        """Take a frame. It runs in the connection's thread, so it only notes and wakes."""
        data = data if isinstance(data, Mapping) else {}
        if event in {"lost", "closed"}:
            self.is_thinking = None
            self._has_news = self._state_is_due = True
            self._wake.set()
            return
        if event == "ephemeral":
            if data.get("type") == "activity" and data.get("id") == self._id:
                self._heard_activity(data)
            return
        body = data.get("body")
        if not isinstance(body, Mapping) or self._id not in (body.get("sid"), body.get("id")):
            return
        kind = body.get("t")
        if kind == "new-message":
            self._has_news = True
        elif kind == "update-session":
            if len(self._frames) == _FRAMES_KEPT:
                self._state_is_due = True
            self._frames.append(body)
        elif kind == "delete-session":
            self._state_is_due = True
        else:
            return
        self._wake.set()

    def _heard_activity(self, data: Mapping[str, Any]) -> None:
        """Take what the session's process says now and then; wake only if it is news."""
        is_thinking = data.get("thinking") is True
        if data.get("active") is False:
            self._state_is_due = True
        elif is_thinking == self.is_thinking:
            return
        self.is_thinking = is_thinking
        self._wake.set()

    def _apply(self, body: Mapping[str, Any], deadline: Deadline) -> None:
        session = self.session
        if session is None:
            return
        cipher = self._records.session_cipher(self._id, deadline)
        changes: dict[str, Any] = {}
        for part, field in (("metadata", "metadata"), ("agentState", "agent_state")):
            change = body.get(part)
            if not isinstance(change, Mapping) or not change.get("value"):
                continue
            version = change.get("version")
            if not isinstance(version, int) or version <= getattr(session, f"{field}_version"):
                continue
            try:
                value = cipher.open(str(change["value"]))
            except EncryptionError as error:
                changes["unreadable"] = error.message
            else:
                if isinstance(value, Mapping):
                    changes[field] = value
                else:
                    changes["unreadable"] = f"the {part} is not an object"
            changes[f"{field}_version"] = version
        self.session = attrs.evolve(session, **changes)


def _is_newer(one: Session, other: Session) -> bool:
    return (
        one.agent_state_version > other.agent_state_version
        or one.metadata_version > other.metadata_version
    )
