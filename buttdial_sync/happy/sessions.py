"""Sessions: listing, stopping, naming, deleting."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from buttdial_sync.errors import Outcome
from buttdial_sync.happy.errors import (
    MetadataConflictError,
    MetadataUpdateError,
    RpcError,
    RpcOutcomeUnknownError,
    StopSessionError,
    about,
    all_about,
)
from buttdial_sync.happy.family import Family
from buttdial_sync.happy.models import Session
from buttdial_sync.happy.records import number_of
from buttdial_sync.transport.deadline import Deadline

_METADATA_ATTEMPTS = 8
_ACK_SECONDS = 15.0


class Sessions(Family):
    """The calls of :class:`HappyClient` about sessions."""

    def list_sessions(self, active_only: bool = False) -> list[Session]:
        """
        List the sessions of the account, all of them.

        Args:
            active_only: Only those that are connected.

        Returns:
            The sessions. One that cannot be decrypted says why in ``unreadable``.

        Raises:
            HappyError: The server refused it, or could not be reached.
        """
        return list(self.iter_sessions(active_only))

    def iter_sessions(self, active_only: bool = False) -> Iterator[Session]:
        """
        Give the sessions of the account page by page. Each page may take ``timeout``.

        Args:
            active_only: Only those that are connected.

        Raises:
            HappyError: The server refused it, or could not be reached.
        """
        records = self._records
        found = records.all_active_sessions() if active_only else records.sessions()
        return map(records.read_session, found)

    def get_session(self, session_id: str) -> Session:
        """
        Return one session. Of many sessions, one that is not connected takes a request per 200.

        Raises:
            SessionNotFound: The account has no such session.
            HappyError: The server refused it, or could not be reached.
        """
        return self._records.read_session(
            self._records.session(session_id, self._connection.deadline())
        )

    def is_alive(self, session_id: str) -> bool:
        """
        Whether the session's process was connected within the last 15 minutes.

        Raises:
            HappyError: The server refused it, or could not be reached.
        """
        active = self._records.all_active_sessions(self._connection.deadline())
        return any(record["id"] == session_id for record in active)

    def stop_session(
        self, session_id: str, *, machine_id: str | None = None, timeout: float | None = None
    ) -> None:
        """
        End a session's process on its machine. The session stays in the lists.

        Args:
            session_id: The session.
            machine_id: Its machine; looked up in the session's metadata when None.
            timeout: In seconds; the client's when None.

        Raises:
            StopSessionError: The daemon refused, or the session names no machine.
            MachineOfflineError: The machine is not connected.
            RpcOutcomeUnknownError: No answer came. Calling again does no harm.
            HappyError: Anything else.
        """
        deadline = self._connection.deadline(timeout)
        if machine_id is None:
            session = self._records.read_session(self._records.session(session_id, deadline))
            machine_id = session.machine_id
        if machine_id is None:
            reason = "it was not started by a daemon, or its metadata cannot be decrypted"
            error = StopSessionError(f"session {session_id} names no machine: {reason}")
            raise about(error, session_id)
        with all_about(session_id):
            try:
                self._rpc.machine(machine_id, "stop-session", {"sessionId": session_id}, deadline)
            except RpcError as refusal:
                raise refusal.as_kind(StopSessionError) from None

    def kill_session(self, session_id: str, *, timeout: float | None = None) -> None:
        """
        Have a session's process end itself; it archives the session.

        Args:
            session_id: The session.
            timeout: In seconds; the client's when None.

        Raises:
            SessionOfflineError: The process is not connected.
            StopSessionError: The process refused.
            RpcOutcomeUnknownError: No answer came. Calling again does no harm.
            HappyError: Anything else.
        """
        deadline = self._connection.deadline(timeout)
        answer = self._rpc.session(session_id, "killSession", {}, deadline)
        if isinstance(answer, Mapping) and answer.get("success") is False:
            said = answer.get("message") or answer.get("error") or "no reason given"
            raise about(StopSessionError(f"killSession: {said}"), session_id)

    def archive_session(self, session_id: str) -> None:
        """
        Archive a session: it ends, and leaves the lists of the apps. Safe to call again.

        Raises:
            SessionNotFound: The account has no such session.
            HappyError: The server refused it, or could not be reached.
        """
        deadline = self._connection.deadline()
        self._records.session_request("POST", session_id, deadline, rest="/archive")

    def delete_session(self, session_id: str) -> None:
        """
        Delete a session with all its messages. This cannot be undone.

        Raises:
            SessionNotFound: The account has no such session; it may have been deleted before.
            HappyOutcomeUnknownError: It may have been deleted. Calling again does no harm.
            HappyError: The server refused it, or could not be reached.
        """
        deadline = self._connection.deadline()
        self._records.session_request("DELETE", session_id, deadline)

    def set_session_name(self, session_id: str, name: str) -> Session:
        """
        Set the title that the apps show.

        Returns:
            The session, as it is now.

        Raises:
            HappyError: As for :meth:`update_session_metadata`.
        """
        summary = {"text": name, "updatedAt": int(time.time() * 1000)}
        return self.update_session_metadata(session_id, {"name": name, "summary": summary})

    def update_session_metadata(self, session_id: str, changes: Mapping[str, Any]) -> Session:
        """
        Change some of a session's metadata; what others changed meanwhile is kept.

        Args:
            session_id: The session.
            changes: The new values by their names; they replace the old ones whole.

        Returns:
            The session, as it is now.

        Raises:
            SessionNotFound: The account has no such session.
            MetadataConflictError: Others changed it again and again. ``outcome`` is ``"unknown"``
                if the answer to one of our attempts was lost, else ``"rejected"``.
            MetadataUpdateError: The server refused.
            EncryptionError: The metadata cannot be decrypted; nothing was changed.
            HappyError: Anything else.
        """
        records = self._records
        deadline = self._connection.deadline()
        outcome: Outcome = "rejected"
        for _ in range(_METADATA_ATTEMPTS):
            record = records.session(session_id, deadline)
            cipher = records.session_cipher(session_id, deadline)
            current = cipher.open(str(record.get("metadata")))
            if not isinstance(current, Mapping):
                raise about(MetadataUpdateError("the metadata are not an object"), session_id)
            sealed = cipher.seal({**current, **changes})
            version = number_of(record.get("metadataVersion"))
            answer = self._offer_metadata(session_id, sealed, version, deadline)
            if answer.get("result") == "success":
                changed = {
                    **record,
                    "metadata": sealed,
                    "metadataVersion": answer.get("version", version + 1),
                }
                return records.read_session(changed)
            if answer.get("result") == "error":
                refusal = MetadataUpdateError("the server refused the change", outcome=outcome)
                raise about(refusal, session_id)
            if not answer:
                outcome = "unknown"
        reason = f"others changed it {_METADATA_ATTEMPTS} times meanwhile"
        if outcome == "unknown":
            reason += "; our change may have been made in between, as an answer was lost"
        raise about(MetadataConflictError(reason, outcome=outcome), session_id)

    def _offer_metadata(
        self, session_id: str, sealed: str, version: int, deadline: Deadline
    ) -> Mapping[str, Any]:
        change = {"sid": session_id, "metadata": sealed, "expectedVersion": version}
        limit = deadline.within(_ACK_SECONDS)
        try:
            answer = self._realtime.call("update-metadata", change, limit)
        except RpcOutcomeUnknownError as error:
            # The version guards it: a change that was carried out is not carried out again. If the
            # session is gone there is no answer at all, and reading it again will tell.
            if not deadline.remaining():
                raise about(error, session_id) from None
            return {}
        return answer if isinstance(answer, Mapping) else {"result": "error"}
