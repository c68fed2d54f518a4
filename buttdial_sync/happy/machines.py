"""Machines: listing them, and starting agents on them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from buttdial_sync.happy.errors import (
    DirectoryNeedsApproval,
    HappyConfigError,
    RpcError,
    RpcOutcomeUnknownError,
    SpawnError,
    SpawnOutcomeUnknownError,
    all_about,
)
from buttdial_sync.happy.models import Agent, Machine, PermissionMode, Session
from buttdial_sync.happy.sessions import Sessions


class Machines(Sessions):
    """The calls of :class:`HappyClient` about machines."""

    def list_machines(self, active_only: bool = False) -> list[Machine]:
        """
        List the machines of the account.

        Args:
            active_only: Only those that are connected.

        Returns:
            The machines. One that cannot be decrypted says why in ``unreadable``.

        Raises:
            HappyError: The server refused it, or could not be reached.
        """
        machines = map(
            self._records.read_machine, self._records.machines(self._connection.deadline())
        )
        return [machine for machine in machines if machine.active or not active_only]

    def get_machine(self, machine_id: str) -> Machine:
        """
        Return one machine.

        Raises:
            MachineNotFound: The account has no such machine.
            HappyError: The server refused it, or could not be reached.
        """
        return self._records.read_machine(
            self._records.machine(machine_id, self._connection.deadline())
        )

    def spawn_session(
        self,
        machine_id: str,
        directory: str,
        agent: Agent = "claude",
        create_dir: bool = False,
        name: str | None = None,
        *,
        permission_mode: PermissionMode | None = None,
        environment_variables: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> str:
        """
        Start an agent on a machine.

        It is never repeated by itself: a second attempt could start a second agent.

        Args:
            machine_id: The machine.
            directory: Where the agent works.
            agent: Which agent.
            create_dir: Create the directory if it does not exist.
            name: The title that the apps show. It is set after the session was started.
            permission_mode: What the agent may do without being asked.
            environment_variables: More variables for the agent's process.
            options: More options of the daemon under its own names, such as ``modelMode``,
                ``effortLevel`` or ``resumeClaudeSessionId``.
            timeout: In seconds; the client's when None.

        Returns:
            The session's id.

        Raises:
            MachineOfflineError: The machine is not connected; nothing was started.
            DirectoryNeedsApproval: The directory does not exist, and ``create_dir`` is not set.
            SpawnError: The daemon refused, in its own words.
            SpawnOutcomeUnknownError: The machine was slow; see :meth:`find_spawned`.
            HappyError: Anything else.
        """
        deadline = self._connection.deadline(timeout)
        optional = {
            "permissionMode": permission_mode,
            "environmentVariables": environment_variables,
        }
        params = {
            **(options or {}),
            "type": "spawn-in-directory",
            "directory": directory,
            "approvedNewDirectoryCreation": create_dir,
            "agent": agent,
            **{key: value for key, value in optional.items() if value is not None},
        }
        try:
            answer = self._rpc.machine(machine_id, "spawn-happy-session", params, deadline)
        except RpcError as error:
            raise error.as_kind(SpawnError) from None
        except RpcOutcomeUnknownError as error:
            raise error.as_kind(
                SpawnOutcomeUnknownError, remediation=SpawnOutcomeUnknownError.remedy
            ) from None
        session_id = _spawned(answer)
        if name is not None:
            with all_about(session_id):
                self.set_session_name(session_id, name)
        return session_id

    def find_spawned(
        self, machine_id: str, directory: str | None = None, *, since: datetime
    ) -> list[Session]:
        """
        Find the sessions that were started on a machine, to learn what became of a slow spawn.

        Args:
            machine_id: The machine.
            directory: The directory as the session names it; any when None.
            since: Only sessions made after this moment, with its time zone. Leave some seconds for
                clocks that differ.

        Returns:
            The sessions, the newest first.

        Raises:
            HappyConfigError: ``since`` has no time zone.
            HappyError: The server refused it, or could not be reached.
        """
        if since.tzinfo is None:
            raise HappyConfigError("since must have a time zone")
        records = self._records
        changed = records.sessions(changed_since=int(since.timestamp() * 1000))
        found = [
            session
            for session in map(records.read_session, changed)
            if session.machine_id == machine_id
            and directory in (None, session.directory)
            and session.created_at is not None
            and session.created_at >= since
        ]
        return sorted(found, key=lambda session: str(session.created_at), reverse=True)


def _spawned(answer: Any) -> str:
    answer = answer if isinstance(answer, Mapping) else {}
    kind = answer.get("type")
    if kind == "requestToApproveDirectoryCreation":
        raise DirectoryNeedsApproval(f"the directory {answer.get('directory')} does not exist")
    session_id = answer.get("sessionId")
    if kind == "success" and isinstance(session_id, str) and session_id:
        return session_id
    said = answer.get("errorMessage")
    if said or kind == "error":
        raise SpawnError(f"spawn-happy-session: {said or 'the daemon named no reason'}")
    raise SpawnOutcomeUnknownError("spawn-happy-session: the answer names no session")
