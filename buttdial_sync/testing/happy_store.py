"""What the fake Happy server keeps: machines, sessions and messages, sealed, and who is told."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from buttdial_sync.happy.crypto import (
    Cipher,
    ContentKey,
    DataKeyCipher,
    KeyBytes,
    SecretCipher,
    box_data_key,
)

Push = Callable[[str, Mapping[str, Any], "str | None"], None]


@attrs.define(eq=False, kw_only=True)
class StoredMessage:
    """A message as the server keeps it."""

    id: str
    seq: int
    local_id: str | None
    sealed: str
    created_at: int

    def as_record(self) -> dict[str, Any]:
        """Return what the server answers."""
        return {
            "id": self.id,
            "seq": self.seq,
            "localId": self.local_id,
            "content": {"t": "encrypted", "c": self.sealed},
            "createdAt": self.created_at,
            "updatedAt": self.created_at,
        }


@attrs.define(eq=False, kw_only=True)
class StoredSession:
    """A session as the server keeps it, and the cipher that its owner has."""

    id: str
    cipher: Cipher = attrs.field(repr=False)
    data_key: str | None
    created_at: int
    updated_at: int
    metadata: str
    agent_state: str | None = None
    metadata_version: int = 1
    agent_state_version: int = 0
    seq: int = 0
    active: bool = True
    messages: list[StoredMessage] = attrs.field(factory=list, repr=False)

    def as_record(self) -> dict[str, Any]:
        """Return what the server answers."""
        return {
            "id": self.id,
            "seq": self.seq,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
            "active": self.active,
            "activeAt": self.updated_at,
            "metadata": self.metadata,
            "metadataVersion": self.metadata_version,
            "agentState": self.agent_state,
            "agentStateVersion": self.agent_state_version,
            "dataEncryptionKey": self.data_key,
        }


class HappyStore:
    """
    The server's tables. Safe to share between threads.

    Args:
        secret: The account secret.
        push: Called for each change: the frame's body, and the socket that need not be told.
    """

    def __init__(self, secret: bytes, push: Push) -> None:
        self.lock = threading.RLock()
        self.machines: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, StoredSession] = {}
        self._secret = KeyBytes(secret)
        self._content_key = ContentKey(secret)
        self._push = push
        self._numbers = itertools.count(1)
        self._last_moment = 0

    def now(self) -> int:
        """Return the time in ms since 1970, never the same twice."""
        with self.lock:
            self._last_moment = max(self._last_moment + 1, int(time.time() * 1000))
            return self._last_moment

    def new_key(self, key: bytes | None) -> tuple[Cipher, str | None]:
        """Return the cipher of a new record and its boxed key; None is an older record."""
        if key is None:
            return SecretCipher(self._secret), None
        return DataKeyCipher(key), box_data_key(key, self._content_key.public)

    def add_session(
        self, metadata: Mapping[str, Any], agent_state: Any, key: bytes | None
    ) -> StoredSession:
        """Store a new session."""
        cipher, boxed = self.new_key(key)
        with self.lock:
            moment = self.now()
            session = StoredSession(
                id=f"session-{next(self._numbers):05}",
                cipher=cipher,
                data_key=boxed,
                created_at=moment,
                updated_at=moment,
                metadata=cipher.seal(metadata),
                agent_state=cipher.seal(agent_state),
            )
            self.sessions[session.id] = session
        return session

    def add_message(
        self, session: StoredSession, sealed: str, local_id: str | None, skip: str | None = None
    ) -> tuple[StoredMessage, bool]:
        """Store a message, and return whether it is new: a known ``local_id`` is a repetition."""
        with self.lock:
            if local_id is not None:
                for message in session.messages:
                    if message.local_id == local_id:
                        return message, False
            session.seq += 1
            message = StoredMessage(
                id=f"message-{next(self._numbers)}",
                seq=session.seq,
                local_id=local_id,
                sealed=sealed,
                created_at=self.now(),
            )
            session.messages.append(message)
            session.updated_at = message.created_at
        self._push(
            "update",
            {"t": "new-message", "sid": session.id, "message": message.as_record()},
            skip,
        )
        return message, True

    def set_metadata(self, session: StoredSession, sealed: str, expected: int) -> bool:
        """Change a session's metadata if the version is the expected one."""
        with self.lock:
            if session.metadata_version != expected:
                return False
            session.metadata, session.metadata_version = sealed, expected + 1
            session.updated_at = self.now()
            change = {"value": sealed, "version": expected + 1}
        self._push("update", {"t": "update-session", "id": session.id, "metadata": change}, None)
        return True

    def change_agent_state(
        self, session: StoredSession, change: Callable[[dict[str, Any]], None]
    ) -> None:
        """Change what the agent says about itself, as its process does."""
        with self.lock:
            state = session.cipher.open(session.agent_state) if session.agent_state else {}
            change(state)
            session.agent_state = session.cipher.seal(state)
            session.agent_state_version += 1
            session.updated_at = self.now()
            value = {"value": session.agent_state, "version": session.agent_state_version}
        self._push("update", {"t": "update-session", "id": session.id, "agentState": value}, None)

    def delete_session(self, session_id: str) -> bool:
        """Delete a session; return whether there was one."""
        with self.lock:
            gone = self.sessions.pop(session_id, None)
        if gone is not None:
            self._push("update", {"t": "delete-session", "sid": session_id}, None)
        return gone is not None
