"""The records of the server, page by page and decrypted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from buttdial_sync.happy.connection import HappyConnection
from buttdial_sync.happy.credentials import Credentials
from buttdial_sync.happy.crypto import Cipher
from buttdial_sync.happy.errors import (
    EncryptionError,
    HappyError,
    HappyProtocolError,
    MachineNotFound,
    SessionNotFound,
    about,
    all_about,
)
from buttdial_sync.happy.keys import Keyring
from buttdial_sync.happy.models import Machine, Message, Session, moment_of
from buttdial_sync.transport.deadline import Deadline

logger = logging.getLogger("buttdial_sync.happy")

_NOT_FOUND = 404
_SESSIONS_PER_PAGE = 200
_ACTIVE_AT_MOST = 500
MESSAGES_PER_PAGE = 500
# Above every seq: the server keeps them as 32-bit numbers.
NEWEST = 2**31 - 1

Record = Mapping[str, Any]


class Records:
    """
    Reads machines, sessions and messages. Safe to share between threads.

    Args:
        connection: The client's.
        credentials: Hold the secret.
    """

    def __init__(self, connection: HappyConnection, credentials: Credentials) -> None:
        self._connection = connection
        self._keyring = Keyring(credentials)

    # Machines

    def machines(self, deadline: Deadline) -> list[Record]:
        """Return the records of all machines."""
        return _records(self._connection.request("GET", "/v1/machines", deadline), "/v1/machines")

    def machine(self, machine_id: str, deadline: Deadline) -> Record:
        """Return one machine's record; raise :class:`MachineNotFound` if there is none."""
        for record in self.machines(deadline):
            if record["id"] == machine_id:
                return record
        raise MachineNotFound(f"the account has no machine {machine_id}")

    def machine_cipher(self, machine_id: str, deadline: Deadline) -> Cipher:
        """Return the cipher of a machine, which is asked for once."""
        known = self._keyring.known(machine_id)
        return known or self._keyring.cipher_of(self.machine(machine_id, deadline))

    def read_machine(self, record: Record) -> Machine:
        """Decrypt a machine's record; what cannot be decrypted is said in ``unreadable``."""
        opened, unreadable = self._opened(record, "metadata", "daemonState")
        return Machine(
            id=record["id"],
            active=record.get("active") is True,
            active_at=moment_of(record.get("activeAt")),
            metadata=opened["metadata"] or {},
            metadata_version=number_of(record.get("metadataVersion")),
            daemon_state=opened["daemonState"],
            unreadable=unreadable,
        )

    # Sessions

    def sessions(
        self, changed_since: int | None = None, deadline: Deadline | None = None
    ) -> Iterator[Record]:
        """
        Give the records of all sessions, page by page.

        Args:
            changed_since: Only those that changed after this time, in ms since 1970.
            deadline: For all pages; when None each has one of its own, so that the caller may take
                its time.
        """
        query = {"limit": str(_SESSIONS_PER_PAGE)}
        if changed_since is not None:
            query["changedSince"] = str(changed_since)
        cursors = set()
        while True:
            limit = self._connection.deadline_within(deadline)
            answer = self._connection.request("GET", "/v2/sessions", limit, query=query)
            yield from _records(answer, "/v2/sessions", "sessions")
            cursor = answer.get("nextCursor")
            if answer.get("hasNext") is not True or not cursor or str(cursor) in cursors:
                return
            query["cursor"] = str(cursor)
            cursors.add(str(cursor))

    def active_sessions(self, deadline: Deadline) -> list[Record]:
        """Return the records of the sessions that are connected; at most 500."""
        path = "/v2/sessions/active"
        query = {"limit": str(_ACTIVE_AT_MOST)}
        return _records(
            self._connection.request("GET", path, deadline, query=query), path, "sessions"
        )

    def all_active_sessions(self, deadline: Deadline | None = None) -> Iterator[Record]:
        """Give the records of all connected sessions, past 500 too; see :meth:`sessions`."""
        found = self.active_sessions(self._connection.deadline_within(deadline))
        if len(found) < _ACTIVE_AT_MOST:
            return iter(found)
        return (each for each in self.sessions(deadline=deadline) if each.get("active") is True)

    def session(self, session_id: str, deadline: Deadline) -> Record:
        """Return one session's record; raise :class:`SessionNotFound` if there is none."""
        # The server has no way to ask for one. Nearly always it is a connected one.
        for records in (self.active_sessions(deadline), self.sessions(deadline=deadline)):
            for record in records:
                if record["id"] == session_id:
                    return record
        raise about(SessionNotFound(f"the account has no session {session_id}"), session_id)

    def session_cipher(self, session_id: str, deadline: Deadline) -> Cipher:
        """Return the cipher of a session, which is asked for once."""
        known = self._keyring.known(session_id)
        if known is not None:
            return known
        record = self.session(session_id, deadline)
        with all_about(session_id):
            return self._keyring.cipher_of(record)

    def read_session(self, record: Record) -> Session:
        """Decrypt a session's record; what cannot be decrypted is said in ``unreadable``."""
        opened, unreadable = self._opened(record, "metadata", "agentState")
        return Session(
            id=record["id"],
            seq=number_of(record.get("seq")),
            active=record.get("active") is True,
            active_at=moment_of(record.get("activeAt")),
            created_at=moment_of(record.get("createdAt")),
            updated_at=moment_of(record.get("updatedAt")),
            metadata=opened["metadata"] or {},
            metadata_version=number_of(record.get("metadataVersion")),
            agent_state=opened["agentState"],
            agent_state_version=number_of(record.get("agentStateVersion")),
            unreadable=unreadable,
        )

    # Messages

    def messages_after(
        self, session_id: str, seq: int, deadline: Deadline
    ) -> tuple[list[Message], bool]:
        """Return the next messages above ``seq``, ascending, and whether there are more."""
        return self._messages(session_id, "after_seq", seq, MESSAGES_PER_PAGE, deadline)

    def messages_before(
        self, session_id: str, seq: int, count: int, deadline: Deadline
    ) -> tuple[list[Message], bool]:
        """Return the last messages below ``seq``, descending, and whether there are more."""
        return self._messages(session_id, "before_seq", seq, count, deadline)

    def read_message(self, session_id: str, record: Record, cipher: Cipher) -> Message:
        """Decrypt a message; why it cannot be is said in ``unreadable``."""
        content, unreadable = record.get("content"), None
        if isinstance(content, Mapping) and content.get("t") == "encrypted":
            try:
                content = cipher.open(str(content.get("c")))
            except EncryptionError as error:
                content, unreadable = None, error.message
        return Message(
            id=str(record["id"]),
            session_id=session_id,
            seq=number_of(record.get("seq")),
            content=content,
            local_id=record.get("localId"),
            created_at=moment_of(record.get("createdAt")),
            unreadable=unreadable,
        )

    def session_request(
        self,
        method: str,
        session_id: str,
        deadline: Deadline,
        *,
        api: str = "v1",
        rest: str = "",
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """
        Make a request about one session.

        Raises:
            SessionNotFound: The server has no such session.
            HappyError: Anything else.
        """
        try:
            return self._connection.request(
                method,
                f"/{api}/sessions/{quote(session_id, safe='')}{rest}",
                deadline,
                query=query,
                body=body,
                endpoint=f"/{api}/sessions/:id{rest}",
            )
        except HappyError as error:
            if error.status_code == _NOT_FOUND:
                error = error.as_kind(SessionNotFound, f"the server has no session {session_id}")
            raise about(error, session_id) from None

    def _messages(
        self, session_id: str, cursor: str, seq: int, count: int, deadline: Deadline
    ) -> tuple[list[Message], bool]:
        cipher = self.session_cipher(session_id, deadline)
        path = "/messages"
        query = {cursor: str(seq), "limit": str(min(count, MESSAGES_PER_PAGE))}
        answer = self.session_request("GET", session_id, deadline, api="v3", rest=path, query=query)
        records = _records(answer, path, "messages")
        ascending = cursor == "after_seq"
        messages = sorted(
            (self.read_message(session_id, record, cipher) for record in records),
            key=lambda message: message.seq,
            reverse=not ascending,
        )
        # A server that ignored the cursor would have us read the same page without an end.
        fresh = [each for each in messages if (each.seq > seq if ascending else each.seq < seq)]
        return fresh, bool(fresh) and answer.get("hasMore") is True

    def _opened(self, record: Record, *names: str) -> tuple[dict[str, Any], str | None]:
        opened: dict[str, Any] = dict.fromkeys(names)
        try:
            cipher = self._keyring.cipher_of(record)
            for name in names:
                value = cipher.open(record[name]) if record.get(name) else None
                opened[name] = value if isinstance(value, Mapping) else None
        except EncryptionError as error:
            return opened, error.message
        return opened, None


def _records(answer: Any, source: str, name: str | None = None) -> list[Record]:
    found = answer
    if name is not None:
        found = answer.get(name) if isinstance(answer, Mapping) else None
    if not isinstance(found, list):
        raise HappyProtocolError(f"{source} answered in an unexpected shape", outcome="unknown")
    records = [each for each in found if isinstance(each, Mapping) and each.get("id")]
    if len(records) < len(found):
        logger.warning("%s: %d records without an id", source, len(found) - len(records))
    return records


def number_of(value: Any) -> int:
    """Return a number of a record; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
